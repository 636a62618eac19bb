"""Deadlines: any number of pending things, one thread.

`Deadlines` is the core, a heap of what is due when; `Timer` is its thread. Cancelling is cheap, since nearly every request is answered
long before its deadline: a cancelled entry stays in the heap until it comes up, or until cancelled ones are the majority.
"""

import heapq
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from iris.compiling import mypyc_attr
from iris.outbox import Batch

_log = logging.getLogger(__name__)

_LONGEST = 3600.0  # seconds that the thread sleeps at a time; what others ask for may be more than the system can count
_COMPACT_AT: Final = 1024  # entries; below it a sweep isn't worth its time


class Deadline:
    """One thing that is due at `at` (seconds on the timer's clock); cancelled or fired when `action` is None."""

    __slots__ = ("action", "at")

    def __init__(self, at: float, action: Callable[[], None]) -> None:
        self.at = at
        self.action: Callable[[], None] | None = action


class Deadlines:
    """Core: what is due when. Not thread-safe."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Deadline]] = []
        self._added = 0  # orders what is due at the same time
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def add(self, at: float, action: Callable[[], None]) -> Deadline:
        """Remember `action` for the time `at`."""
        deadline = Deadline(at, action)
        self._added += 1
        heapq.heappush(self._heap, (at, self._added, deadline))
        return deadline

    def cancel(self, deadline: Deadline) -> bool:
        """Forget it; False when it has fired or was cancelled already."""
        if deadline.action is None:
            return False
        deadline.action = None
        self._cancelled += 1
        if self._cancelled > _COMPACT_AT and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0
        return True

    def next(self) -> float | None:
        """When the earliest is due, None with nothing pending."""
        while self._heap and self._heap[0][2].action is None:
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[Callable[[], None]]:
        """Take out what is due at `now`, earliest first."""
        actions = []
        while (at := self.next()) is not None and at <= now:
            deadline = heapq.heappop(self._heap)[2]
            assert deadline.action is not None
            actions.append(deadline.action)
            deadline.action = None
        return actions


@mypyc_attr(allow_interpreted_subclasses=True)
class Timer:
    """Owns the thread `timer`, which runs what is due. Actions must be short and must not wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deadlines = Deadlines()
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._wakes_at: float | None = 0.0  # when the thread looks next; None: when told
        self._closed = False
        self._runner = threading.Thread(target=self._run, name="timer", daemon=True)

    def start(self) -> None:
        """Start the thread; what was added before is served too."""
        self._runner.start()

    def after(self, delay: float, action: Callable[[], None]) -> Deadline:
        """Run `action` on the timer's thread in `delay` seconds."""
        at = self._clock() + delay
        with self._lock:
            deadline = self._deadlines.add(at, action)
            if self._wakes_at is None or at < self._wakes_at:
                self._wakes_at = at
                self._wake.notify()
        return deadline

    def cancel(self, deadline: Deadline) -> bool:
        """Forget it; False when it is running, has run, or was cancelled already."""
        with self._lock:
            return self._deadlines.cancel(deadline)

    def _run(self) -> None:
        while True:
            with self._wake:
                while True:
                    if self._closed:
                        return
                    now = self._clock()
                    actions = self._deadlines.due(now)
                    if actions:
                        break
                    self._wakes_at = self._deadlines.next()
                    self._wake.wait(None if self._wakes_at is None else min(max(0.0, self._wakes_at - now), _LONGEST))
            with Batch():
                for action in actions:
                    try:
                        action()
                    except Exception:
                        _log.exception("a deadline's action failed")  # our bug; the others still count

    def close(self) -> None:
        """Stop; what is pending never runs. Idempotent, from any thread but the timer's."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._runner.is_alive():
            self._runner.join()
