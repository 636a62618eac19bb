"""Log lines that a peer or an application can cause at will, at most one per key and period."""

import logging
import threading
import time
from collections.abc import Callable, Hashable


class RateLimitedLogger:
    """Log a key once per period; repetitions are logged at DEBUG, and counted. Thread-safe.

    Lock order: the lock here is a leaf, and nothing is logged with it held.
    """

    def __init__(
        self,
        logger: logging.Logger,
        *,
        period: float = 60.0,
        max_keys: int = 256,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`period` in seconds; of more than `max_keys` keys the one logged first is forgotten."""
        self._logger, self._period, self._max_keys = logger, period, max_keys
        self._clock = clock
        self._lock = threading.Lock()
        # by key: when it was logged, and how many were suppressed since; oldest first
        self._logged: dict[Hashable, tuple[float, int]] = {}

    def log(self, level: int, key: Hashable, text: str, *args: object) -> None:
        """Log `text` at `level`, with the number of lines suppressed since the key's last one."""
        suppressed = self.admit(key)
        if suppressed is None:
            self._logger.debug(text, *args)
        elif suppressed:
            self._logger.log(level, f"{text} (%d similar lines suppressed)", *args, suppressed)
        else:
            self._logger.log(level, text, *args)

    def admit(self, key: Hashable) -> int | None:
        """Count a line as logged now.

        Returns: how many were suppressed since the last one; None when this one is to be.
        """
        now = self._clock()
        with self._lock:
            at, suppressed = self._logged.get(key, (float("-inf"), 0))
            if now - at < self._period:
                self._logged[key] = at, suppressed + 1
                return None
            self._logged.pop(key, None)
            self._logged[key] = now, 0
            if len(self._logged) > self._max_keys:
                del self._logged[next(iter(self._logged))]
        return suppressed
