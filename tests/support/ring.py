"""A ring of scribe nodes in one thread.

Real routing tables, messages in a queue that the test drives, a clock that the test turns.

Each pair of nodes has two lanes, as in the real thing: a control one for what has no data, and a
data one. A lane keeps its order; which lane moves next is drawn, so control and data overtake each
other.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable

from iris.config import Limits, ScribeConfig
from iris.metrics import Metrics
from iris.proto.pastry.table import RoutingTable
from iris.proto.scribe.base import Application
from iris.proto.scribe.overlay import Overlay
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.node_id import NodeId
from iris.runtime.timer import Timer, TimerEntry, TimerQueue


class VirtualTimer(Timer):
    """A timer whose clock stands still until `run`."""

    def __init__(self) -> None:
        self.now, self.deadlines = 0.0, TimerQueue()

    def after(self, delay: float, action: Callable[[], None]) -> TimerEntry:
        return self.deadlines.add(self.now + delay, action)

    def cancel(self, deadline: TimerEntry) -> bool:
        return self.deadlines.cancel(deadline)

    def run(self, seconds: float, after_each: Callable[[], None]) -> None:
        """Let time pass, and whatever an action set in motion come to rest before the next one."""
        end = self.now + seconds
        while (at := self.deadlines.next()) <= end:
            self.now = max(self.now, at)
            for action in self.deadlines.due(self.now):
                action()
                after_each()
        self.now = end


class Node:
    """A node: scribe's ring below, and its application above, which takes notes."""

    def __init__(self, ring: "Ring", node_id: NodeId) -> None:
        self.ring, self.node_id = ring, node_id
        self.table = RoutingTable(node_id)
        self.detours: dict[int, int] = {}  # next hops that the test wants, by destination
        self.published: list[tuple[NodeId, str, bytes]] = []
        self.balanced: list[tuple[NodeId, str, bytes]] = []
        self.directed: list[tuple[NodeId, bytes]] = []
        self.diverted: Callable[[NodeId, Message], None] | None = None  # takes what is sent
        self.accepts, self.cpu_usage = True, 0.5
        self.metrics = Metrics()
        self.scribe = Overlay(
            ring.application(self),
            config=ring.config,
            limits=ring.limits,
            timer=ring.timer,
            rng=random.Random(node_id),
            cpu_usage=lambda: self.cpu_usage,
            metrics=self.metrics,
        )
        self.scribe.attach(self)
        self.scribe.start()

    @property
    def discarded(self) -> dict[str, int]:
        """How many messages were discarded, by those causes that occurred."""
        samples = self.metrics.undeliverable.samples()
        return {labels["cause"]: int(value) for _, labels, value in samples if value}

    def _check_unlocked(self) -> None:
        assert not self.scribe._lock.locked(), "scribe calls others with its lock held"

    # As its ring.

    def send(self, dest: NodeId, message: Message) -> None:
        self._check_unlocked()
        hop = self.next_hop(dest)
        if self.diverted is not None:
            self.diverted(dest, message)
        elif hop is None:
            self.scribe.deliver(message, dest)
        elif self.scribe.forward(message, dest, hop):
            self.ring.carry(self.node_id, hop, dest, message)

    def next_hop(self, dest: NodeId) -> NodeId | None:
        return NodeId(self.detours[dest]) if dest in self.detours else self.table.next_hop(dest)

    # As its application.

    def handle_publish(self, sender: NodeId, topic: str, message: Message) -> None:
        self._check_unlocked()
        self.published.append((sender, topic, message.data()))

    def handle_balance(self, sender: NodeId, topic: str, message: Message) -> bool:
        self._check_unlocked()
        if self.accepts:
            self.balanced.append((sender, topic, message.data()))
        return self.accepts

    def handle_direct(self, sender: NodeId, message: Message) -> None:
        self.directed.append((sender, message.data()))

    def anycast_timeout(self, meta: object) -> float:
        return self.ring.anycast_timeout

    # Short cuts.

    def publish(self, topic: str, data: bytes = b"") -> None:
        self.scribe.publish(topic, Message(None, Payload.of(data)))

    def balance(self, topic: str, data: bytes = b"") -> None:
        self.scribe.balance(topic, Message(None, Payload.of(data)))


class Ring:
    """All nodes. What is in flight to a node that is killed is lost.

    Everybody knows the ring as it is, unless told `quietly`.
    """

    def __init__(
        self,
        ids: Iterable[int] = (),
        *,
        seed: int = 1,
        limits: Limits | None = None,
        application: Callable[[Node], Application] = lambda node: node,
    ) -> None:
        self.application = application
        self.config, self.limits, self.timer = ScribeConfig(), limits or Limits(), VirtualTimer()
        self.rng = random.Random(seed)
        self.anycast_timeout = 60.0  # seconds
        self.nodes: dict[NodeId, Node] = {}
        # from, to, dest, meta of all that moved
        self.log: list[tuple[NodeId, NodeId, NodeId, object]] = []
        self._lanes: dict[tuple[NodeId, NodeId, bool], deque[tuple[NodeId, Message]]] = {}
        for node_id in ids:
            self.add(NodeId(node_id))

    def __getitem__(self, node_id: int) -> Node:
        return self.nodes[NodeId(node_id)]

    def add(self, node_id: int, *, quietly: bool = False) -> Node:
        """A node joins and is known to all; quietly.

        Nobody knows it, and it nobody, until `converge`.
        """
        node = self.nodes[NodeId(node_id)] = Node(self, NodeId(node_id))
        if not quietly:
            self.converge()
        return node

    def kill(self, node_id: int, *, quietly: bool = False) -> None:
        """A node is gone from one moment to the next; quietly: nobody knows until `converge`."""
        dead = NodeId(node_id)
        self.nodes.pop(dead).scribe.close()
        for lane in [lane for lane in self._lanes if dead in lane[:2]]:
            del self._lanes[lane]
        if not quietly:
            self.converge()

    def leave(self, node_id: int) -> None:
        """A node goes gracefully."""
        self[node_id].scribe.leave()
        self.settle()
        self.kill(node_id)

    def converge(self) -> None:
        """Everybody learns the ring as it is."""
        for node in list(self.nodes.values()):
            dead = [peer for peer in node.table.active if peer not in self.nodes]
            others = list(self.nodes)
            self.rng.shuffle(others)
            table = node.table.without(dead).merged(others)
            if table is not node.table:
                node.table = table
                for peer in dead:
                    node.scribe.peer_lost(peer)
                node.scribe.table_changed()

    def carry(self, src: NodeId, hop: NodeId, dest: NodeId, message: Message) -> None:
        self.log.append((src, hop, dest, message.meta))
        copy = Message(message.meta, message.payload)
        self._lanes.setdefault((src, hop, bool(message.payload)), deque()).append((dest, copy))

    def step(self) -> bool:
        """Move one message one hop; False when there is none."""
        if not self._lanes:
            return False
        lane = self.rng.choice(list(self._lanes))
        dest, message = self._lanes[lane].popleft()
        if not self._lanes[lane]:
            del self._lanes[lane]
        node = self.nodes.get(lane[1])
        if node is not None:
            node.send(dest, message)
        return True

    def settle(self, limit: int = 100_000) -> None:
        """Let everything arrive; a message that circulates for ever fails the test."""
        self.timer.run(0.0, lambda: None)
        for _ in range(limit):
            if not self.step():
                return
        raise AssertionError("messages circulate")

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.settle()
        self.timer.run(seconds, self.settle)

    def beat(self, count: int = 1) -> None:
        self.run(count * self.config.beat_period)

    def check_tree(self, topic: NodeId, subscribers: Iterable[int]) -> None:
        """All that have a part in a topic form one tree whose edges are known to both ends, rooted
        at the closest node.
        """
        parts = {
            node_id: node.scribe.topics[topic]
            for node_id, node in self.nodes.items()
            if topic in node.scribe.topics
        }
        assert {node_id for node_id, part in parts.items() if part.name is not None} == set(
            subscribers
        )
        roots = [node_id for node_id, part in parts.items() if part.parent is None]
        assert len(roots) == (1 if parts else 0)
        assert all(self[root].next_hop(topic) is None for root in roots)
        for node_id, part in parts.items():
            assert not part.empty, f"{node_id} has a part in {topic} for nobody"
            assert part.upstream_open
            if part.parent is not None:
                assert part.above(part.parent)
                assert node_id in parts[part.parent].children
            for child in part.children:
                assert parts[child].parent == node_id

    def state(self) -> int:
        """How many things all nodes remember."""
        trees = [node.scribe._trees for node in self.nodes.values()]
        return sum(len(each.topics) + len(each.actions) + len(each.heart) for each in trees) + sum(
            node.scribe.deferred for node in self.nodes.values()
        )
