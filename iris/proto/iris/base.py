"""The seams of this package: scribe below it, and the owners of connections above it."""

from typing import Protocol

from iris.proto.iris.requests import Call
from iris.proto.iris.tunnel import TunnelOffer
from iris.proto.wire.message import Message
from iris.proto.wire.node_id import NodeId

DISCONNECTED = "service disconnected"  # the fault of calls that a closed connection leaves


class Scribe(Protocol):
    """What is used of `iris.proto.scribe.overlay.Overlay`."""

    def subscribe(self, topic: str) -> None:
        """Join a topic's tree."""

    def unsubscribe(self, topic: str) -> None:
        """Leave a topic's tree."""

    def publish(self, topic: str, message: Message) -> None:
        """Send to all subscribers of a topic."""

    def balance(self, topic: str, message: Message) -> None:
        """Send to any one subscriber of a topic."""

    def direct(self, node: NodeId, message: Message) -> None:
        """Send to a node."""


class Delivery:
    """A broadcast or an event on its way to the members here: one object for all of them.

    The first handler that encodes `data` leaves the result in `encoded` for the others.
    """

    __slots__ = ("data", "encoded")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.encoded: tuple[bytes, ...] | None = None


class Handler(Protocol):
    """The owner of a connection.

    Called from any thread, from before `Overlay.connect` has returned until shortly after
    `Connection.close`; must never wait.
    """

    def handle_broadcast(self, message: Delivery) -> None:
        """Take a broadcast to the connection's cluster."""

    def handle_event(self, topic: str, event: Delivery) -> None:
        """Take an event of a topic that is subscribed, or was until a moment ago."""

    def handle_request(self, call: Call) -> None:
        """Take a request to the cluster."""

    def handle_tunnel(self, offer: TunnelOffer) -> None:
        """Take an offer of a tunnel to the cluster."""


class ClosedHandler:
    """The handler of a closed connection, for threads that still deliver."""

    def handle_broadcast(self, message: Delivery) -> None:
        """Drop it."""

    def handle_event(self, topic: str, event: Delivery) -> None:
        """Drop it."""

    def handle_request(self, call: Call) -> None:
        """Fail it."""
        call.fail(DISCONNECTED)

    def handle_tunnel(self, offer: TunnelOffer) -> None:
        """Decline it."""
        offer.refuse()
