"""Capacity-weighted choice among the members of a topic: which one gets the next anycast.

Counterpart of Go's balancer/balancer.go. Core, not thread-safe. A pick is a bisection over running
sums, which are recomputed only when a weight has changed since the last pick.
"""

import random
from bisect import bisect_right
from collections.abc import Container, Hashable
from itertools import accumulate
from typing import Generic, TypeVar, cast

from iris.errors import StateError
from iris.runtime.compiling import with_cause

Member = TypeVar("Member", bound=Hashable)

MAX_CAPACITY = (1 << 31) - 1  # messages per beat, at most, as in Go's reports; more is cut


class Balancer(Generic[Member]):
    """Members and their capacities, 1 at first. `total` is their sum."""

    __slots__ = ("_members", "_random", "_starts", "_sums", "_weights", "total")

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._weights: dict[object, int] = {}
        # as of the last pick after a change: the members, and the running sums up to and with each
        # (None: to be recomputed), and before each
        self._members: list[Member] = []
        self._sums: list[int] | None = None
        self._starts: dict[object, int] = {}
        self.total = 0

    def __len__(self) -> int:
        return len(self._weights)

    def __contains__(self, member: object) -> bool:
        return member in self._weights

    def register(self, member: Member) -> None:
        """Add a member. Raises: StateError when it is registered already."""
        if member in self._weights:
            raise StateError(f"{member} is already registered")
        self._weights[member] = 1
        self.total += 1
        self._sums = None

    def unregister(self, member: Member) -> None:
        """Remove a member. Raises: StateError when it isn't registered."""
        try:
            self.total -= self._weights.pop(member)
        except KeyError:
            raise with_cause(StateError(f"{member} isn't registered"), None) from None
        self._sums = None

    def update(self, member: Member, capacity: int) -> None:
        """Set a member's capacity, of at least 1. Raises: StateError when it isn't registered."""
        weight = min(max(capacity, 1), MAX_CAPACITY)
        try:
            change = weight - self._weights[member]
        except KeyError:
            raise with_cause(StateError(f"{member} isn't registered"), None) from None
        if change:
            self._weights[member] = weight
            self.total += change
            self._sums = None

    def capacity(self, without: object = None) -> int:
        """Sum up what all members but `without` can take per beat."""
        return self.total - self._weights.get(without, 0)

    def pick(self, without: object = None) -> Member | None:
        """Choose a member in proportion to its capacity; `without` only if there is no other.

        Returns: None without members.
        """
        if self._sums is None:
            self._rebuild()
        total, skipped = self.total, self._weights.get(without, 0)
        if skipped == total:
            if not total:
                return None
            skipped = 0
        point = int(self._random() * (total - skipped))
        if skipped and point >= self._starts[without]:
            point += skipped
        return self._members[bisect_right(self._sums, point)]  # type: ignore[arg-type]  # just rebuilt

    def pick_other(self, without: Container[object]) -> Member | None:
        """Choose as `pick` does, strictly outside of `without`; None when no member is left.

        Linear in the members, for the rare second try.
        """
        others = {one: weight for one, weight in self._weights.items() if one not in without}
        if not others:
            return None
        point = int(self._random() * sum(others.values()))
        return cast(Member, list(others)[bisect_right(list(accumulate(others.values())), point)])

    def _rebuild(self) -> None:
        self._members = cast(list[Member], list(self._weights))
        self._sums = list(accumulate(self._weights.values()))
        self._starts = dict(zip(self._members, [0, *self._sums], strict=False))
