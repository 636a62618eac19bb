"""The core of a client: what it may ask for, what it gets, and how it ends."""

import logging
from typing import Any

import pytest

from iris.errors import IrisError, LimitReached, ProtocolError
from iris.proto.iris.base import Delivery, Handler
from iris.proto.iris.connection import Connection
from iris.relay_protocol.schema import VERSION, Op
from iris.service.relay.base import Denied
from tests.support.fake_scribe import FakeNetwork
from tests.support.relay_core import Attached, Got, with_limits


@pytest.fixture
def network() -> FakeNetwork:
    return FakeNetwork([1, 2])


# Attaching


def test_another_version_is_denied_with_the_text_of_the_protocol(network: FakeNetwork) -> None:
    client = Attached(network, init=False)
    with pytest.raises(
        Denied, match=r"^Unsupported protocol\. Client: v1\.0-draft1\. Iris: v1\.0-draft2\.$"
    ):
        client.do(Op.INIT, "v1.0-draft1", "")
    client.session.end(None)
    assert (client.got(), client.ends) == ([], 1)


def test_an_error_while_connecting_is_the_reason_of_a_deny(network: FakeNetwork) -> None:
    def connect(cluster: str, handler: Handler) -> Connection:
        raise LimitReached("no room")

    with pytest.raises(Denied, match=r"^no room$"):
        Attached(network, connect=connect, init=False).do(Op.INIT, VERSION, "")


def test_what_comes_before_the_membership_is_complete_follows_the_acceptance(
    network: FakeNetwork,
) -> None:
    def connect(cluster: str, handler: Handler) -> Connection:
        handler.handle_broadcast(Delivery(b"early"))
        assert not client.got()
        return network[1].connect(cluster, handler)

    client = Attached(network, connect=connect, init=False)
    client.do(Op.INIT, VERSION, "c")
    assert client.got() == [(Op.INIT, VERSION), (Op.BROADCAST, b"early")]


def test_membership_is_effective_when_the_init_is_answered(network: FakeNetwork) -> None:
    service = Attached(network, "c", node=2)
    Attached(network).do(Op.BROADCAST, "c", b"hello")
    assert service.got() == [(Op.BROADCAST, b"hello")]


def test_an_end_while_attaching_leaves_no_connection_behind(network: FakeNetwork) -> None:
    def connect(cluster: str, handler: Handler) -> Connection:
        client.session.end(None)
        return network[1].connect(cluster, handler)

    client = Attached(network, connect=connect, init=False)
    client.do(Op.INIT, VERSION, "c")
    assert (client.got(), client.session.ended, network[1]._connections) == ([], True, {})


# Requests


def answer(service: Attached, success: bool, result: Any) -> None:
    ((_, number, *_),) = service.got()
    service.do(Op.REPLY, number, success, result)


@pytest.mark.parametrize("node", [1, 2], ids=["same node", "other node"])
@pytest.mark.parametrize(
    ("success", "result"), [(True, b"yes"), (True, b""), (False, "no"), (False, "")]
)
def test_a_request_gets_its_reply_or_fault_also_an_empty_one(
    network: FakeNetwork, node: int, success: bool, result: Any
) -> None:
    client, service = Attached(network), Attached(network, "c", node=node)
    client.do(Op.REQUEST, 5, "c", b"", 1_000)
    answer(service, success, result)
    assert client.got() == [(Op.REPLY, 5, False, success, result)]


def test_requests_to_a_service_are_numbered_from_0_and_tell_its_time(network: FakeNetwork) -> None:
    client, service = Attached(network), Attached(network, "c", node=2)
    for timeout in (57, 1_000, (1 << 64) - 1):
        client.do(Op.REQUEST, 9, "c", b"data", timeout)
    assert service.got() == [
        (Op.REQUEST, 0, b"data", 57),
        (Op.REQUEST, 1, b"data", 1_000),
        (Op.REQUEST, 2, b"data", 9_000_000_000_000),
    ]


def test_a_request_without_a_service_times_out_at_its_deadline(network: FakeNetwork) -> None:
    client = Attached(network)
    client.do(Op.REQUEST, 0, "nobody", b"?", 200)
    network.run(0.199)
    assert client.got() == []
    network.run(0.001)
    assert client.got() == [(Op.REPLY, 0, True, None, None)]


def test_a_request_without_time_is_answered_at_once(network: FakeNetwork) -> None:
    client, service = Attached(network), Attached(network, "c")
    client.do(Op.REQUEST, 0, "c", b"?", 0)
    assert client.got() == [(Op.REPLY, 0, True, None, None)]
    assert service.got() == []


def test_the_same_id_twice_is_answered_twice(network: FakeNetwork) -> None:
    client, service = Attached(network), Attached(network, "c")
    client.do(Op.REQUEST, 3, "c", b"a", 100)
    client.do(Op.REQUEST, 3, "c", b"b", 100)
    service.do(Op.REPLY, 1, True, b"B")
    assert client.got() == [(Op.REPLY, 3, False, True, b"B")]
    network.run(1)
    assert client.got() == [(Op.REPLY, 3, True, None, None)]


def test_late_second_and_unknown_replies_are_ignored(network: FakeNetwork) -> None:
    client, service = Attached(network), Attached(network, "c")
    client.do(Op.REQUEST, 0, "c", b"a", 1_000)
    client.do(Op.REQUEST, 1, "c", b"b", 1_000)
    service.do(Op.REPLY, 0, True, b"A")
    service.do(Op.REPLY, 0, True, b"again")
    service.do(Op.REPLY, 99, False, "what?")
    network.run(1)
    service.do(Op.REPLY, 1, True, b"late")
    assert client.got() == [(Op.REPLY, 0, False, True, b"A"), (Op.REPLY, 1, True, None, None)]
    idle: list[bool] = []
    service.session.drain(lambda: idle.append(True))
    assert idle == [True]  # it remembers no request


def test_requests_beyond_the_limit_get_a_fault_each() -> None:
    config = with_limits(client_requests=2)
    network = FakeNetwork(config=config)
    client, service = Attached(network), Attached(network, "c")
    for number in range(3):
        client.do(Op.REQUEST, number, "c", b"", 1_000)
    ((op, number, late, success, text),) = client.got()
    assert (op, number, late, success) == (Op.REPLY, 2, False, False)
    assert "limit of 2 pending requests" in text
    assert client.metrics.rejected["request"].value == 1
    assert len(service.got()) == 2


def test_callers_of_a_service_that_disconnects_get_a_fault_at_once(network: FakeNetwork) -> None:
    client, service = Attached(network), Attached(network, "c", node=2)
    client.do(Op.REQUEST, 0, "c", b"", 60_000)
    service.session.end(None)
    assert client.got() == [(Op.REPLY, 0, False, False, "service disconnected")]
    assert service.got()[-1][0] == Op.REQUEST  # its last packet: no close for one that is gone


# Topics


def test_a_publisher_that_subscribes_gets_its_own_events(network: FakeNetwork) -> None:
    client, other = Attached(network), Attached(network, node=2)
    for subscriber in (client, other):
        subscriber.do(Op.SUBSCRIBE, "a:b")
    client.do(Op.PUBLISH, "a:b", b"")
    assert client.got() == other.got() == [(Op.PUBLISH, "a:b", b"")]
    other.do(Op.UNSUBSCRIBE, "a:b")
    client.do(Op.PUBLISH, "a:b", b"1")
    assert (client.got(), other.got()) == ([(Op.PUBLISH, "a:b", b"1")], [])


def test_a_fan_out_is_encoded_once(network: FakeNetwork) -> None:
    clients = [Attached(network, "c") for _ in range(3)]
    for client in clients:
        client.do(Op.SUBSCRIBE, "t")
    clients[0].do(Op.PUBLISH, "t", b"event")
    clients[0].do(Op.BROADCAST, "c", b"message")
    first, *others = (client.send_buffer.buffers[-2:] for client in clients)
    for buffers in others:
        assert all(one is other for one, other in zip(buffers, first, strict=True))
    packets = [(Op.PUBLISH, "t", b"event"), (Op.BROADCAST, b"message")]
    assert [client.got() for client in clients] == [packets] * 3


def test_subscribing_twice_and_unsubscribing_what_is_not_break_the_rules(
    network: FakeNetwork,
) -> None:
    client = Attached(network)
    client.do(Op.SUBSCRIBE, "")
    with pytest.raises(ProtocolError, match="already subscribed"):
        client.do(Op.SUBSCRIBE, "")
    with pytest.raises(ProtocolError, match="not subscribed"):
        client.do(Op.UNSUBSCRIBE, "other")


def test_topics_beyond_the_limit_are_rejected() -> None:
    client = Attached(FakeNetwork(config=with_limits(client_subscriptions=1)))
    client.do(Op.SUBSCRIBE, "a")
    with pytest.raises(LimitReached, match="limit of 1 subscriptions"):
        client.do(Op.SUBSCRIBE, "b")


# Slow clients


def test_a_slow_client_misses_broadcasts_and_events_which_is_logged_once_in_a_while(
    network: FakeNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    config = with_limits(client_send_buffer=1_000)
    client, sender = Attached(network, "c", config=config), Attached(network)
    client.do(Op.SUBSCRIBE, "t")
    client.send_buffer.size = 665  # two thirds are for what may be dropped
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            sender.do(Op.BROADCAST, "c", b"abc")
            sender.do(Op.PUBLISH, "t", b"abc")
        assert (client.got(), len(caplog.records)) == ([], 1)
        network.run(60)
        sender.do(Op.PUBLISH, "t", b"abc")
        assert len(caplog.records) == 2
    assert [client.metrics.dropped[each].value for each in ("broadcast", "event")] == [100, 101]
    client.send_buffer.drain()
    sender.do(Op.BROADCAST, "c", b"abc")
    assert client.got() == [(Op.BROADCAST, b"abc")]


def test_a_message_larger_than_the_limit_passes_an_empty_send_buffer(network: FakeNetwork) -> None:
    client, sender = (
        Attached(network, "c", config=with_limits(client_send_buffer=10)),
        Attached(network),
    )
    sender.do(Op.BROADCAST, "c", bytes(100))
    assert client.got() == [(Op.BROADCAST, bytes(100))]


def test_a_client_that_lets_what_cannot_be_dropped_pile_up_is_closed_with_a_reason(
    network: FakeNetwork,
) -> None:
    service, client = (
        Attached(network, "c", config=with_limits(client_send_buffer=1_000)),
        Attached(network),
    )
    client.do(Op.REQUEST, 0, "c", b"first", 1_000)
    service.send_buffer.size = 999
    service.do(Op.REQUEST, 1, "nobody", b"", 0)
    network.run(0)
    assert [packet for packet in service.got() if packet[0] != Op.REQUEST] == [
        (Op.CLOSE, "slow consumer: send buffer full")
    ]
    assert (service.ends, service.metrics.clients_closed["slow consumer"].value) == (1, 1)
    assert client.got() == [(Op.REPLY, 0, False, False, "service disconnected")]


def full(service: Attached) -> None:
    service.send_buffer.size = 990


FULL = "service overloaded"


def test_requests_and_tunnels_for_which_a_service_has_no_room_are_refused_and_it_stays(
    network: FakeNetwork,
) -> None:
    service, client = (
        Attached(network, "c", config=with_limits(client_send_buffer=1_000)),
        Attached(network),
    )
    full(service)
    client.do(Op.REQUEST, 0, "c", b"too much", 1_000)
    client.do(Op.TUNNEL_INIT, 0, "c", 1_000)
    assert (client.got(), service.got()) == ([(Op.REPLY, 0, False, False, FULL)], [])
    rejected = service.metrics.rejected
    assert (rejected["request"].value, rejected["tunnel"].value) == (1, 1)
    service.send_buffer.drain()
    client.do(Op.REQUEST, 1, "c", b"again", 1_000)
    answer(service, True, b"ok")
    assert client.got() == [(Op.REPLY, 1, False, True, b"ok")]
    assert not service.session.ended


def test_a_service_that_has_no_room_for_long_is_closed_so_that_others_are_asked(
    network: FakeNetwork,
) -> None:
    service, client = (
        Attached(network, "c", config=with_limits(client_send_buffer=1_000)),
        Attached(network),
    )
    full(service)
    for wait in (9.9, 0.1, 0):
        assert not service.session.ended
        client.do(Op.REQUEST, 0, "c", b"", 1_000)
        network.run(wait)
    assert service.got() == [(Op.CLOSE, "slow consumer: send buffer full")]


def test_a_reply_for_which_its_caller_has_no_room_becomes_a_fault(network: FakeNetwork) -> None:
    service, client = (
        Attached(network, "c"),
        Attached(network, config=with_limits(client_send_buffer=1_000)),
    )
    client.do(Op.REQUEST, 0, "c", b"", 1_000)
    client.send_buffer.size = 900
    answer(service, True, bytes(200))
    assert client.got() == [
        (
            Op.REPLY,
            0,
            False,
            False,
            "reply dropped: slow consumer",
        )
    ]
    assert (client.metrics.rejected["reply"].value, client.session.ended) == (1, False)


def test_what_is_asked_of_a_service_is_not_kept_until_its_answer(network: FakeNetwork) -> None:
    service, client = Attached(network, "c"), Attached(network)
    client.do(Op.REQUEST, 0, "c", bytes(1_000), 60_000)
    (entry,) = service.session._calls.values()
    assert entry.call.data == b""


# The end


def test_a_close_is_answered_at_once_with_nothing_in_flight_and_own_requests_pending(
    network: FakeNetwork,
) -> None:
    client = Attached(network, "c")
    client.do(Op.REQUEST, 0, "nobody", b"", 60_000)
    client.do(Op.CLOSE)
    assert (client.got(), client.ends, client.session.ended) == ([(Op.CLOSE, "")], 1, True)
    network.run(61)
    assert client.got() == []


def test_a_closing_service_gets_no_new_requests_but_may_answer_those_in_flight(
    network: FakeNetwork,
) -> None:
    client, service, other = Attached(network), Attached(network, "c"), Attached(network, "c")
    requests: list[Got] = []
    while not requests:
        client.do(Op.REQUEST, 1, "c", b"", 60_000)
        client.got(), other.got()
        requests = service.got()
    before = len(requests)
    service.do(Op.CLOSE)
    assert service.got() == []
    for _ in range(20):
        client.do(Op.REQUEST, 2, "c", b"", 1_000)
    assert (before, service.got()) == (1, [])
    service.do(Op.REPLY, 0, True, b"done")
    assert service.got() == [(Op.CLOSE, "")]
    assert client.got() == [(Op.REPLY, 1, False, True, b"done")]


def test_a_closing_service_that_owes_an_answer_is_waited_for_until_the_drain_timeout(
    network: FakeNetwork,
) -> None:
    client, service = Attached(network), Attached(network, "c")
    client.do(Op.REQUEST, 0, "c", b"", 60_000)
    service.got()
    service.do(Op.CLOSE)
    service.do(Op.CLOSE)
    network.run(2.9)
    assert service.got() == []
    network.run(0.1)
    assert service.got() == [(Op.CLOSE, "")]
    assert client.got() == [(Op.REPLY, 0, False, False, "service disconnected")]


def test_a_closing_service_is_not_waited_for_once_its_callers_gave_up(network: FakeNetwork) -> None:
    client, service = Attached(network), Attached(network, "c")
    client.do(Op.REQUEST, 0, "c", b"", 500)
    service.got()
    service.do(Op.CLOSE)
    network.run(0.5)
    assert service.got() == [(Op.CLOSE, "")]


def test_nothing_follows_a_close(network: FakeNetwork) -> None:
    client, sender = Attached(network, "c"), Attached(network)
    client.do(Op.SUBSCRIBE, "t")
    client.session.end("because")
    client.session.end("again")
    sender.do(Op.BROADCAST, "c", b"")
    sender.do(Op.PUBLISH, "t", b"")
    client.session.handle_broadcast(Delivery(b"one that was on its way"))
    client.do(Op.REQUEST, 0, "x", b"", 0)
    assert (client.got(), client.ends) == ([(Op.CLOSE, "because")], 1)


def test_an_end_leaves_no_trace_in_the_node(network: FakeNetwork) -> None:
    client, service = Attached(network), Attached(network, "c")
    service.do(Op.SUBSCRIBE, "t")
    service.do(Op.REQUEST, 0, "nobody", b"", 60_000)
    client.do(Op.REQUEST, 0, "c", b"", 60_000)
    client.do(Op.TUNNEL_INIT, 0, "c", 60_000)
    service.session.end(None)
    client.session.end(None)
    assert not any(node.subscribed for node in network.nodes.values())
    assert not network[1]._connections
    assert len(network.timer.deadlines) == 0


def test_a_drain_ends_when_nothing_is_in_flight_any_more(network: FakeNetwork) -> None:
    client, service, idle = Attached(network), Attached(network, "c"), []
    client.session.drain(lambda: idle.append("client"))
    assert idle == ["client"]
    client = Attached(network)
    client.do(Op.REQUEST, 0, "c", b"", 60_000)
    service.session.drain(lambda: idle.append("service"))
    assert idle == ["client"]
    service.do(Op.REPLY, 0, True, b"ok")
    assert idle == ["client", "service"]
    assert not service.session.ended


def test_draining_before_the_init_packet_ends_at_once(network: FakeNetwork) -> None:
    idle: list[bool] = []
    Attached(network, init=False).session.drain(lambda: idle.append(True))
    assert idle == [True]


# Tunnels, as far as they aren't test_tunnel.py's


def test_a_tunnel_joins_two_clients(network: FakeNetwork) -> None:
    client, service = Attached(network), Attached(network, "c")
    client.do(Op.TUNNEL_INIT, 0, "c", 1_000)
    assert service.got() == [(Op.TUNNEL_INIT, 0, 65_536)]
    assert client.got() == []  # the other application is asked first
    service.do(Op.TUNNEL_CONFIRM, 0, 4)
    assert service.got() == [(Op.TUNNEL_ALLOW, 4, 4 << 20)]
    assert client.got() == [(Op.TUNNEL_CONFIRM, 0, False, 65_536), (Op.TUNNEL_ALLOW, 0, 4 << 20)]
    service.do(Op.TUNNEL_ALLOW, 4, 100)
    client.do(Op.TUNNEL_TRANSFER, 0, 4, b"ping")
    assert service.got() == [(Op.TUNNEL_TRANSFER, 4, 4, b"ping")]
    assert client.got() == [(Op.TUNNEL_ALLOW, 0, 4)]
    client.do(Op.TUNNEL_CLOSE, 0)
    assert (client.got(), service.got()) == ([(Op.TUNNEL_CLOSE, 0, "")], [(Op.TUNNEL_CLOSE, 4, "")])
    for end, number in ((client, 0), (service, 4)):
        end.do(Op.TUNNEL_CLOSE, number)
        end.do(Op.TUNNEL_TRANSFER, number, 1, b"x")
        end.do(Op.TUNNEL_ALLOW, number, 1)
        assert end.got() == []
        assert not end.session._tunnels._open


def test_a_tunnel_that_no_service_accepts_times_out(network: FakeNetwork) -> None:
    client = Attached(network)
    client.do(Op.TUNNEL_INIT, 0, "nobody", 200)
    client.do(Op.TUNNEL_INIT, 1, "nobody", 0)
    assert client.got() == [(Op.TUNNEL_CONFIRM, 1, True, None)]
    network.run(0.2)
    assert client.got() == [(Op.TUNNEL_CONFIRM, 0, True, None)]


def test_an_offer_not_confirmed_in_time_is_withdrawn_and_the_client_stays(
    network: FakeNetwork,
) -> None:
    client, service = Attached(network), Attached(network, "c")
    client.do(Op.TUNNEL_INIT, 0, "c", 60_000)
    network.run(3)
    assert service.got() == [(Op.TUNNEL_INIT, 0, 65_536)]
    service.do(Op.TUNNEL_CONFIRM, 0, 0)
    assert service.got() == [(Op.TUNNEL_CLOSE, 0, "tunnel is no longer offered")]
    assert not service.session.ended
    assert client.got() == []


def test_a_confirmation_of_what_was_never_offered_is_answered_with_a_close(
    network: FakeNetwork,
) -> None:
    service = Attached(network, "c")
    service.do(Op.TUNNEL_CONFIRM, 17, 0)
    assert service.got() == [(Op.TUNNEL_CLOSE, 0, "tunnel is no longer offered")]
    client = Attached(network)
    client.do(Op.TUNNEL_INIT, 0, "c", 1_000)
    service.do(Op.TUNNEL_CONFIRM, 0, 0)
    assert [op for op, *_ in service.got()] == [Op.TUNNEL_INIT, Op.TUNNEL_ALLOW]


def test_a_tunnel_confirmed_after_its_caller_gave_up_is_closed_with_a_reason(
    network: FakeNetwork,
) -> None:
    client, service = Attached(network), Attached(network, "c")
    client.do(Op.TUNNEL_INIT, 0, "c", 100)
    network.run(0.2)
    service.got()
    service.do(Op.TUNNEL_CONFIRM, 0, 0)
    assert service.got() == [(Op.TUNNEL_CLOSE, 0, "tunnel could not be built")]
    assert client.got() == [(Op.TUNNEL_CONFIRM, 0, True, None)]


@pytest.mark.parametrize("again", [(Op.TUNNEL_INIT, 0, "c", 1), (Op.TUNNEL_CONFIRM, 5, 0)])
def test_a_number_in_use_breaks_the_rules(network: FakeNetwork, again: tuple[Any, ...]) -> None:
    client = Attached(network)
    client.do(Op.TUNNEL_INIT, 0, "nobody", 1_000)
    with pytest.raises(ProtocolError, match="tunnel 0 exists already"):
        client.do(*again)


def test_too_many_tunnels_are_refused_at_once() -> None:
    network = FakeNetwork(config=with_limits(client_tunnels=1))
    client = Attached(network)
    client.do(Op.TUNNEL_INIT, 0, "nobody", 60_000)
    client.do(Op.TUNNEL_INIT, 1, "nobody", 60_000)
    assert (client.got(), client.metrics.rejected["tunnel"].value) == (
        [(Op.TUNNEL_CONFIRM, 1, True, None)],
        1,
    )


def tunnel_to(service: Attached, network: FakeNetwork) -> Attached:
    client = Attached(network)
    client.do(Op.TUNNEL_INIT, 0, "c", 1_000)
    service.do(Op.TUNNEL_CONFIRM, 0, 0)
    service.got()
    return client


@pytest.mark.parametrize("reason", [None, "protocol violation"], ids=["disconnected", "dropped"])
def test_the_other_end_hears_of_a_client_that_is_lost(
    network: FakeNetwork, reason: str | None
) -> None:
    service = Attached(network, "c")
    client = tunnel_to(service, network)
    client.session.end(reason)
    assert service.got() == [(Op.TUNNEL_CLOSE, 0, "the other application disconnected")]


def test_the_other_end_hears_of_a_client_that_leaves(network: FakeNetwork) -> None:
    service = Attached(network, "c")
    client = tunnel_to(service, network)
    client.do(Op.CLOSE)
    assert service.got() == [(Op.TUNNEL_CLOSE, 0, "")]


def test_a_client_that_closes_leaves_even_if_it_hangs_up_before_its_calls_are_done(
    network: FakeNetwork,
) -> None:
    service, other = Attached(network, "c"), Attached(network, "d")
    client = tunnel_to(service, network)
    service.do(Op.TUNNEL_INIT, 5, "d", 1_000)
    other.do(Op.TUNNEL_CONFIRM, 0, 0)
    client.do(Op.REQUEST, 0, "c", b"", 60_000)
    other.got()
    service.do(Op.CLOSE)
    service.session.end(None)
    assert other.got() == [(Op.TUNNEL_CLOSE, 0, "")]


def test_every_end_is_counted_once_by_its_cause(network: FakeNetwork) -> None:
    left, gone, slow, stopped = (Attached(network) for _ in range(4))
    left.do(Op.CLOSE)
    left.session.end(None)
    gone.session.end(None)
    slow.session.end("slow consumer: send buffer full", "slow consumer")
    stopped.session.end("the node is shutting down", "shutdown")
    stopped.session.end("again", "internal error")
    ends = {"left": left, "disconnected": gone, "slow consumer": slow, "shutdown": stopped}
    for cause, client in ends.items():
        metrics = client.metrics
        assert metrics.clients_closed[cause].value == 1
        assert sum(value for name, _, value in metrics.samples() if "closed" in name) == 1
        assert (metrics.clients_attached["accepted"].value, metrics.clients.value) == (1, 0)
    silent = Attached(network, init=False)
    silent.session.end(None)
    assert silent.metrics.clients_attached["failed"].value == 1


def test_denied_is_one_of_our_errors() -> None:
    assert issubclass(Denied, IrisError)
