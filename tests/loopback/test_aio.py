"""All patterns between programs on one node, with asyncio, and between the two APIs."""

import asyncio
from pathlib import Path

import pytest

import iris
import iris.aio
from tests.support.irisctl import publish_until
from tests.support.loop import in_loop
from tests.support.node import running_node

PATIENCE = 10.0  # seconds


class Everything(iris.aio.Handler):
    """A service of all kinds."""

    def __init__(self) -> None:
        self.broadcasts: asyncio.Queue[bytes] = asyncio.Queue()
        self.connection: iris.aio.Connection | None = None
        self.disconnects: list[iris.Closed] = []

    async def init(self, connection: iris.aio.Connection) -> None:
        self.connection = connection

    async def handle_broadcast(self, message: bytes) -> None:
        self.broadcasts.put_nowait(message)

    async def handle_request(self, request: bytes) -> bytes:
        if request == b"refuse":
            raise iris.Fault("I'd rather not")
        if request == b"fail":
            raise KeyError("what is missing")
        if request.startswith(b"ask "):
            assert self.connection is not None
            return b"heard " + await self.connection.request(request[4:].decode(), b"you", 5.0)
        return request

    async def handle_tunnel(self, tunnel: iris.aio.Tunnel) -> None:
        async for message in tunnel:
            await tunnel.send(message[::-1])

    async def handle_disconnect(self, reason: iris.Closed) -> None:
        self.disconnects.append(reason)


@in_loop
async def test_requests(port: int) -> None:
    async with iris.aio.register("all", Everything(), port=port), iris.aio.connect(port) as client:
        assert await client.request("all", b"hello", 5.0) == b"hello"
        assert await client.request("all", b"ask all", 5.0) == b"heard you"
        replies = await asyncio.gather(
            *(client.request("all", str(i).encode(), 10.0) for i in range(1_000))
        )
        assert replies == [str(i).encode() for i in range(1_000)]
        with pytest.raises(iris.Fault, match=r"^I'd rather not$"):
            await client.request("all", b"refuse", 5.0)
        with pytest.raises(iris.Fault, match=r"^KeyError: 'what is missing'$"):
            await client.request("all", b"fail", 5.0)
        with pytest.raises(TimeoutError):
            await client.request("nobody", b"hello", 0.05)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.request("nobody", b"hello", 5.0)


@in_loop
async def test_broadcasts_and_events(port: int) -> None:
    member, events = Everything(), asyncio.Queue[bytes]()
    async with (
        iris.aio.register("news", member, port=port) as service,
        iris.aio.connect(port) as client,
    ):
        await client.broadcast("news", b"to all")
        assert await asyncio.wait_for(member.broadcasts.get(), PATIENCE) == b"to all"
        async with await service.connection.subscribe("weather", events.put):
            await asyncio.to_thread(
                publish_until, lambda: not events.empty(), "weather", b"dry", port
            )
        assert await events.get() == b"dry"
        with pytest.raises(iris.StateError):
            await service.connection.unsubscribe("weather")


@in_loop
async def test_tunnels(port: int) -> None:
    async with iris.aio.register("back", Everything(), port=port), iris.aio.connect(port) as client:
        async with await client.tunnel("back", 5.0) as tunnel:
            for size in (1, 65_536, 300_000, 16 << 20):
                message = bytes(range(256)) * (size // 256 + 1)
                await tunnel.send(message[:size], PATIENCE)
                assert await tunnel.recv(PATIENCE) == message[:size][::-1]
            with pytest.raises(TimeoutError):
                await tunnel.recv(0.01)
        with pytest.raises(TimeoutError):
            await client.tunnel("nobody", 0.05)


@in_loop
async def test_messages_abandoned_halfway_are_forgotten(port: int) -> None:
    handler, go_on, got = iris.aio.Handler(), asyncio.Event(), []

    @handler.on_tunnel
    async def later(tunnel: iris.aio.Tunnel) -> None:
        await go_on.wait()
        got.extend([message async for message in tunnel])

    async with (
        iris.aio.register("slow", handler, port=port),
        iris.aio.connect(port) as client,
        await client.tunnel("slow", 5.0) as tunnel,
    ):
        abandoned = 0
        for _ in range(6):
            try:
                await tunnel.send(bytes(32 << 20), 0.2)
            except iris.TimedOut:
                abandoned += 1
        assert abandoned >= 3
        go_on.set()
        await tunnel.send(b"small", PATIENCE)
    assert len(got) == 6 - abandoned + 1
    assert got[-1] == b"small"


@in_loop
async def test_the_apis_understand_each_other(port: int) -> None:
    def use(client: iris.Connection) -> tuple[bytes, bytes]:
        with client, client.tunnel("mixed", 5.0) as tunnel:
            tunnel.send(b"abc")
            return client.request("mixed", b"hello", 5.0), tunnel.recv(PATIENCE)

    async with iris.aio.register("mixed", Everything(), port=port):
        client = await asyncio.to_thread(iris.connect, port)
        assert await asyncio.to_thread(use, client) == (b"hello", b"cba")


@in_loop
async def test_a_broken_stream_differs_from_a_complete_one(port: int) -> None:
    handler, ends = iris.aio.Handler(), asyncio.Queue[str]()

    @handler.on_tunnel
    async def read(tunnel: iris.aio.Tunnel) -> None:
        try:
            assert [message async for message in tunnel] == [b"all"]
            await ends.put("")
        except iris.Closed as exc:
            await ends.put(exc.reason)

    async with iris.aio.register("stream", handler, port=port):
        for whole in (True, False):
            client = await iris.aio.connect(port)
            tunnel = await client.tunnel("stream", 5.0)
            await tunnel.send(b"all")
            if whole:
                await client.close()
                assert await asyncio.wait_for(ends.get(), PATIENCE) == ""
            else:
                client.abort()
                assert (await asyncio.wait_for(ends.get(), PATIENCE)).startswith(
                    "the other application disconnected"
                )
            await client.close()


@in_loop
async def test_a_lost_node_fails_all_that_is_pending(tmp_path: Path) -> None:
    handler, dropped = Everything(), asyncio.Event()
    node = running_node(tmp_path / "node.log")
    port = await asyncio.to_thread(node.__enter__)
    try:
        service = await iris.aio.register("lonely", handler, port=port)
        client = await iris.aio.connect(port, on_disconnect=lambda _: dropped.set())
        tunnel = await client.tunnel("lonely", 5.0)
    finally:
        await asyncio.to_thread(node.__exit__, None, None, None)
    await asyncio.wait_for(dropped.wait(), PATIENCE)
    assert await service.wait(PATIENCE)
    with pytest.raises(iris.Closed):
        await client.request("lonely", b"", 1.0)
    with pytest.raises(iris.Closed):
        await tunnel.recv()
    await client.close()
    await service.close()
    assert len(handler.disconnects) == 1
