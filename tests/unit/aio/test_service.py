"""Services with asyncio, against a fake node."""

import asyncio

import pytest

import iris
import iris.aio
from iris.relay_protocol.schema import Op
from tests.support.aio_node import answer, ask, registered, settled
from tests.support.fake_node import PATIENCE, FakeNode
from tests.support.loop import in_loop


@in_loop
async def test_handlers_may_be_plain_functions(caplog: pytest.LogCaptureFixture) -> None:
    handler = iris.aio.Handler()

    @handler.on_request
    def handle(request: bytes) -> bytes:
        if request == b"fault":
            raise iris.Fault("said so")
        return bytes([1000]) if request == b"error" else request

    async with registered(handler) as (node, _):
        for request, want in (
            (b"x", b"x"),
            (b"fault", "said so"),
            (b"error", "ValueError: bytes must be in range(0, 256)"),
        ):
            await ask(node, 1, request)
            assert (await answer(node))[2] == want
    assert "request handler failed" in caplog.text


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
async def test_a_handler_fails_what_it_doesnt_handle_after_init() -> None:
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
    with pytest.raises(TypeError, match="handler of type Handler, not a function or a Handler"):
        iris.aio.register("c", iris.Handler())  # type: ignore[arg-type]


@in_loop
async def test_a_failing_init_ends_the_registration() -> None:
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
async def test_requests_beyond_tasks_and_queue_limit_are_dropped_or_expire(
    caplog: pytest.LogCaptureFixture,
) -> None:
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
    assert "request dropped: queue limit" in caplog.text
    assert "request dropped: expired" in caplog.text


@in_loop
async def test_a_closing_service_finishes_in_flight_requests() -> None:
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
async def test_closing_drops_what_is_queued(caplog: pytest.LogCaptureFixture) -> None:
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
    assert "2 queued messages dropped" in caplog.text
    assert "failed" not in caplog.text


@in_loop
async def test_a_tunnel_that_closes_while_in_use_is_no_failure_of_its_handler(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handler = iris.aio.Handler()
    handler.on_tunnel(lambda tunnel: tunnel.recv())
    caplog.set_level("INFO")
    async with registered(handler) as (node, service):
        node.send(Op.TUNNEL_INIT, build_id=0, chunk_limit=10)
        number = (await node.expect(Op.TUNNEL_CONFIRM)).id
        node.send(Op.TUNNEL_CLOSE, id=number, reason="cut")
        await node.expect(Op.TUNNEL_ALLOW)
        await settled(node, service.connection)
    assert "tunnel closed while in use: cut" in caplog.text
    assert "failed" not in caplog.text


@in_loop
async def test_tunnels_beyond_the_limit_are_rejected(caplog: pytest.LogCaptureFixture) -> None:
    handler = iris.aio.Handler()
    handler.on_tunnel(lambda tunnel: tunnel.recv())
    async with registered(handler, tunnel_threads=1) as (node, service):
        for build_id in range(2):
            node.send(Op.TUNNEL_INIT, build_id=build_id, chunk_limit=10)
        assert (await node.expect(Op.TUNNEL_CONFIRM)).build_id == 0
        await node.expect(Op.TUNNEL_ALLOW)
        await settled(node, service.connection)
    assert "tunnel offer dropped" in caplog.text


@in_loop
async def test_a_handler_that_awaited_something_cancelled_fails_like_any_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    handler = iris.aio.Handler()

    async def give_up(data: bytes) -> bytes:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future
        return data

    handler.on_request(give_up)
    handler.on_broadcast(give_up)
    async with registered(handler, request_threads=1, broadcast_threads=1) as (node, service):
        for number in range(2):
            await ask(node, number)
            assert await asyncio.wait_for(answer(node), PATIENCE) == (
                number,
                False,
                "CancelledError: ",
            )
            node.send(Op.BROADCAST, message=b"x")
        await settled(node, service.connection)
    assert caplog.text.count("broadcast: handler failed") == 2


@in_loop
async def test_a_reply_that_isnt_bytes_fails_the_request() -> None:
    handler = iris.aio.Handler()
    handler.on_request(lambda request: None if request == b"plain" else asyncio.sleep(0, "text"))
    async with registered(handler) as (node, _):
        for request in (b"plain", b"awaited"):
            await ask(node, 1, request)
            number, success, text = await answer(node)
            assert (number, success) == (1, False)
            assert str(text).startswith("TypeError")


@in_loop
async def test_the_old_names_of_disconnect_still_work_with_a_warning() -> None:
    heard: asyncio.Queue[iris.Closed] = asyncio.Queue()
    with pytest.warns(DeprecationWarning, match="handle_drop was renamed to handle_disconnect"):

        class Old(iris.aio.Handler):
            async def handle_drop(self, reason: iris.Closed) -> None:
                await heard.put(reason)

    async with registered(Old()) as (node, _):
        node.sync.vanish()
        reason = await asyncio.wait_for(heard.get(), PATIENCE)
        assert reason.reason == "connection to the node lost"
    with pytest.warns(DeprecationWarning, match="on_drop was renamed to on_disconnect"):
        iris.aio.connect(1, on_drop=heard.put)
