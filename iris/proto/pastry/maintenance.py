"""How a node becomes and stays part of the ring: events in, actions out.

No I/O, no clock, no thread.

Counterpart of Go's proto/pastry/maintenance.go, heart.go, the system packets of routing.go and
proto.go, and the duplicate filter of handshake.go.

Two tables: `table` holds nodes that there is a session to, messages are routed by it; the target
also holds those that are being dialled. A node comes into the target when the state of another one
names it, and into the table when its session is there.

Where this goes beyond Go, on the same wire: a node enters the table as soon as it is connected, not
when the whole batch of dials is done; one that can't be reached is tried again a few times, and not
each time that somebody names it; the answer to a `repair` counts whatever its version is, and ours
has a new one, since Go would ignore one that it knows; a state is sent only to those for whom
something in it has changed; each beat one of the direct neighbours is asked for its state, so that
nothing that was missed stays missed; a node that lost everybody joins anew.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from iris.config import PastryConfig
from iris.errors import ProtocolError
from iris.heart import FailureDetector
from iris.proto.addresses import dialable
from iris.proto.pastry.actions import (
    Abort,
    Action,
    Close,
    Converged,
    Dial,
    Joined,
    PeerFound,
    PeerGone,
    Send,
    Settle,
    TableChanged,
    Wake,
)
from iris.proto.pastry.peer import Peer, keeps_old
from iris.proto.pastry.table import RoutingTable
from iris.proto.wire.node_id import NodeId, parse_id, prefix, valid_id
from iris.proto.wire.ring import Header, Op, State
from iris.runtime.tcp import Address

_GATHER = 0.25  # seconds that news wait at most for dials under way
# seconds that a duplicate stays open: the other side may not have seen the one that stays
_LULL = 0.5
_STATE_SIZE = 256  # nodes in one state; Go sends 25 at most
_DIALS = 128  # ids being dialled at a time, on behalf of others
_FOUND_DIALS = 3  # the same, found by bootstrap
_BACKLOG = 64  # ids found by bootstrap that wait for their turn
_REFUSED = 1024  # ids remembered as of no use
_ABSENT = 256  # ids remembered as unreachable
_ATTEMPTS = 4  # dials to an unreachable id, 1, 2, 4.. beats apart, before it is forgotten


class Membership(Enum):
    """What this node is to the ring."""

    ALONE = "alone"  # nobody to ask
    JOINING = "joining"  # the first peer was asked
    JOINED = "joined"
    LEAVING = "leaving"


@dataclass(slots=True)
class _Absent:
    """A node that couldn't be reached, or has left (no addresses).

    Not dialled before that beat, whoever names it.
    """

    addresses: tuple[Address, ...]
    due: int
    attempts: int


class Maintenance:
    """Core of one node. Owned by one thread; others may read `table` and look into `links`."""

    def __init__(self, node_id: NodeId, addresses: Iterable[str], config: PastryConfig) -> None:
        """`addresses` are this node's own listeners."""
        self.node_id = node_id
        self.addresses = sorted(addresses)
        self.table = RoutingTable(node_id, config.leaf_set)
        self.links: dict[NodeId, Peer] = {}
        self.membership = Membership.ALONE
        self._config = config
        self._target = self._announced = self._shown = self.table
        self._names: dict[str, Peer] = {}  # the links by decimal id, as states name them
        # decimal ids that the target `_refused_by` doesn't want: most of a state is no news
        self._refused: set[str] = set()
        self._refused_by = self.table
        self._dialling: dict[NodeId, tuple[Address, ...]] = {}
        self._found: set[NodeId] = set()  # those of them that bootstrap found
        self._backlog: dict[NodeId, str] = {}
        self._absent: dict[NodeId, _Absent] = {}
        self._heart: FailureDetector[NodeId] = FailureDetector(config.max_missed)
        self._beats = 0
        self._version = 1
        self._waking = False
        self._asked: dict[Peer, None] = {}
        self._actions: list[Action] = []

    @property
    def joined(self) -> bool:
        """Whether this node is part of a ring of more than one."""
        return self.membership is Membership.JOINED

    # Events of the node itself

    def start(self) -> list[Action]:
        """The node is up; a lone one counts as converged after the boot quiet time."""
        return [Settle(self._config.boot_quiet)]

    def settled(self) -> list[Action]:
        """The quiet time is over."""
        return [Converged()]

    def wake(self) -> list[Action]:
        """News have waited long enough."""
        self._waking = False
        self._announce()
        return self._finish()

    def tick(self) -> list[Action]:
        """A beat has passed."""
        self._beats += 1
        for peer in self.links.values():
            if peer.alive:
                peer.alive = False
                self._heart.ping(peer.node_id)
        for node in self._heart.tick():
            dead = self.links[node]
            self._remember_absent(node, dialable(dead.addresses, self.addresses))
            self._lose(dead, "silent for too long", lost=True)
            self._actions.append(Abort(dead))
        for peer in self.links.values():
            op = Op.ACTIVE if self._active(peer.node_id) else Op.PASSIVE
            self._send(peer, Header(op=op, dest=peer.node_id))
            if self.membership is Membership.JOINING:
                self._send_join(peer)  # whoever was asked didn't help, maybe it died
        self._retry()
        if self._beats % 2:
            self._asked.update((self.links[leaf], None) for leaf in self._neighbours()[:1])
        else:
            self._asked.update((self.links[leaf], None) for leaf in self._neighbours()[-1:])
        return self._finish()

    def _neighbours(self) -> list[NodeId]:
        """The leaves next to us on the ring, the one below first."""
        own = self.table.leaves.index(self.node_id)
        return [
            leaf for leaf in self.table.leaves[max(0, own - 1) : own + 2] if leaf != self.node_id
        ]

    def leave(self) -> list[Action]:
        """Say goodbye to everybody. They hang up; what they still send is routed."""
        self.membership = Membership.LEAVING
        for peer in self.links.values():
            self._send(peer, Header(op=Op.CLOSE, dest=peer.node_id))
        return self._finish()

    # Events of sessions

    def found(self, node: NodeId, address: str) -> list[Action]:
        """Bootstrap has found a node that answers."""
        if len(self._backlog) < _BACKLOG:
            self._backlog[node] = address
        return self._finish()

    def connected(self, peer: Peer, asked: NodeId | None = None) -> list[Action]:
        """A session is there, and the peer has shown its id.

        For a dialled one, `asked` is whom we wanted.
        """
        node = peer.node_id
        if asked is not None:
            self._dialled(asked)
            if asked != node:
                self._unreachable(asked, ())  # somebody else lives there now
        old = self.links.get(node)
        if node == self.node_id or self.membership is Membership.LEAVING:
            self._actions.append(Close(peer))
        elif old is not None and keeps_old(self.node_id, old, peer):
            self._actions.append(Close(peer, _LULL))
            # should the old one be dead without us knowing, that shows it
            self._send(old, Header(op=Op.ACTIVE if self._active(node) else Op.PASSIVE, dest=node))
        else:
            self._accept(peer, old)
        return self._finish()

    def _accept(self, peer: Peer, old: Peer | None) -> None:
        node = peer.node_id
        self.links[node] = self._names[str(node)] = peer
        peer.since = self._beats
        self._absent.pop(node, None)
        if old is None:
            self._heart.monitor(node)
            self._actions.append(PeerFound(peer))
        else:
            peer.known = old.known
            self._actions.append(Close(old, _LULL))
        if node in self._target.active:  # its state made it a candidate, or another's did
            peer.known = True
        if peer.known:
            self._admit([node])
        if self.membership is Membership.ALONE:
            self.membership = Membership.JOINING
            self._send_join(peer)
        elif self.joined:
            self._send_state(peer)

    def failed(self, node: NodeId) -> list[Action]:
        """A dial came to nothing."""
        addresses = self._dialled(node)
        if node not in self.links:
            self._unreachable(node, addresses)
        return self._finish()

    def ended(self, peer: Peer, why: str) -> list[Action]:
        """A session is over, without a `close` having been said.

        `why` is empty when it ended gracefully.

        Where it was of use, it is dialled again: at once, or at the next beat if it hadn't lasted.
        """
        node = peer.node_id
        if self.links.get(node) is peer:
            wanted = self._active(node)
            self._lose(peer, why, lost=why != "")
            addresses = dialable(peer.addresses, self.addresses)
            if wanted and addresses and self._beats - peer.since >= 2:
                self._offer({node: addresses})
            elif wanted:
                self._remember_absent(node, addresses)
        return self._finish()

    def reject(self, peer: Peer, why: str) -> list[Action]:
        """A peer broke the rules."""
        if self.links.get(peer.node_id) is peer:
            self._remember_absent(peer.node_id, dialable(peer.addresses, self.addresses))
            self._lose(peer, why, lost=True)
        self._actions.append(Abort(peer))
        return self._finish()

    # System packets

    def packet(self, peer: Peer, header: Header) -> list[Action]:
        """A system packet has arrived, maybe over a duplicate that is about to go. Raises.

        ProtocolError, nothing has changed then.
        """
        state, op = header.state, header.op
        if op == Op.EXCHANGE:
            self._handle_state(peer, _checked(state))
        elif op == Op.JOIN:
            if header.dest is None or not valid_id(header.dest):
                raise ProtocolError("join without an id")
            self._handle_join(peer, NodeId(header.dest), _checked(state), header)
        elif op == Op.REPAIR:
            # WIRE: Go addresses it to the sender's id, so that it's sent back and both exchange
            # their states. It's for us all the same
            self._version += 1
            self._send_state(self.links.get(peer.node_id, peer))
        elif op == Op.PASSIVE:
            self._handle_passive(peer)
        elif op == Op.CLOSE:
            self._handle_close(peer)
        elif op != Op.ACTIVE:
            raise ProtocolError(f"pastry packet with the unknown op {op}")
        return self._finish()

    def _handle_state(self, peer: Peer, state: State) -> None:
        if state.version <= peer.version or self.membership is Membership.LEAVING:
            return
        assert state.addrs is not None
        offers: dict[NodeId, tuple[Address, ...]] = {}
        fresh: list[Peer] = []
        names, target, absent = self._names, self._target, self._absent
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
                raise ProtocolError("state with an id that is none")
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
        """Meet a node that is joining, and pass its request on towards its id."""
        if joiner == self.node_id or self.membership is Membership.LEAVING:
            return
        assert state.addrs is not None
        link = self.links.get(joiner)
        if link is None:
            addresses = dialable(state.addrs.get(str(joiner)) or (), self.addresses)
            if addresses and len(self._dialling) < _DIALS:
                self._dial(joiner, addresses)  # once it's there it gets our state
        elif not self.joined:
            self._send_state(link)  # otherwise it got our state at once
        hop = self.table.next_hop(joiner)
        if hop is not None and hop not in (joiner, peer.node_id):
            self._send(self.links[hop], header)

    def _handle_passive(self, peer: Peer) -> None:
        """Drop a session that neither side has a use for.

        One that is younger than a beat may be about to be used.
        """
        if (
            self.links.get(peer.node_id) is peer
            and not self._active(peer.node_id)
            and self._beats - peer.since >= 2
        ):
            self._lose(peer, "no use for each other", lost=False)
            self._actions.append(Close(peer))

    def _handle_close(self, peer: Peer) -> None:
        """Let a peer go that is shutting down. Others may still name it for a while.

        That's no reason to dial it.
        """
        node = peer.node_id
        link = self.links.get(node)
        if link is not None:
            self._remember_absent(node, ())
            self._lose(link, "", lost=True)
            self._actions.append(Close(link))
        if link is not peer:
            self._actions.append(Close(peer))

    # Tables

    def _active(self, node: NodeId) -> bool:
        return node in self.table.active or node in self._target.active

    def _admit(self, nodes: list[NodeId]) -> None:
        """Put connected nodes into the tables, as far as they fit.

        Both have seen all others that are known and connected.
        """
        same = self._target is self.table
        self.table = self.table.merged(nodes)
        self._target = self.table if same else self._target.merged(nodes)

    def _offer(self, offers: dict[NodeId, tuple[Address, ...]]) -> None:
        """Dial those of the offered nodes that the target takes, leaves first."""
        if not offers or self.membership is Membership.LEAVING:
            return
        target = self._target.merged(offers)
        chosen = sorted(
            target.active & offers.keys(), key=lambda node: (node not in target.leaves, node)
        )
        room = max(0, _DIALS - len(self._dialling))
        if len(chosen) > room:
            chosen = chosen[:room]
            target = self._target.merged(chosen)
        self._target = target
        for node in chosen:
            self._dial(node, offers[node])

    def _lose(self, peer: Peer, why: str, *, lost: bool) -> None:
        """Take a node out of everything, and ask around for others in its place."""
        node = peer.node_id
        del self.links[node], self._names[str(node)]
        self._heart.unmonitor(node)
        before = self.table
        self._drop_target(node)
        if node in before.active:
            self.table = before.without((node,)).merged(self._known())
            self._ask_around(node, before)
        self._actions.append(PeerGone(peer, why, lost))
        if not self.links and self.membership is not Membership.LEAVING:
            self.membership = Membership.ALONE

    def _drop_target(self, node: NodeId) -> None:
        if node in self._target.active:
            self._target = self._target.without((node,)).merged(self._known())

    def _known(self) -> list[NodeId]:
        return [node for node, peer in self.links.items() if peer.known]

    def _ask_around(self, node: NodeId, before: RoutingTable) -> None:
        """Find those who can name a replacement.

        The leaves (the outermost ones know who comes next), those with the same row.
        """
        ask: list[NodeId] = []
        if node in before.leaves or node in before.far:
            ask.extend(leaf for leaf in self.table.leaves if leaf != self.node_id)
        if node in before.cells:
            row, column = prefix(self.node_id, node)
            mates = self.table.row(row)
            if all(prefix(self.node_id, mate)[1] != column for mate in mates):
                ask.extend(mates)
        self._asked.update((self.links[node], None) for node in ask)

    # Dials

    def _dial(self, node: NodeId, addresses: tuple[Address, ...]) -> None:
        if node not in self._dialling and node not in self.links:
            self._dialling[node] = addresses
            self._actions.append(Dial(node, addresses))

    def _dialled(self, node: NodeId) -> tuple[Address, ...]:
        self._found.discard(node)
        return self._dialling.pop(node, ())

    def _unreachable(self, node: NodeId, addresses: tuple[Address, ...]) -> None:
        self._remember_absent(node, addresses)
        if node in self._target.leaves:  # in its favour others may have been passed over
            self._asked.update(
                (self.links[leaf], None) for leaf in self.table.leaves if leaf != self.node_id
            )
        self._drop_target(node)

    def _remember_absent(self, node: NodeId, addresses: tuple[Address, ...]) -> None:
        entry = self._absent.pop(node, None) or _Absent((), 0, 0)
        entry.addresses = addresses
        entry.due = self._beats + (
            1 << entry.attempts if addresses else self._config.max_missed + 1
        )
        entry.attempts += 1
        self._absent[node] = entry
        if len(self._absent) > _ABSENT:
            del self._absent[next(iter(self._absent))]

    def _retry(self) -> None:
        """Try once more those whose time has come, and forget those who stay away.

        They aren't in the target: most are dead.
        """
        for node in [
            node
            for node, entry in self._absent.items()
            if entry.due <= self._beats and node not in self._dialling
        ]:
            entry = self._absent[node]
            if entry.addresses and entry.attempts <= _ATTEMPTS and self._target.wants(node):
                self._dial(node, entry.addresses)
            else:
                del self._absent[node]

    def _take_backlog(self) -> None:
        """Dial some of those that bootstrap found.

        A few at a time, since the first one brings the others.
        """
        while self._backlog and len(self._found) < _FOUND_DIALS:
            node = next(iter(self._backlog))
            addresses = dialable((self._backlog.pop(node),), self.addresses)
            # who couldn't be reached may be back, since it answers; who has left isn't
            absent = self._absent.get(node)
            busy = (
                node in self.links
                or node in self._dialling
                or (absent is not None and not absent.addresses)
            )
            if addresses and not busy and self._target.wants(node):
                self._found.add(node)
                self._dial(node, addresses)

    # What others are told

    def _send(self, peer: Peer, header: Header) -> None:
        self._actions.append(Send(peer, header))

    def _send_join(self, peer: Peer) -> None:
        addresses = {str(self.node_id): self.addresses}
        self._send(peer, Header(op=Op.JOIN, dest=self.node_id, state=State(addresses)))

    def _send_state(self, peer: Peer) -> None:
        row = prefix(self.node_id, peer.node_id)[0]
        self._send(peer, Header(op=Op.EXCHANGE, dest=peer.node_id, state=self._state(row)))

    def _state(self, row: int) -> State:
        """What those are told who share `row` digits with us: who we are, our leaves, and that row."""
        addresses = {str(self.node_id): self.addresses}
        for node in (*self.table.leaves, *self.table.far, *self.table.row(row)):
            if node != self.node_id:
                addresses[str(node)] = list(self.links[node].addresses)
        return State(addresses, self._version)

    def _announce(self) -> None:
        """Tell everybody what is new to them."""
        table, before = self.table, self._announced
        self._announced = table
        if table is before or not table.active or self.membership is Membership.LEAVING:
            return
        if self.membership is Membership.JOINING:
            self.membership = Membership.JOINED
            self._actions.append(Joined())
            rows, everybody = set(), True
        else:
            rows, everybody = (
                table.gained_rows(before),
                not {*table.leaves, *table.far} <= {*before.leaves, *before.far},
            )
            if not rows and not everybody:
                return  # who was lost, the others see for themselves
        self._version += 1
        states: dict[int, State] = {}
        for node, peer in self.links.items():
            row = prefix(self.node_id, node)[0]
            if everybody or row in rows:
                if row not in states:
                    states[row] = self._state(row)
                self._send(peer, Header(op=Op.EXCHANGE, dest=node, state=states[row]))

    def _finish(self) -> list[Action]:
        """What follows from an event, whatever it was."""
        if self._backlog and self.membership is not Membership.LEAVING:
            self._take_backlog()
        if not self._dialling:
            self._target = self.table
        if self.table is not self._shown:
            self._shown = self.table
            self._actions.append(TableChanged())
            self._actions.append(Settle(self._config.converged_quiet))
        if self._asked:
            for peer in self._asked:
                # WIRE: Go asks with its own id as destination (proto/pastry/proto.go, sendRepair);
                # Go answers the receiver's just as well, and doesn't send it back
                if self.links.get(peer.node_id) is peer:
                    self._send(peer, Header(op=Op.REPAIR, dest=peer.node_id))
                    # Go's answer has the version that we know, and what wasn't wanted then may be
                    # now
                    peer.version = 0
            self._asked.clear()
        if self.table is not self._announced:
            if not self._dialling:
                self._announce()
            elif not self._waking:
                self._waking = True
                self._actions.append(Wake(_GATHER))
        actions, self._actions = self._actions, []
        return actions


def _checked(state: State | None) -> State:
    """Raises: ProtocolError for a packet that should have a state of modest size, and hasn't."""
    if state is None or state.addrs is None:
        raise ProtocolError("pastry packet without a state")
    if len(state.addrs) > _STATE_SIZE:
        raise ProtocolError(f"state of {len(state.addrs)} nodes")
    return state
