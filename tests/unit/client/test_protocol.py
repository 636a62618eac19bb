"""The binding's core alone.

What it says, what it makes of what the node says, and who is told of the end.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from iris.client.errors import Closed, Denied, Fault, TimedOut
from iris.errors import ProtocolError, StateError
from iris.relay_protocol.client_codec import MESSAGE_SIZE, NAME_SIZE
from iris.relay_protocol.schema import DEFAULT, VERSION, Op
from tests.support.fake_face import BUFFER, FakeFace


def asked(face: FakeFace, text: bytes = b"q") -> "Future[bytes]":
    future: Future[bytes] = Future()
    face.core.request("c", text, 1.5, future)
    return future


def built(face: FakeFace) -> "Future[Any]":
    future: Future[Any] = Future()
    face.core.tunnel("c", 1.5, future)
    return future


def test_the_greeting_names_protocol_and_cluster() -> None:
    assert FakeFace("c").core.greeting == DEFAULT.client(Op.INIT, version=VERSION, cluster="c")
    assert FakeFace().core.greeting == DEFAULT.client(Op.INIT, version=VERSION, cluster="")


def test_a_welcome_attaches() -> None:
    face = FakeFace(attached=False)
    assert not face.attached.done()
    face.node(Op.INIT, version=VERSION)
    assert face.attached.result(0) is None


def test_a_denial_says_why() -> None:
    face = FakeFace(attached=False)
    face.node(Op.DENY, reason="full")
    with pytest.raises(Denied, match="full"):
        face.attached.result(0)
    assert face.core.ended is not None


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.1 400", DEFAULT.node(Op.BROADCAST, message=b""), DEFAULT.node(Op.INIT, version="v2")],
)
def test_something_else_than_our_protocol_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        FakeFace(attached=False).core.feed(data)


def test_what_the_application_says_is_said_in_packets() -> None:
    face = FakeFace("c")
    core = face.core
    core.broadcast("all", b"1")
    core.publish("t", b"2")
    core.subscribe("t", lambda _: None)
    core.unsubscribe("t")
    core.reply(7, b"3")
    core.fail(8, "no")
    asked(face, b"4")
    built(face)
    core.close()
    assert face.said() == [
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
def test_what_cant_be_right_is_refused_before_anything_is_said(call: Callable[[Any], None]) -> None:
    face = FakeFace()
    with pytest.raises(ValueError, match=r"name|message|timeout|surrogates"):
        call(face.core)
    with pytest.raises(TypeError):
        face.core.broadcast("c", "text")  # type: ignore[arg-type]
    assert not face.written
    assert not face.core._pending
    assert not face.core._building


def test_a_cluster_that_cant_be_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="name"):
        FakeFace("x" * (NAME_SIZE + 1))


def test_answers_find_who_asked_in_any_order() -> None:
    face = FakeFace()
    futures = [asked(face) for _ in range(4)]
    face.node(Op.REPLY, id=2, timed_out=False, success=True, result=b"two")
    face.node(Op.REPLY, id=0, timed_out=False, success=True, result=b"")
    face.node(Op.REPLY, id=3, timed_out=False, success=False, result="broken")
    face.node(Op.REPLY, id=1, timed_out=True)
    assert [futures[i].result(0) for i in (0, 2)] == [b"", b"two"]
    with pytest.raises(Fault, match="broken"):
        futures[3].result(0)
    with pytest.raises(TimedOut) as error:
        futures[1].result(0)
    assert isinstance(error.value, TimeoutError)


def test_an_answer_that_nobody_waits_for_is_ignored() -> None:
    face = FakeFace()
    forgotten, cancelled = asked(face), asked(face)
    face.core.forget(0)
    cancelled.cancel()
    for number in (0, 1, 0, 99):
        face.node(Op.REPLY, id=number, timed_out=False, success=True, result=b"late")
    assert not forgotten.done()


def test_events_come_until_the_subscription_ends() -> None:
    face, events = FakeFace(), []
    face.core.subscribe("t", events.append)
    face.node(Op.PUBLISH, topic="t", event=b"1")
    face.node(Op.PUBLISH, topic="other", event=b"2")
    face.core.unsubscribe("t")
    face.node(Op.PUBLISH, topic="t", event=b"3")
    assert events == [b"1"]


def test_a_topic_is_subscribed_once() -> None:
    face = FakeFace()
    with pytest.raises(StateError):
        face.core.unsubscribe("t")
    face.core.subscribe("t", print)
    with pytest.raises(StateError):
        face.core.subscribe("t", print)
    face.core.unsubscribe("t")
    face.core.subscribe("t", print)
    assert [op for op, _ in face.said()] == [Op.SUBSCRIBE, Op.UNSUBSCRIBE, Op.SUBSCRIBE]


def test_a_service_is_handed_what_comes_for_it() -> None:
    face = FakeFace("c")
    face.node(Op.BROADCAST, message=b"all")
    face.node(Op.REQUEST, id=5, request=b"one", timeout=1500)
    face.node(Op.TUNNEL_INIT, build_id=6, chunk_limit=100)
    assert face.heard == [("broadcast", b"all"), ("request", 5, b"one", 1.5), ("offer", 6, 100)]


@pytest.mark.parametrize(
    ("op", "body"),
    [
        (Op.BROADCAST, {"message": b""}),
        (Op.REQUEST, {"id": 0, "request": b"", "timeout": 1}),
        (Op.TUNNEL_INIT, {"build_id": 0, "chunk_limit": 1}),
    ],
)
def test_who_is_no_service_isnt_treated_as_one(op: Op, body: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        FakeFace().node(op, **body)


def test_a_tunnel_is_there_before_anything_comes_through_it() -> None:
    face = FakeFace()
    future = built(face)
    confirm = DEFAULT.node(Op.TUNNEL_CONFIRM, id=0, timed_out=False, chunk_limit=100)
    face.core.feed(
        confirm
        + DEFAULT.node(Op.TUNNEL_ALLOW, id=0, space=9)
        + DEFAULT.node(Op.TUNNEL_TRANSFER, id=0, size=1, chunk=b"x")
    )
    assert (future.result(0).number, future.result(0).chunk_limit) == (0, 100)
    assert future.result(0).heard == [9, (1, b"x")]
    assert face.said()[1:] == [(Op.TUNNEL_ALLOW, {"id": 0, "space": BUFFER})]


def test_an_accepted_tunnel_is_there_before_anything_comes_through_it() -> None:
    face = FakeFace("c")
    built(face)
    face.said()
    tunnel = face.core.accept(44, 100)
    face.node(Op.TUNNEL_ALLOW, id=1, space=9)
    assert tunnel.heard == [9]
    assert face.said() == [
        (Op.TUNNEL_CONFIRM, {"build_id": 44, "id": 1}),
        (Op.TUNNEL_ALLOW, {"id": 1, "space": BUFFER}),
    ]


def test_a_tunnel_that_nobody_accepts_times_out() -> None:
    face = FakeFace()
    future, forgotten = built(face), built(face)
    face.core.forget_tunnel(1)
    for number in (0, 1):
        face.node(Op.TUNNEL_CONFIRM, id=number, timed_out=True)
    with pytest.raises(TimedOut):
        future.result(0)
    assert not forgotten.done()


def test_a_tunnel_that_nobody_waits_for_is_closed() -> None:
    face = FakeFace()
    forgotten, cancelled = built(face), built(face)
    face.core.forget_tunnel(0)
    cancelled.cancel()
    face.said()
    for number in (0, 1):
        face.node(Op.TUNNEL_CONFIRM, id=number, timed_out=False, chunk_limit=1)
    assert face.said() == [(Op.TUNNEL_CLOSE, {"id": 0}), (Op.TUNNEL_CLOSE, {"id": 1})]
    assert not forgotten.done()


def test_a_closed_tunnel_is_forgotten() -> None:
    face = FakeFace("c")
    tunnel = face.core.accept(0, 100)
    face.node(Op.TUNNEL_CLOSE, id=0, reason="why")
    for op, body in (
        (Op.TUNNEL_ALLOW, {"space": 1}),
        (Op.TUNNEL_TRANSFER, {"size": 1, "chunk": b"x"}),
        (Op.TUNNEL_CLOSE, {"reason": ""}),
    ):
        face.node(op, id=0, **body)
    face.said()
    face.core.close_tunnel(0)
    assert tunnel.heard == ["why"]
    assert not face.written


def test_a_tunnel_without_room_for_anything_is_refused() -> None:
    face = FakeFace("c")
    built(face)
    with pytest.raises(ProtocolError):
        face.node(Op.TUNNEL_CONFIRM, id=0, timed_out=False, chunk_limit=0)
    with pytest.raises(ProtocolError):
        face.node(Op.TUNNEL_INIT, build_id=0, chunk_limit=0)


def test_at_the_end_everybody_is_told() -> None:
    face = FakeFace("c")
    request, tunnel, live = asked(face), built(face), face.core.accept(0, 1)
    face.core.subscribe("t", print)
    face.node(Op.CLOSE, reason="enough")
    for future in (request, tunnel):
        with pytest.raises(Closed, match="enough") as error:
            future.result(0)
        assert error.value.reason == "enough"
    assert live.heard == ["enough"]
    assert face.core.end(Closed("again")) is False
    for call in (
        lambda: face.core.publish("t", b""),
        lambda: asked(face),
        lambda: built(face),
        lambda: face.core.subscribe("t", print),
        lambda: face.core.unsubscribe("t"),
        face.core.close,
    ):
        with pytest.raises(Closed, match="enough"):
            call()


def test_nothing_follows_a_close() -> None:
    face = FakeFace()
    with pytest.raises(ProtocolError):
        face.core.feed(
            DEFAULT.node(Op.CLOSE, reason="") + DEFAULT.node(Op.PUBLISH, topic="t", event=b"")
        )


def test_what_cant_be_written_isnt_waited_for() -> None:
    face = FakeFace()
    face.broken = Closed("broken")
    for call in (asked, built):
        with pytest.raises(Closed):
            call(face)
    assert not face.core._pending
    assert not face.core._building
    with pytest.raises(Closed):
        face.core.subscribe("t", print)
    face.broken = None
    face.core.subscribe("t", print)


def test_who_asks_while_it_ends_is_told_too() -> None:
    face, future = FakeFace(), Future[bytes]()

    def end(*_: object) -> None:
        face.core.end(Closed("now"))

    face.write_soon = end  # type: ignore[method-assign]
    face.core.request("c", b"", 1.0, future)
    with pytest.raises(Closed, match="now"):
        future.result(0)
    assert not face.core._pending
