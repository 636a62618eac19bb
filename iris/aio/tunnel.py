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
                while not outgoing.complete:
                    if packets := self._flow.cut(outgoing):
                        self._attachment.write_soon(*packets)
                        await self._attachment.drain()
                    else:
                        await self._change()
        except TimedOut:
            raise
        except TimeoutError:
            raise TimedOut(outgoing.progress) from None

    async def recv(self, timeout: float | None = None) -> bytes:
        """The next message. Raises: TimedOut; Closed when no more will come."""
        try:
            async with asyncio.timeout(timeout):
                while (message := self._flow.receive()) is None:
                    await self._change()
        except TimeoutError:
            raise TimedOut("no message came") from None
        self._send_update()
        return message

    @property
    def closed(self) -> bool:
        """Whether it has ended; there may be messages to receive still."""
        return self._flow.error is not None

    async def close(self, timeout: float = PATIENCE) -> None:
        """End it, once the node has confirmed that: the other end still gets what was sent.

        Idempotent, never raises.
        """
        first = self._flow.begin_close()
        if first:
            with contextlib.suppress(Closed):  # the other end was faster
                self._attachment.core.close_tunnel(self._number)
        try:
            async with asyncio.timeout(timeout):
                while self._flow.error is None:
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

    def _send_update(self) -> None:
        if packet := self._flow.window_update():
            self._attachment.write_soon(packet)

    # See `protocol.TunnelEnd`

    def handle_allow(self, space: int) -> None:
        """So many bytes more may be sent."""
        self._flow.grant(space)
        self._changed()

    def handle_chunk(self, size: int, chunk: bytes) -> None:
        """A part of a message came."""
        if self._flow.feed(size, chunk):
            self._changed()
        self._send_update()

    def handle_close(self, error: Closed) -> None:
        """It is over."""
        self._flow.error = error
        self._changed()
