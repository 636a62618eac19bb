"""The frontend with threads, against a fake node."""

import contextlib
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import iris
from iris.client import node_connection as shell
from iris.relay_protocol.schema import Op
from tests.support.fake_node import FakeNode
from tests.support.instead import Instead
from tests.support.waiting import wait_for

PATIENCE = 10.0  # seconds


@pytest.fixture
def node() -> Iterator[FakeNode]:
    with FakeNode() as node:
        yield node


@pytest.fixture
def elsewhere() -> Iterator[ThreadPoolExecutor]:
    """Threads for calls that wait for what the test's node does meanwhile."""
    with ThreadPoolExecutor(4) as threads:
        yield threads


@contextlib.contextmanager
def connected(node: FakeNode, **options: Any) -> Iterator[iris.Connection]:
    welcome = node.accept_soon()
    connection = iris.connect(node.port, **options)
    welcome.join()
    assert node.cluster == ""
    try:
        yield connection
    finally:
        node.vanish()
        connection.close()


def test_a_program_closes_in_order(node: FakeNode, elsewhere: ThreadPoolExecutor) -> None:
    drops: list[iris.Closed] = []
    with connected(node, on_disconnect=drops.append) as connection:
        assert not connection.closed
        leaving = elsewhere.submit(connection.close)
        node.finish()
        leaving.result(PATIENCE)
        assert connection.closed
        connection.close()
        with pytest.raises(iris.Closed) as error:
            connection.publish("t", b"")
        assert error.value.reason == ""
    assert drops == []


def test_connecting_fails_without_a_node_or_when_denied(node: FakeNode) -> None:
    denied = node.accept_soon(answer=False, then=lambda: node.send(Op.DENY, reason="full"))
    with pytest.raises(iris.Denied, match="full"):
        iris.connect(node.port)
    denied.join()
    node.vanish()
    silent = node.accept_soon(answer=False)
    with pytest.raises(iris.TimedOut):
        iris.connect(node.port, timeout=0.05)
    silent.join()
    node.vanish()
    hang_up = node.accept_soon(answer=False, then=node.vanish)
    with pytest.raises(iris.Closed):
        iris.connect(node.port)
    hang_up.join()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("iris-")]


def test_requests_complete_with_what_the_node_sends(
    node: FakeNode, elsewhere: ThreadPoolExecutor
) -> None:
    with connected(node) as connection:
        calls = [
            elsewhere.submit(connection.request, "c", text, 1.0) for text in (b"a", b"b", b"c")
        ]
        numbers = {body.request: body.id for body in (node.expect(Op.REQUEST) for _ in calls)}
        node.send(Op.REPLY, id=numbers[b"c"], timed_out=True)
        node.send(Op.REPLY, id=numbers[b"b"], timed_out=False, success=False, result="no")
        node.send(Op.REPLY, id=numbers[b"a"], timed_out=False, success=True, result=b"yes")
        assert calls[0].result(PATIENCE) == b"yes"
        assert isinstance(calls[1].exception(PATIENCE), iris.Fault)
        assert isinstance(calls[2].exception(PATIENCE), iris.TimedOut)


def test_a_silent_node_is_waited_for_only_so_long(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iris.client.connection.RESPONSE_GRACE", 0.0)
    with connected(node) as connection:
        with pytest.raises(iris.TimedOut, match="no response from the node"):
            connection.request("c", b"", 0.001)
        with pytest.raises(iris.TimedOut, match="no response from the node"):
            connection.tunnel("c", 0.001)
        assert connection.in_flight == 0


def test_a_result_that_arrives_with_the_timeout_is_used(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iris.client.connection.RESPONSE_GRACE", 0.0)
    with connected(node) as connection:
        core = connection._protocol
        forget, forget_tunnel = core.forget, core.forget_tunnel

        def late(number: int) -> bool:
            node.send(
                Op.REPLY,
                id=node.expect(Op.REQUEST).id,
                timed_out=False,
                success=True,
                result=b"late",
            )
            node.send(Op.TUNNEL_CONFIRM, id=99, timed_out=True)
            wait_for(lambda: not core.in_flight)
            return forget(number)

        def late_tunnel(number: int) -> bool:
            node.send(
                Op.TUNNEL_CONFIRM,
                id=node.expect(Op.TUNNEL_INIT).id,
                timed_out=False,
                chunk_limit=10,
            )
            node.expect(Op.TUNNEL_ALLOW)
            return forget_tunnel(number)

        monkeypatch.setattr(
            connection, "_protocol", Instead(core, forget=late, forget_tunnel=late_tunnel)
        )
        assert connection.request("c", b"", 0.001) == b"late"
        assert not connection.tunnel("c", 0.001).closed


def test_a_tunnel_that_arrives_with_the_end_is_closed(
    node: FakeNode, elsewhere: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(packet: object) -> None:
        raise iris.Closed("lost")

    with connected(node) as connection:
        building = elsewhere.submit(connection.tunnel, "c", 60.0)
        number = node.expect(Op.TUNNEL_INIT).id
        monkeypatch.setattr(
            connection._protocol, "_frontend", Instead(connection._node, write_soon=refuse)
        )
        node.send(Op.TUNNEL_CONFIRM, id=number, timed_out=False, chunk_limit=10)
        with pytest.raises(iris.Closed):
            building.result(PATIENCE).recv(PATIENCE)


def test_a_request_that_cannot_be_sent_times_out_too(
    node: FakeNode, elsewhere: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "_HIGH_WATER", 1_000)
    monkeypatch.setattr("iris.client.connection.RESPONSE_GRACE", 0.0)
    with connected(node) as connection:
        with pytest.raises(iris.TimedOut):
            elsewhere.submit(connection.request, "c", bytes(16 << 20), 0.01).result(PATIENCE)
        node.vanish()


def test_abort_sends_no_close_packet(node: FakeNode, elsewhere: ThreadPoolExecutor) -> None:
    drops: list[iris.Closed] = []
    with connected(node, on_disconnect=drops.append) as connection:
        asking = elsewhere.submit(connection.request, "c", b"", 60.0)
        node.expect(Op.REQUEST)
        connection.abort()
        with pytest.raises(EOFError):
            node.recv()
        with pytest.raises(iris.Closed):
            asking.result(PATIENCE)
        connection.abort()
        connection.close()
        assert connection.closed
    assert drops == []  # it knows


def test_abort_flushes_a_batch(node: FakeNode) -> None:
    with connected(node) as connection, connection.batch():
        connection.publish("topic", b"event")
        connection.abort()
        assert node.expect(Op.PUBLISH).event == b"event"
        with pytest.raises(EOFError):
            node.recv()


def test_a_batch_is_sent_at_its_end(node: FakeNode) -> None:
    with connected(node) as connection:
        with connection.batch():
            futures = [connection.submit("c", bytes([i]), 1.0) for i in range(10)]
            assert connection._node._send_buffer.size > 0
        for _ in futures:
            body = node.expect(Op.REQUEST)
            node.send(Op.REPLY, id=body.id, timed_out=False, success=True, result=body.request)
        assert [future.result(PATIENCE) for future in futures] == [bytes([i]) for i in range(10)]
        assert not futures[0].cancel()


def test_waiting_in_a_batch_flushes_it(node: FakeNode, elsewhere: ThreadPoolExecutor) -> None:
    def ask() -> bytes:
        with connection.batch():
            return connection.request("c", b"", 1.0)

    with connected(node) as connection:
        asking = elsewhere.submit(ask)
        node.send(
            Op.REPLY, id=node.expect(Op.REQUEST).id, timed_out=False, success=True, result=b"yes"
        )
        assert asking.result(PATIENCE) == b"yes"


def test_events_beyond_the_queue_limit_are_dropped(
    node: FakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    events: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def handle(event: bytes) -> None:
        begun.set()
        assert go_on.wait(PATIENCE)
        events.put(event)

    with connected(node) as connection:
        connection.subscribe("t", handle, iris.TopicLimits(event_threads=1, event_memory=2))
        assert node.expect(Op.SUBSCRIBE).topic == "t"
        node.send(Op.PUBLISH, topic="t", event=b"1")
        assert begun.wait(PATIENCE)
        for event in (b"2", b"3", b"4"):
            node.send(Op.PUBLISH, topic="t", event=event)
        future = connection.submit("c", b"", 1.0)
        future_number = node.expect(Op.REQUEST).id
        node.send(Op.REPLY, id=future_number, timed_out=True)
        assert isinstance(future.exception(PATIENCE), iris.TimedOut)  # all before it has been read
        go_on.set()
        assert [events.get(timeout=PATIENCE) for _ in range(3)] == [b"1", b"2", b"3"]
    assert "event of 't' dropped" in caplog.text


def test_a_subscription_ends_with_its_block(node: FakeNode) -> None:
    with connected(node) as connection:
        with connection.subscribe("t", print) as subscription:
            assert subscription.topic == "t"
            with pytest.raises(iris.StateError):
                connection.subscribe("t", print)
        subscription.close()
        assert [node.recv()[0] for _ in range(2)] == [Op.SUBSCRIBE, Op.UNSUBSCRIBE]
        assert not connection._node._pools


def test_the_end_of_a_subscription_doesnt_end_the_next_one_of_that_topic(node: FakeNode) -> None:
    with connected(node) as connection:
        with connection.subscribe("t", print):
            connection.unsubscribe("t")
            other = connection.subscribe("t", print)
        other.close()
        assert [node.recv()[0] for _ in range(4)] == [Op.SUBSCRIBE, Op.UNSUBSCRIBE] * 2


def test_a_handler_may_close_the_connection(node: FakeNode) -> None:
    closed = threading.Event()
    with connected(node) as connection:

        def close(_: bytes) -> None:
            connection.close()
            closed.set()

        connection.subscribe("t", close)
        node.expect(Op.SUBSCRIBE)
        node.send(Op.PUBLISH, topic="t", event=b"")
        assert closed.wait(PATIENCE)
        node.finish()


def test_the_reading_thread_cannot_wait(node: FakeNode) -> None:
    outcomes: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def wait(_: object) -> None:
        for call in (
            lambda: connection.request("c", b"", 1.0),
            lambda: connection.tunnel("c", 1.0),
        ):
            try:
                call()
            except iris.StateError as exc:
                outcomes.put(exc)
        connection.close()

    with connected(node) as connection:
        connection.submit("c", b"", 1.0).add_done_callback(wait)
        node.send(Op.REPLY, id=node.expect(Op.REQUEST).id, timed_out=True)
        assert len([outcomes.get(timeout=PATIENCE) for _ in range(2)]) == 2
        node.finish()


@pytest.mark.parametrize("reason", ["told why", None])
def test_a_lost_node_fails_all_that_is_pending(
    node: FakeNode, elsewhere: ThreadPoolExecutor, reason: str | None
) -> None:
    drops: queue.SimpleQueue[iris.Closed] = queue.SimpleQueue()
    with connected(node, on_disconnect=drops.put) as connection:
        connection.subscribe("t", print)
        node.expect(Op.SUBSCRIBE)
        asking, building = (
            elsewhere.submit(connection.request, "c", b"", 1.0),
            elsewhere.submit(connection.tunnel, "c", 1.0),
        )
        for _ in range(2):
            node.recv()
        if reason is not None:
            node.send(Op.CLOSE, reason=reason)
        else:
            node.vanish()
        assert drops.get(timeout=PATIENCE).reason == (reason or "connection to the node lost")
        for call in (asking, building):
            assert isinstance(call.exception(PATIENCE), iris.Closed)
        assert connection.closed
    assert drops.empty()


def test_a_protocol_violation_ends_the_connection(
    node: FakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    drops: queue.SimpleQueue[iris.Closed] = queue.SimpleQueue()
    with connected(node, on_disconnect=drops.put):
        node.send_bytes(b"\xff")
        assert drops.get(timeout=PATIENCE).__cause__ is not None
    assert "protocol violation by the node: unknown opcode 255" in caplog.text


def test_a_failing_disconnect_callback_is_logged(
    node: FakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: iris.Closed) -> None:
        raise KeyError

    with connected(node, on_disconnect=fail) as connection:
        node.vanish()
        connection._node.wait(PATIENCE)
    assert "the disconnect callback failed" in caplog.text


def test_an_unconfirmed_close_times_out(node: FakeNode, caplog: pytest.LogCaptureFixture) -> None:
    with connected(node) as connection:
        connection.close(timeout=0.05)
        assert connection.closed
    assert "close timed out" in caplog.text


def test_a_slow_node_causes_backpressure(
    node: FakeNode, elsewhere: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "_HIGH_WATER", 1_000)
    size = 16 << 20  # more than the kernel holds for the node
    with connected(node) as connection:
        telling = elsewhere.submit(connection.broadcast, "c", bytes(size))
        with pytest.raises(TimeoutError):
            telling.result(0.05)
        assert len(node.expect(Op.BROADCAST).message) == size
        telling.result(PATIENCE)
        telling = elsewhere.submit(connection.broadcast, "c", bytes(size))
        with pytest.raises(TimeoutError):
            telling.result(0.05)
        node.vanish()  # that frees it as well
        telling.result(PATIENCE)


def test_a_batch_causes_backpressure_too(
    node: FakeNode, elsewhere: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "_HIGH_WATER", 1_000)

    def tell() -> None:
        with connection.batch():
            for _ in range(40):
                connection.broadcast("c", bytes(100_000))

    with connected(node) as connection:
        telling = elsewhere.submit(tell)
        for _ in range(40):
            assert len(node.expect(Op.BROADCAST).message) == 100_000
        telling.result(PATIENCE)


def test_closing_in_a_batch_flushes_it(node: FakeNode, elsewhere: ThreadPoolExecutor) -> None:
    def leave() -> None:
        with connection.batch():
            connection.broadcast("c", b"bye")
            connection.close()

    with connected(node) as connection:
        leaving = elsewhere.submit(leave)
        assert node.expect(Op.BROADCAST).message == b"bye"
        node.finish()
        leaving.result(PATIENCE)


def test_the_old_name_of_on_disconnect_still_works_with_a_warning(node: FakeNode) -> None:
    heard: queue.SimpleQueue[iris.Closed] = queue.SimpleQueue()
    node.accept_soon()
    with pytest.warns(DeprecationWarning, match="on_drop was renamed") as warned:
        connection = iris.connect(node.port, on_drop=heard.put)
    assert warned[0].filename == __file__
    with connection:
        node.vanish()
        assert heard.get(timeout=PATIENCE).reason == "connection to the node lost"
