"""What waits for a bounded number of workers, within a bound of its own. Core; not thread-safe.

Counterpart of the bookkeeping around iris-go's thread pools.
"""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """Items in their order, with their sizes: bytes, or whatever the limit counts."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self._items: deque[tuple[T, int]] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def offer(self, item: T, size: int) -> bool:
        """Append an item; False when it would exceed the limit."""
        if self.used + size > self.limit:
            return False
        self.used += size
        self._items.append((item, size))
        return True

    def withdraw(self) -> None:
        """Drop the newest."""
        self.used -= self._items.pop()[1]

    def take(self) -> T:
        """Take out the oldest. Raises: IndexError when nothing waits."""
        item, size = self._items.popleft()
        self.used -= size
        return item

    def clear(self) -> list[T]:
        """Take out all of them."""
        items, self.used = [item for item, _ in self._items], 0
        self._items.clear()
        return items
