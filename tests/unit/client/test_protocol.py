"""The binding's core alone: what it sends, how it handles the node's packets, how it ends."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from iris.client.errors import Closed, Denied, Fault, TimedOut
from iris.client.limits import TUNNEL_BUFFER
from iris.errors import ProtocolError, StateError
from iris.relay_protocol.schema import DEFAULT, MESSAGE_SIZE, NAME_SIZE, VERSION, Op
from tests.support.fake_frontend import FakeEnd, FakeFrontend


def asked(frontend: FakeFrontend, text: bytes = b"q") -> "Future[bytes]":
    future: Future[bytes] = Future()
    frontend.protocol.request("c", text, 1.5, future)
    return future


def built(frontend: FakeFrontend) -> "Future[Any]":
    future: Future[Any] = Future()
    frontend.protocol.tunnel("c", 1.5, future)
    return future


def test_the_init_packet_names_protocol_and_cluster() -> None:
    assert FakeFrontend("c").protocol.init_packet == DEFAULT.client(
        Op.INIT, version=VERSION, cluster="c"
    )
    assert FakeFrontend().protocol.init_packet == DEFAULT.client(
        Op.INIT, version=VERSION, cluster=""
    )


def test_an_init_packet_attaches() -> None:
    frontend = FakeFrontend(attached=False)
    assert not frontend.attached.done()
    frontend.node(Op.INIT, version=VERSION)
    assert frontend.attached.result(0) is None


def test_a_denial_carries_the_reason() -> None:
    frontend = FakeFrontend(attached=False)
    frontend.node(Op.DENY, reason="full")
    with pytest.raises(Denied, match="full"):
        frontend.attached.result(0)
    assert frontend.protocol.ended is not None


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.1 400", DEFAULT.node(Op.BROADCAST, message=b""), DEFAULT.node(Op.INIT, version="v2")],
)
def test_another_protocol_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        FakeFrontend(attached=False).protocol.feed(data)


def test_each_call_sends_its_packet() -> None:
    frontend = FakeFrontend("c")
    core = frontend.protocol
    core.broadcast("all", b"1")
    core.publish("t", b"2")
    core.subscribe("t", lambda _: None)
    core.unsubscribe("t")
    core.reply(7, b"3")
    core.fail(8, "no")
    asked(frontend, b"4")
    built(frontend)
    core.close()
    assert frontend.packets() == [
        (Op.BROADCAST, {"cluster": "all", "message": b"1"}),
        (Op.PUBLISH, {"topic": "t", "event": b"2"}),
        (Op.SUBSCRIBE, {"topic": "t"}),
        (Op.UNSUBSCRIBE, {"topic": "t"}),
        (Op.REPLY, {"id": 7, "success": True, "result": b"3"}),
        (Op.REPLY, {"id": 8, "success": False, "result": "no"}),
        (Op.REQUEST, {"id": 0, "cluster": "c", "request": b"4", "timeout": 1500}),
        (Op.TUNNEL_INIT, {"id": 0, "cluster": "c", "timeout": 1500}),
        (Op.CLOSE, {}),
    ]


@pytest.mark.parametrize(
    "call",
    [
        lambda core: core.broadcast("", b""),
        lambda core: core.publish("", b""),
        lambda core: core.publish("x" * (NAME_SIZE + 1), b""),
        lambda core: core.subscribe("", print),
        lambda core: core.broadcast("c", bytes(MESSAGE_SIZE + 1)),
        lambda core: core.reply(1, bytes(MESSAGE_SIZE + 1)),
        lambda core: core.request("c", b"", 0.0001, Future()),
        lambda core: core.request("c", b"", float("nan"), Future()),
        lambda core: core.request("c", b"", float("inf"), Future()),
        lambda core: core.tunnel("c", 0, Future()),
        lambda core: core.broadcast("\ud800", b""),
    ],
)
def test_an_invalid_argument_is_rejected_before_anything_is_sent(
    call: Callable[[Any], None],
) -> None:
    frontend = FakeFrontend()
    with pytest.raises(ValueError, match=r"name|message|timeout|surrogates"):
        call(frontend.protocol)
    with pytest.raises(TypeError):
        frontend.protocol.broadcast("c", "text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        frontend.protocol.broadcast(b"c", b"")  # type: ignore[arg-type]
    assert not frontend.written
    assert frontend.protocol.in_flight == 0


def test_an_invalid_cluster_is_rejected_at_once() -> None:
    with pytest.raises(ValueError, match="name"):
        FakeFrontend("x" * (NAME_SIZE + 1))


def test_replies_complete_their_requests_in_any_order() -> None:
    frontend = FakeFrontend()
    futures = [asked(frontend) for _ in range(4)]
    frontend.node(Op.REPLY, id=2, timed_out=False, success=True, result=b"two")
    frontend.node(Op.REPLY, id=0, timed_out=False, success=True, result=b"")
    frontend.node(Op.REPLY, id=3, timed_out=False, success=False, result="broken")
    frontend.node(Op.REPLY, id=1, timed_out=True)
    assert [futures[i].result(0) for i in (0, 2)] == [b"", b"two"]
    with pytest.raises(Fault, match="broken"):
        futures[3].result(0)
    with pytest.raises(TimedOut) as error:
        futures[1].result(0)
    assert isinstance(error.value, TimeoutError)


def test_a_reply_to_a_forgotten_request_is_ignored() -> None:
    frontend = FakeFrontend()
    forgotten, cancelled = asked(frontend), asked(frontend)
    frontend.protocol.forget(0)
    cancelled.cancel()
    for number in (0, 1, 0, 99):
        frontend.node(Op.REPLY, id=number, timed_out=False, success=True, result=b"late")
    assert not forgotten.done()


def test_events_are_delivered_until_the_subscription_ends() -> None:
    frontend = FakeFrontend()
    events: list[bytes] = []
    frontend.protocol.subscribe("t", events.append)
    frontend.node(Op.PUBLISH, topic="t", event=b"1")
    frontend.node(Op.PUBLISH, topic="other", event=b"2")
    frontend.protocol.unsubscribe("t")
    frontend.node(Op.PUBLISH, topic="t", event=b"3")
    assert events == [b"1"]


def test_a_topic_is_subscribed_once() -> None:
    frontend = FakeFrontend()
    with pytest.raises(StateError):
        frontend.protocol.unsubscribe("t")
    frontend.protocol.subscribe("t", print)
    with pytest.raises(StateError):
        frontend.protocol.subscribe("t", print)
    frontend.protocol.unsubscribe("t")
    frontend.protocol.subscribe("t", print)
    assert [op for op, _ in frontend.packets()] == [Op.SUBSCRIBE, Op.UNSUBSCRIBE, Op.SUBSCRIBE]


def test_packets_for_a_service_reach_its_dispatcher() -> None:
    frontend = FakeFrontend("c")
    frontend.node(Op.BROADCAST, message=b"all")
    frontend.node(Op.REQUEST, id=5, request=b"one", timeout=1500)
    frontend.node(Op.TUNNEL_INIT, build_id=6, chunk_limit=100)
    assert frontend.calls == [("broadcast", b"all"), ("request", 5, b"one", 1.5), ("offer", 6, 100)]


@pytest.mark.parametrize(
    ("op", "body"),
    [
        (Op.BROADCAST, {"message": b""}),
        (Op.REQUEST, {"id": 0, "request": b"", "timeout": 1}),
        (Op.TUNNEL_INIT, {"build_id": 0, "chunk_limit": 1}),
    ],
)
def test_packets_for_a_service_are_a_protocol_error_for_a_client(
    op: Op, body: dict[str, Any]
) -> None:
    with pytest.raises(ProtocolError):
        FakeFrontend().node(op, **body)


def test_a_tunnel_exists_before_its_first_chunk() -> None:
    frontend = FakeFrontend()
    future = built(frontend)
    confirm = DEFAULT.node(Op.TUNNEL_CONFIRM, id=0, timed_out=False, chunk_limit=100)
    frontend.protocol.feed(
        confirm
        + DEFAULT.node(Op.TUNNEL_ALLOW, id=0, space=9)
        + DEFAULT.node(Op.TUNNEL_TRANSFER, id=0, size=1, chunk=b"x")
    )
    assert (future.result(0).number, future.result(0).chunk_limit) == (0, 100)
    assert future.result(0).calls == [9, (1, b"x")]
    assert frontend.packets()[1:] == [(Op.TUNNEL_ALLOW, {"id": 0, "space": TUNNEL_BUFFER})]


def test_an_accepted_tunnel_exists_before_its_first_chunk() -> None:
    frontend = FakeFrontend("c")
    built(frontend)
    frontend.packets()
    tunnel = frontend.protocol.accept(44, 100)
    frontend.node(Op.TUNNEL_ALLOW, id=1, space=9)
    assert tunnel.calls == [9]
    assert frontend.packets() == [
        (Op.TUNNEL_CONFIRM, {"build_id": 44, "id": 1}),
        (Op.TUNNEL_ALLOW, {"id": 1, "space": TUNNEL_BUFFER}),
    ]


def test_an_unaccepted_tunnel_times_out() -> None:
    frontend = FakeFrontend()
    future, forgotten = built(frontend), built(frontend)
    frontend.protocol.forget_tunnel(1)
    for number in (0, 1):
        frontend.node(Op.TUNNEL_CONFIRM, id=number, timed_out=True)
    with pytest.raises(TimedOut):
        future.result(0)
    assert not forgotten.done()


def test_a_forgotten_tunnel_is_closed() -> None:
    frontend = FakeFrontend()
    forgotten, cancelled = built(frontend), built(frontend)
    frontend.protocol.forget_tunnel(0)
    cancelled.cancel()
    frontend.packets()
    for number in (0, 1):
        frontend.node(Op.TUNNEL_CONFIRM, id=number, timed_out=False, chunk_limit=1)
    assert frontend.packets() == [(Op.TUNNEL_CLOSE, {"id": 0}), (Op.TUNNEL_CLOSE, {"id": 1})]
    assert not forgotten.done()


def test_a_closed_tunnel_is_forgotten() -> None:
    frontend = FakeFrontend("c")
    tunnel = frontend.protocol.accept(0, 100)
    frontend.node(Op.TUNNEL_CLOSE, id=0, reason="why")
    for op, body in (
        (Op.TUNNEL_ALLOW, {"space": 1}),
        (Op.TUNNEL_TRANSFER, {"size": 1, "chunk": b"x"}),
        (Op.TUNNEL_CLOSE, {"reason": ""}),
    ):
        frontend.node(op, id=0, **body)
    frontend.packets()
    frontend.protocol.close_tunnel(0)
    assert tunnel.calls == ["why"]
    assert not frontend.written


def test_a_chunk_limit_of_0_is_a_protocol_error() -> None:
    frontend = FakeFrontend("c")
    built(frontend)
    with pytest.raises(ProtocolError):
        frontend.node(Op.TUNNEL_CONFIRM, id=0, timed_out=False, chunk_limit=0)
    with pytest.raises(ProtocolError):
        frontend.node(Op.TUNNEL_INIT, build_id=0, chunk_limit=0)


def test_the_end_fails_all_that_is_pending() -> None:
    frontend = FakeFrontend("c")
    request, tunnel, live = asked(frontend), built(frontend), frontend.protocol.accept(0, 1)
    frontend.protocol.subscribe("t", print)
    frontend.node(Op.CLOSE, reason="enough")
    for future in (request, tunnel):
        with pytest.raises(Closed, match="enough") as error:
            future.result(0)
        assert error.value.reason == "enough"
    assert live.calls == ["enough"]
    assert frontend.protocol.end(Closed("again")) is False
    for call in (
        lambda: frontend.protocol.publish("t", b""),
        lambda: asked(frontend),
        lambda: built(frontend),
        lambda: frontend.protocol.subscribe("t", print),
        lambda: frontend.protocol.unsubscribe("t"),
        frontend.protocol.close,
    ):
        with pytest.raises(Closed, match="enough"):
            call()


def test_a_packet_after_a_close_is_a_protocol_error() -> None:
    frontend = FakeFrontend()
    with pytest.raises(ProtocolError):
        frontend.protocol.feed(
            DEFAULT.node(Op.CLOSE, reason="") + DEFAULT.node(Op.PUBLISH, topic="t", event=b"")
        )


def test_a_failed_write_leaves_nothing_pending() -> None:
    frontend = FakeFrontend()
    frontend.broken = Closed("broken")
    for call in (asked, built):
        with pytest.raises(Closed):
            call(frontend)
    assert frontend.protocol.in_flight == 0
    with pytest.raises(Closed):
        frontend.protocol.subscribe("t", print)
    frontend.broken = None
    frontend.protocol.subscribe("t", print)


def test_a_request_during_the_end_fails_too() -> None:
    frontend, future = FakeFrontend(), Future[bytes]()

    def end(packet: object) -> None:
        frontend.protocol.end(Closed("now"))

    frontend.write_soon = end  # type: ignore[method-assign]
    frontend.protocol.request("c", b"", 1.0, future)
    with pytest.raises(Closed, match="now"):
        future.result(0)
    assert frontend.protocol.in_flight == 0


def test_the_end_fails_a_tunnel_that_was_confirmed_wrongly() -> None:
    frontend, pending = FakeFrontend(), Future[FakeEnd]()
    number = frontend.protocol.tunnel("c", 1.0, pending)
    with pytest.raises(ProtocolError, match="chunk limit"):
        frontend.node(Op.TUNNEL_CONFIRM, id=number, timed_out=False, chunk_limit=0)
    frontend.protocol.end(Closed("broken"))
    with pytest.raises(Closed, match="broken"):
        pending.result(0)
