"""Tunnels with asyncio, against a fake node."""

import asyncio

import pytest

import iris
import iris.aio
from iris.relay_protocol.schema import Op
from tests.support.aio_node import opened
from tests.support.loop import in_loop


@in_loop
async def test_a_message_waits_for_credit_or_times_out() -> None:
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
async def test_a_broken_tunnel_ends_an_iteration_with_the_reason() -> None:
    async with opened() as (node, tunnel):
        calls = [
            asyncio.ensure_future(anext(aiter(tunnel))),
            asyncio.create_task(tunnel.send(b"x")),
        ]
        await asyncio.sleep(0)
        node.send(Op.TUNNEL_CLOSE, id=0, reason="cut")
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, iris.Closed)
            assert outcome.reason == "cut"


@in_loop
async def test_an_unconfirmed_close_times_out(caplog: pytest.LogCaptureFixture) -> None:
    async with opened() as (node, tunnel):
        await tunnel.close(timeout=0.01)
        assert not tunnel.closed
        await node.expect(Op.TUNNEL_CLOSE)
        node.send(Op.TUNNEL_CLOSE, id=0, reason="")
        await tunnel.close()
        assert tunnel.closed
    assert "close timed out" in caplog.text
