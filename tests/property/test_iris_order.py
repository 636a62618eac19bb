"""Broadcasts and events of one connection keep their order on any way that TCP allows."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable

import pytest

from iris.config import Config
from iris.proto.iris.overlay import Overlay
from tests.support.applications import Application
from tests.support.ring import Node, Ring
from tests.support.suites import link_factory, tunnel_suite


def overlay_for(node: Node) -> Overlay:
    """Make the iris layer for a node."""
    return Overlay(
        suite=tunnel_suite(link_factory()),
        config=Config(),
        timer=node.ring.timer,
        rng=random.Random(node.node_id),
        clock=lambda: node.ring.timer.now,
    )


def with_iris(ids: Iterable[int], seed: int) -> tuple[Ring, list[Overlay]]:
    """A ring whose nodes have the iris layer on top."""
    overlays: dict[Node, Overlay] = {}

    def make(node: Node) -> Overlay:
        return overlays.setdefault(node, overlay_for(node))

    ring = Ring(ids, seed=seed, application=make)
    for node, overlay in overlays.items():
        overlay.attach(node.scribe)
    return ring, list(overlays.values())


def in_order(received: list[bytes]) -> dict[bytes, list[int]]:
    """What came of each sender, as numbers in the order of their arrival."""
    numbers = defaultdict(list)
    for data in received:
        sender, _, number = data.partition(b":")
        numbers[sender].append(int(number))
    return numbers


@pytest.mark.parametrize("seed", range(8))
def test_messages_of_one_connection_on_one_way_arrive_in_order_and_once(seed: int) -> None:
    rng = random.Random(seed)
    ring, overlays = with_iris(rng.sample(range(1 << 40), 12), seed)
    members = [Application() for _ in range(8)]
    for member in members:
        connection = rng.choice(overlays).connect("workers", member)
        connection.subscribe("news")
    ring.settle()
    ring.beat(2)
    senders = [rng.choice(overlays).connect("", Application()) for _ in range(6)]
    count = 60
    for number in range(count):
        for index, sender in enumerate(senders):
            sender.broadcast("workers", b"%d:%d" % (index, number))
            sender.publish("news", b"%d:%d" % (index, number))
            for _ in range(rng.randrange(12)):
                ring.step()
    ring.settle()
    expected = {b"%d" % index: list(range(count)) for index in range(len(senders))}
    for member in members:
        assert in_order(member.broadcasts) == expected
        assert in_order([data for _, data in member.events]) == expected


@pytest.mark.parametrize("seed", range(4))
def test_requests_over_real_trees_are_answered_once(seed: int) -> None:
    rng = random.Random(seed)
    ring, overlays = with_iris(rng.sample(range(1 << 40), 10), seed)
    for _ in range(5):
        rng.choice(overlays).connect("workers", Application(lambda call: call.reply(call.data)))
    callers = [rng.choice(overlays).connect("", Application()) for _ in range(5)]
    answers: list[tuple[bytes, object]] = []

    def noting(data: bytes) -> Callable[[object], None]:
        return lambda outcome: answers.append((data, outcome))

    for number in range(100):
        data = b"%d" % number
        rng.choice(callers).request("workers", data, 10.0, noting(data))
        for _ in range(rng.randrange(10)):
            ring.step()
    ring.run(1.0)
    assert sorted(data for data, _ in answers) == sorted(b"%d" % number for number in range(100))
    assert all(getattr(outcome, "data", None) == data for data, outcome in answers)
    assert all(not caller.asking for caller in callers)
