"""One end of a tunnel, with asyncio. Shell around `iris/client/flow.py`."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING

from iris.client.errors import Closed, TimedOut
from iris.client.flow import Flow, Outgoing
from iris.client.limits import PATIENCE
from iris.relay_protocol.client_codec import Buffer

if TYPE_CHECKING:
    from iris.aio.node_connection import NodeConnection

_log = logging.getLogger(__name__)


class Tunnel:
    """An ordered stream of messages, each way, to one other program.

    It is throttled by how fast the other one receives.

    Iterating gives messages until the other end closes. Times are in seconds, None waits for ever.
    """

    def __init__(self, attachment: "NodeConnection", number: int, chunk_limit: int) -> None:
        self._attachment, self._number = attachment, number
        self._flow = Flow(number, chunk_limit, attachment.core.tunnel_buffer)
        self._sending = asyncio.Lock()  # whose turn it is to send a message
        self._waiting: set[asyncio.Future[None]] = set()  # for anything to change
        self._error: Closed | None = None
        self._closing = False

    async def __aenter__(self) -> "Tunnel":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The messages, until the other end closes. Raises: Closed when the tunnel is dropped."""
        while True:
            try:
                message = await self.recv()
            except Closed as exc:
                if exc.reason:
                    raise
                return
            yield message

    async def send(self, message: Buffer, timeout: float | None = None) -> None:
        """Send a message, which mustn't be empty; returns when the node has it all.

        Raises: TimedOut when the other end didn't make room for it in time: it never gets that
        message then, whatever was sent of it; the same goes when this is cancelled. Closed.
        ValueError, TypeError.
        """
        outgoing = Outgoing(message)
        try:
            async with asyncio.timeout(timeout), self._sending:
                while not outgoing.whole:
                    if self._error is not None:
                        raise self._error.again()
                    if packets := self._flow.cut(outgoing):
                        self._attachment.write_soon(*packets)
                        await self._attachment.drain()
                    else:
                        await self._change()
        except TimedOut:
            raise
        except TimeoutError:
            raise TimedOut(f"{outgoing.sent} of {len(outgoing.data)} bytes could be sent") from None

    async def recv(self, timeout: float | None = None) -> bytes:
        """The next message. Raises: TimedOut; Closed when no more will come."""
        try:
            async with asyncio.timeout(timeout):
                while not self._flow.ready:
                    if self._error is not None:
                        raise self._error.again()
                    await self._change()
        except TimeoutError:
            raise TimedOut("no message came") from None
        message = self._flow.next()
        self._settle()
        return message

    @property
    def closed(self) -> bool:
        """Whether it has ended; there may be messages to receive still."""
        return self._error is not None

    async def close(self, timeout: float = PATIENCE) -> None:
        """End it, once the node has confirmed that: the other end still gets what was sent.

        Idempotent, never raises.
        """
        first, self._closing = not (self._closing or self._error), True
        if first:
            with contextlib.suppress(Closed):  # the other end was faster
                self._attachment.core.close_tunnel(self._number)
        try:
            async with asyncio.timeout(timeout):
                while self._error is None:
                    await self._change()
        except TimeoutError:
            _log.warning("tunnel %d: the node doesn't answer a close", self._number)

    async def _change(self) -> None:
        future = self._attachment.loop.create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)

    def _changed(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def _settle(self) -> None:
        if (packet := self._flow.settle()) and self._error is None:
            self._attachment.write_soon(packet)

    # See `protocol.TunnelEnd`

    def handle_allow(self, space: int) -> None:
        """So many bytes more may be sent."""
        self._flow.allow(space)
        self._changed()

    def handle_chunk(self, size: int, chunk: bytes) -> None:
        """A part of a message came."""
        if self._flow.take(size, chunk):
            self._changed()
        self._settle()

    def handle_close(self, error: Closed) -> None:
        """It is over."""
        self._error = error
        self._changed()
