"""Threads for what has to wait: as many as there is work, up to a bound, and none without work."""

import logging
import threading
from collections import deque
from collections.abc import Callable

_log = logging.getLogger(__name__)


class WorkerPool:
    """Runs jobs on threads called `{name}-n`.

    The jobs end by themselves, so there is nothing to close.
    """

    def __init__(self, name: str, *, threads: int, waiting: int) -> None:
        """At most so many jobs run, and at most so many wait, at a time."""
        self._name, self._threads, self._bound = name, threads, waiting
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._running = 0

    def submit(self, job: Callable[[], None]) -> bool:
        """Have it run soon; False when too many wait already, or the system has no thread left."""
        with self._lock:
            if self._running == self._threads:
                if len(self._waiting) >= self._bound:
                    return False
                self._waiting.append(job)
                return True
            self._running += 1
            number = self._running
        try:
            threading.Thread(
                target=self._work, args=(job,), name=f"{self._name}-{number}", daemon=True
            ).start()
        except RuntimeError as exc:
            _log.warning("no thread for %s: %s", self._name, exc)
            with self._lock:
                self._running -= 1
            return False
        return True

    def _work(self, job: Callable[[], None]) -> None:
        while True:
            try:
                job()
            except Exception:
                # our bug; the next one still counts
                _log.exception("a job of %s failed", self._name)
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                job = self._waiting.popleft()
