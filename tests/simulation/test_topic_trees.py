"""Scribe's real core on pastry's real core, hundreds of nodes on a virtual network and clock.

Trees grow, die back and heal.

The oracle is the set of live subscribers of each topic.
"""

import random
from collections.abc import Callable

import pytest

from iris.config import Limits, PastryConfig, ScribeConfig
from iris.proto.scribe.overlay import Overlay
from iris.proto.scribe.topic import Topic, remoteness
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.node_id import NodeId, resolve
from iris.runtime.timer import Timer, TimerEntry
from tests.support.virtual_ring import VirtualNode, VirtualRing

pytestmark = pytest.mark.slow

PASTRY, SCRIBE = PastryConfig(), ScribeConfig()

# seconds until the ring knows of a silent death
DEATH_KNOWN = (PASTRY.max_missed + 1) * PASTRY.beat_period
REPAIRED = 3.0  # seconds more until its routes do without the dead: dials that fail take one each
# once routes are right, every part without a parent has asked for one, and its new parent as well
TREES_WHOLE = 2 * SCRIBE.beat_period
LIMIT = DEATH_KNOWN + REPAIRED + TREES_WHOLE


class RingTimer(Timer):
    """The ring's clock as scribe's timer."""

    def __init__(self, ring: VirtualRing) -> None:
        self._ring_clock = ring.clock

    def after(self, delay: float, action: Callable[[], None]) -> TimerEntry:
        deadline = TimerEntry(self._ring_clock.now + delay, action)
        self._ring_clock.after(delay, self._fire, deadline)
        return deadline

    def _fire(self, deadline: TimerEntry) -> None:
        action, deadline.action = deadline.action, None
        if action is not None:
            action()

    def cancel(self, deadline: TimerEntry) -> bool:
        action, deadline.action = deadline.action, None
        return action is not None


class Member:
    """One node's scribe, and the application on it, which counts."""

    def __init__(self, ring: VirtualRing) -> None:
        self.published: dict[bytes, int] = {}
        self.balanced: dict[bytes, int] = {}
        self.scribe = Overlay(
            self,
            config=SCRIBE,
            limits=Limits(),
            timer=RingTimer(ring),
            rng=random.Random(ring.rng.random()),
            cpu_usage=lambda: 0.5,
        )
        self.node: VirtualNode = ring.add(app=lambda: self.scribe)
        self.scribe.attach(self.node)
        # beats of different nodes come at different times
        ring.clock.after(ring.rng.random(), self.scribe.start)

    def handle_publish(self, sender: NodeId, topic: str, message: Message) -> None:
        self.published[message.data()] = self.published.get(message.data(), 0) + 1

    def handle_balance(self, sender: NodeId, topic: str, message: Message) -> bool:
        self.balanced[message.data()] = self.balanced.get(message.data(), 0) + 1
        return True

    def handle_direct(self, sender: NodeId, message: Message) -> None:
        raise AssertionError("nobody sends direct messages here")

    def anycast_timeout(self, meta: object) -> float:
        return 60.0

    def part(self, topic: str) -> Topic | None:
        return self.scribe.topics.get(resolve(topic))


class World:
    """A converged ring with scribe on every node."""

    def __init__(self, seed: int, count: int) -> None:
        self.ring = VirtualRing(seed)
        self.rng = self.ring.rng
        self.members: list[Member] = []
        self.topics: dict[str, list[Member]] = {}
        for _ in range(count):
            self.join()
            self.ring.run(0.02)
        self.ring.run(PASTRY.converged_quiet)

    def join(self) -> Member:
        member = Member(self.ring)
        if self.members:
            member.node.find(self.rng.choice(self.live()).node)
        self.members.append(member)
        return member

    def live(self) -> list[Member]:
        return [member for member in self.members if member.node.up]

    def subscribe(self, topic: str, count: int) -> None:
        self.topics[topic] = self.rng.sample(self.live(), count)
        for member in self.topics[topic]:
            member.scribe.subscribe(topic)

    def subscribers(self, topic: str) -> list[Member]:
        return [member for member in self.topics[topic] if member.node.up]

    def kill(self, share: float) -> list[Member]:
        """Some nodes die at once, without a word."""
        live = self.live()
        dead = self.rng.sample(live, int(len(live) * share))
        for member in dead:
            member.node.kill()
            member.scribe.close()
        return dead

    def wrong(self, topic: str) -> str:
        """What is wrong with a topic's tree; empty when it is whole."""
        parts = {
            member.node.node_id: part
            for member in self.live()
            if (part := member.part(topic)) is not None
        }
        if not parts and not self.subscribers(topic):
            return ""
        key = resolve(topic)
        roots = [node for node, part in parts.items() if part.parent is None]
        best = min(
            (member.node.node_id for member in self.live()), key=lambda node: remoteness(node, key)
        )
        if roots != [best]:
            return f"roots {roots}, should be {best}"
        for node, part in parts.items():
            if part.parent is not None and (
                part.parent not in parts or node not in parts[part.parent].children
            ):
                return f"{node} has the parent {part.parent}, which doesn't have it"
            if any(child not in parts or parts[child].parent != node for child in part.children):
                return f"{node} has a child that has another parent"
        if missing := [member for member in self.subscribers(topic) if member.part(topic) is None]:
            return f"{len(missing)} subscribers aren't part of it"
        return ""

    def broken(self) -> list[str]:
        return [f"{topic}: {wrong}" for topic in self.topics if (wrong := self.wrong(topic))]

    def heal(self, limit: float) -> float:
        """Let the time pass in which all trees must become whole.

        Tells after how many seconds they were.
        """
        healed = 0.0
        for passed in range(1, int(2 * limit) + 1):
            self.ring.run(0.5)
            if self.broken():
                healed = passed / 2
        assert self.broken() == []
        return healed

    def check_messages(self) -> None:
        """A publish from anywhere reaches each subscriber once, an anycast from anywhere one of
        them.
        """
        sent = {}
        for topic in self.topics:
            data = f"{topic} at {self.ring.clock.now}".encode()
            sent[topic] = data
            self.rng.choice(self.live()).scribe.publish(topic, Message(None, Payload.of(data)))
            self.rng.choice(self.live()).scribe.balance(topic, Message(None, Payload.of(data)))
        self.ring.run(1.0)
        for topic, data in sent.items():
            expected = {member.node.node_id for member in self.subscribers(topic)}
            assert {
                member.node.node_id: member.published[data]
                for member in self.live()
                if data in member.published
            } == dict.fromkeys(expected, 1)
            takers = [member.node.node_id for member in self.live() if data in member.balanced]
            assert len(takers) == (1 if expected else 0)
            assert expected.issuperset(takers)


def depth(world: World, topic: str) -> int:
    parts = {
        member.node.node_id: part
        for member in world.live()
        if (part := member.part(topic)) is not None
    }
    deepest = 0
    for part in parts.values():
        steps, up = 0, part.parent
        while up is not None:
            steps, up = steps + 1, parts[up].parent
        deepest = max(deepest, steps)
    return deepest


def test_a_thousand_nodes_lose_a_tenth_at_once_and_the_trees_are_whole_again() -> None:
    world = World(seed=1, count=1_000)
    for number in range(20):
        world.subscribe(f"t#{number % 5}-topic {number}", 60)
    world.subscribe("everybody", 900)
    world.ring.run(1.0)  # no beat is needed, but the way to the root
    assert world.broken() == []
    assert depth(world, "everybody") <= 6
    world.check_messages()
    world.kill(0.1)
    assert world.heal(LIMIT) > SCRIBE.beat_period  # or nobody was hurt
    world.check_messages()
    for topic in world.topics:
        for member in world.subscribers(topic):
            member.scribe.unsubscribe(topic)
    world.ring.run((SCRIBE.max_missed + 2) * SCRIBE.beat_period)
    for member in world.live():
        assert not member.scribe.topics
        assert not member.scribe._trees.heart


@pytest.mark.parametrize("seed", range(6))
def test_trees_heal_however_often_nodes_die_and_join(seed: int) -> None:
    world = World(seed=100 + seed, count=80)
    for number in range(10):
        world.subscribe(f"topic {number}", world.rng.choice([2, 10, 40]))
    world.ring.run(1.0)
    for _ in range(3):
        world.kill(0.1)
        for _ in range(8):
            world.join()
        world.heal(LIMIT)
        world.check_messages()


@pytest.mark.parametrize("seed", range(6))
def test_graceful_leaves_and_joins_lose_no_anycast(seed: int) -> None:
    """Beside one subscriber that stays, everybody comes and goes."""
    world = World(seed=200 + seed, count=60)
    world.subscribe("work", 20)
    world.ring.run(1.0)
    stays = world.topics["work"][0]
    leaving: set[Member] = set()
    sent = 0
    for _ in range(60):
        kind = world.rng.choice(["leave", "join", "ask", "ask", "ask"])
        live = [member for member in world.live() if member not in leaving]
        if kind == "leave" and len(live) > 30:
            member = world.rng.choice([member for member in live if member is not stays])
            leaving.add(member)
            member.scribe.leave()
            world.ring.clock.after(0.1, member.node.leave)
        elif kind == "join":
            member = world.join()
            world.ring.run(0.5)
            member.scribe.subscribe("work")
        else:
            for _ in range(10):
                sent += 1
                world.rng.choice(live).scribe.balance(
                    "work", Message(None, Payload.of(b"%d" % sent))
                )
        world.ring.run(world.rng.uniform(0, 0.2))
    world.ring.run(SCRIBE.defer_time + 1)
    got = [
        data
        for member in world.members
        for data in member.balanced
        for _ in range(member.balanced[data])
    ]
    assert len(got) == len(set(got)) == sent
