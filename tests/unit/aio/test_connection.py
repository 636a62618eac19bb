"""A connection with asyncio, against a fake node.

What the core decides is tested in tests/unit/client.
"""

import asyncio

import pytest

import iris
import iris.aio
from iris.relay_protocol.schema import Op
from tests.support.aio_node import connected, settled
from tests.support.fake_node import PATIENCE, FakeNode
from tests.support.loop import in_loop


@in_loop
async def test_a_program_closes_in_order() -> None:
    drops: list[iris.Closed] = []
    async with connected(on_disconnect=drops.append) as (node, connection):
        leaving = asyncio.create_task(connection.close())
        await asyncio.to_thread(node.sync.finish)
        await leaving
        assert connection.closed
        await connection.close()
        with pytest.raises(iris.Closed):
            await connection.publish("t", b"")
    assert drops == []


@in_loop
async def test_connecting_fails_without_a_node_or_when_denied() -> None:
    with FakeNode() as node:
        opening = asyncio.ensure_future(iris.aio.connect(node.port))
        await asyncio.sleep(0)
        await asyncio.to_thread(node.accept, answer=False)
        node.send(Op.DENY, reason="full")
        with pytest.raises(iris.Denied, match="full"):
            await opening
        with pytest.raises(iris.TimedOut):
            await iris.aio.connect(node.port, timeout=0.02)
        port = node.port
    with pytest.raises(ConnectionRefusedError):
        await iris.aio.connect(port)


@in_loop
async def test_requests_complete_with_what_the_node_sends() -> None:
    async with connected() as (node, connection):
        calls = [
            asyncio.create_task(connection.request("c", text, 1.0)) for text in (b"a", b"b", b"c")
        ]
        numbers = {body.request: body.id for body in [await node.expect(Op.REQUEST) for _ in calls]}
        node.send(Op.REPLY, id=numbers[b"c"], timed_out=True)
        node.send(Op.REPLY, id=numbers[b"b"], timed_out=False, success=False, result="no")
        node.send(Op.REPLY, id=numbers[b"a"], timed_out=False, success=True, result=b"yes")
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert outcomes[0] == b"yes"
    assert isinstance(outcomes[1], iris.Fault)
    assert isinstance(outcomes[2], iris.TimedOut)


@in_loop
async def test_a_cancelled_request_is_forgotten() -> None:
    async with connected() as (node, connection):
        asking = asyncio.create_task(connection.request("c", b"", 1.0))
        number = (await node.expect(Op.REQUEST)).id
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert connection.in_flight == 0
        node.send(Op.REPLY, id=number, timed_out=False, success=True, result=b"late")
        await settled(node, connection)


@in_loop
async def test_a_cancelled_tunnel_is_closed_when_it_is_built() -> None:
    async with connected() as (node, connection):
        opening = asyncio.create_task(connection.tunnel("c", 1.0))
        number = (await node.expect(Op.TUNNEL_INIT)).id
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        node.send(Op.TUNNEL_CONFIRM, id=number, timed_out=False, chunk_limit=10)
        assert (await node.expect(Op.TUNNEL_CLOSE)).id == number


def test_a_silent_node_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iris.aio.connection.RESPONSE_GRACE", 0.0)

    @in_loop
    async def run() -> None:
        async with connected() as (_, connection):
            with pytest.raises(iris.TimedOut, match="no response from the node"):
                await connection.request("c", b"", 0.001)
            with pytest.raises(iris.TimedOut, match="no response from the node"):
                await connection.tunnel("c", 0.001)

    run()


@in_loop
async def test_each_request_expires_in_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iris.aio.connection.RESPONSE_GRACE", 0.0)
    async with connected() as (node, connection):
        order: list[float] = []

        async def request(timeout: float) -> None:
            with pytest.raises(iris.TimedOut, match="no response from the node"):
                await connection.request("c", b"", timeout)
            order.append(timeout)

        answered = asyncio.create_task(connection.request("c", b"", 60.0))
        number = (await node.expect(Op.REQUEST)).id
        await asyncio.wait_for(asyncio.gather(*map(request, (0.06, 0.03, 0.09, 0.001))), PATIENCE)
        assert order == [0.001, 0.03, 0.06, 0.09]
        node.send(Op.REPLY, id=number, timed_out=False, success=True, result=b"late")
        assert await answered == b"late"
        assert not connection._deadlines
        assert connection.in_flight == 0


@in_loop
async def test_what_is_written_in_one_round_of_the_loop_is_sent_in_order() -> None:
    async with connected() as (node, connection):
        for i in range(100):
            await connection.broadcast("c", bytes([i]))
        assert [(await node.expect(Op.BROADCAST)).message for _ in range(100)] == [
            bytes([i]) for i in range(100)
        ]


@in_loop
async def test_a_request_that_cannot_be_sent_times_out_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("iris.aio.connection.RESPONSE_GRACE", 0.0)
    async with connected() as (_, connection):
        with pytest.raises(iris.TimedOut):
            await asyncio.wait_for(connection.request("c", bytes(32 << 20), 0.01), PATIENCE)


@in_loop
async def test_abort_flushes_what_was_written() -> None:
    async with connected() as (node, connection):
        await connection.publish("topic", b"event")
        connection.abort()
        assert (await node.expect(Op.PUBLISH)).event == b"event"


@in_loop
async def test_abort_sends_no_close_packet() -> None:
    drops: list[iris.Closed] = []
    async with connected(on_disconnect=drops.append) as (node, connection):
        asking = asyncio.create_task(connection.request("c", b"", 60.0))
        await node.expect(Op.REQUEST)
        connection.abort()
        with pytest.raises(EOFError):
            await asyncio.to_thread(node.sync.recv)
        with pytest.raises(iris.Closed):
            await asking
        connection.abort()
        await connection.close()
        assert connection.closed
    assert drops == []  # it knows


@in_loop
async def test_the_end_of_a_subscription_doesnt_end_the_next_one_of_that_topic() -> None:
    async with connected() as (node, connection):
        async with await connection.subscribe("t", print):
            await connection.unsubscribe("t")
            other = await connection.subscribe("t", print)
        await other.close()
        for op in (Op.SUBSCRIBE, Op.UNSUBSCRIBE) * 2:
            await node.expect(op)


@in_loop
async def test_a_slow_node_causes_backpressure() -> None:
    async with connected() as (node, connection):
        telling = asyncio.create_task(connection.broadcast("c", bytes(32 << 20)))
        done, _ = await asyncio.wait([telling], timeout=0.02)
        assert not done
        assert len((await node.expect(Op.BROADCAST)).message) == 32 << 20
        await asyncio.wait_for(telling, PATIENCE)


@in_loop
async def test_a_task_that_never_yields_feels_backpressure() -> None:
    async with connected() as (node, connection):

        async def tell() -> None:
            for _ in range(400):
                await connection.broadcast("c", bytes(100_000))

        telling = asyncio.create_task(tell())
        done, _ = await asyncio.wait([telling], timeout=0.02)
        assert not done
        for _ in range(400):
            await node.expect(Op.BROADCAST)
        await asyncio.wait_for(telling, PATIENCE)


@in_loop
async def test_events_beyond_the_queue_limit_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    go_on, events = asyncio.Event(), []

    async def handle(event: bytes) -> None:
        await go_on.wait()
        events.append(event)

    async with connected() as (node, connection):
        async with await connection.subscribe(
            "t", handle, iris.TopicLimits(event_threads=1, event_memory=2)
        ):
            with pytest.raises(iris.StateError):
                await connection.subscribe("t", handle)
            await node.expect(Op.SUBSCRIBE)
            node.send(Op.PUBLISH, topic="t", event=b"1")
            await settled(node, connection)
            for event in (b"2", b"3", b"4"):
                node.send(Op.PUBLISH, topic="t", event=event)
            await settled(node, connection)
            go_on.set()
            await settled(node, connection)
        await node.expect(Op.UNSUBSCRIBE)
    assert events == [b"1", b"2", b"3"]
    assert "event of 't' dropped" in caplog.text


@pytest.mark.parametrize("reason", ["told why", None])
def test_a_lost_node_fails_all_that_is_pending(reason: str | None) -> None:
    @in_loop
    async def run() -> None:
        drops: asyncio.Queue[iris.Closed] = asyncio.Queue()
        async with connected(on_disconnect=drops.put) as (node, connection):
            calls = [
                asyncio.create_task(connection.request("c", b"", 1.0)),
                asyncio.create_task(connection.tunnel("c", 1.0)),
            ]
            for op in (Op.REQUEST, Op.TUNNEL_INIT):
                await node.expect(op)
            if reason is not None:
                node.send(Op.CLOSE, reason=reason)
            else:
                node.sync.vanish()
            assert (await asyncio.wait_for(drops.get(), PATIENCE)).reason == (
                reason or "connection to the node lost"
            )
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(outcome, iris.Closed)

    run()


@in_loop
async def test_a_protocol_violation_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    drops: asyncio.Queue[iris.Closed] = asyncio.Queue()
    async with connected(on_disconnect=drops.put_nowait) as (node, _):
        node.sync.send_bytes(b"\xff")
        assert (await asyncio.wait_for(drops.get(), PATIENCE)).__cause__ is not None
    assert "protocol violation by the node" in caplog.text


@in_loop
async def test_an_unconfirmed_close_times_out(caplog: pytest.LogCaptureFixture) -> None:
    async with connected() as (_, connection):
        await connection.close(timeout=0.02)
        assert connection.closed
    assert "close timed out" in caplog.text
