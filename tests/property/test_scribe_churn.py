"""Random churn on a ring.

Trees come to rest whole, and then a publish reaches each subscriber once, an anycast one of them.

The oracle is the set of subscribers; who is connected to whom is the trees' own business, as long
as they are trees.
"""

import random
from collections import Counter

import pytest

from iris.proto.wire.message import Message
from iris.proto.wire.node_id import MODULO, NodeId, resolve
from iris.proto.wire.trees import Header, Op
from tests.support.ring import Ring

TOPICS = ["a", "b", "c#0-x"]
REST = 5  # beats: a silent neighbour is dropped after 3, whoever is left subscribes at once


def churn(ring: Ring, rng: random.Random, members: dict[str, set[NodeId]], *, quiet: bool) -> None:
    """Do one random thing to the ring."""
    topic = rng.choice(TOPICS)
    kind = rng.choices(
        ["subscribe", "unsubscribe", "kill", "leave", "add", "publish", "balance", "wait"],
        [6, 3, 2, 1, 2, 1, 1, 1],
    )[0]
    node = rng.choice(list(ring.nodes))
    if kind == "subscribe" and node not in members[topic]:
        ring[node].scribe.subscribe(topic)
        members[topic].add(node)
    elif kind == "unsubscribe" and members[topic]:
        node = rng.choice(sorted(members[topic]))
        ring[node].scribe.unsubscribe(topic)
        members[topic].remove(node)
    elif kind in ("kill", "leave") and len(ring.nodes) > 5:
        for subscribed in members.values():
            subscribed.discard(node)
        if kind == "kill":
            ring.kill(node, quietly=quiet and rng.random() < 0.5)
        else:
            ring.leave(node)
    elif kind == "add" and len(ring.nodes) < 60:
        ring.add(rng.randrange(MODULO), quietly=quiet and rng.random() < 0.5)
    elif kind == "publish":
        ring[node].publish(topic, rng.randbytes(8))
    elif kind == "balance":
        ring[node].balance(topic, rng.randbytes(8))
    elif kind == "wait":
        ring.run(rng.random())


def assert_nothing_doubled(ring: Ring) -> None:
    for node in ring.nodes.values():
        assert max(Counter(node.published).values(), default=0) <= 1
    assert (
        max(
            Counter(got for node in ring.nodes.values() for got in node.balanced).values(),
            default=0,
        )
        <= 1
    )


@pytest.mark.parametrize("seed", range(40))
def test_after_churn_trees_are_whole_and_messages_arrive_exactly_once(seed: int) -> None:
    rng = random.Random(seed)
    ring = Ring((rng.randrange(MODULO) for _ in range(rng.choice([6, 15, 40]))), seed=seed)
    members: dict[str, set[NodeId]] = {topic: set() for topic in TOPICS}
    for _ in range(3):
        for _ in range(rng.randrange(1, 60)):
            churn(ring, rng, members, quiet=seed % 2 == 1)
            for _ in range(rng.randrange(4)):
                ring.step()
        ring.converge()
        ring.beat(REST)
        assert_nothing_doubled(ring)
        for topic, subscribers in members.items():
            ring.check_tree(resolve(topic), subscribers)
            for node in ring.nodes.values():
                node.published.clear()
                node.balanced.clear()
            ring.rng.choice(list(ring.nodes.values())).publish(topic, b"all")
            for node in ring.nodes.values():
                node.balance(topic, b"one")
            ring.settle()
            for node_id, node in ring.nodes.items():
                assert len(node.published) == (node_id in subscribers)
            if subscribers:
                assert sum(len(node.balanced) for node in ring.nodes.values()) == len(ring.nodes)
    for topic, subscribers in members.items():
        for node_id in subscribers:
            ring[node_id].scribe.unsubscribe(topic)
    ring.beat(REST)
    assert ring.state() == 0


@pytest.mark.parametrize("seed", range(20))
def test_no_anycast_is_lost_or_doubled_while_nodes_join_and_leave_gracefully(seed: int) -> None:
    rng = random.Random(seed)
    ring = Ring((rng.randrange(MODULO) for _ in range(20)), seed=seed)
    stable = next(iter(ring.nodes))
    ring[stable].scribe.subscribe("t")
    ring.beat()
    sent, got = 0, 0
    for _ in range(150):
        kind, node = (
            rng.choice(["join", "quit", "leave", "add", "balance", "balance", "balance"]),
            rng.choice(list(ring.nodes)),
        )
        topic = ring[node].scribe.topics.get(resolve("t"))
        subscribed = topic is not None and topic.name is not None
        if kind == "join" and not subscribed:
            ring[node].scribe.subscribe("t")
        elif kind == "quit" and subscribed and node != stable:
            ring[node].scribe.unsubscribe("t")
        elif kind == "leave" and node != stable and len(ring.nodes) > 10:
            ring.leave(node)
        elif kind == "add":
            ring.add(rng.randrange(MODULO))
        elif kind == "balance":
            ring[node].balance("t")
            sent += 1
        for _ in range(rng.randrange(6)):
            ring.step()
        for each in ring.nodes.values():
            got += len(each.balanced)
            each.balanced.clear()
    ring.run(ring.config.defer_time)
    got += sum(len(each.balanced) for each in ring.nodes.values())
    assert got == sent


@pytest.mark.parametrize("seed", range(10))
def test_publishes_of_one_node_keep_their_order(seed: int) -> None:
    rng = random.Random(seed)
    ring = Ring((rng.randrange(MODULO) for _ in range(25)), seed=seed)
    members = rng.sample(list(ring.nodes), 12)
    for member in members:
        ring[member].scribe.subscribe("t")
    for number in range(50):  # while the tree forms
        ring[members[0]].publish("t", number.to_bytes())
        for _ in range(rng.randrange(8)):
            ring.step()
    ring.beat()
    for member in members:
        numbers = [data[0] for sender, _, data in ring[member].published if sender == members[0]]
        assert numbers == sorted(set(numbers))


def test_a_subscription_that_the_ring_leads_in_a_circle_ends() -> None:
    ring = Ring([1, 2, 3])
    ring.settle()
    header = Header(op=Op.SUBSCRIBE, sender=1)
    assert not ring[1].scribe.forward(Message(header), resolve("t"), NodeId(2))
