"""What a program that uses Iris may have to react to, one class per reaction.

All are `iris.errors.IrisError`.

Counterpart of iris-go's errors.go. Besides these: `OSError` when there is no node to connect to;
`ValueError` and `TypeError` for arguments that can't be right; `iris.errors.StateError` for a call
that isn't possible where or when it is made.
"""

from iris.errors import IrisError, LinkClosed


class TimedOut(IrisError, TimeoutError):
    """It didn't happen in time.

    Nobody answered a request or accepted a tunnel, nothing came, nothing more could be sent.
    """


class Fault(IrisError):
    """The application that was asked failed; the text is what it said.

    A handler raises this to fail a request with that text.
    """


class Denied(IrisError):
    """The node doesn't take this program; the text says why."""


class Closed(LinkClosed, ConnectionError):
    """The connection or tunnel is closed, or was dropped.

    `reason` is "" after an orderly end, else why it ended; `__cause__` has the error behind it, if
    there was one.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "closed")
        self.reason = reason

    def again(self) -> "Closed":
        """The same for one more who has to be told.

        An exception that several threads raise would gather the tracebacks of all.
        """
        error = Closed(self.reason)
        error.__cause__ = self.__cause__
        return error
