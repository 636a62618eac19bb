"""A bounded number of threads for what waits in a bounded queue.

Counterpart of Go's pool/pool.go and of the thread pools of iris-go. Threads are started when they
are needed, and end after a while without work.

Waking a thread costs more than most handlers do. So one is woken at a time, and it wakes the next
one only when something still waits: quick work is done by few threads without a hand-over for each
item, slow work soon has all threads that it may have.

Lock order: the lock here is a leaf.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from iris.runtime.bounded_queue import BoundedQueue
from iris.runtime.deadline import time_left

_LINGER = 10.0  # seconds after which a thread without work ends

T = TypeVar("T")
_log = logging.getLogger(__name__)


class WorkerPool(Generic[T]):
    """Runs `work` for each item, in at most `threads` threads called `{name}-n`.

    With 0 threads, `submit` runs it. Its maker closes it.
    """

    def __init__(
        self,
        work: Callable[[T], None],
        *,
        threads: int,
        limit: int,
        name: str,
        running: bool = True,
        linger: float = _LINGER,
    ) -> None:
        """Make a pool without a thread.

        Args: limit of the sizes of all items that wait; running: False to run nothing before
        `start`; linger in seconds without work after which a thread ends.
        """
        self._work, self._limit, self._name, self._linger = work, threads, name, linger
        self._lock = threading.Lock()  # guards all below
        self._queue: BoundedQueue[T] = BoundedQueue(limit)
        self._threads: set[threading.Thread] = set()
        self._idle: list[threading.Lock] = []  # one per idle thread, which waits for its release
        self._waking = False  # a thread is on its way to take an item
        self._running = running
        self._closed = False
        self._started = 0

    def start(self) -> None:
        """Begin with what waits."""
        with self._lock:
            self._running = not self._closed
            if self._limit:
                self._wake()
        if not self._limit:
            self._drain()

    def submit(self, item: T, size: int = 1) -> bool:
        """Have an item worked on.

        Returns: False when the queue is full, the pool closed, or there is no thread to be had.
        """
        if not self._limit and self._running and not self._queue:
            if size > self._queue.limit:
                return False
            self._do(item)
            return True
        with self._lock:
            if self._closed or not self._queue.offer(item, size):
                return False
            if self._limit:
                self._wake()
                if self._threads or not self._running:
                    return True
                self._queue.withdraw()
                return False
        if self._running:
            self._drain()
        return True

    def owns(self, thread: threading.Thread) -> bool:
        """Whether that is a thread of this pool."""
        return thread in self._threads

    def close(self) -> list[T]:
        """Begin with nothing more; what is being worked on goes on. Idempotent.

        Returns: the items that were dropped.
        """
        with self._lock:
            self._closed, self._running = True, False
            dropped = self._queue.clear()
            while self._idle:
                self._idle.pop().release()
        return dropped

    def join(self, timeout: float) -> bool:
        """Wait until all threads but the caller's own have ended; False after `timeout` seconds.

        After `close`.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            others = self._threads - {threading.current_thread()}
        for thread in others:
            thread.join(time_left(deadline))
        return not any(thread.is_alive() for thread in others)

    def _wake(self) -> None:
        """Wake or start one thread, unless one is on its way. The lock is held."""
        if self._waking or not self._running or not self._queue:
            return
        if self._idle:
            self._waking = True
            self._idle.pop().release()
        elif len(self._threads) < self._limit:
            self._started += 1
            thread = threading.Thread(
                target=self._run, name=f"{self._name}-{self._started}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as exc:  # the system has none left
                _log.warning("no thread for %s: %s", thread.name, exc)
                return
            self._threads.add(thread)
            self._waking = True

    def _run(self) -> None:
        woken = True
        while True:
            bell = None
            with self._lock:
                if woken:
                    self._waking = woken = False
                if self._closed:
                    self._threads.discard(threading.current_thread())
                    return
                if self._queue and self._running:
                    item = self._queue.take()
                    self._wake()
                else:
                    bell = threading.Lock()
                    bell.acquire()
                    self._idle.append(bell)
            if bell is None:
                self._do(item)
                del item
            elif bell.acquire(timeout=self._linger) or not self._retire(bell):
                woken = True
            else:
                return

    def _retire(self, bell: threading.Lock) -> bool:
        """End the calling thread, unless it has just been woken after all."""
        with self._lock:
            if bell not in self._idle:
                return False
            self._idle.remove(bell)
            self._threads.discard(threading.current_thread())
            return True

    def _drain(self) -> None:
        """Work in the calling thread until nothing waits."""
        while True:
            with self._lock:
                if not self._running or not self._queue:
                    return
                item = self._queue.take()
            self._do(item)

    def _do(self, item: T) -> None:
        try:
            self._work(item)
        except BaseException:  # an exit too would cost the pool this thread
            _log.exception("%s: a job failed", self._name)
