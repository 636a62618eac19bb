"""Timers: any number of pending actions, one thread.

`TimerQueue` is the core, a heap of what is due when; `Timer` is its thread. Nearly every request is
answered long before its deadline, so adding and cancelling take no lock: a new entry waits to be
sorted in, and most are cancelled by then. One that is cancelled later stays in the heap until it is
due, or until the heap has grown to twice what it held when it was last swept.
"""

import heapq
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from iris.runtime.batch import Batch
from iris.runtime.compiling import mypyc_attr

_log = logging.getLogger(__name__)

_MAX_SLEEP = 3600.0  # seconds; a delay may be longer than the system can count
_MIN_SWEEP: Final = 1024  # entries; fewer aren't worth sorting in early, or a sweep
_NEVER: Final = float("inf")


class TimerEntry:
    """An action due at `at` (seconds on the timer's clock); None once cancelled or fired."""

    __slots__ = ("action", "at")

    def __init__(self, at: float, action: Callable[[], None]) -> None:
        self.at = at
        self.action: Callable[[], None] | None = action


class TimerQueue:
    """Core: entries by the time when they are due. Not thread-safe."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimerEntry]] = []
        self._added = 0  # orders what is due at the same time
        self._sweep_at = _MIN_SWEEP

    def __len__(self) -> int:
        return sum([item[2].action is not None for item in self._heap])

    def add(self, at: float, action: Callable[[], None]) -> TimerEntry:
        """Have `action` come out at the time `at`."""
        entry = TimerEntry(at, action)
        self.insert(entry)
        return entry

    def insert(self, entry: TimerEntry) -> None:
        """Add an entry that was made elsewhere."""
        self._added += 1
        heapq.heappush(self._heap, (entry.at, self._added, entry))
        if len(self._heap) > self._sweep_at:
            self._heap = [item for item in self._heap if item[2].action is not None]
            heapq.heapify(self._heap)
            self._sweep_at = max(_MIN_SWEEP, 2 * len(self._heap))

    def cancel(self, entry: TimerEntry) -> bool:
        """Cancel an entry; False when it has fired or was cancelled already."""
        pending, entry.action = entry.action is not None, None
        return pending

    def next(self) -> float:
        """When the earliest is due; infinity with nothing pending."""
        while self._heap and self._heap[0][2].action is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else _NEVER

    def due(self, now: float) -> list[Callable[[], None]]:
        """Take out what is due at `now`, earliest first."""
        actions = []
        while self.next() <= now:
            entry = heapq.heappop(self._heap)[2]
            action, entry.action = entry.action, None
            if action is not None:  # it may be cancelled right now
                actions.append(action)
        return actions


@mypyc_attr(allow_interpreted_subclasses=True)
class Timer:
    """Owns the thread `timer`, which runs due actions; they must be short and must not wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._queue = TimerQueue()
        self._new: deque[TimerEntry] = deque()  # not sorted in yet
        self._wake = threading.Condition(threading.Lock())  # guards `_queue`
        self._wakes_at = _NEVER  # when the thread wakes unless notified
        self._closed = False
        self._runner = threading.Thread(target=self._run, name="timer", daemon=True)

    @property
    def pending(self) -> int:
        """The number of entries that have neither run nor been cancelled."""
        with self._wake:
            self._sort_in()
            return len(self._queue)

    def start(self) -> None:
        """Start the thread; what was added before is served too."""
        self._runner.start()

    def after(self, delay: float, action: Callable[[], None]) -> TimerEntry:
        """Run `action` on the timer's thread in `delay` seconds."""
        entry = TimerEntry(self._clock() + delay, action)
        # atomic; and before reading `_wakes_at`, which the thread does the other way round
        self._new.append(entry)
        if entry.at < self._wakes_at:
            with self._wake:
                self._wakes_at = min(entry.at, self._wakes_at)
                self._wake.notify()
        elif len(self._new) > _MIN_SWEEP:
            with self._wake:
                self._sort_in()
        return entry

    def cancel(self, entry: TimerEntry) -> bool:
        """Cancel an entry; False when it has run or was cancelled already.

        One that is due right now may still run.
        """
        return self._queue.cancel(entry)

    def _sort_in(self) -> None:
        """Move new entries to the queue. The lock is held."""
        while self._new:
            entry = self._new.popleft()
            if entry.action is not None:
                self._queue.insert(entry)

    def _run(self) -> None:
        while True:
            with self._wake:
                while True:
                    if self._closed:
                        return
                    self._sort_in()
                    now = self._clock()
                    actions = self._queue.due(now)
                    if actions:
                        break
                    self._wakes_at = self._queue.next()
                    if not self._new:  # else `after` may have read the time before
                        self._wake.wait(min(max(0.0, self._wakes_at - now), _MAX_SLEEP))
            with Batch():
                for action in actions:
                    try:
                        action()
                    except Exception:  # our bug; the others still run
                        _log.exception("a timer's action failed")

    def close(self) -> None:
        """Stop; pending actions never run. Idempotent; from any thread but the timer's."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._runner.is_alive():
            self._runner.join()
