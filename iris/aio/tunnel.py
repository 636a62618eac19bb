"""One end of a tunnel, with asyncio."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, Protocol

from iris.client.closing import AsyncClosing
from iris.client.errors import Closed, TimedOut
from iris.client.flow import Flow, Outgoing
from iris.client.limits import CLOSE_GRACE, TUNNEL_BUFFER
from iris.client.protocol import ClientProtocol, Frontend
from iris.relay_protocol.client_packets import Buffer

_log = logging.getLogger(__name__)


class Node(Frontend[Any], Protocol):
    """What is used of `iris.aio.node_connection.NodeConnection`."""

    @property
    def protocol(self) -> ClientProtocol[Any]:
        """The connection's core."""

    async def drain(self) -> None:
        """Wait until little is left to be written."""


class Tunnel(AsyncClosing):
    """An ordered stream of messages, in each direction, to one other program.

    With backpressure: it is as fast as the other end receives. Iterating yields messages until the
    other end closes. Timeouts are in seconds, None waits without limit.
    """

    def __init__(self, node: Node, number: int, chunk_limit: int) -> None:
        self._node, self._number = node, number
        self._flow = Flow(number, chunk_limit, TUNNEL_BUFFER)
        self._sending = asyncio.Lock()  # held by the task that is sending a message
        self._changed = asyncio.Event()  # set for a moment, to wake what waits for _flow

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield messages until the other end closes. Raises: Closed when the tunnel broke."""
        while True:
            try:
                message = await self.recv()
            except Closed as exc:
                if exc.reason:
                    raise
                return
            yield message

    async def send(self, message: Buffer, timeout: float | None = None) -> None:
        """Send a message, which must not be empty; return when the node has all of it.

        When cancelled halfway, the other end discards what was sent of the message.

        Raises:
            TimedOut: the other end was too slow; it discards what was sent of the message.
            Closed, ValueError, TypeError.
        """
        outgoing = Outgoing(message)
        try:
            async with asyncio.timeout(timeout), self._sending:
                while not outgoing.complete:
                    if packets := self._flow.cut(outgoing):
                        self._node.write_soon(tuple(packets))
                        await self._node.drain()
                    else:
                        await self._changed.wait()
        except TimeoutError:
            raise TimedOut(outgoing.progress) from None

    async def recv(self, timeout: float | None = None) -> bytes:
        """Return the next message. Raises: TimedOut; Closed when no more will arrive."""
        try:
            async with asyncio.timeout(timeout):
                while (message := self._flow.receive()) is None:
                    await self._changed.wait()
        except TimeoutError:
            raise TimedOut("no message arrived") from None
        self._send_update()
        return message

    @property
    def closed(self) -> bool:
        """Whether it has ended; messages may still wait to be received."""
        return self._flow.error is not None

    async def close(self, timeout: float = CLOSE_GRACE) -> None:
        """Close it, and wait for the node to confirm; the other end still gets all that was sent.

        Idempotent, never raises. Gives up after `timeout` seconds.
        """
        if self._flow.begin_close():
            with contextlib.suppress(Closed):  # the other end closed first
                self._node.protocol.close_tunnel(self._number)
        try:
            async with asyncio.timeout(timeout):
                while not self.closed:
                    await self._changed.wait()
        except TimeoutError:
            _log.warning("tunnel %d: close timed out", self._number)

    def _notify(self) -> None:
        self._changed.set()
        self._changed.clear()

    def _send_update(self) -> None:
        if packet := self._flow.window_update():
            self._node.write_soon((packet,))

    # See `protocol.TunnelEnd`

    def handle_allow(self, space: int) -> None:
        """Add credit for sending."""
        self._flow.grant(space)
        self._notify()

    def handle_chunk(self, size: int, chunk: bytes) -> None:
        """Take a chunk of a message."""
        if self._flow.feed(size, chunk):
            self._notify()
        self._send_update()

    def handle_close(self, error: Closed) -> None:
        """End it."""
        self._flow.error = error
        self._notify()
