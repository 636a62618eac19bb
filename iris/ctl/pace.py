"""When the next of many messages is due. Core: no clock."""


class Pace:
    """A rate limit: a late message neither delays the next ones nor causes a burst."""

    def __init__(self, rate: float | None) -> None:
        """Limit to `rate` messages per second; None: no limit."""
        self._period = 0.0 if rate is None else 1 / rate
        self._due: float | None = None

    def wait(self, now: float) -> float:
        """Return the seconds to wait before the next message, which counts as sent then."""
        due = now if self._due is None else max(self._due, now - self._period)
        self._due = due + self._period
        return max(0.0, due - now)
