"""A ring of many real cores on a virtual network and clock.

No socket, no thread, everything drawn from one seed.

A test makes a `VirtualRing`, adds nodes, runs the clock, kills some, and looks at the cores. Every
node has an `Application` (by default one that takes notes); `node.send(dest, message)` is that of
the shell, so the layer above can be put on top, and `ring.clock.after` is a timer.

Latencies are constant per connection, so packets of one connection keep their order. A dial takes
three round trips, a handshake slot, and a second when nobody answers. Both ends of a session learn
of it at slightly different times, which makes duplicates race.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sortedcontainers import SortedList

from iris.config import PastryConfig
from iris.errors import ProtocolError
from iris.proto.pastry.actions import (
    Abort,
    Action,
    Cause,
    Close,
    Dial,
    PeerGone,
    RestartQuietTimer,
    Send,
    TableChanged,
    Wake,
)
from iris.proto.pastry.maintenance import Maintenance
from iris.proto.pastry.peer import Peer
from iris.proto.pastry.routing import Application, Router
from iris.proto.wire.message import Message
from iris.proto.wire.node_id import NodeId, distance
from iris.proto.wire.ring import Header
from iris.runtime.tcp import Address, format_address

HANDSHAKES = 8  # dials of one node at a time
DIAL_TIMEOUT = 1.0  # seconds


class Clock:
    """An event heap."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._count = 0

    def after(self, delay: float, action: Callable[..., Any], *arguments: Any) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay, self._count, action, arguments))

    def run(self, until: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, action, arguments = heapq.heappop(heap)
            action(*arguments)
        self.now = until


@dataclass
class Counting:
    """The application of a node that nobody put another one on."""

    delivered: list[tuple[NodeId, Message]] = field(default_factory=list)
    lost: list[NodeId] = field(default_factory=list)

    def deliver(self, message: Message, key: NodeId) -> None:
        self.delivered.append((key, message))

    def forward(self, message: Message, key: NodeId, hop: NodeId) -> bool:
        return True

    def peer_lost(self, peer: NodeId) -> None:
        self.lost.append(peer)

    def table_changed(self) -> None:
        pass


@dataclass(eq=False)
class Connection:
    """The session as one end sees it; `other` is the other end's."""

    owner: "VirtualNode"
    latency: float
    other: "Connection" = None  # type: ignore[assignment]
    peer: Peer | None = None  # set when this end has done its handshake
    early: list[Message | Header] | None = field(default_factory=list)  # what arrived before that
    closed: bool = False  # this end sends nothing any more


class VirtualNode:
    """A core with what the shell does for it."""

    def __init__(
        self, ring: "VirtualRing", node_id: NodeId, address: str, app: Application
    ) -> None:
        self.ring, self.node_id, self.address, self.app = ring, node_id, address, app
        self.up = True
        self.converged = False
        self.core = Maintenance(node_id, [address], ring.config)
        self.router = Router(self.core, app, self._transmit)
        self._dials: deque[Dial] = deque()
        self._dialling = 0
        self._restarts = 0

    @property
    def listener(self) -> Address:
        host, _, port = self.address.partition(":")
        return host, int(port)

    @property
    def joined(self) -> bool:
        return self.core.joined

    def send(self, dest: NodeId, message: Message) -> None:
        """Route a message from here; as the shell's."""
        self.router.route(dest, message)

    def start(self) -> None:
        self.do([RestartQuietTimer(self.ring.config.boot_quiet)])
        self.ring.clock.after(self.ring.rng.uniform(0, self.ring.config.beat_period), self._beat)

    def _beat(self) -> None:
        if self.up:
            self.do(self.core.tick())
            self.ring.clock.after(self.ring.config.beat_period, self._beat)

    def find(self, other: "VirtualNode") -> None:
        """Discovery has found another node, by its id and address."""
        self.do(self.core.found(other.listener, other.node_id))

    def find_address(self, other: "VirtualNode") -> None:
        """Discovery has found another node, by its address alone."""
        self.do(self.core.found(other.listener))

    def do(self, actions: list[Action]) -> None:
        ring, after = self.ring, self.ring.clock.after
        for action in actions:
            kind = action.__class__
            if kind is Send:
                ring.packets += 1
                self._put(action.peer.session, action.header)  # type: ignore[union-attr]
            elif isinstance(action, Dial):
                self._dials.append(action)
                self._next_dial()
            elif isinstance(action, Close):
                after(action.delay, self._close, action.peer.session, "")
            elif isinstance(action, Abort):
                self._close(action.peer.session, "broken")
            elif isinstance(action, PeerGone):
                if action.cause is not Cause.UNUSED:
                    self.app.peer_lost(action.peer.node_id)
            elif isinstance(action, TableChanged):
                ring.last_change = ring.clock.now
                self.app.table_changed()
            elif isinstance(action, Wake):
                after(action.seconds, self._event, self.core.wake)
            elif isinstance(action, RestartQuietTimer):
                self.converged = False
                self._restarts += 1
                after(action.seconds, self._quiet, self._restarts)

    def _event(self, event: Callable[[], list[Action]]) -> None:
        if self.up:
            self.do(event())

    def _quiet(self, count: int) -> None:
        if self.up and count == self._restarts:
            self.converged = True

    def _next_dial(self) -> None:
        while self._dials and self._dialling < HANDSHAKES:
            self._dialling += 1
            dial = self._dials.popleft()
            other = self.ring.listening.get(format_address(dial.addresses[0]))
            if other is None or not other.up:
                refused = other is not None and other.refuses
                self.ring.clock.after(0.001 if refused else DIAL_TIMEOUT, self._dial_failed, dial)
            else:
                self.ring.connect(self, other, dial)

    refuses = False  # a dead node whose host still says so

    def _dial_failed(self, dial: Dial) -> None:
        self._dialling -= 1
        if self.up:
            self.do(self.core.failed(dial))
            self._next_dial()

    def connected(self, connection: Connection, peer: Peer, dial: Dial | None) -> None:
        if dial is not None:
            self._dialling -= 1
        if not self.up:
            return
        connection.peer, peer.session = peer, connection
        self.do(self.core.connected(peer, dial))
        early, connection.early = connection.early, None
        for packet in early or ():
            self.receive(connection, packet)
        if dial is not None:
            self._next_dial()

    def _put(self, connection: Connection, packet: Message | Header) -> None:
        if not connection.closed and self.up:
            self.ring.clock.after(
                connection.latency, connection.other.owner.receive, connection.other, packet
            )

    def _transmit(self, peer: Peer, message: Message) -> bool:
        connection = peer.session
        assert isinstance(connection, Connection)
        if connection.closed:
            return False
        self.ring.messages += 1
        self._put(connection, message)
        return True

    def receive(self, connection: Connection, packet: Message | Header) -> None:
        if not self.up:
            return
        if connection.early is not None:
            connection.early.append(packet)
            return
        peer = connection.peer
        assert peer is not None
        peer.alive = True
        try:
            if isinstance(packet, Header):
                self.do(self.core.packet(peer, packet))
            else:
                assert isinstance(packet.meta, Header)
                self.router.receive(packet.meta, packet, peer.node_id)
        except ProtocolError as error:
            self.do(self.core.reject(peer, str(error)))

    def _close(self, connection: Connection, why: str) -> None:
        if not connection.closed:
            connection.closed = True
            self.ring.clock.after(
                connection.latency, connection.other.owner.hung_up, connection.other, why
            )

    def hung_up(self, connection: Connection, why: str) -> None:
        if not self.up:
            return
        if connection.peer is None:  # hung up on before our end was done
            self.ring.clock.after(0.05, self.hung_up, connection, why)
            return
        self._close(connection, "")
        self.do(self.core.ended(connection.peer, why))

    def kill(self, *, silent: bool = True) -> None:
        """Die: silently, or else the host resets connections and refuses dials."""
        self.up = False
        self.refuses = not silent
        if not silent:
            for peer in self.core.links.values():
                self._close(peer.session, "connection reset")

    def leave(self) -> None:
        """Leave gracefully; gone a second later."""
        self.do(self.core.leave())
        self.ring.clock.after(1.0, self.kill)


class VirtualRing:
    """The network, and all who are on it."""

    def __init__(self, seed: int, config: PastryConfig | None = None) -> None:
        self.rng = random.Random(seed)
        self.config = config or PastryConfig()
        self.clock = Clock()
        self.listening: dict[str, VirtualNode] = {}
        self.nodes: list[VirtualNode] = []
        self.by_id: dict[NodeId, VirtualNode] = {}
        self.packets = self.messages = self.dials = 0
        self.last_change = 0.0

    def add(
        self,
        node_id: NodeId | None = None,
        app: Callable[[], Application] = Counting,
        address: str | None = None,
    ) -> VirtualNode:
        """Make and start a node, which knows nobody yet; by default at an address of its own."""
        number = len(self.nodes) + 1
        node_id = NodeId(self.rng.getrandbits(40)) if node_id is None else node_id
        host = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        node = VirtualNode(self, node_id, address or f"{host}:{20_000 + number % 40_000}", app())
        self.nodes.append(node)
        self.by_id[node.node_id] = node
        self.listening[node.address] = node
        node.start()
        return node

    def connect(self, client: VirtualNode, server: VirtualNode, dial: Dial) -> None:
        """Make a session; both ends learn of it after the handshake."""
        self.dials += 1
        latency = self.rng.uniform(0.0005, 0.015)
        near, far = Connection(client, latency), Connection(server, latency)
        near.other, far.other = far, near
        local = f"{client.address.partition(':')[0]}:{self.rng.randrange(40_000, 65_536)}"
        at_client = Peer(server.node_id, (server.address,), local, server.address, True)
        at_server = Peer(client.node_id, (client.address,), server.address, local, False)
        self.clock.after(
            6 * latency + self.rng.uniform(0, 0.01), client.connected, near, at_client, dial
        )
        self.clock.after(
            5 * latency + self.rng.uniform(0, 0.03), server.connected, far, at_server, None
        )

    def run(self, seconds: float) -> None:
        self.clock.run(self.clock.now + seconds)

    def live(self) -> list[VirtualNode]:
        return [node for node in self.nodes if node.up]

    def stagger(self, count: int, interval: float) -> None:
        """Let nodes join one after the other, each through a random one that is there."""
        for _ in range(count):
            present = self.live()
            node = self.add()
            if present:
                node.find(self.rng.choice(present))
            self.run(interval)

    def path(self, source: VirtualNode, dest: NodeId) -> list[VirtualNode]:
        """The way that a message would take at this moment.

        Ends with the node that it is delivered at.
        """
        way, previous = [source], None
        while len(way) < 64:
            hop = way[-1].core.table.next_hop(dest)
            if hop is None or hop == previous:
                break
            previous = way[-1].node_id
            way.append(self.by_id[hop])
        return way

    def misrouted(self, pairs: Iterable[tuple[VirtualNode, NodeId]]) -> list[str]:
        """What is wrong with the ways from nodes to keys.

        Not to the closest live node, over a dead one, or too many hops.
        """
        live = SortedList(node.node_id for node in self.live())
        bound = math.ceil(math.log(len(live), 16)) + 2
        wrong = []
        for source, dest in pairs:
            way = self.path(source, dest)
            root = closest(live, dest)
            if way[-1].node_id != root or len(way) - 1 > bound or not all(node.up for node in way):
                hops = " ".join(f"{node.node_id:010x}" for node in way)
                wrong.append(f"{source.node_id:010x} -> {dest:010x} (root {root:010x}): {hops}")
        return wrong

    def wrong_leaf_sets(self) -> int:
        """Count the live nodes whose leaf set isn't that of nodes which know all others."""
        live = SortedList(node.node_id for node in self.live())
        half, wrong = self.config.leaf_set // 2, 0
        for node in self.live():
            at = live.index(node.node_id)
            size = len(live)
            true = (
                {live[(at + way) % size] for way in range(-half, half)} if size > 2 * half else None
            )
            wrong += true is not None and set(node.core.table.leaves) != true
        return wrong


def closest(ids: SortedList, dest: NodeId) -> NodeId:
    """The numerically closest of some ids; of two the one below."""
    at = ids.bisect_left(dest)
    below, above = ids[at - 1], ids[at % len(ids)]
    return NodeId(below if distance(below, dest) <= distance(above, dest) else above)
