"""Sessions between two nodes: one link, or two, one of them for what nodes say themselves.

Shell; counterpart of Go's proto/session/session.go.

Lock order: the lock here is a leaf.
"""

import threading
import time
from collections.abc import Callable

from iris.proto.link.link import Link
from iris.proto.wire.message import Message
from iris.runtime.deadline import time_left


class Session:
    """A control and a data link to one node. Its maker closes or aborts it."""

    def __init__(
        self,
        control: Link,
        data: Link,
        *,
        grace: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over the links, which aren't started, and may be the same one.

        Args:
            grace: seconds, the default of `close`.
        """
        self.control, self.data = control, data
        self.links = (control,) if control is data else (control, data)
        self.local, self.remote = control.local, control.remote
        self._grace, self._clock = grace, clock
        self._lock = threading.Lock()
        self._on_end: Callable[[Exception | None], None] | None = None

    def exchange(self, message: Message, deadline: float) -> Message:
        """Send a message and wait for the peer's, before `start`. Messages are still small.

        Raises: HandshakeTimeout, LinkClosed, ProtocolError.
        """
        self.control.send_direct(message, deadline)
        return self.control.recv_direct(deadline)

    def start(
        self, on_message: Callable[[Message], None], on_end: Callable[[Exception | None], None]
    ) -> None:
        """Receive from now on: see `Link.start`.

        on_end is called once, for the link that ends first; the other one may still deliver.
        """
        self._on_end = on_end
        for link in self.links:
            link.start(on_message, self._ended)

    def _ended(self, error: Exception | None) -> None:
        with self._lock:
            on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(error)

    def send(self, message: Message) -> None:
        """Queue a message: an application's on the data link, a node's own on the control link.

        Raises: LinkClosed, LimitReached.

        WIRE: Go sends an application's empty messages on the control link, where they overtake what
        was sent before; it accepts them on either.
        """
        (self.control if message.payload is None else self.data).send(message)

    def close(self, grace: float | None = None) -> None:
        """Close all links gracefully, within `grace` seconds altogether: see `Link.close`."""
        deadline = self._clock() + (self._grace if grace is None else grace)
        for link in self.links:
            link.finish()
        for link in self.links:
            link.close(time_left(deadline, self._clock))

    def abort(self) -> None:
        """End all links now. Never waits; from any thread."""
        for link in self.links:
            link.abort()
