"""Threads for attached applications, one each, that go on to the next one.

To start a thread costs as much as the rest of attaching. Shell.

Lock order: the lock here is a leaf.
"""

import logging
import threading
import time
from collections.abc import Callable

from iris.runtime.deadline import time_left

# bytes of address space for a thread; compiled code that calls itself may need it up to Python's
# limit of recursion
_STACK = 1024 * 1024
_MOST = 16  # threads that wait
_LINGER = 5.0  # seconds that one waits for its next work
_IDLE = "relay-spare"

_log = logging.getLogger(__name__)
_starting = threading.Lock()  # guards the process's stack size

Work = tuple[str, Callable[[], None]]  # the thread's name meanwhile, and what it does


class _Spare:
    """A thread that is handed its work."""

    def __init__(self) -> None:
        self._work: Work | None = None
        self._handed = threading.Lock()
        self._handed.acquire()

    def hand(self, work: Work | None) -> None:
        """Give it work, or None to end it: once, by whoever has taken it out of the list."""
        self._work = work
        self._handed.release()

    def wait(self, timeout: float) -> bool:
        """Whether work has come, or the end; False after `timeout` seconds, or -1 for any time."""
        return self._handed.acquire(timeout=timeout)

    def take(self) -> Work | None:
        """What was handed over."""
        work, self._work = self._work, None
        return work


class ThreadCache:
    """All threads of a relay's applications. Its maker closes it, when their work is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: set[threading.Thread] = set()
        self._waiting: list[_Spare] = []
        self._closed = False

    def run(self, name: str, work: Callable[[], None]) -> None:
        """Do it in a thread of that name. Raises: RuntimeError when the system has none left."""
        with self._lock:
            spare = self._waiting.pop() if self._waiting else None
        if spare is not None:
            spare.hand((name, work))
            return
        spare = _Spare()
        spare.hand((name, work))
        thread = threading.Thread(target=self._serve, args=(spare,), name=name, daemon=True)
        with self._lock:
            self._all.add(thread)
        with _starting:
            before = threading.stack_size(_STACK)
            try:
                thread.start()
            except BaseException:
                with self._lock:
                    self._all.discard(thread)
                raise
            finally:
                threading.stack_size(before)

    def _serve(self, spare: _Spare) -> None:
        thread = threading.current_thread()
        spare.wait(-1)
        while (work := spare.take()) is not None:
            thread.name = work[0]
            try:
                work[1]()
            except Exception:
                _log.exception("%s failed", work[0])  # our bug; the thread still counts
            thread.name = _IDLE
            work = None  # what it did needs no memory any more
            if not self._waits(spare):
                break
        with self._lock:
            self._all.discard(thread)

    def _waits(self, spare: _Spare) -> bool:
        """Wait for what comes next; False when that's nothing."""
        with self._lock:
            if self._closed or len(self._waiting) >= _MOST:
                return False
            self._waiting.append(spare)
        if spare.wait(_LINGER):
            return True
        with self._lock:
            if spare in self._waiting:
                self._waiting.remove(spare)
                return False
        return spare.wait(-1)  # it was just taken

    def close(self, timeout: float) -> bool:
        """End the threads that wait, and those that work when they have done it.

        False when that takes more than `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, []
            threads = list(self._all)
        for spare in waiting:
            spare.hand(None)
        for thread in threads:
            thread.join(time_left(deadline))
        return not any(thread.is_alive() for thread in threads)
