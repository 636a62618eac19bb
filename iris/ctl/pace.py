"""When the next of many messages is due. Core: no clock."""


class Pace:
    """Counts on from a start, so that late ones don't slow down those after them.

    But what was missed isn't made up for in a burst.
    """

    def __init__(self, rate: float | None) -> None:
        """rate per second, None for as fast as can be."""
        self._period = 0.0 if rate is None else 1 / rate
        self._due: float | None = None

    def wait(self, now: float) -> float:
        """How long to wait before the next one, in seconds; it counts as sent then."""
        due = now if self._due is None else max(self._due, now - self._period)
        self._due = due + self._period
        return max(0.0, due - now)
