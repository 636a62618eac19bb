"""How a node becomes and stays part of the ring: events in, actions out. Core.

Counterpart of Go's proto/pastry/maintenance.go, heart.go, the system packets of routing.go and
proto.go, and the duplicate filter of handshake.go.

Two tables: `table` holds nodes that there is a session with, messages are routed by it; the target
also holds those that are being dialled. A node comes into the target when the state of another one
names it, and into the table when its session is there.

Where this goes beyond Go, on the same wire: a node enters the table as soon as it is connected, not
when the whole batch of dials is done; the answer to a `repair` counts whatever its version is, and
ours has a new one, since Go would ignore one that it knows; a state is sent only to those for which
something in it has changed; each beat one of the direct neighbours is asked for its state, so that
nothing that was missed stays missed; a node that lost all peers joins anew; `candidates` chooses
which nodes are dialled.
"""

from enum import Enum
from typing import Final

from iris.config import PastryConfig
from iris.errors import ProtocolError
from iris.heart import FailureDetector
from iris.proto.addresses import dialable
from iris.proto.pastry.actions import (
    Abort,
    Action,
    Cause,
    Close,
    Dial,
    Joined,
    PeerFound,
    PeerGone,
    RestartQuietTimer,
    TableChanged,
    Wake,
)
from iris.proto.pastry.announcer import Announcer
from iris.proto.pastry.candidates import Candidates
from iris.proto.pastry.peer import Peer, keeps_old
from iris.proto.pastry.table import RoutingTable
from iris.proto.wire.node_id import NodeId, parse_id, valid_id
from iris.proto.wire.ring import Header, Op, State
from iris.runtime.tcp import Address

_GATHER: Final = 0.25  # seconds that news wait at most for dials under way
# seconds that a duplicate stays open: the other side may not have seen the one that stays
_DUPLICATE_DELAY: Final = 0.5
_STATE_SIZE: Final = 256  # nodes in one state; Go sends 25 at most
_REFUSED: Final = 1024  # ids remembered as of no use


class Membership(Enum):
    """What this node is to the ring."""

    ALONE = "alone"  # no peer to ask
    JOINING = "joining"  # the first peer was asked
    JOINED = "joined"
    LEAVING = "leaving"


class Maintenance:
    """Core of one node. Owned by one thread; others may read `table` and look into `links`."""

    def __init__(self, node_id: NodeId, addresses: list[str], config: PastryConfig) -> None:
        """`addresses` are those of this node's own listeners; the list may be filled later."""
        self.node_id, self.addresses = node_id, addresses
        self.table = RoutingTable(node_id, config.leaf_set)
        self.links: dict[NodeId, Peer] = {}
        self.membership = Membership.ALONE
        self._config = config
        self._actions: list[Action] = []
        patience = config.max_missed + 1
        self.candidates = Candidates(addresses, self.links, self._actions, patience)
        self._announcer = Announcer(self.table, addresses, self.links, self._actions)
        self._target = self._shown = self.table
        self._names: dict[str, Peer] = {}  # the links by decimal id, as states name them
        # decimal ids that the target `_refused_by` doesn't want: most of a state is no news
        self._refused: set[str] = set()
        self._refused_by = self.table
        self._heart: FailureDetector[NodeId] = FailureDetector(config.max_missed)
        self._waking = False

    @property
    def joined(self) -> bool:
        """Whether this node is part of a ring of more than one."""
        return self.membership is Membership.JOINED

    # Events of the node itself

    def wake(self) -> list[Action]:
        """News have waited long enough."""
        self._waking = False
        self._announce()
        return self._finish()

    def tick(self) -> list[Action]:
        """A beat has passed."""
        self.candidates.beats += 1
        for peer in self.links.values():
            if peer.alive:
                peer.alive = False
                self._heart.ping(peer.node_id)
        for node in self._heart.tick():
            dead = self.links[node]
            self.candidates.miss(node, dialable(dead.addresses, self.addresses))
            self._lose(dead, Cause.SILENT)
            self._actions.append(Abort(dead))
        for peer in self.links.values():
            self._send_beat(peer)
            if self.membership is Membership.JOINING:  # the one that was asked didn't help
                self._announcer.send_join(peer)
        self.candidates.retry(self._target)
        leaves = self.table.leaves  # of which the two next to this node are asked in turn
        at = leaves.index(self.node_id)
        neighbours = [leaf for leaf in leaves[max(0, at - 1) : at + 2] if leaf != self.node_id]
        self._announcer.ask(neighbours[:1] if self.candidates.beats % 2 else neighbours[-1:])
        return self._finish()

    def leave(self) -> list[Action]:
        """Say goodbye to every peer. They close the sessions; what they still send is routed."""
        self.membership = Membership.LEAVING
        for peer in self.links.values():
            self._announcer.send(peer, Header(op=Op.CLOSE, dest=peer.node_id))
        return self._finish()

    # Events of sessions

    def found(self, address: Address, node: NodeId | None = None) -> list[Action]:
        """Discovery has found a node; its id, where it is known."""
        self.candidates.found(address, node)
        return self._finish()

    def connected(self, peer: Peer, dial: Dial | None = None) -> list[Action]:
        """A session is there, and the peer has introduced itself; `dial` has led to it, if any."""
        node = peer.node_id
        if dial is not None:
            self.candidates.finish(dial, peer)
            if dial.node_id is not None and dial.node_id != node:
                self._unreachable(dial.node_id, ())  # another node has its address now
        old = self.links.get(node)
        if node == self.node_id or self.membership is Membership.LEAVING:
            self._actions.append(Close(peer))
        elif old is not None and keeps_old(self.node_id, old, peer):
            self._actions.append(Close(peer, _DUPLICATE_DELAY))
            self._send_beat(old)  # which reveals whether the old one is dead
        else:
            self._accept(peer, old)
        return self._finish()

    def _accept(self, peer: Peer, old: Peer | None) -> None:
        node = peer.node_id
        self.links[node] = self._names[str(node)] = peer
        peer.since = self.candidates.beats
        self.candidates.absent.pop(node, None)
        if old is None:
            self._heart.monitor(node)
            self._actions.append(PeerFound(peer))
        else:
            peer.known = old.known
            self._actions.append(Close(old, _DUPLICATE_DELAY))
        if node in self._target.active:  # its state made it a candidate, or another's did
            peer.known = True
        if peer.known:
            self._admit([node])
        if self.membership is Membership.ALONE:
            self.membership = Membership.JOINING
            self._announcer.send_join(peer)
        elif self.joined:
            self._announcer.send_state(peer, self.table)

    def failed(self, dial: Dial) -> list[Action]:
        """A dial has reached no node."""
        self.candidates.finish(dial)
        if dial.node_id is not None and dial.node_id not in self.links:
            self._unreachable(dial.node_id, dial.addresses)
        return self._finish()

    def ended(self, peer: Peer, why: str) -> list[Action]:
        """A session is over without a `close` packet; gracefully, where nothing says why.

        Where it was of use, it is dialled again: at once, or at the next beat if it hadn't lasted.
        """
        node = peer.node_id
        if self.links.get(node) is peer:
            wanted = self._active(node)
            self._lose(peer, Cause.BROKEN if why else Cause.UNUSED, why)
            addresses = dialable(peer.addresses, self.addresses)
            if wanted and addresses and self.candidates.beats - peer.since >= 2:
                self._offer({node: addresses})
            elif wanted:
                self.candidates.miss(node, addresses)
        return self._finish()

    def reject(self, peer: Peer, why: str) -> list[Action]:
        """A peer violated the protocol."""
        if self.links.get(peer.node_id) is peer:
            self.candidates.miss(peer.node_id, dialable(peer.addresses, self.addresses))
            self._lose(peer, Cause.VIOLATION, why)
        self._actions.append(Abort(peer))
        return self._finish()

    # System packets

    def packet(self, peer: Peer, header: Header) -> list[Action]:
        """A system packet has arrived, maybe over a duplicate that is about to be closed.

        Raises: ProtocolError; nothing has changed then.
        """
        op = header.op
        if op == Op.EXCHANGE:
            self._handle_state(peer, _checked(header.state))
        elif op == Op.JOIN:
            if not valid_id(header.dest):
                raise ProtocolError("join packet without a valid id")
            self._handle_join(peer, header.dest, _checked(header.state), header)
        elif op == Op.REPAIR:
            # WIRE: Go addresses it to the sender's id, so that it's sent back and both exchange
            # their states. It's for us all the same
            link = self.links.get(peer.node_id, peer)
            self._announcer.send_state(link, self.table, renew=True)
        elif op == Op.PASSIVE:
            self._handle_passive(peer)
        elif op == Op.CLOSE:
            self._handle_close(peer)
        elif op != Op.ACTIVE:
            raise ProtocolError(f"unknown op {op} in a packet of the ring")
        return self._finish()

    def _handle_state(self, peer: Peer, state: State) -> None:
        if state.version <= peer.version or self.membership is Membership.LEAVING:
            return
        assert state.addrs is not None
        offers: dict[NodeId, tuple[Address, ...]] = {}
        fresh: list[Peer] = []
        names, target, absent = self._names, self._target, self.candidates.absent
        if self._refused_by is not target or len(self._refused) > _REFUSED:
            self._refused_by, self._refused = target, {str(self.node_id)}
        refused = self._refused
        for text, addresses in state.addrs.items():
            if text in refused:
                continue
            link = names.get(text)
            if link is not None:
                if not link.known:
                    fresh.append(link)
                continue
            node = parse_id(text)
            if node is None:
                raise ProtocolError("state with an invalid id")
            if not target.wants(node):
                refused.add(text)
            elif node not in absent and (chosen := dialable(addresses, self.addresses)):
                offers[node] = chosen
        peer.version = state.version
        for link in fresh:
            link.known = True
        if fresh:
            self._admit([link.node_id for link in fresh])
        self._offer(offers)

    def _handle_join(self, peer: Peer, joiner: NodeId, state: State, header: Header) -> None:
        """Connect to a node that is joining, and pass its request on towards its id."""
        if joiner == self.node_id or self.membership is Membership.LEAVING:
            return
        assert state.addrs is not None
        link = self.links.get(joiner)
        if link is None:
            addresses = dialable(state.addrs.get(str(joiner)) or (), self.addresses)
            if addresses and self.candidates.room:
                self.candidates.dial(joiner, addresses)  # once it's there it gets our state
        elif not self.joined:
            self._announcer.send_state(link, self.table)  # a joined node has sent it already
        hop = self.table.next_hop(joiner)
        if hop is not None and hop not in (joiner, peer.node_id):
            self._announcer.send(self.links[hop], header)

    def _handle_passive(self, peer: Peer) -> None:
        """Close a session that neither side needs; one younger than a beat may be needed soon."""
        node = peer.node_id
        mature = self.candidates.beats - peer.since >= 2
        if self.links.get(node) is peer and not self._active(node) and mature:
            self._lose(peer, Cause.UNUSED)
            self._actions.append(Close(peer))

    def _handle_close(self, peer: Peer) -> None:
        """Let a peer go that is shutting down, and don't dial it, though others may name it."""
        link = self.links.get(peer.node_id)
        if link is not None:
            self.candidates.miss(peer.node_id, ())
            self._lose(link, Cause.LEFT)
            self._actions.append(Close(link))
        if link is not peer:
            self._actions.append(Close(peer))

    # Tables

    def _active(self, node: NodeId) -> bool:
        return node in self.table.active or node in self._target.active

    def _admit(self, nodes: list[NodeId]) -> None:
        """Put nodes into both tables, which have seen all others that are known and connected."""
        same = self._target is self.table
        self.table = self.table.merged(nodes)
        self._target = self.table if same else self._target.merged(nodes)

    def _offer(self, offers: dict[NodeId, tuple[Address, ...]]) -> None:
        """Dial those of the offered nodes that the target takes, leaves first."""
        if not offers or self.membership is Membership.LEAVING:
            return
        target = self._target.merged(offers)
        chosen = sorted(target.active & offers.keys(), key=lambda it: (it not in target.leaves, it))
        if len(chosen) > self.candidates.room:
            chosen = chosen[: self.candidates.room]
            target = self._target.merged(chosen)
        self._target = target
        for node in chosen:
            self.candidates.dial(node, offers[node])

    def _lose(self, peer: Peer, cause: Cause, details: str = "") -> None:
        """Take a node out of everything, and ask around for others in its place."""
        node = peer.node_id
        del self.links[node], self._names[str(node)]
        self._heart.unmonitor(node)
        before = self.table
        self._target = self._without(self._target, node)
        if node in before.active:
            self.table = self._without(before, node)
            self._announcer.ask_around(node, before, self.table)
        self._actions.append(PeerGone(peer, cause, details))
        if not self.links and self.membership is not Membership.LEAVING:
            self.membership = Membership.ALONE

    def _unreachable(self, node: NodeId, addresses: tuple[Address, ...]) -> None:
        self.candidates.miss(node, addresses)
        if node in self._target.leaves:  # in its favour others may have been passed over
            self._announcer.ask(self.table.leaves)
        self._target = self._without(self._target, node)

    def _without(self, table: RoutingTable, node: NodeId) -> RoutingTable:
        """Take a node out of a table, and fill the hole with known ones."""
        if node not in table.active:
            return table
        known = [node for node, peer in self.links.items() if peer.known]
        return table.without((node,)).merged(known)

    # What follows from every event

    def _send_beat(self, peer: Peer) -> None:
        op = Op.ACTIVE if self._active(peer.node_id) else Op.PASSIVE
        self._announcer.send(peer, Header(op=op, dest=peer.node_id))

    def _announce(self) -> None:
        """Tell the others about a new table; with the first one, this node has joined."""
        table = self.table
        if table is self._announcer.announced:
            return
        if not table.active or self.membership is Membership.LEAVING:
            self._announcer.announced = table
            return
        joining = self.membership is Membership.JOINING
        if joining:
            self.membership = Membership.JOINED
            self._actions.append(Joined())
        self._announcer.announce(table, joining=joining)

    def _finish(self) -> list[Action]:
        """Draw the consequences that are the same for every event, and hand out the actions."""
        if self.membership is not Membership.LEAVING:
            self.candidates.dial_found(self._target)
        if not self.candidates.dialling:
            self._target = self.table
        if self.table is not self._shown:
            self._shown = self.table
            self._actions.append(TableChanged())
            self._actions.append(RestartQuietTimer(self._config.converged_quiet))
        self._announcer.send_repairs()
        if self.table is not self._announcer.announced:
            if not self.candidates.dialling:
                self._announce()
            elif not self._waking:
                self._waking = True
                self._actions.append(Wake(_GATHER))
        actions = self._actions.copy()
        self._actions.clear()
        return actions


def _checked(state: State | None) -> State:
    """Return a state of modest size. Raises: ProtocolError when it is missing or too big."""
    if state is None or state.addrs is None:
        raise ProtocolError("packet of the ring without a state")
    if len(state.addrs) > _STATE_SIZE:
        raise ProtocolError(f"state of {len(state.addrs)} nodes, limit {_STATE_SIZE}")
    return state
