"""What scribe needs of the layer below it, and of the one above."""

from typing import Protocol

from iris.proto.wire.message import Message
from iris.proto.wire.node_id import NodeId


class Ring(Protocol):
    """The layer below: pastry's Overlay."""

    @property
    def node_id(self) -> NodeId:
        """This node."""

    def send(self, dest: NodeId, message: Message) -> None:
        """Route from here, in the calling thread; to self: delivered before it returns."""


class Application(Protocol):
    """The layer above: iris' Overlay. Called from any thread; `meta` is its own header."""

    def handle_publish(self, sender: NodeId, topic: str, message: Message) -> None:
        """Take a multicast in a subscribed topic."""

    def handle_balance(self, sender: NodeId, topic: str, message: Message) -> bool:
        """Take an anycast in a subscribed topic; False to let it go on in the tree."""

    def handle_direct(self, sender: NodeId, message: Message) -> None:
        """Take a message to this node."""

    def anycast_timeout(self, meta: object) -> float:
        """Return for how many seconds an anycast is worth delivering."""
