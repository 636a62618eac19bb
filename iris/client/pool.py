"""A bounded number of threads that carry out what waits for them. Shell around `backlog.py`.

Answers to the thread pools of iris-go. Threads are started when they are needed, and end after a
while without work.

Waking a thread costs more than most handlers do. So one is woken at a time, and it wakes the next
one only when there still is something to do: quick work is done by few threads without a hand-over
for each item, slow work soon has all threads that it may have.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from iris.client.bounded_queue import BoundedQueue
from iris.runtime.deadline import time_left

_IDLE = 10.0  # seconds after which a thread without work ends

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Pool(Generic[T]):
    """Runs `work` for each item, in at most `threads` threads; with 0 in that of `submit`.

    Its maker closes it.
    """

    def __init__(
        self,
        work: Callable[[T], None],
        *,
        threads: int,
        memory: int,
        name: str,
        idle: float = _IDLE,
    ) -> None:
        """Take items, but do nothing before `start`. memory in bytes of waiting items.

        Idle in seconds.
        """
        self._work, self._limit, self._name, self._idle_time = work, threads, name, idle
        self._backlog: BoundedQueue[T] = BoundedQueue(memory)
        self._lock = threading.Lock()  # guards all below, and _backlog
        self._threads: set[threading.Thread] = set()
        # one of each thread without work, which waits for its release
        self._idle: list[threading.Lock] = []
        self._waking = False  # a thread is on its way to take an item
        self._running = False
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

    def submit(self, item: T, size: int) -> bool:
        """Have an item worked on; False when there is no memory for it, or the pool is closed."""
        if not self._limit and self._running and not self._backlog:
            if size > self._backlog.memory:
                return False
            self._do(item)
            return True
        with self._lock:
            if self._closed or not self._backlog.offer(item, size):
                return False
            if self._limit:
                self._wake()
                return True
        if self._running:
            self._drain()
        return True

    def owns(self, thread: threading.Thread) -> bool:
        """Whether that is a thread of this pool."""
        return thread in self._threads

    def close(self) -> int:
        """Begin with nothing more; what is being worked on goes on. Idempotent. Returns.

        How many items were dropped.
        """
        with self._lock:
            self._closed, self._running = True, False
            dropped = self._backlog.clear()
            while self._idle:
                self._idle.pop().release()
        return dropped

    def join(self, timeout: float) -> bool:
        """Wait until all threads have ended, but the caller's own; False after `timeout` seconds.

        After `close`.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            others = self._threads - {threading.current_thread()}
        for thread in others:
            thread.join(time_left(deadline))
        return not any(thread.is_alive() for thread in others)

    def _wake(self) -> None:
        assert self._lock.locked()
        if self._waking or not self._running or not self._backlog:
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
            except RuntimeError:  # the system has none left
                if not self._threads:
                    _log.exception("%s: no thread for what waits", self._name)
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
                if self._backlog and self._running:
                    item = self._backlog.take()
                    self._wake()
                else:
                    bell = threading.Lock()
                    bell.acquire()
                    self._idle.append(bell)
            if bell is None:
                self._do(item)
                del item
            elif bell.acquire(timeout=self._idle_time) or not self._retire(bell):
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
        while True:
            with self._lock:
                if not self._running or not self._backlog:
                    return
                item = self._backlog.take()
            self._do(item)

    def _do(self, item: T) -> None:
        try:
            self._work(item)
        # an exit isn't one from here, but would leave the pool without this thread
        except BaseException:
            _log.exception("%s: a handler failed", self._name)
