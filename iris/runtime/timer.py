"""Deadlines: any number of pending things, one thread.

`Deadlines` is the core, a heap of what is due when; `Timer` is its thread. Nearly every request is
answered long before its deadline, so adding and cancelling take no lock: what is new waits to be
sorted in, and most of it has been cancelled by then. What is cancelled later stays in the heap
until it comes up, or until the heap has grown to twice what it held when it was last swept.
"""

import heapq
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from iris.runtime.compiling import mypyc_attr
from iris.runtime.send_buffer import Batch

_log = logging.getLogger(__name__)

# seconds that the thread sleeps at a time; what others ask for may be more than the system can
# count
_LONGEST = 3600.0
_FEW: Final = 1024  # entries; below it sorting in, or a sweep, isn't worth its time
_NEVER: Final = float("inf")


class Deadline:
    """One thing that is due at `at` (seconds on the timer's clock).

    Cancelled or fired when `action` is None.
    """

    __slots__ = ("action", "at")

    def __init__(self, at: float, action: Callable[[], None]) -> None:
        self.at = at
        self.action: Callable[[], None] | None = action


class Deadlines:
    """Core: what is due when. Not thread-safe."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Deadline]] = []
        self._added = 0  # orders what is due at the same time
        self._sweep_at = _FEW

    def __len__(self) -> int:
        return sum([entry[2].action is not None for entry in self._heap])

    def add(self, at: float, action: Callable[[], None]) -> Deadline:
        """Remember `action` for the time `at`."""
        deadline = Deadline(at, action)
        self.insert(deadline)
        return deadline

    def insert(self, deadline: Deadline) -> None:
        """Remember one that was made elsewhere."""
        self._added += 1
        heapq.heappush(self._heap, (deadline.at, self._added, deadline))
        if len(self._heap) > self._sweep_at:
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapq.heapify(self._heap)
            self._sweep_at = max(_FEW, 2 * len(self._heap))

    def cancel(self, deadline: Deadline) -> bool:
        """Forget it; False when it has fired or was cancelled already."""
        pending, deadline.action = deadline.action is not None, None
        return pending

    def next(self) -> float:
        """When the earliest is due; infinite with nothing pending."""
        while self._heap and self._heap[0][2].action is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else _NEVER

    def due(self, now: float) -> list[Callable[[], None]]:
        """Take out what is due at `now`, earliest first."""
        actions = []
        while self.next() <= now:
            deadline = heapq.heappop(self._heap)[2]
            action, deadline.action = deadline.action, None
            if action is not None:  # it may be cancelled right now
                actions.append(action)
        return actions


@mypyc_attr(allow_interpreted_subclasses=True)
class Timer:
    """Owns the thread `timer`, which runs what is due. Actions must be short and must not wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deadlines = Deadlines()
        self._new: deque[Deadline] = deque()  # not sorted in yet
        self._wake = threading.Condition(threading.Lock())  # guards `_deadlines`
        self._wakes_at = _NEVER  # when the thread looks next, unless it's told to
        self._closed = False
        self._runner = threading.Thread(target=self._run, name="timer", daemon=True)

    def start(self) -> None:
        """Start the thread; what was added before is served too."""
        self._runner.start()

    def after(self, delay: float, action: Callable[[], None]) -> Deadline:
        """Run `action` on the timer's thread in `delay` seconds."""
        deadline = Deadline(self._clock() + delay, action)
        # atomic; and before looking when the thread will look, which does it the other way round
        self._new.append(deadline)
        if deadline.at < self._wakes_at:
            with self._wake:
                self._wakes_at = min(deadline.at, self._wakes_at)
                self._wake.notify()
        elif len(self._new) > _FEW:
            with self._wake:
                self._sort_in()
        return deadline

    def cancel(self, deadline: Deadline) -> bool:
        """Forget it; False when it has run, or was cancelled already.

        One that is due right now may run all the same.
        """
        return self._deadlines.cancel(deadline)

    def _sort_in(self) -> None:
        """With the lock held."""
        while self._new:
            deadline = self._new.popleft()
            if deadline.action is not None:
                self._deadlines.insert(deadline)

    def _run(self) -> None:
        while True:
            with self._wake:
                while True:
                    if self._closed:
                        return
                    self._sort_in()
                    now = self._clock()
                    actions = self._deadlines.due(now)
                    if actions:
                        break
                    self._wakes_at = self._deadlines.next()
                    if not self._new:  # else somebody may have seen the time before
                        self._wake.wait(min(max(0.0, self._wakes_at - now), _LONGEST))
            with Batch():
                for action in actions:
                    try:
                        action()
                    except Exception:
                        # our bug; the others still count
                        _log.exception("a deadline's action failed")

    def close(self) -> None:
        """Stop; what is pending never runs. Idempotent, from any thread but the timer's."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._runner.is_alive():
            self._runner.join()
