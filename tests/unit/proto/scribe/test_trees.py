import random
import sys
import time

import pytest

from iris.balancer import MAX_CAPACITY
from iris.config import IrisConfig, Limits, ScribeConfig
from iris.errors import StateError
from iris.gobber import Encoder
from iris.proto.link.classic import HEADER_LIMIT
from iris.proto.scribe.topic import HEAD_START
from iris.proto.scribe.trees import FlushUpstream, RetryAnycasts, Send, SubscribeDecision, Trees
from iris.proto.wire.node_id import NodeId
from iris.proto.wire.trees import Header, Op, Report

TOPIC = NodeId(1_000_000)
# from the closest to the farthest
ROOT, PARENT, OWNER, CHILD, OTHER = (NodeId(TOPIC + step) for step in (1, 50, 100, 200, 300))


def trees() -> Trees:
    return Trees(OWNER, max_missed=3, rng=random.Random(1))


def sent(core: Trees) -> list[tuple[NodeId, Op]]:
    """Take out what was to be sent."""
    sends = [
        (action.dest, Op(action.header.op)) for action in core.actions if isinstance(action, Send)
    ]
    core.actions.clear()
    return sends


def adopt(core: Trees, parent: NodeId = PARENT, topic: NodeId = TOPIC) -> None:
    core.report(parent, Report([topic], [1]))
    core.topics[topic].upstream_open = True  # as the shell does at FlushUpstream
    core.actions.clear()


def member(core: Trees, *, parent: bool = True, child: bool = False) -> Trees:
    core.join(TOPIC, "name")
    if parent:
        adopt(core)
    if child:
        core.subscribe(TOPIC, CHILD, root=False)
    core.actions.clear()
    return core


def test_a_local_subscription_is_on_its_way_at_once() -> None:
    core = trees()
    core.join(TOPIC, "name")
    assert list(core.actions) == [
        Send(TOPIC, Header(op=Op.SUBSCRIBE, sender=OWNER)),
        RetryAnycasts(TOPIC),
    ]


def test_joining_a_tree_that_is_there_already_sends_nothing() -> None:
    core = trees()
    core.subscribe(TOPIC, CHILD, root=False)
    adopt(core)
    core.join(TOPIC, "name")
    assert sent(core) == []


def test_subscribing_twice_or_leaving_unsubscribed_is_a_bug_of_the_caller() -> None:
    core = member(trees())
    with pytest.raises(StateError):
        core.join(TOPIC, "name")
    core.quit(TOPIC)
    with pytest.raises(StateError):
        core.quit(TOPIC)


def test_a_subscription_is_repeated_every_beat_until_there_is_a_parent() -> None:
    core = member(trees(), parent=False)
    for _ in range(3):
        core.beat(0.5)
        assert sent(core) == [(TOPIC, Op.SUBSCRIBE)]
    adopt(core)
    core.beat(0.5)
    assert sent(core) == [(PARENT, Op.REPORT)]


def test_a_root_looks_now_and_then_whether_it_still_is_one() -> None:
    core = member(trees(), parent=False)
    core.subscribe(TOPIC, OWNER, root=True)
    core.actions.clear()
    for _ in range(16):
        core.beat(0.5)
    assert sent(core) == [(TOPIC, Op.SUBSCRIBE)] * 2


def test_a_root_looks_at_once_when_the_ring_has_changed() -> None:
    core = member(trees(), parent=False)
    core.subscribe(TOPIC, OWNER, root=True)
    core.actions.clear()
    core.seek_parents()
    assert sent(core) == [(TOPIC, Op.SUBSCRIBE)]


def test_a_topic_with_a_parent_does_not_care_for_changes_of_the_ring() -> None:
    core = member(trees())
    core.seek_parents()
    assert sent(core) == []


def test_a_new_child_is_told_its_parent_at_once_and_the_subscription_cascades() -> None:
    core = trees()
    assert core.subscribe(TOPIC, CHILD, root=False) is SubscribeDecision.REWRITE
    assert list(core.actions) == [
        RetryAnycasts(TOPIC),
        Send(CHILD, Header(op=Op.REPORT, sender=OWNER, report=Report([TOPIC], [0]))),
    ]


def test_a_subscription_ends_where_the_tree_begins() -> None:
    core = member(trees())
    assert core.subscribe(TOPIC, CHILD, root=False) is SubscribeDecision.CONSUME
    assert sent(core) == [(CHILD, Op.REPORT)]


def test_a_child_that_subscribes_again_is_told_again_and_counts_once() -> None:
    core = member(trees(), child=True)
    assert core.subscribe(TOPIC, CHILD, root=False) is SubscribeDecision.CONSUME
    assert sent(core) == [(CHILD, Op.REPORT)]
    assert core.topics[TOPIC].neighbours == (CHILD, PARENT)


def test_a_subscription_of_a_closer_node_passes_untouched() -> None:
    core = member(trees(), child=True)
    assert core.subscribe(TOPIC, ROOT, root=False) is SubscribeDecision.FORWARD
    assert core.subscribe(TOPIC, ROOT, root=True) is SubscribeDecision.FORWARD
    assert core.topics[TOPIC].neighbours == (CHILD, PARENT)
    assert sent(core) == []


def test_a_parent_that_subscribes_through_its_child_does_not_become_its_child() -> None:
    core = member(trees())
    assert core.subscribe(TOPIC, PARENT, root=False) is SubscribeDecision.FORWARD
    assert core.topics[TOPIC].neighbours == (PARENT,)


def test_an_own_subscription_that_comes_home_makes_the_root() -> None:
    core = member(trees(), parent=False)
    core.subscribe(TOPIC, OWNER, root=True)
    assert core.topics[TOPIC].is_root
    assert list(core.actions) == [FlushUpstream(TOPIC)]


def test_an_own_subscription_that_goes_on_ends_being_the_root() -> None:
    core = member(trees(), parent=False)
    core.subscribe(TOPIC, OWNER, root=True)
    core.subscribe(TOPIC, OWNER, root=False)
    topic = core.topics[TOPIC]
    assert not topic.is_root
    assert not topic.upstream_open


def test_an_own_subscription_to_a_forgotten_topic_is_nothing() -> None:
    core = trees()
    core.subscribe(TOPIC, OWNER, root=True)
    assert not core.topics


def test_a_child_at_the_rendezvous_makes_it_ask_for_itself() -> None:
    core = trees()
    assert core.subscribe(TOPIC, CHILD, root=True) is SubscribeDecision.CONSUME
    assert sent(core) == [(CHILD, Op.REPORT), (TOPIC, Op.SUBSCRIBE)]
    assert not core.topics[TOPIC].is_root


def test_the_first_closer_node_that_reports_becomes_the_parent() -> None:
    core = member(trees(), parent=False)
    core.report(PARENT, Report([TOPIC], [7]))
    topic = core.topics[TOPIC]
    assert topic.parent == PARENT
    assert topic.balancer.capacity(OWNER) == 7
    assert list(core.actions) == [FlushUpstream(TOPIC)]


@pytest.mark.parametrize("outsider", [OTHER, CHILD])
def test_a_farther_outsider_never_becomes_the_parent_and_is_rejected(outsider: NodeId) -> None:
    core = member(trees(), parent=False)
    core.report(outsider, Report([TOPIC], [7]))
    assert core.topics[TOPIC].parent is None
    assert sent(core) == [(outsider, Op.UNSUBSCRIBE)]


def test_a_second_parent_is_refused_and_told_so() -> None:
    core = member(trees())
    core.report(ROOT, Report([TOPIC], [7]))
    assert core.topics[TOPIC].parent == PARENT
    assert sent(core) == [(ROOT, Op.UNSUBSCRIBE)]


def test_a_report_for_an_unknown_topic_is_answered() -> None:
    core = trees()
    core.report(PARENT, Report([TOPIC], [7]))
    assert sent(core) == [(PARENT, Op.UNSUBSCRIBE)]
    assert not core.topics


def test_every_neighbour_gets_one_report_a_beat_with_what_it_can_reach_through_here() -> None:
    core = member(trees(), child=True)
    second = NodeId(TOPIC + 5)
    core.join(second, "other")
    adopt(core, topic=second)
    core.report(CHILD, Report([TOPIC], [20]))
    core.report(PARENT, Report([TOPIC, second], [300, 4_000]))
    core.actions.clear()
    core.beat(0.5)
    reports = {
        action.dest: action.header.report for action in core.actions if isinstance(action, Send)
    }
    own = HEAD_START * 2
    assert reports == {
        PARENT: Report([TOPIC, second], [20 + own, own]),
        CHILD: Report([TOPIC], [300 + own]),
    }
    assert len(core.actions) == 2


def test_a_report_of_very_many_topics_comes_in_parts_that_a_link_takes() -> None:
    core = trees()
    topics = [NodeId(OWNER + step) for step in range(1_000, 40_000)]
    for topic in topics:
        core.subscribe(topic, ROOT, root=True)
    core.actions.clear()
    core.beat(0.5)
    reports = [
        action.header
        for action in core.actions
        if isinstance(action, Send) and action.header.report is not None
    ]
    assert (
        sorted(topic for header in reports if header.report for topic in header.report.tops)
        == topics
    )
    assert max(len(Encoder().encode(header)) for header in reports) * 20 < HEADER_LIMIT


def test_a_client_with_all_its_subscriptions_leaves_the_node_most_of_a_beat() -> None:
    core = trees()
    for topic in range(Limits().client_subscriptions * IrisConfig().topic_splits):
        core.join(NodeId(topic * 1_000), "name")
        core.subscribe(NodeId(topic * 1_000), NodeId(1 << 39), root=True)
    core.actions.clear()
    traced = 4 if sys.gettrace() else 1  # times slower, when coverage is measured
    started = time.thread_time()
    core.beat(0.5)
    assert time.thread_time() - started < ScribeConfig().beat_period / 3 * traced


def test_a_reported_capacity_stays_within_what_a_go_node_holds() -> None:
    core = member(trees(), child=True)
    core.subscribe(TOPIC, OTHER, root=False)
    core.report(CHILD, Report([TOPIC], [1 << 62]))
    core.report(OTHER, Report([TOPIC], [1 << 62]))
    core.actions.clear()
    core.beat(0.5)
    reports = [
        action.header.report
        for action in core.actions
        if isinstance(action, Send) and action.dest == PARENT
    ]
    assert reports == [Report([TOPIC], [MAX_CAPACITY])]


def test_a_neighbour_silent_for_three_beats_is_gone() -> None:
    core = member(trees(), child=True)
    for _ in range(2):
        core.beat(0.5)
    core.actions.clear()
    core.report(CHILD, Report([TOPIC], [1]))
    core.beat(0.5)
    topic = core.topics[TOPIC]
    assert topic.parent is None
    assert list(topic.children) == [CHILD]
    assert (TOPIC, Op.SUBSCRIBE) in sent(core)
    for _ in range(2):
        core.beat(0.5)
    assert not topic.children


def test_an_unsubscribed_child_is_gone() -> None:
    core = member(trees(), child=True)
    core.unsubscribe(TOPIC, CHILD)
    assert core.topics[TOPIC].neighbours == (PARENT,)
    assert sent(core) == []


def test_a_parent_that_says_it_is_none_is_replaced_at_once() -> None:
    core = member(trees())
    core.unsubscribe(TOPIC, PARENT)
    assert core.topics[TOPIC].parent is None
    assert sent(core) == [(TOPIC, Op.SUBSCRIBE)]


def test_an_unsubscription_of_a_outsider_changes_nothing() -> None:
    core = member(trees(), child=True)
    core.unsubscribe(TOPIC, OTHER)
    core.unsubscribe(NodeId(5), CHILD)
    assert core.topics[TOPIC].neighbours == (CHILD, PARENT)
    assert sent(core) == []


def test_a_topic_that_nobody_needs_here_leaves_its_parent_and_is_forgotten() -> None:
    core = member(trees(), child=True)
    core.quit(TOPIC)
    assert sent(core) == []
    core.unsubscribe(TOPIC, CHILD)
    assert sent(core) == [(PARENT, Op.UNSUBSCRIBE)]
    assert not core.topics
    assert not core.heart


def test_a_lost_node_is_out_of_all_trees_at_once() -> None:
    core = member(trees(), child=True)
    second, third = NodeId(TOPIC + 160), NodeId(TOPIC + 5)
    for topic in (second, third):
        core.join(topic, str(topic))
    core.report(CHILD, Report([second], [1]))  # child here, parent there
    core.subscribe(third, CHILD, root=False)
    core.actions.clear()
    core.lose(CHILD)
    assert sent(core) == [(second, Op.SUBSCRIBE)]
    assert not any(CHILD in topic.neighbours for topic in core.topics.values())


def test_a_node_that_leaves_hands_over_its_children_and_forgets() -> None:
    core = member(trees(), child=True)
    core.leave()
    assert sent(core) == [(CHILD, Op.UNSUBSCRIBE), (PARENT, Op.UNSUBSCRIBE)]
    assert not core.topics


def test_a_node_that_leaves_lets_subscriptions_pass() -> None:
    core = trees()
    core.leave()
    assert core.subscribe(TOPIC, CHILD, root=False) is SubscribeDecision.FORWARD
    assert not core.topics


def test_a_root_that_leaves_stays_one_for_its_children_until_the_ring_has_another() -> None:
    core = member(trees(), parent=False, child=True)
    core.leave()
    topic = core.topics[TOPIC]
    assert topic.name is None
    assert list(topic.children) == [CHILD]
    assert core.subscribe(TOPIC, OTHER, root=True) is SubscribeDecision.CONSUME
    core.beat(0.5)
    assert (TOPIC, Op.SUBSCRIBE) not in sent(core)


def test_a_node_that_leaves_takes_no_parent_and_no_subscription_any_more() -> None:
    core = member(trees(), parent=False, child=True)
    core.leave()
    core.report(PARENT, Report([TOPIC], [1]))
    assert core.topics[TOPIC].parent is None
    with pytest.raises(StateError):
        core.join(NodeId(7), "late")
    core.quit(TOPIC)  # its clients close after it: no error


def test_nothing_is_left_of_a_thousand_subscriptions() -> None:
    core = trees()
    for number in range(1_000):
        topic = NodeId(number)
        core.join(topic, "name")
        core.subscribe(topic, NodeId(2_000_000), root=False)
        core.report(NodeId(number + 1), Report([topic], [1]))
        core.beat(0.5)
        core.quit(topic)
        core.unsubscribe(topic, NodeId(2_000_000))
        core.actions.clear()
    assert not core.topics
    assert not core.heart
