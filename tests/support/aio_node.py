"""A fake node for programs with asyncio."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import iris
import iris.aio
from iris.client.limits import TUNNEL_BUFFER
from iris.relay_protocol.schema import Op
from tests.support.fake_node import FakeNode


class Node:
    """A `FakeNode`, to be awaited."""

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
async def registered(
    handler: iris.aio.Handler | Callable[[bytes], Any], **limits: int
) -> AsyncIterator[tuple[Node, iris.aio.Service]]:
    with FakeNode() as node:
        welcome = asyncio.create_task(asyncio.to_thread(node.accept))
        service = await iris.aio.register(
            "c", handler, iris.ServiceLimits(**limits), port=node.port
        )
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
    """Wait until the program has read all that the node has sent."""
    asking = asyncio.create_task(connection.request("c", b"", 1.0))
    node.send(Op.REPLY, id=(await node.expect(Op.REQUEST)).id, timed_out=True)
    with pytest.raises(iris.TimedOut):
        await asking


async def ask(node: Node, number: int, request: bytes = b"", timeout: int = 60_000) -> None:
    node.send(Op.REQUEST, id=number, request=request, timeout=timeout)


async def answer(node: Node) -> tuple[int, bool, Any]:
    body = await node.expect(Op.REPLY)
    return body.id, body.success, body.result
