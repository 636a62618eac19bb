"""The shell on a small ring: how messages find their way, and where they wait."""

import random
import threading
from collections import deque

import pytest

from iris.config import Limits, ScribeConfig
from iris.errors import StateError
from iris.proto.scribe.overlay import Overlay
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.node_id import MODULO, NodeId, resolve
from iris.proto.wire.trees import Header, Op, Report
from tests.support.ring import Node, Ring, VirtualTimer

T = resolve("t")


def near(*steps: int) -> list[int]:
    """Ids so far from the topic, the first one the closest."""
    return [(T + step) % MODULO for step in steps]


def tree(ring: Ring) -> dict[int, int | None]:
    """Who has which parent, as steps from the topic."""
    parts = {node_id: node.scribe.topics.get(T) for node_id, node in ring.nodes.items()}
    return {
        node_id - T: part.parent - T if part.parent is not None else None
        for node_id, part in parts.items()
        if part is not None
    }


def three(*subscribers: int, limits: Limits | None = None) -> tuple[Ring, Node, Node, Node]:
    """A root, and two more nodes that come to it directly."""
    ring = Ring(near(1, 100, -200), limits=limits)
    nodes = list(ring.nodes.values())
    for index in subscribers:
        nodes[index].scribe.subscribe("t")
    ring.settle()
    return (ring, *nodes)  # type: ignore[return-value]  # three of them


# Trees.


def test_a_subscription_needs_no_beat_to_make_the_tree() -> None:
    ring, *_ = three(1, 2)
    assert ring.timer.now == 0
    assert tree(ring) == {1: None, 100: 1, -200: 1}
    ring.check_tree(T, near(100, -200))


def test_nodes_on_the_way_become_part_of_the_tree_under_their_own_name() -> None:
    ring = Ring(near(1, 100, 200))
    ring[T + 200].detours[T] = T + 100
    ring[T + 200].scribe.subscribe("t")
    ring.settle()
    assert tree(ring) == {200: 100, 100: 1, 1: None}


def test_a_hop_that_is_farther_from_the_topic_lets_a_subscription_pass() -> None:
    ring = Ring(near(1, 100, 200))
    ring[T + 100].detours[T] = T + 200
    ring[T + 100].scribe.subscribe("t")
    ring.settle()
    assert tree(ring) == {100: 1, 1: None}


def test_a_parent_that_subscribes_through_its_own_child_gets_a_parent_and_no_ring_comes_about() -> (
    None
):
    ring = Ring(near(1, 100, 200))
    ring[T + 200].detours[T] = T + 100
    for step in (100, 200):
        ring[T + step].scribe.subscribe("t")
    ring.settle()
    ring[T + 200].detours.clear()
    ring[T + 100].detours[T] = T + 200
    ring[T + 100].scribe.peer_lost(NodeId(T + 1))
    ring.settle()
    assert tree(ring) == {200: 100, 100: 1, 1: None}
    ring[T + 200].publish("t", b"once")
    ring.settle()
    assert [len(ring[T + step].published) for step in (100, 200)] == [1, 1]


def test_a_child_in_two_subtrees_leaves_the_second_at_its_first_report() -> None:
    ring, _root, other, child = three(1, 2)
    other.scribe.deliver(Message(Header(op=Op.SUBSCRIBE, sender=child.node_id)), T)
    ring.beat()
    assert child.node_id not in other.scribe.topics[T].children
    ring.check_tree(T, near(100, -200))


def test_two_roots_become_one_when_the_ring_converges() -> None:
    ring = Ring(near(50, 300))
    for node in ring.nodes.values():
        node.scribe.subscribe("t")
    ring.settle()
    ring.add(T + 1, quietly=True).scribe.subscribe("t")
    ring.settle()
    assert tree(ring) == {50: None, 300: 50, 1: None}
    ring.converge()
    ring.settle()
    assert tree(ring) == {50: 1, 300: 50, 1: None}
    ring[T + 300].publish("t", b"once")
    ring.settle()
    assert all(len(node.published) == 1 for node in ring.nodes.values())


def test_a_lost_parent_is_replaced_without_a_beat() -> None:
    ring = Ring(near(1, 10, 100, 200))
    for step in (100, 200):
        ring[T + step].scribe.subscribe("t")
    ring.settle()
    ring.kill(T + 1)
    ring.settle()
    assert ring.timer.now == 0
    assert tree(ring) == {10: None, 100: 10, 200: 10}


def test_a_silently_dead_parent_is_replaced_after_three_beats() -> None:
    ring = Ring(near(1, 10, 100))
    ring[T + 100].scribe.subscribe("t")
    ring.settle()
    ring.kill(T + 1, quietly=True)
    ring.beat(2)
    assert tree(ring) == {100: 1}
    for node in ring.nodes.values():
        node.table = node.table.without([NodeId(T + 1)])
    ring.beat(2)
    assert tree(ring) == {10: None, 100: 10}


def test_a_child_that_was_dropped_by_mistake_comes_back_with_its_next_report() -> None:
    ring, root, child, _ = three(1)
    root.scribe.peer_lost(child.node_id)
    assert tree(ring) == {100: 1}
    ring.beat()
    ring.check_tree(T, [child.node_id])


def test_a_subscription_that_the_ring_leads_in_a_circle_ends() -> None:
    _ring, _, node, _ = three(1)
    assert not node.scribe.forward(
        Message(Header(op=Op.SUBSCRIBE, sender=node.node_id)), T, NodeId(T + 1)
    )


def test_changes_of_the_ring_are_looked_at_once_a_burst() -> None:
    ring, root, *_ = three(0)
    ring.log.clear()
    pending = len(ring.timer.deadlines)
    for _ in range(100):
        root.scribe.table_changed()
    assert len(ring.timer.deadlines) == pending + 1


def test_double_and_unknown_subscriptions_are_a_bug_of_the_caller() -> None:
    _, _, node, _ = three(1)
    with pytest.raises(StateError):
        node.scribe.subscribe("t")
    with pytest.raises(StateError):
        node.scribe.unsubscribe("other")


def test_nothing_is_left_after_everybody_unsubscribed() -> None:
    ring = Ring(near(1, 100, 200, 300, 400))
    for _ in range(50):
        for node in ring.nodes.values():
            node.scribe.subscribe("t")
        ring.step()
        ring[T + 100].publish("t")
        for node in ring.nodes.values():
            node.scribe.unsubscribe("t")
    ring.beat(4)
    assert ring.state() == 0


# Multicast.


def test_a_publish_reaches_every_subscriber_once_wherever_it_comes_from() -> None:
    ring, *nodes = three(1, 2)
    for number, node in enumerate(nodes):
        node.publish("t", b"%d" % number)
    ring.settle()
    for node in nodes[1:]:
        assert sorted(node.published) == sorted(
            (sender.node_id, "t", b"%d" % number) for number, sender in enumerate(nodes)
        )
    assert not nodes[0].published


def test_a_publish_right_after_the_subscription_waits_for_the_parent() -> None:
    ring, _root, first, second = three(2)
    first.scribe.subscribe("t")
    first.publish("t", b"1")
    first.publish("t", b"2")
    assert [data for *_, data in first.published] == [b"1", b"2"]
    ring.settle()
    first.publish("t", b"3")
    ring.settle()
    assert [data for *_, data in second.published] == [b"1", b"2", b"3"]
    assert first.scribe.deferred == 0


def test_a_publish_waiting_for_a_parent_is_given_up_in_the_end() -> None:
    ring, _, node, _ = three()
    node.detours[T] = T + 7  # into the void
    node.scribe.subscribe("t")
    node.publish("t", b"1")
    assert node.scribe.deferred == 1
    ring.run(ring.config.defer_time + 1)
    assert node.scribe.deferred == 0
    assert node.discarded == {"expired": 1}


def test_a_publish_of_a_outsider_in_the_tree_is_not_taken() -> None:
    ring, _root, member, outsider = three(1)
    header = Header(op=Op.PUBLISH, sender=outsider.node_id, topic=T, prev=outsider.node_id)
    outsider.send(member.node_id, Message(header, Payload.of(b"")))
    ring.settle()
    assert not member.published
    assert member.discarded == {"not a neighbour": 1}


def test_a_publish_without_subscribers_ends_at_the_root() -> None:
    ring, root, node, _ = three()
    node.publish("t")
    ring.settle()
    assert root.discarded == {"no subscriber": 1}


def test_received_headers_are_left_alone() -> None:
    _ring, root, *_ = three(0, 1, 2)
    header = Header(op=Op.PUBLISH, sender=9, topic=T)
    message = Message(header, Payload.of(b"data"))
    assert not root.scribe.forward(message, T, NodeId(T + 100))
    assert message.meta is header
    assert header == Header(op=Op.PUBLISH, sender=9, topic=T)


def test_a_payload_is_sealed_once_for_all_neighbours() -> None:
    _ring, root, *_ = three(1, 2)
    payload = Payload.of(b"data")
    carried: list[Payload | None] = []
    root.diverted = lambda dest, message: carried.append(message.payload)
    root.scribe.publish("t", Message(None, payload))
    assert carried == [payload, payload]


def test_what_the_layer_above_sends_always_has_a_payload() -> None:
    _ring, root, *_ = three()
    carried: list[Message] = []
    root.diverted = lambda dest, message: carried.append(message)
    root.scribe.publish("t", Message(None))
    root.scribe.balance("t", Message(None))
    root.scribe.direct(NodeId(5), Message(None))
    assert [
        message.payload.seal()[0] if message.payload is not None else None for message in carried
    ] == [b"", b"", b""]
    assert all(
        message.payload is not None and len(message.payload.seal()[1]) == 16 for message in carried
    )


# Anycast.


def test_an_anycast_reaches_one_subscriber() -> None:
    ring, *nodes = three(1, 2)
    for node in nodes * 20:
        node.balance("t", b"x")
    ring.settle()
    counts = [len(node.balanced) for node in nodes]
    assert sum(counts) == 60
    assert counts[0] == 0
    assert min(counts[1:]) > 10


def test_capacity_follows_what_a_subscriber_takes() -> None:
    ring, root, one, two = three(1, 2)
    two.cpu_usage = 0.01  # has all the time in the world
    for _ in range(10):
        for _ in range(100):
            root.balance("t")
        ring.beat()
    one.balanced.clear()
    two.balanced.clear()
    for _ in range(200):
        root.balance("t")
    ring.settle()
    assert len(two.balanced) > 5 * len(one.balanced)


def test_an_anycast_that_nobody_here_takes_goes_on_in_the_tree() -> None:
    ring, root, one, two = three(0, 1)
    root.accepts = False
    for _ in range(20):
        two.balance("t")
    ring.settle()
    assert len(one.balanced) == 20


def test_an_anycast_that_nobody_takes_yet_waits_and_does_not_circulate() -> None:
    ring, root, one, two = three(0, 1)
    root.accepts = one.accepts = False
    two.balance("t")
    ring.settle()
    ring.log.clear()
    ring.run(1.0)
    assert len(ring.log) < 60
    one.accepts = True
    ring.run(ring.config.defer_retry * 2)
    assert len(one.balanced) == 1


def test_an_anycast_without_a_tree_waits_for_the_first_subscriber() -> None:
    ring, root, asker, server = three()
    asker.balance("t", b"early")
    ring.settle()
    server.scribe.subscribe("t")
    ring.settle()
    assert ring.timer.now == 0
    assert server.balanced == [(asker.node_id, "t", b"early")]
    assert root.scribe.deferred == 0


def test_waiting_anycasts_keep_their_order() -> None:
    ring, root, asker, _server = three()
    for number in range(10):
        asker.balance("t", b"%d" % number)
    ring.settle()
    ring.run(0.35)
    root.scribe.subscribe("t")
    assert [data for *_, data in root.balanced] == [b"%d" % number for number in range(10)]


def test_a_waiting_anycast_follows_the_root() -> None:
    ring, _root, asker, _server = three()
    asker.balance("t", b"early")
    ring.settle()
    ring.add(T).scribe.subscribe("t")
    ring.settle()
    ring.run(ring.config.defer_retry)
    assert ring[T].balanced == [(asker.node_id, "t", b"early")]


@pytest.mark.parametrize(("timeout", "lasts"), [(0.5, 0.5), (60.0, 3.0)])
def test_an_anycast_waits_no_longer_than_it_is_worth_and_than_the_limit(
    timeout: float, lasts: float
) -> None:
    ring, root, asker, server = three()
    ring.anycast_timeout = timeout
    asker.balance("t", b"early")
    ring.settle()
    ring.run(lasts - 0.15)
    assert root.scribe.deferred == 1
    ring.run(0.3)
    assert root.scribe.deferred == 0
    assert root.discarded == {"expired": 1}
    server.scribe.subscribe("t")
    ring.settle()
    assert not server.balanced


def test_an_anycast_out_of_time_is_not_deferred() -> None:
    ring, root, asker, _server = three()
    ring.anycast_timeout = 0.0
    asker.balance("t")
    ring.settle()
    assert root.scribe.deferred == 0
    assert root.discarded == {"expired": 1}


def test_waiting_anycasts_are_bounded() -> None:
    ring, root, asker, _ = three(limits=Limits(deferred_messages=5, deferred_bytes=100))
    for _ in range(4):
        asker.balance("t", b"1234567890")
    asker.balance("t", b"x" * 70)
    asker.balance("t")
    asker.balance("t")
    ring.settle()
    assert root.scribe.deferred == 5
    assert root.discarded == {"not deferred": 2}


def test_a_node_that_left_the_tree_sends_on_what_still_comes() -> None:
    ring, root, one, two = three(1, 2)
    one.scribe.leave()
    header = Header(op=Op.BALANCE, sender=root.node_id, topic=T, prev=root.node_id)
    one.scribe.deliver(Message(header, Payload.of(b"late")), one.node_id)
    ring.settle()
    assert ring.timer.now == 0
    assert two.balanced == [(root.node_id, "t", b"late")]


def test_what_is_sent_on_at_once_is_bounded_and_the_rest_waits() -> None:
    ring, root, one, _ = three(1)
    one.scribe.leave()
    header = Header(op=Op.BALANCE, sender=root.node_id, topic=T, prev=root.node_id)
    ring.settle()

    def send(count: int) -> int:
        """Let anycasts come. Returns: how many were sent on at once."""
        ring.log.clear()
        for _ in range(count):
            one.scribe.deliver(Message(header, Payload.of(b"")), one.node_id)
        ring.settle()
        return sum(
            src == one.node_id and isinstance(meta, Header) and meta.op == Op.BALANCE
            for src, _, _, meta in ring.log
        )

    assert send(1_030) == 1_024
    assert (one.scribe.deferred, root.scribe.deferred) == (6, 1_024)
    ring.beat()
    assert send(1) == 1


def test_an_anycast_to_a_neighbour_that_the_ring_lost_is_placed_elsewhere() -> None:
    ring, root, one, two = three(1, 2)
    del ring.nodes[one.node_id]
    root.table = root.table.without([one.node_id])
    for _ in range(10):
        root.balance("t")
    ring.settle()
    assert len(two.balanced) == 10
    assert tree(ring) == {1: None, -200: 1}


def test_an_anycast_for_a_dead_neighbour_of_another_node_waits_and_begins_anew() -> None:
    ring, root, one, two = three(2)
    header = Header(op=Op.BALANCE, sender=root.node_id, topic=T, prev=root.node_id)
    one.scribe.deliver(Message(header, Payload.of(b"late")), NodeId(T + 101))
    ring.settle()
    assert not two.balanced
    ring.run(ring.config.defer_retry)
    assert two.balanced == [(root.node_id, "t", b"late")]


# Direct messages, and what makes no sense.


def test_a_direct_message_reaches_its_node() -> None:
    ring, one, two, _ = three()
    one.scribe.direct(two.node_id, Message(None, Payload.of(b"there")))
    two.scribe.direct(two.node_id, Message(None, Payload.of(b"here")))
    ring.settle()
    assert two.directed == [(two.node_id, b"here"), (one.node_id, b"there")]


def test_a_direct_message_for_a_node_that_is_gone_reaches_nobody() -> None:
    ring, one, two, _ = three()
    one.scribe.direct(NodeId(two.node_id + 1), Message(None, Payload.of(b"there")))
    ring.settle()
    assert not any(node.directed for node in ring.nodes.values())
    assert [node.discarded for node in ring.nodes.values() if node.discarded] == [{"wrong node": 1}]


@pytest.mark.parametrize(
    "meta",
    [
        None,
        Report(),
        Header(op=Op.SUBSCRIBE),
        Header(op=Op.SUBSCRIBE, sender=MODULO),
        Header(op=Op.SUBSCRIBE, sender=-1),
        Header(op=Op.UNSUBSCRIBE, sender=5),
        Header(op=Op.UNSUBSCRIBE, sender=5, topic=1 << 80),
        Header(op=Op.PUBLISH, topic=T),
        Header(op=Op.PUBLISH, sender=5),
        Header(op=Op.PUBLISH, sender=5, topic=T + 1),
        Header(op=Op.PUBLISH, sender=5, topic=T, prev=-7),
        Header(op=Op.BALANCE, topic=T),
        Header(op=Op.BALANCE, sender=5),
        Header(op=Op.BALANCE, sender=5, topic=-1, prev=5),
        Header(op=Op.BALANCE, sender=5, topic=T, prev=1 << 70),
        Header(op=Op.REPORT, sender=5),
        Header(op=Op.REPORT, sender=5, report=Report([T], [])),
        Header(op=Op.REPORT, sender=5, report=Report([1 << 70], [1])),
        Header(op=Op.DIRECT),
        Header(op=17, sender=5),
    ],
)
def test_what_makes_no_sense_is_discarded_and_harms_nobody(meta: object) -> None:
    ring, root, _one, _two = three(0, 1, 2)
    before = tree(ring)
    for key in (root.node_id, T):
        root.scribe.deliver(Message(meta, Payload.of(b"")), key)
    ring.run(0.05)
    assert root.discarded
    assert tree(ring) == before
    assert not any(node.published or node.balanced or node.directed for node in ring.nodes.values())


@pytest.mark.parametrize("op", [Op.PUBLISH, Op.BALANCE])
@pytest.mark.parametrize(("sender", "topic"), [(None, T), (-1, T), (5, None), (5, T + 1)])
def test_what_makes_no_sense_ends_on_its_way_too(
    op: Op, sender: int | None, topic: int | None
) -> None:
    _ring, _, one, two = three(1)
    assert not one.scribe.forward(
        Message(Header(op=op, sender=sender, topic=topic), Payload.of(b"")), T, two.node_id
    )
    assert one.discarded == {"malformed": 1}
    assert not one.published
    assert not one.balanced


def test_what_makes_no_sense_is_not_forwarded_as_a_subscription() -> None:
    _ring, root, one, _two = three(1)
    assert not one.scribe.forward(Message(Header(op=Op.SUBSCRIBE)), T, root.node_id)
    assert not one.scribe.forward(Message(None), T, root.node_id)


def test_messages_inside_of_a_tree_pass_other_nodes_untouched() -> None:
    _ring, _root, one, two = three(1)
    for op in (Op.PUBLISH, Op.BALANCE):
        message = Message(Header(op=op, sender=5, topic=T, prev=two.node_id), Payload.of(b""))
        assert one.scribe.forward(message, two.node_id, two.node_id)
    assert not one.balanced
    assert not one.published


# Life and death.


def test_a_closed_overlay_leaves_nothing_in_the_timer() -> None:
    ring, *nodes = three(1)
    nodes[0].balance("other")
    ring.settle()
    for node in nodes:
        node.scribe.close()
        node.scribe.table_changed()
    assert len(ring.timer.deadlines) == 0


def test_after_leaving_nothing_is_left_and_unsubscribing_is_no_error() -> None:
    ring, _root, one, two = three(1, 2)
    one.scribe.leave()
    ring.settle()
    ring.check_tree(T, [two.node_id])
    one.scribe.unsubscribe("t")
    with pytest.raises(StateError):
        one.scribe.subscribe("t")


def test_a_failing_ring_stops_nothing_else() -> None:
    ring, _root, one, _ = three()

    def fail(dest: NodeId, message: Message) -> None:
        one.diverted = None
        raise OSError("gone")

    one.diverted = fail
    one.scribe.subscribe("t")
    ring.beat()
    ring.check_tree(T, [one.node_id])


class Loop:
    """A ring of one node, for many threads."""

    node_id = NodeId(7)
    scribe: Overlay

    def send(self, dest: NodeId, message: Message) -> None:
        self.scribe.deliver(message, dest)


class Counter:
    """An application that counts, for many threads."""

    def __init__(self) -> None:
        self.got: deque[tuple[str, bytes]] = deque()

    def handle_publish(self, sender: NodeId, topic: str, message: Message) -> None:
        self.got.append((topic, message.data()))

    def handle_balance(self, sender: NodeId, topic: str, message: Message) -> bool:
        self.got.append((topic, message.data()))
        return True

    def handle_direct(self, sender: NodeId, message: Message) -> None:
        raise AssertionError("nobody sends direct messages here")

    def anycast_timeout(self, meta: object) -> float:
        return 1.0


def test_many_threads_at_once_get_everything_in_their_order() -> None:
    ring, app, timer = Loop(), Counter(), VirtualTimer()
    ring.scribe = scribe = Overlay(
        app,
        config=ScribeConfig(),
        limits=Limits(),
        timer=timer,
        rng=random.Random(1),
        cpu_usage=lambda: 0.5,
    )
    scribe.attach(ring)
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(200):
                scribe.subscribe(name)
                scribe.publish(name, Message(None, Payload.of(b"%d" % number)))
                scribe.balance(name, Message(None, Payload.of(b"%d" % number)))
                scribe.peer_lost(NodeId(9))
                scribe.unsubscribe(name)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(f"topic {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert not failures
    for number in range(4):
        got = [data for topic, data in app.got if topic == f"topic {number}"]
        assert got == [b"%d" % (each // 2) for each in range(400)]
    assert not scribe.topics
    # copies of publishes for the parent of a topic that this node has left are dropped in time
    timer.run(2 * ScribeConfig().defer_time, lambda: None)
    assert scribe.deferred == 0
