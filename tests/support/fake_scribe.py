"""Scribe nodes in one process, without a ring or trees.

What is sent is delivered before the call returns, as scribe does on one node.

What goes to another node is sealed, and its header encoded and decoded, as a link would do.
"""

import random
import time
from collections.abc import Callable, Iterable

from iris.config import MIB, Config
from iris.gobber import Decoder, Encoder
from iris.proto.iris.overlay import Overlay
from iris.proto.session.base import LinkFactory, Suite
from iris.proto.wire.link import Header
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.node_id import NodeId
from iris.runtime.timer import Timer
from tests.support.ring import VirtualTimer
from tests.support.suites import link_factory, tunnel_suite


class FakeScribe:
    """One node: scribe for the overlay above it."""

    def __init__(self, network: "FakeNetwork", node_id: NodeId) -> None:
        self.network, self.node_id = network, node_id
        self.subscribed: set[str] = set()
        self.sent: list[tuple[str, str | NodeId, Message]] = []  # how, where to, what

    def subscribe(self, topic: str) -> None:
        assert topic not in self.subscribed, "subscribed twice in a row"
        self.subscribed.add(topic)

    def unsubscribe(self, topic: str) -> None:
        assert topic in self.subscribed, "unsubscribed twice in a row"
        self.subscribed.remove(topic)

    def publish(self, topic: str, message: Message) -> None:
        self.sent.append(("publish", topic, message))
        for node in self.network.members(topic):
            node.app.handle_publish(self.node_id, topic, self.network.carry(self, node, message))

    def balance(self, topic: str, message: Message) -> None:
        self.sent.append(("balance", topic, message))
        nodes = self.network.members(topic)
        self.network.rng.shuffle(nodes)
        any(
            node.app.handle_balance(self.node_id, topic, self.network.carry(self, node, message))
            for node in nodes
        )

    def direct(self, node: NodeId, message: Message) -> None:
        self.sent.append(("direct", node, message))
        if node in self.network.nodes:
            there = self.network.nodes[node]
            there.app.handle_direct(self.node_id, self.network.carry(self, there, message))

    @property
    def app(self) -> Overlay:
        return self.network.apps[self.node_id]


class FakeNetwork:
    """Some nodes, and the iris overlays on top of them.

    On a virtual clock, unless there is a real timer.
    """

    def __init__(
        self,
        ids: Iterable[int] = (1,),
        *,
        config: Config | None = None,
        seed: int = 1,
        real_timer: Timer | None = None,
        suite: Callable[[LinkFactory], Suite] = tunnel_suite,
    ) -> None:
        self.rng, self.timer = random.Random(seed), VirtualTimer()
        self.nodes: dict[NodeId, FakeScribe] = {}
        self.apps: dict[NodeId, Overlay] = {}
        config, clock = config or Config(), time.monotonic if real_timer else lambda: self.timer.now
        for node_id in map(NodeId, ids):
            app = Overlay(
                config=config,
                timer=real_timer or self.timer,
                suite=suite(link_factory(config.session, config.limits, clock)),
                rng=random.Random(node_id),
                entropy=random.Random(node_id).randbytes,
                clock=clock,
            )
            self.nodes[node_id], self.apps[node_id] = FakeScribe(self, node_id), app
            app.attach(self.nodes[node_id])

    def __getitem__(self, node_id: int) -> Overlay:
        return self.apps[NodeId(node_id)]

    def members(self, topic: str) -> list[FakeScribe]:
        return [node for node in self.nodes.values() if topic in node.subscribed]

    def carry(self, here: FakeScribe, there: FakeScribe, message: Message) -> Message:
        if here is there:
            return message
        payload = message.payload
        assert payload is not None, "what an application sends has a key, even if there is no data"
        text, key, iv = payload.seal()
        meta = (
            Decoder(max_size=MIB)
            .decode(Encoder().encode(Header(message.meta, key, iv)), Header)
            .meta
        )
        return Message(meta, Payload.sealed(text, key, iv))

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.timer.run(seconds, lambda: None)
