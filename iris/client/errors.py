"""The errors that a program has to handle, one class per reaction; all are `IrisError`s.

Counterpart of iris-go's errors.go. Besides these: `OSError` when no node listens; `ValueError` and
`TypeError` for invalid arguments; `iris.errors.StateError` for a call that isn't possible in that
thread or state.
"""

from iris.errors import IrisError, LinkClosed


class TimedOut(IrisError, TimeoutError):
    """An operation timed out."""


class Fault(IrisError):
    """The remote application failed the request; the text is its own.

    A handler raises this to fail a request with that text.
    """


class Denied(IrisError):
    """The node rejected this program; the text says why."""


class Closed(LinkClosed, ConnectionError):
    """The connection or tunnel is closed.

    `reason` is "" after an orderly close, else what broke it; `__cause__` is the underlying error,
    if there is one.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "closed")
        self.reason = reason

    def copy(self) -> "Closed":
        """Make another instance to raise: one that several threads raise gathers all tracebacks."""
        error = Closed(self.reason)
        error.__cause__ = self.__cause__
        return error
