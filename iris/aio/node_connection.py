"""One program's connection to its node, with asyncio: owns the transport.

What is written in one round of the event loop is sent together, at its end. For the thread of one
event loop alone.
"""

import asyncio
import logging
import socket
from typing import Any

from iris.aio.pool import Pool
from iris.aio.tunnel import Tunnel
from iris.client.base_node_connection import BaseNodeConnection, OnDisconnect, Work, no_response
from iris.client.protocol import Dispatcher, Packet
from iris.relay_protocol.client_packets import ImmutableBytes
from iris.runtime.deadline import time_left

_HIGH_WATER = 4 << 20  # bytes in the transport's buffer, beyond which writers wait
_FLUSH_SIZE = 65_536  # bytes; what is written beyond is sent at once

_log = logging.getLogger(__name__)


class NodeConnection(BaseNodeConnection[Tunnel, Pool[Any]], asyncio.Protocol):
    """Owns a transport and the pools of all handlers."""

    def __init__(self, cluster: str = "", *, on_disconnect: OnDisconnect = None) -> None:
        """Prepare to attach. See `BaseNodeConnection`."""
        self.loop = asyncio.get_running_loop()
        self._attached: asyncio.Future[None] = self.loop.create_future()
        super().__init__("iris-aio", cluster, self._attached, on_disconnect)
        self._lost: asyncio.Future[None] = self.loop.create_future()
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[ImmutableBytes] = []
        self._unsent_size = 0  # bytes
        self._flush_scheduled = False  # in this or the next round of the loop

    async def start(self, dispatcher: Dispatcher | None, port: int, timeout: float) -> None:
        """Attach; close when that fails.

        Args:
            dispatcher: takes what arrives for a member of a cluster.
            timeout: seconds.
        Raises: OSError, Denied, Closed, TimedOut.
        """
        self.protocol.dispatcher = dispatcher
        try:
            async with asyncio.timeout(timeout):
                await self.loop.create_connection(lambda: self, "127.0.0.1", port)
                await self._attached
        except BaseException as exc:
            self._closing = True
            self._abort_transport()
            if isinstance(exc, TimeoutError):
                raise no_response(timeout) from None
            raise
        self._log_attached()

    async def close(self, timeout: float) -> None:
        """Close as described in `Connection.close`."""
        self._begin_close()
        current = asyncio.current_task()
        if any(pool.owns(current) for pool in self._pools):
            return
        deadline = self.loop.time() + timeout
        if not await self.wait(timeout):
            _log.warning("%s: close timed out; disconnecting", self.name)
            self._abort_transport()
            await self.wait(None)
        for pool in self._pools:
            if not await pool.join(time_left(deadline, self.loop.time)):
                _log.warning("%s: a handler was cancelled", self.name)

    def abort(self) -> None:
        """Disconnect without a close packet."""
        self._closing = True
        self._flush()
        self._abort_transport()

    async def wait(self, timeout: float | None) -> bool:
        """Wait for the end. Returns: False after `timeout` seconds."""
        await asyncio.wait([self._lost], timeout=timeout)
        return self._lost.done()

    def make_pool(self, name: str, work: Work, workers: int, memory: int) -> Pool[Any]:
        """Make a pool of tasks."""
        return Pool(work, tasks=workers, memory=memory, name=name)

    # Writing

    @property
    def writable(self) -> bool:
        """Whether writers don't have to wait."""
        return self._writable.is_set()

    async def drain(self) -> None:
        """Apply backpressure: wait while too much of what was written is unsent."""
        if not self._writable.is_set():
            await self._writable.wait()

    def write_soon(self, packet: Packet) -> None:
        """Write one packet, without waiting."""
        if not self._flush_scheduled:
            self._schedule_flush()
        self._unsent += packet
        self._unsent_size += len(packet[0]) if len(packet) == 1 else sum(map(len, packet))
        if self._unsent_size >= _FLUSH_SIZE:
            # a task that writes without ever yielding to the loop feels backpressure all the same
            self._flush()

    def new_tunnel(self, number: int, chunk_limit: int) -> Tunnel:
        """Make the local end of a tunnel."""
        return Tunnel(self, number, chunk_limit)

    def _schedule_flush(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._run_scheduled_flush)

    def _run_scheduled_flush(self) -> None:
        self._flush_scheduled = False
        if self._unsent:
            self._flush()

    def _flush(self) -> None:
        buffers, self._unsent, self._unsent_size = self._unsent, [], 0
        if buffers and self._transport is not None and not self._transport.is_closing():
            # not writelines: before 3.12.9 and 3.13.2 it never tells a protocol to pause
            # (CVE-2024-12254); in 3.11 it joins as well
            self._transport.write(buffers[0] if len(buffers) == 1 else b"".join(buffers))

    def _abort_transport(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # See `asyncio.Protocol`

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the init packet."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        if self._closing:
            transport.abort()
            return
        self.write_soon((self.protocol.init_packet,))

    def data_received(self, data: bytes) -> None:
        """Process bytes from the node."""
        try:
            self.protocol.feed(data)
        except Exception as exc:
            self._end(exc)
        if self.protocol.ended is not None:
            self._abort_transport()
        if self._unsent:
            self._flush()  # plain handlers have written
        else:
            # after all tasks that this has woken, as they may write
            self._schedule_flush()

    def pause_writing(self) -> None:
        """Make writers wait: the node is slow."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """End everything, and report that."""
        self._end(exc)
        self._abort_transport()
        self._writable.set()
        reason = self._disconnected()
        if not self._lost.done():
            self._lost.set_result(None)
        if reason is not None and self._on_disconnect is not None:
            pool = self.new_pool("disconnect", self._on_disconnect, 1, 0)
            pool.submit(reason, 0)
            pool.start()
