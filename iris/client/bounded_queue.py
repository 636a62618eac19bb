"""What waits for a bounded number of workers, within bounded memory. Core.

No thread, task or clock.

Answers to the bookkeeping around iris-go's thread pools. Not thread-safe: a threaded pool has a
lock.
"""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """Items in their order, with their sizes in bytes.

    Memory counts what waits, not what is being worked on.
    """

    def __init__(self, memory: int) -> None:
        self.memory, self.used = memory, 0  # bytes
        self._items: deque[tuple[T, int]] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def offer(self, item: T, size: int) -> bool:
        """Append an item; False when there is no memory for it."""
        if self.used + size > self.memory:
            return False
        self.used += size
        self._items.append((item, size))
        return True

    def take(self) -> T:
        """The oldest. Raises: IndexError when nothing waits."""
        item, size = self._items.popleft()
        self.used -= size
        return item

    def clear(self) -> int:
        """Drop all of them. Returns: how many."""
        count, self.used = len(self._items), 0
        self._items.clear()
        return count
