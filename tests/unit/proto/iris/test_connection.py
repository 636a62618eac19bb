from dataclasses import replace

import pytest

from iris.config import Config, Limits
from iris.errors import LimitReached, ProtocolError, StateError
from iris.proto.iris.base import Delivery
from iris.proto.iris.requests import TIMED_OUT, Call, Fault, Outcome, Reply
from iris.proto.wire.clusters import Header, Op
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.node_id import NodeId
from tests.support.applications import Application, echo
from tests.support.fake_scribe import FakeNetwork

CLUSTER = [f"c#{split}-workers" for split in range(5)]
TOPIC = [f"t#{split}-news" for split in range(5)]


def limited(**limits: int) -> Config:
    return replace(Config(), limits=replace(Limits(), **limits))


def pending(network: FakeNetwork) -> int:
    return len(network.timer.deadlines)


class Failing(Application):
    def handle_broadcast(self, message: Delivery) -> None:
        raise RuntimeError("our bug")

    def handle_event(self, topic: str, event: Delivery) -> None:
        raise RuntimeError("our bug")


# Clusters


def test_service_joins_all_five_trees_of_its_cluster() -> None:
    network = FakeNetwork()
    network[1].connect("workers", Application())
    assert network.nodes[NodeId(1)].subscribed == set(CLUSTER)


def test_plain_client_joins_no_cluster() -> None:
    network = FakeNetwork()
    network[1].connect("", Application())
    assert network.nodes[NodeId(1)].subscribed == set()


def test_connections_count_from_one() -> None:
    network = FakeNetwork()
    assert [network[1].connect("", Application()).id for _ in range(3)] == [1, 2, 3]


def test_broadcast_reaches_every_member_on_every_node_and_the_sender() -> None:
    network = FakeNetwork([1, 2])
    apps = [Application() for _ in range(5)]
    sender = network[1].connect("workers", apps[0])
    network[1].connect("workers", apps[1])
    network[2].connect("workers", apps[2])
    network[2].connect("others", apps[3])
    network[2].connect("", apps[4])
    sender.broadcast("workers", b"hello")
    sender.broadcast("workers", b"")
    assert [app.broadcasts for app in apps] == [[b"hello", b""]] * 3 + [[]] * 2


def test_last_member_leaving_leaves_the_trees() -> None:
    network = FakeNetwork()
    first, second = (network[1].connect("workers", Application()) for _ in range(2))
    first.leave()
    first.leave()
    assert network.nodes[NodeId(1)].subscribed == set(CLUSTER)
    second.close()
    assert network.nodes[NodeId(1)].subscribed == set()


def test_cluster_names_may_hold_anything() -> None:
    network = FakeNetwork()
    app = Application()
    connection = network[1].connect("a:b-c#1-", app)
    connection.broadcast("a:b-c#1-", b"x")
    connection.subscribe("t#0-:-")
    connection.publish("t#0-:-", b"y")
    connection.subscribe("")
    connection.publish("", b"z")
    assert (app.broadcasts, app.events) == ([b"x"], [("t#0-:-", b"y"), ("", b"z")])


def test_one_failing_application_doesnt_keep_a_broadcast_from_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = FakeNetwork()
    apps = [Application(), Failing(), Application()]
    connections = [network[1].connect("workers", app) for app in apps]
    for connection in connections:
        connection.subscribe("news")
    connections[0].broadcast("workers", b"x")
    connections[0].publish("news", b"y")
    assert [app.broadcasts for app in apps] == [[b"x"], [], [b"x"]]
    assert [app.events for app in apps] == [[("news", b"y")], [], [("news", b"y")]]
    assert len(caplog.records) == 2


# Topics


def test_events_reach_subscribers_only_while_they_are_subscribed() -> None:
    network = FakeNetwork([1, 2])
    app, publisher = Application(), network[2].connect("", Application())
    connection = network[1].connect("", app)
    publisher.publish("news", b"too early")
    connection.subscribe("news")
    assert network.nodes[NodeId(1)].subscribed == set(TOPIC)
    publisher.publish("news", b"now")
    connection.unsubscribe("news")
    publisher.publish("news", b"too late")
    assert app.events == [("news", b"now")]
    assert network.nodes[NodeId(1)].subscribed == set()


def test_subscribing_twice_or_leaving_what_isnt_subscribed_is_the_callers_fault() -> None:
    connection = FakeNetwork()[1].connect("", Application())
    connection.subscribe("news")
    with pytest.raises(StateError):
        connection.subscribe("news")
    connection.unsubscribe("news")
    with pytest.raises(StateError):
        connection.unsubscribe("news")


def test_subscriptions_are_bounded() -> None:
    connection = FakeNetwork(config=limited(client_subscriptions=2))[1].connect("", Application())
    connection.subscribe("a")
    connection.subscribe("b")
    with pytest.raises(LimitReached):
        connection.subscribe("c")


# Requests


@pytest.mark.parametrize("there", [1, 2])
@pytest.mark.parametrize("data", [b"ping", b""])
def test_request_is_answered(there: int, data: bytes) -> None:
    network = FakeNetwork([1, 2])
    network[there].connect("workers", echo())
    outcomes: list[Outcome] = []
    network[1].connect("", Application()).request("workers", data, 1.0, outcomes.append)
    assert outcomes == [Reply(data)]
    assert pending(network) == 0


@pytest.mark.parametrize("text", ["no", "", "nö \ud800"])
def test_fault_reaches_the_caller(text: str) -> None:
    network = FakeNetwork([1, 2])
    network[2].connect("workers", Application(lambda call: call.fail(text)))
    outcomes: list[Outcome] = []
    network[1].connect("", Application()).request("workers", b"", 1.0, outcomes.append)
    assert outcomes == [Fault(text.replace("\ud800", "?"))]


def test_request_carries_its_timeout_in_nanoseconds() -> None:
    network = FakeNetwork([1, 2])
    service = Application()
    network[2].connect("workers", service)
    caller = network[1].connect("", Application())
    for timeout in (0.25, 1e-9, 1e30):
        caller.request("workers", b"", timeout, lambda outcome: None)
    headers = [message.meta for _, _, message in network.nodes[NodeId(1)].sent]
    assert headers == [
        Header(Op.REQUEST, 1, 0, 0, False, 250_000_000),
        Header(Op.REQUEST, 1, 0, 1, False, 1),
        Header(Op.REQUEST, 1, 0, 2, False, 9 * 10**18),
    ]
    assert [call.timeout for call in service.calls] == [0.25, 1e-9, 9e9]


def test_request_times_out_once_and_its_late_answer_is_dropped() -> None:
    network = FakeNetwork([1, 2])
    service = Application()
    network[2].connect("workers", service)
    outcomes: list[Outcome] = []
    network[1].connect("", Application()).request("workers", b"", 1.0, outcomes.append)
    network.run(0.9)
    assert outcomes == []
    network.run(0.2)
    assert outcomes == [TIMED_OUT]
    service.calls[0].reply(b"late")
    assert outcomes == [TIMED_OUT]
    metrics = network[1].metrics
    assert (metrics.requests_timed_out.value, metrics.replies_late.value) == (1, 1)


def test_request_without_any_time_is_answered_at_once_and_not_sent() -> None:
    network = FakeNetwork()
    service = echo()
    connection = network[1].connect("workers", service)
    outcomes: list[Outcome] = []
    connection.request("workers", b"", 0.0, outcomes.append)
    assert outcomes == [TIMED_OUT]
    assert network.nodes[NodeId(1)].sent == []


def test_request_without_a_service_times_out() -> None:
    network = FakeNetwork()
    outcomes: list[Outcome] = []
    network[1].connect("", Application()).request("workers", b"", 1.0, outcomes.append)
    network.run(1.0)
    assert outcomes == [TIMED_OUT]


def test_only_the_first_answer_counts() -> None:
    network = FakeNetwork([1, 2])

    def answer(call: Call) -> None:
        call.reply(b"first")
        call.reply(b"second")
        call.fail("third")

    network[2].connect("workers", Application(answer))
    outcomes: list[Outcome] = []
    network[1].connect("", Application()).request("workers", b"", 1.0, outcomes.append)
    assert outcomes == [Reply(b"first")]
    assert len(network.nodes[NodeId(2)].sent) == 1


def test_request_picks_its_tree_by_its_id() -> None:
    network = FakeNetwork()
    network[1].connect("workers", echo())
    caller = network[1].connect("", Application())
    for _ in range(7):
        caller.request("workers", b"", 1.0, lambda outcome: None)
    topics = [topic for how, topic, _ in network.nodes[NodeId(1)].sent if how == "balance"]
    assert topics == [*CLUSTER, *CLUSTER[:2]]


def test_requests_are_spread_over_the_local_members() -> None:
    network = FakeNetwork([1, 2])
    services = [Application() for _ in range(3)]
    for service in services:
        network[1].connect("workers", service)
    caller = network[2].connect("", Application())
    for _ in range(300):
        caller.request("workers", b"", 1.0, lambda outcome: None)
    assert sum(len(service.calls) for service in services) == 300
    assert all(len(service.calls) > 60 for service in services)


def test_pending_requests_are_bounded() -> None:
    network = FakeNetwork([1, 2], config=limited(client_requests=2))
    caller = network[1].connect("", Application())
    outcomes: list[Outcome] = []
    for _ in range(2):
        caller.request("workers", b"", 1.0, outcomes.append)
    with pytest.raises(LimitReached):
        caller.request("workers", b"", 1.0, outcomes.append)
    network.run(1.0)
    assert outcomes == [TIMED_OUT] * 2


def test_requests_beyond_those_in_flight_get_a_fault() -> None:
    network = FakeNetwork([1, 2], config=limited(client_requests=2))
    service = Application()
    network[2].connect("workers", service)
    outcomes: list[Outcome] = []
    for _ in range(3):
        network[1].connect("", Application()).request("workers", b"", 1.0, outcomes.append)
    assert len(service.calls) == 2
    assert outcomes == [Fault("service overloaded: too many requests in flight")]
    assert network[2].metrics.rejected["request"].value == 1


def test_call_that_its_service_dropped_leaves_nothing_behind() -> None:
    network = FakeNetwork([1, 2], config=limited(client_requests=2))
    service = Application()
    network[2].connect("workers", service)
    caller = network[1].connect("", Application())
    for _ in range(100):
        caller.request("workers", b"", 1.0, lambda outcome: None)
        network.run(1.0)
        (call,) = service.calls
        service.calls.clear()
        call.drop()
        call.reply(b"after all")  # ignored
    assert pending(network) == 0
    assert network.nodes[NodeId(2)].sent == []


def test_request_goes_on_to_another_member_when_one_is_just_leaving() -> None:
    network = FakeNetwork()
    services = [echo() for _ in range(4)]
    connections = [network[1].connect("workers", service) for service in services]
    members = network[1]._members[CLUSTER[0]]
    for connection in connections[:3]:
        connection.leave()
    network[1]._members[CLUSTER[0]] = members  # as a thread sees them that has looked already
    header = Header(Op.REQUEST, 99, 0, 1, False, 10**9)
    for _ in range(20):
        assert network[1].handle_balance(NodeId(1), CLUSTER[0], Message(header, Payload.of(b"")))
    connections[3].leave()
    assert not network[1].handle_balance(NodeId(1), CLUSTER[1], Message(header, Payload.of(b"")))


def test_message_for_a_cluster_that_was_just_left_is_dropped() -> None:
    network = FakeNetwork()
    assert not network[1].handle_balance(
        NodeId(2), CLUSTER[0], Message(Header(Op.REQUEST, req_time=1), Payload.of(b""))
    )
    network[1].handle_publish(NodeId(2), CLUSTER[0], Message(Header(Op.BROADCAST), Payload.of(b"")))
    network[1].handle_direct(NodeId(2), Message(Header(Op.REPLY, dest=5), Payload.of(b"")))
    assert network.nodes[NodeId(1)].sent == []


def test_an_anycast_times_out_with_the_callers_timeout() -> None:
    overlay = FakeNetwork()[1]
    assert overlay.anycast_timeout(Header(Op.REQUEST, req_time=1_500_000_000)) == 1.5
    assert overlay.anycast_timeout(Header(Op.TUNNEL, tun_time=2_000_000_000)) == 2.0
    assert overlay.anycast_timeout(Header(Op.REQUEST, req_time=-5)) == 0.0
    assert overlay.anycast_timeout(None) == 0.0


@pytest.mark.parametrize("meta", [None, object(), Header(Op.REPLY), Header(Op.TUNNEL + 1)])
def test_what_makes_no_sense_is_a_violation(meta: object) -> None:
    network = FakeNetwork()
    network[1].connect("workers", Application())
    message = Message(meta, Payload.of(b""))
    with pytest.raises(ProtocolError):
        network[1].handle_publish(NodeId(2), CLUSTER[0], message)
    with pytest.raises(ProtocolError):
        network[1].handle_balance(NodeId(2), CLUSTER[0], message)
    if not isinstance(meta, Header) or meta.op != Op.REPLY:
        with pytest.raises(ProtocolError):
            network[1].handle_direct(NodeId(2), message)


def test_tunnel_with_a_key_of_a_wrong_size_is_a_violation() -> None:
    network = FakeNetwork()
    network[1].connect("workers", Application())
    with pytest.raises(ProtocolError):
        network[1].handle_balance(
            NodeId(2),
            CLUSTER[0],
            Message(Header(Op.TUNNEL, tun_key=b"short", tun_time=1), Payload.of(b"")),
        )


# Order


def test_messages_of_one_connection_to_one_cluster_or_topic_take_one_tree() -> None:
    network = FakeNetwork()
    connections = [network[1].connect("", Application()) for _ in range(10)]
    sent = network.nodes[NodeId(1)].sent
    ways = []
    for connection in connections:
        sent.clear()
        for _ in range(10):
            connection.broadcast("workers", b"")
            connection.publish("news", b"")
        ways.append({topic for _, topic, _ in sent})
        assert len(ways[-1]) == 2
    assert set.union(*ways) == {*CLUSTER, *TOPIC}  # all trees are used all the same
