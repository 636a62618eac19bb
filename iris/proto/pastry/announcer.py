"""The system packets that this node sends: join packets, states, repairs. Core.

Counterpart of the sending half of Go's proto/pastry/proto.go.
"""

from collections.abc import Iterable

from iris.proto.pastry.actions import Action, Send
from iris.proto.pastry.peer import Peer
from iris.proto.pastry.table import RoutingTable
from iris.proto.wire.node_id import NodeId, prefix
from iris.proto.wire.ring import Header, Op, State


class Announcer:
    """Sends the system packets of one `Maintenance`, as actions."""

    def __init__(
        self,
        table: RoutingTable,
        addresses: list[str],
        links: dict[NodeId, Peer],
        actions: list[Action],
    ) -> None:
        """Share the first table, addresses, links and actions of the `Maintenance`."""
        self._node_id, self._addresses, self._links = table.origin, addresses, links
        self._actions = actions
        self.announced = table  # the latest table that the others know of
        self._version = 1
        self._asked: dict[Peer, None] = {}  # for their state, at the end of the event

    def send(self, peer: Peer, header: Header) -> None:
        """Send a packet."""
        self._actions.append(Send(peer, header))

    def send_join(self, peer: Peer) -> None:
        """Ask to become a part of the ring."""
        state = State({str(self._node_id): self._addresses})
        self.send(peer, Header(op=Op.JOIN, dest=self._node_id, state=state))

    def send_state(self, peer: Peer, table: RoutingTable, *, renew: bool = False) -> None:
        """Send the state; with a new version (`renew`), lest a Go node ignores it as known."""
        self._version += renew
        row = prefix(self._node_id, peer.node_id)[0]
        state = self._state(table, row)
        self.send(peer, Header(op=Op.EXCHANGE, dest=peer.node_id, state=state))

    def announce(self, table: RoutingTable, *, joining: bool) -> None:
        """Send the state to every peer for which something in it is new."""
        before, self.announced = self.announced, table
        rows = table.gained_rows(before)
        everybody = joining or not ({*table.leaves, *table.far} <= {*before.leaves, *before.far})
        if not rows and not everybody:
            return  # a loss, which the others see for themselves
        self._version += 1
        states: dict[int, State] = {}
        for node, peer in self._links.items():
            row = prefix(self._node_id, node)[0]
            if everybody or row in rows:
                if row not in states:
                    states[row] = self._state(table, row)
                self.send(peer, Header(op=Op.EXCHANGE, dest=node, state=states[row]))

    def _state(self, table: RoutingTable, row: int) -> State:
        """Make the state for nodes that share `row` digits: own addresses, leaves, and that row."""
        addresses = {str(self._node_id): self._addresses}
        for node in (*table.leaves, *table.far, *table.row(row)):
            if node != self._node_id:
                addresses[str(node)] = list(self._links[node].addresses)
        return State(addresses, self._version)

    # Asking

    def ask(self, nodes: Iterable[NodeId]) -> None:
        """Ask connected nodes for their state, once the event is handled."""
        self._asked.update((self._links[node], None) for node in nodes if node != self._node_id)

    def ask_around(self, node: NodeId, before: RoutingTable, table: RoutingTable) -> None:
        """Ask those that may name a replacement of a lost node.

        The leaves (the outermost ones know which node comes next), those with the same row.
        """
        if node in before.leaves or node in before.far:
            self.ask(table.leaves)
        if node in before.cells:
            row, column = prefix(self._node_id, node)
            mates = table.row(row)
            if all(prefix(self._node_id, mate)[1] != column for mate in mates):
                self.ask(mates)

    def send_repairs(self) -> None:
        """Send what was asked since the last time, to those that are still connected."""
        for peer in self._asked:
            # WIRE: Go asks with its own id as destination (proto/pastry/proto.go, sendRepair);
            # Go answers the receiver's just as well, and doesn't send it back
            if self._links.get(peer.node_id) is peer:
                self.send(peer, Header(op=Op.REPAIR, dest=peer.node_id))
                # Go's answer has the version that we know, and what wasn't wanted then may be now
                peer.version = 0
        self._asked.clear()
