"""Threads for long-lived work, one each, that are kept for the next one for a while.

To start a thread costs as much as all the rest of attaching an application.

Lock order: the lock here is a leaf.
"""

import logging
import threading
import time
from collections.abc import Callable

from iris.runtime.deadline import time_left

# bytes of address space for a thread; compiled code that calls itself may need it up to Python's
# limit of recursion
STACK_SIZE = 1024 * 1024
_MAX_IDLE = 16  # threads
_LINGER = 5.0  # seconds that an idle thread waits for its next work

_log = logging.getLogger(__name__)
_starting = threading.Lock()  # guards the process's stack size

Work = tuple[str, Callable[[], None]]  # the thread's name meanwhile, and what it does


class _Handover:
    """What a thread waits at for its work."""

    def __init__(self) -> None:
        self._work: Work | None = None
        self._ready = threading.Lock()
        self._ready.acquire()

    def hand(self, work: Work | None) -> None:
        """Give the thread its work, or None to end it: once, after taking it out of the list."""
        self._work = work
        self._ready.release()

    def wait(self, timeout: float) -> bool:
        """Wait until `hand`; False after `timeout` seconds, or -1 for any time."""
        return self._ready.acquire(timeout=timeout)

    def take(self) -> Work | None:
        """Take what was handed over."""
        work, self._work = self._work, None
        return work


class ThreadCache:
    """Owns the threads of work that may take long. Its maker closes it, when the work is over."""

    def __init__(self, name: str) -> None:
        """Make a cache without a thread; idle ones are called `{name}-idle`."""
        self._idle_name = f"{name}-idle"
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._idle: list[_Handover] = []
        self._closed = False

    def run(self, name: str, work: Callable[[], None]) -> None:
        """Do work in a thread of that name. Raises: RuntimeError when the system has none left."""
        with self._lock:
            handover = self._idle.pop() if self._idle else None
        if handover is None:
            handover = _Handover()
            thread = threading.Thread(target=self._serve, args=(handover,), name=name, daemon=True)
            with _starting:
                before = threading.stack_size(STACK_SIZE)
                try:
                    thread.start()
                finally:
                    threading.stack_size(before)
            with self._lock:
                self._threads.add(thread)  # before it has work, after which it removes itself
        handover.hand((name, work))

    def _serve(self, handover: _Handover) -> None:
        thread = threading.current_thread()
        handover.wait(-1)
        while (work := handover.take()) is not None:
            thread.name = work[0]
            try:
                work[1]()
            except Exception:
                _log.exception("%s failed", work[0])  # our bug; the thread is still of use
            thread.name = self._idle_name
            work = None  # holds no memory while idle
            if not self._wait(handover):
                break
        with self._lock:
            self._threads.discard(thread)

    def _wait(self, handover: _Handover) -> bool:
        """Wait for the next work; False when there is none."""
        with self._lock:
            if self._closed or len(self._idle) >= _MAX_IDLE:
                return False
            self._idle.append(handover)
        if handover.wait(_LINGER):
            return True
        with self._lock:
            if handover in self._idle:
                self._idle.remove(handover)
                return False
        return handover.wait(-1)  # it was just taken

    def close(self, timeout: float) -> bool:
        """End idle threads now, and the others when their work is done.

        Returns: False when that takes more than `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            threads = list(self._threads)
        for handover in idle:
            handover.hand(None)
        for thread in threads:
            thread.join(time_left(deadline))
        return not any(thread.is_alive() for thread in threads)
