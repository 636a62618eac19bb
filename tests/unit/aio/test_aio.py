"""The face with asyncio, against a node that the test plays. What the core decides is tested in tests/unit/client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import iris
import iris.aio
from iris.aio.pool import Pool
from iris.client.limits import TUNNEL_BUFFER
from iris.service.relay.schema import Op
from tests.support.fake_node import FakeNode
from tests.support.loop import in_loop

PATIENCE = 10.0  # seconds for what must come


class Node:
    """The played node, to be awaited."""

    def __init__(self, node: FakeNode) -> None:
        self.sync = node
        self.send = node.send

    async def expect(self, op: Op) -> Any:
        return await asyncio.to_thread(self.sync.expect, op)


@contextlib.asynccontextmanager
async def connected(**options: Any) -> AsyncIterator[tuple[Node, iris.aio.Connection]]:
    with FakeNode() as node:
        welcome = asyncio.create_task(asyncio.to_thread(node.accept))
        connection = await iris.aio.connect(node.port, **options)
        await welcome
        try:
            yield Node(node), connection
        finally:
            node.vanish()
            await connection.close()


@contextlib.asynccontextmanager
async def registered(handler: iris.aio.Handler | Callable[[bytes], Any], **limits: int) -> AsyncIterator[tuple[Node, iris.aio.Service]]:
    with FakeNode() as node:
        welcome = asyncio.create_task(asyncio.to_thread(node.accept))
        service = await iris.aio.register("c", handler, iris.ServiceLimits(**limits), port=node.port)
        await welcome
        try:
            yield Node(node), service
        finally:
            node.vanish()
            await service.close()


@contextlib.asynccontextmanager
async def opened(chunk_limit: int = 10) -> AsyncIterator[tuple[Node, iris.aio.Tunnel]]:
    async with connected() as (node, connection):
        opening = asyncio.create_task(connection.tunnel("c", 1.0))
        number = (await node.expect(Op.TUNNEL_INIT)).id
        node.send(Op.TUNNEL_CONFIRM, id=number, timed_out=False, chunk_limit=chunk_limit)
        tunnel = await opening
        assert (await node.expect(Op.TUNNEL_ALLOW)).space == TUNNEL_BUFFER
        yield node, tunnel


async def settled(node: Node, connection: iris.aio.Connection) -> None:
    """Wait until everything that the node has sent was read."""
    asking = asyncio.create_task(connection.request("c", b"", 1.0))
    node.send(Op.REPLY, id=(await node.expect(Op.REQUEST)).id, timed_out=True)
    with pytest.raises(iris.TimedOut):
        await asking


async def ask(node: Node, number: int, request: bytes = b"", timeout: int = 60_000) -> None:
    node.send(Op.REQUEST, id=number, request=request, timeout=timeout)


async def answer(node: Node) -> tuple[int, bool, Any]:
    body = await node.expect(Op.REPLY)
    return body.id, body.success, body.result


@in_loop
async def test_a_program_leaves_in_order() -> None:
    drops: list[iris.Closed] = []
    async with connected(on_drop=drops.append) as (node, connection):
        leaving = asyncio.create_task(connection.close())
        await asyncio.to_thread(node.sync.finish)
        await leaving
        assert connection.closed
        await connection.close()
        with pytest.raises(iris.Closed):
            await connection.publish("t", b"")
    assert drops == []


@in_loop
async def test_a_node_that_isnt_there_or_doesnt_want_us() -> None:
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
async def test_requests_end_as_the_node_says() -> None:
    async with connected() as (node, connection):
        calls = [asyncio.create_task(connection.request("c", text, 1.0)) for text in (b"a", b"b", b"c")]
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
        assert not connection._core._pending
        node.send(Op.REPLY, id=number, timed_out=False, success=True, result=b"late")
        await settled(node, connection)


@in_loop
async def test_a_cancelled_tunnel_is_closed_when_it_comes() -> None:
    async with connected() as (node, connection):
        opening = asyncio.create_task(connection.tunnel("c", 1.0))
        number = (await node.expect(Op.TUNNEL_INIT)).id
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        node.send(Op.TUNNEL_CONFIRM, id=number, timed_out=False, chunk_limit=10)
        assert (await node.expect(Op.TUNNEL_CLOSE)).id == number


def test_a_node_that_falls_silent_isnt_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iris.aio.connection.PATIENCE", 0.0)

    @in_loop
    async def run() -> None:
        async with connected() as (_, connection):
            with pytest.raises(iris.TimedOut, match="doesn't say"):
                await connection.request("c", b"", 0.001)
            with pytest.raises(iris.TimedOut, match="doesn't say"):
                await connection.tunnel("c", 0.001)

    run()


@in_loop
async def test_what_is_said_in_one_round_of_the_loop_comes_in_order() -> None:
    async with connected() as (node, connection):
        for i in range(100):
            await connection.broadcast("c", bytes([i]))
        assert [(await node.expect(Op.BROADCAST)).message for _ in range(100)] == [bytes([i]) for i in range(100)]


@in_loop
async def test_who_writes_waits_while_nothing_is_taken() -> None:
    async with connected() as (node, connection):
        telling = asyncio.create_task(connection.broadcast("c", bytes(32 << 20)))
        done, _ = await asyncio.wait([telling], timeout=0.02)
        assert not done
        assert len((await node.expect(Op.BROADCAST)).message) == 32 << 20
        await asyncio.wait_for(telling, PATIENCE)


@in_loop
async def test_who_never_lets_the_loop_come_round_is_held_back() -> None:
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
async def test_events_beyond_the_memory_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    go_on, events = asyncio.Event(), []

    async def handle(event: bytes) -> None:
        await go_on.wait()
        events.append(event)

    async with connected() as (node, connection):
        async with await connection.subscribe("t", handle, iris.TopicLimits(event_threads=1, event_memory=2)):
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
    assert "an event of 't' is dropped" in caplog.text


@pytest.mark.parametrize("reason", ["told why", None])
def test_a_lost_node_is_told_to_everybody(reason: str | None) -> None:
    @in_loop
    async def run() -> None:
        drops: asyncio.Queue[iris.Closed] = asyncio.Queue()
        async with connected(on_drop=drops.put) as (node, connection):
            calls = [asyncio.create_task(connection.request("c", b"", 1.0)), asyncio.create_task(connection.tunnel("c", 1.0))]
            for op in (Op.REQUEST, Op.TUNNEL_INIT):
                await node.expect(op)
            if reason is not None:
                node.send(Op.CLOSE, reason=reason)
            else:
                node.sync.vanish()
            assert (await asyncio.wait_for(drops.get(), PATIENCE)).reason == (reason or "the connection to the node is lost")
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(outcome, iris.Closed)

    run()


@in_loop
async def test_a_node_that_breaks_the_rules_is_left(caplog: pytest.LogCaptureFixture) -> None:
    drops: asyncio.Queue[iris.Closed] = asyncio.Queue()
    async with connected(on_drop=drops.put_nowait) as (node, _):
        node.sync.send_bytes(b"\xff")
        assert (await asyncio.wait_for(drops.get(), PATIENCE)).__cause__ is not None
    assert "the node broke the rules" in caplog.text


@in_loop
async def test_a_node_that_doesnt_answer_a_close_is_left(caplog: pytest.LogCaptureFixture) -> None:
    async with connected() as (_, connection):
        await connection.close(timeout=0.02)
        assert connection.closed
    assert "doesn't answer a close" in caplog.text


@in_loop
async def test_handlers_may_be_plain_functions(caplog: pytest.LogCaptureFixture) -> None:
    handler = iris.aio.Handler()

    @handler.on_request
    def handle(request: bytes) -> bytes:
        if request == b"fault":
            raise iris.Fault("said so")
        return bytes([1000]) if request == b"error" else request

    async with registered(handler) as (node, _):
        for request, want in ((b"x", b"x"), (b"fault", "said so"), (b"error", "ValueError: bytes must be in range(0, 256)")):
            await ask(node, 1, request)
            assert (await answer(node))[2] == want
    assert "the handler of a request failed" in caplog.text


@in_loop
async def test_a_coroutine_function_is_a_service() -> None:
    async def twice(request: bytes) -> bytes:
        await asyncio.sleep(0)
        return request * 2

    async with registered(twice) as (node, service):
        await ask(node, 3, b"ab")
        assert await answer(node) == (3, True, b"abab")
        assert not await service.wait(0)


@in_loop
async def test_a_handler_refuses_what_it_doesnt_handle_and_gets_ready_first() -> None:
    class Mine(iris.aio.Handler):
        async def init(self, connection: iris.aio.Connection) -> None:
            self.connection = connection

    handler = Mine()
    async with registered(handler) as (node, service):
        assert handler.connection is service.connection
        await ask(node, 0)
        assert await answer(node) == (0, False, "this service takes no requests")
    with pytest.raises(ValueError, match="name"):
        iris.aio.register("", handler)


@in_loop
async def test_a_handler_that_doesnt_get_ready_ends_the_registration() -> None:
    handler = iris.aio.Handler()

    @handler.on_init
    async def fail(_: iris.aio.Connection) -> None:
        raise KeyError("not ready")

    with FakeNode() as node:
        leave = asyncio.create_task(asyncio.to_thread(lambda: node.accept().finish()))
        with pytest.raises(KeyError, match="not ready"):
            await iris.aio.register("c", handler, port=node.port)
        await leave


@in_loop
async def test_requests_beyond_tasks_and_memory_are_dropped_or_expire(caplog: pytest.LogCaptureFixture) -> None:
    go_on, handled = asyncio.Event(), []

    async def handle(request: bytes) -> bytes:
        handled.append(request)
        await go_on.wait()
        return request

    async with registered(handle, request_threads=2, request_memory=4) as (node, service):
        for number in (0, 1):
            await ask(node, number, b"x")
        await settled(node, service.connection)
        await ask(node, 2, b"late", timeout=0)
        await ask(node, 3, b"dropped")
        await settled(node, service.connection)
        go_on.set()
        assert sorted([(await answer(node))[0] for _ in range(2)]) == [0, 1]
        await settled(node, service.connection)
    assert handled == [b"x", b"x"]
    assert "a request is dropped" in caplog.text
    assert "a request expired" in caplog.text


@in_loop
async def test_a_leaving_service_finishes_what_it_has_in_hand() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def handle(request: bytes) -> bytes:
        begun.set()
        await go_on.wait()
        return request

    async with registered(handle) as (node, service):
        await ask(node, 7, b"in hand")
        await begun.wait()
        leaving = asyncio.create_task(service.close())
        await node.expect(Op.CLOSE)
        go_on.set()
        assert await answer(node) == (7, True, b"in hand")
        node.send(Op.CLOSE, reason="")
        await asyncio.wait_for(leaving, PATIENCE)


@in_loop
async def test_a_handler_may_close_its_service() -> None:
    async def handle(request: bytes) -> bytes:
        await services[0].close()
        return b"bye"

    services: list[iris.aio.Service] = []
    async with registered(handle) as (node, service):
        services.append(service)
        await ask(node, 0)
        await node.expect(Op.CLOSE)
        assert await answer(node) == (0, True, b"bye")
        node.send(Op.CLOSE, reason="")
        assert await service.wait(PATIENCE)


@in_loop
async def test_a_handler_that_never_ends_is_cancelled() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def handle(_: bytes) -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return b""

    async with registered(handle) as (node, service):
        await ask(node, 0)
        await begun.wait()
        await service.close(timeout=0.02)
        assert cancelled.is_set()


@in_loop
async def test_a_tunnel_is_closed_when_its_handler_returns() -> None:
    handler = iris.aio.Handler()
    handler.on_tunnel(lambda tunnel: tunnel.send(b"x"))
    async with registered(handler) as (node, _):
        node.send(Op.TUNNEL_INIT, build_id=0, chunk_limit=10)
        number = (await node.expect(Op.TUNNEL_CONFIRM)).id
        await node.expect(Op.TUNNEL_ALLOW)
        node.send(Op.TUNNEL_ALLOW, id=number, space=1)
        assert (await node.expect(Op.TUNNEL_TRANSFER)).chunk == b"x"
        assert (await node.expect(Op.TUNNEL_CLOSE)).id == number
        node.send(Op.TUNNEL_CLOSE, id=number, reason="")


@in_loop
async def test_a_message_waits_for_its_allowance_or_is_given_up() -> None:
    async with opened() as (node, tunnel):
        with pytest.raises(TimeoutError, match="0 of 15"):
            await tunnel.send(b"0123456789abcde", 0.01)
        sending = asyncio.create_task(tunnel.send(b"0123456789abcde"))
        node.send(Op.TUNNEL_ALLOW, id=0, space=12)
        assert (await node.expect(Op.TUNNEL_TRANSFER)).chunk == b"0123456789"
        with pytest.raises(TimeoutError):
            await tunnel.send(b"another", 0.01)
        assert not sending.done()
        node.send(Op.TUNNEL_ALLOW, id=0, space=3)
        assert (await node.expect(Op.TUNNEL_TRANSFER)).chunk == b"abcde"
        await sending


@in_loop
async def test_messages_are_received_in_order_and_then_the_end() -> None:
    async with opened() as (node, tunnel):
        with pytest.raises(TimeoutError):
            await tunnel.recv(0.001)
        for size, data in ((3, b"one"), (12, b"long mess"), (0, b"age")):
            node.send(Op.TUNNEL_TRANSFER, id=0, size=size, chunk=data)
        node.send(Op.TUNNEL_CLOSE, id=0, reason="")
        assert [message async for message in tunnel] == [b"one", b"long message"]
        with pytest.raises(iris.Closed):
            await tunnel.send(b"x")
        await tunnel.close()


@in_loop
async def test_a_dropped_tunnel_ends_an_iteration_with_the_reason() -> None:
    async with opened() as (node, tunnel):
        calls = [asyncio.ensure_future(anext(aiter(tunnel))), asyncio.create_task(tunnel.send(b"x"))]
        await asyncio.sleep(0)
        node.send(Op.TUNNEL_CLOSE, id=0, reason="cut")
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, iris.Closed)
            assert outcome.reason == "cut"


@in_loop
async def test_a_close_that_isnt_confirmed_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async with opened() as (node, tunnel):
        await tunnel.close(timeout=0.01)
        assert not tunnel.closed
        await node.expect(Op.TUNNEL_CLOSE)
        node.send(Op.TUNNEL_CLOSE, id=0, reason="")
        await tunnel.close()
        assert tunnel.closed
    assert "doesn't answer a close" in caplog.text


@in_loop
async def test_a_pool_bounds_its_tasks_and_keeps_the_order() -> None:
    running, most, done = 0, 0, []

    async def work(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        done.append(item)
        if item == 5:
            raise KeyError

    pool = Pool(work, tasks=3, memory=100, name="test")
    for item in range(20):
        assert pool.submit(item, 1)
    assert not pool.submit(99, 81)
    pool.start()
    while len(done) < 20:
        await asyncio.sleep(0)
    assert (done, most) == (list(range(20)), 3)
    assert pool.close() == 0
    assert not pool.submit(1, 1)
    assert await pool.join(PATIENCE)


@in_loop
async def test_what_waits_at_the_end_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    go_on = asyncio.Event()

    async def handle(request: bytes) -> bytes:
        await go_on.wait()
        return request

    async with registered(handle, request_threads=1) as (node, service):
        for number in range(3):
            await ask(node, number)
        await settled(node, service.connection)
        leaving = asyncio.create_task(service.close())
        await asyncio.to_thread(node.sync.finish)
        await service.wait()
        go_on.set()  # the one in hand comes too late
        await leaving
    assert "2 messages weren't handled any more" in caplog.text
    assert "failed" not in caplog.text


@in_loop
async def test_a_tunnel_that_ends_while_it_is_used_is_no_failure_of_its_handler(caplog: pytest.LogCaptureFixture) -> None:
    handler = iris.aio.Handler()
    handler.on_tunnel(lambda tunnel: tunnel.recv())
    caplog.set_level("INFO")
    async with registered(handler) as (node, service):
        node.send(Op.TUNNEL_INIT, build_id=0, chunk_limit=10)
        number = (await node.expect(Op.TUNNEL_CONFIRM)).id
        node.send(Op.TUNNEL_CLOSE, id=number, reason="cut")
        await node.expect(Op.TUNNEL_ALLOW)
        await settled(node, service.connection)
    assert "a tunnel ended while it was used: cut" in caplog.text
    assert "a handler failed" not in caplog.text


@in_loop
async def test_more_tunnels_than_allowed_arent_accepted(caplog: pytest.LogCaptureFixture) -> None:
    handler = iris.aio.Handler()
    handler.on_tunnel(lambda tunnel: tunnel.recv())
    async with registered(handler, tunnel_threads=1) as (node, service):
        for build_id in range(2):
            node.send(Op.TUNNEL_INIT, build_id=build_id, chunk_limit=10)
        assert (await node.expect(Op.TUNNEL_CONFIRM)).build_id == 0
        await node.expect(Op.TUNNEL_ALLOW)
        await settled(node, service.connection)
    assert "a tunnel isn't accepted" in caplog.text
