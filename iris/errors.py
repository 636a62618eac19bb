"""Everything Iris raises on purpose: one class per reaction that a caller can have.

The class says whose fault it is, as h11's local and remote protocol errors do:

* `ProtocolError`: the remote side's. Close its connection, keep the node.
* `StateError`: the local caller's. A bug; mend the calling code.
* `LimitReached`: nobody's. A bound is reached; reject this one operation, keep everything else.
* `ConfigError`: the user's, in one line.
* `LinkClosed`, `HandshakeTimeout`: the network's, or the remote host's.

A layer that acts for a peer translates: the relay turns the Iris layer's StateError ("already
subscribed") into a ProtocolError of the application that asked for it. No text carries a key, a
MAC, a token or a payload.
"""


class IrisError(Exception):
    """Base of everything that is raised on purpose."""


class StateError(IrisError):
    """The local caller broke the rules: an operation that this object's state doesn't allow."""


class ConfigError(IrisError):
    """A setting can't be used; the text is one line that says why and what to do."""


class LinkClosed(IrisError):
    """The connection ended; `__cause__` tells how, when it wasn't graceful."""


class CloseTimeout(IrisError, TimeoutError):
    """A thread outlived its close()."""


class HandshakeTimeout(IrisError, TimeoutError):
    """The remote side didn't finish the handshake in time."""


class ProtocolError(IrisError):
    """The remote side broke the rules of the protocol."""


class AuthenticationError(ProtocolError):
    """The remote side couldn't prove that it holds the key."""


class MessageTooBig(ProtocolError):
    """A length beyond the limit was announced; nothing was allocated for it."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"message of {size} bytes, limit {limit}")
        self.size, self.limit = size, limit


class LimitReached(IrisError):
    """A bound is reached, mostly one of `iris.config.Limits`: the operation was rejected."""
