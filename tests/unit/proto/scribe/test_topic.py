import random

import pytest

from iris.errors import StateError
from iris.proto.scribe.topic import HEAD_START, Topic, remoteness
from iris.proto.wire.node_id import HALF, MODULO, NodeId

OWNER, PARENT, CHILD, OTHER = NodeId(500), NodeId(400), NodeId(600), NodeId(700)


def topic() -> Topic:
    made = Topic(NodeId(300), OWNER, random.Random(1))
    made.subscribe(CHILD)
    made.set_parent(PARENT)
    made.upstream_open = True
    return made


def test_remoteness_orders_by_distance_over_zero() -> None:
    near, far, key = NodeId(MODULO - 5), NodeId(20), NodeId(3)
    assert remoteness(near, key) < remoteness(far, key)


def test_of_two_equally_distant_nodes_the_lower_one_is_above() -> None:
    key = NodeId(10)
    assert remoteness(NodeId(7), key) < remoteness(NodeId(13), key)
    assert remoteness(NodeId(0), NodeId(HALF)) != remoteness(NodeId(1), NodeId(HALF))


def test_only_closer_nodes_are_above() -> None:
    made = topic()
    assert made.above(PARENT)
    assert not made.above(CHILD)
    assert not made.above(OWNER)


def test_neighbours_are_children_and_parent_without_the_local_subscriber() -> None:
    made = topic()
    made.join("name")
    assert made.neighbours == (CHILD, PARENT)
    made.set_parent(None)
    assert list(made.neighbours) == [CHILD]


def test_a_multicast_goes_to_all_neighbours() -> None:
    assert set(topic().multicast(None) or ()) == {CHILD, PARENT}
    assert topic().multicast(None) is not None


def test_a_multicast_is_taken_from_neighbours_only() -> None:
    made = topic()
    assert made.multicast(PARENT) is not None
    assert made.multicast(CHILD) is not None
    assert made.multicast(OTHER) is None
    assert made.multicast(OWNER) is None


def test_a_multicast_leaves_out_a_parent_that_has_not_got_the_earlier_ones_yet() -> None:
    made = topic()
    made.set_parent(None)
    made.set_parent(PARENT)
    assert made.multicast(None) == (CHILD,)


def test_an_anycast_never_goes_straight_back() -> None:
    made = topic()
    assert {made.anycast(PARENT) for _ in range(30)} == {CHILD}
    assert {made.anycast(None) for _ in range(30)} == {CHILD, PARENT}


def test_an_anycast_goes_straight_back_when_nobody_else_is_there() -> None:
    made = Topic(NodeId(300), OWNER, random.Random(1))
    made.subscribe(CHILD)
    assert made.anycast(CHILD) == CHILD


def test_local_capacity_is_what_was_taken_scaled_to_a_full_cpu() -> None:
    made = Topic(NodeId(300), OWNER, random.Random(1))
    made.join("name")
    made.subscribe(CHILD)
    taken = sum(made.anycast(CHILD) == OWNER for _ in range(30))
    assert taken == 30
    made.cycle(0.25)
    assert made.balancer.capacity(CHILD) == 120 + HEAD_START * 4
    made.cycle(0.01)
    assert made.balancer.capacity(CHILD) == HEAD_START * 4, "an idle machine doesn't boast"


def test_an_uneven_start_among_equal_hosts_levels_out() -> None:
    rng = random.Random(1)
    made = Topic(NodeId(300), OWNER, rng)
    made.join("name")
    made.subscribe(CHILD)
    other = 900 / 1.0  # what the child told: it happened to take nearly everything
    for _ in range(200):
        made.balancer.update(CHILD, int(other))
        took = sum(made.balancer.pick() == OWNER for _ in range(1_000))
        made.taken = took
        made.cycle(1.0)
        other = 1_000 - took + HEAD_START
    assert 300 < took < 700


def test_a_topic_is_empty_without_children_and_local_subscriber() -> None:
    made = topic()
    made.join("name")
    made.unsubscribe(CHILD)
    assert not made.empty
    made.quit()
    assert made.empty
    assert made.parent == PARENT


def test_doubles_and_outsiders_are_a_bug_of_the_caller() -> None:
    made = topic()
    with pytest.raises(StateError):
        made.subscribe(CHILD)
    with pytest.raises(StateError):
        made.unsubscribe(OTHER)
    with pytest.raises(StateError):
        made.quit()
    made.join("name")
    with pytest.raises(StateError):
        made.join("name")
    assert made.neighbours == (CHILD, PARENT)
