"""Everything Iris raises on purpose: one class per reaction that a caller can have.

No text carries a key, a MAC, a token or a payload.
"""


class IrisError(Exception):
    """Everything we raise on purpose."""


class StateError(IrisError):
    """Our side broke the rules: a bug in the caller."""


class ConfigError(IrisError):
    """What the user asked for can't be done; the text is one line that says why and what to do."""


class LinkClosed(IrisError):
    """The connection ended; `__cause__` tells how, when it wasn't graceful."""


class CloseTimeout(IrisError, TimeoutError):
    """A thread outlived its close()."""


class HandshakeTimeout(IrisError, TimeoutError):
    """The other side didn't finish the handshake in time."""


class ProtocolError(IrisError):
    """The other side broke the rules: drop its connection, keep the node."""


class AuthenticationError(ProtocolError):
    """The other side couldn't prove that it holds the network's key."""


class MessageTooBig(ProtocolError):
    """A length beyond what is allowed at that point was announced. Nothing was allocated for it."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"message of {size} bytes, limit {limit}")
        self.size, self.limit = size, limit


class LimitReached(IrisError):
    """A bound of `iris.config.Limits` is reached: refused in words to the one who asked."""
