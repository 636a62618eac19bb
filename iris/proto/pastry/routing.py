"""Messages of the layer above on their way: up to it, or on to the next node.

The hot path of the ring. Counterpart of the routing half of Go's proto/pastry/routing.go. Core:
`transmit` is the shell's. Runs in the thread that brings the message, on the snapshot of the
routing table that is valid at that moment; takes no lock.
"""

from collections.abc import Callable
from typing import Protocol

from iris.errors import ProtocolError
from iris.proto.pastry.maintenance import Maintenance
from iris.proto.pastry.peer import Peer
from iris.proto.wire.message import Message
from iris.proto.wire.node_id import BITS, NodeId
from iris.proto.wire.ring import Header


class Application(Protocol):
    """The layer above. Called from any thread, without a lock; must not wait."""

    def deliver(self, message: Message, key: NodeId) -> None:
        """Take a message that this node is the closest to `key` for; `meta` is the layer's own."""

    def forward(self, message: Message, key: NodeId, hop: NodeId) -> bool:
        """See a message that is about to go on to `hop`; may replace its `meta`, or consume it.

        Returns: False when it is consumed.
        """

    def peer_lost(self, peer: NodeId) -> None:
        """Handle that a node has left, or its session broke."""

    def table_changed(self) -> None:
        """Handle that the leaf set or the routing table has changed."""


class Router:
    """Core: the way of a message through one node."""

    def __init__(
        self, core: Maintenance, app: Application, transmit: Callable[[Peer, Message], bool]
    ) -> None:
        """Send with `transmit`, which returns False when the peer's session is gone."""
        self._core, self._transmit = core, transmit
        self._links_get = core.links.get
        self._deliver, self._forward = app.deliver, app.forward

    def receive(self, header: Header, message: Message, source: NodeId) -> None:
        """Route a message of the layer above that a peer sent.

        Raises: ProtocolError, also that of the layer above.
        """
        dest = header.dest
        if dest is None or dest >> BITS:
            raise ProtocolError("message without a valid destination")
        message.meta = header.meta
        self.route(NodeId(dest), message, source)

    def route(self, dest: NodeId, message: Message, source: NodeId | None = None) -> None:
        """Deliver a message, or send it to the next node.

        Never straight back to `source`: two nodes with different views would send it back and forth
        (Go's do).
        """
        hop = self._core.table.next_hop(dest)
        if hop is None or hop == source:
            self._deliver(message, dest)
        elif self._forward(message, dest, hop):
            peer = self._links_get(hop)
            wrapped = Message(Header(message.meta, 0, dest), message.payload)
            if peer is None or not self._transmit(peer, wrapped):
                self._detour(dest, message, wrapped, {hop, source})

    def _detour(
        self, dest: NodeId, message: Message, wrapped: Message, avoid: set[NodeId | None]
    ) -> None:
        """Send a message around nodes that have gone, which maintenance doesn't know yet."""
        while True:
            nodes = [node for node in avoid if node is not None]
            hop = self._core.table.without(nodes).next_hop(dest)
            if hop is None:
                self._deliver(message, dest)
                return
            peer = self._links_get(hop)
            if peer is not None and self._transmit(peer, wrapped):
                return
            avoid.add(hop)
