"""The socket of one attached program, with asyncio. Shell around `iris/client/protocol.py`.

What is written in one round of the event loop is sent in one go, at its end. All of this is for the
thread of one event loop alone.
"""

import asyncio
import itertools
import logging
import socket
from collections.abc import Callable
from typing import Any, TypeVar

from iris.aio.pool import Pool
from iris.aio.tunnel import Tunnel
from iris.client.errors import Closed, TimedOut
from iris.client.limits import TUNNEL_BUFFER
from iris.client.protocol import ClientProtocol, Dispatcher
from iris.errors import ProtocolError
from iris.relay_protocol import client_codec as codec

_HIGH_WATER = 4 << 20  # bytes that the node hasn't taken yet, at which writers wait
_BULK = 65_536  # bytes that gather at most

T = TypeVar("T")
_log = logging.getLogger(__name__)
_numbers = itertools.count(1)


class NodeConnection(asyncio.Protocol):
    """Owns a transport and the pools of all handlers."""

    def __init__(
        self, cluster: str = "", *, on_drop: Callable[[Closed], Any] | None = None
    ) -> None:
        """For a member of a cluster when it is named. on_drop: see `iris.aio.connect`."""
        self.name = f"iris-aio-{next(_numbers)}"
        self.loop = asyncio.get_running_loop()
        self._cluster, self._on_drop = cluster, on_drop
        self._attached: asyncio.Future[None] = self.loop.create_future()
        self._gone: asyncio.Future[None] = self.loop.create_future()
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport | None = None
        self._out: list[codec.ImmutableBytes] = []
        self._gathered = 0  # bytes in _out
        self._flush_due = False  # in this or the next round of the loop
        self._closing = False
        self._pools: list[Pool[Any]] = []
        self.core: ClientProtocol[Tunnel] = ClientProtocol(
            self, attached=self._attached, cluster=cluster, tunnel_buffer=TUNNEL_BUFFER
        )

    async def start(self, intake: Dispatcher | None, port: int, timeout: float) -> None:
        """Attach. intake is for a member of a cluster. Raises: OSError, Denied, Closed, TimedOut.

        It is closed then.
        """
        self.core.intake = intake
        try:
            async with asyncio.timeout(timeout):
                await self.loop.create_connection(lambda: self, "127.0.0.1", port)
                await self._attached
        except BaseException as exc:
            self._closing = True
            self._cut()
            if isinstance(exc, TimeoutError):
                raise TimedOut(f"the node hasn't answered within {timeout} s") from None
            raise
        _log.info(
            "%s: attached%s",
            self.name,
            f" as a member of '{self._cluster}'" if self._cluster else "",
        )

    async def close(self, timeout: float) -> None:
        """See `Connection.close`."""
        first, self._closing = not self._closing, True
        if first and self.core.ended is None:
            self.core.close()
        current = asyncio.current_task()
        if any(pool.owns(current) for pool in self._pools):
            return
        deadline = self.loop.time() + timeout
        if not await self.wait(timeout):
            _log.warning("%s: the node doesn't answer a close", self.name)
            self._cut()
            await self.wait(None)
        for pool in self._pools:
            if not await pool.join(deadline - self.loop.time()):
                _log.warning("%s: a handler was cancelled", self.name)

    def abort(self) -> None:
        """See `Connection.abort`."""
        self._closing = True
        self._flush()
        self._cut()

    async def wait(self, timeout: float | None) -> bool:
        """Wait for its end; False after `timeout` seconds."""
        await asyncio.wait([self._gone], timeout=timeout)
        return self._gone.done()

    @property
    def writable(self) -> bool:
        """Whether the node takes what is written."""
        return self._writable.is_set()

    async def drain(self) -> None:
        """Wait while the node takes too little of what was written."""
        if not self._writable.is_set():
            await self._writable.wait()

    def new_pool(self, work: Callable[[T], Any], *, tasks: int, memory: int, kind: str) -> Pool[T]:
        """A pool for handlers, which is closed with this, or by `drop_pool`."""
        pool = Pool(work, tasks=tasks, memory=memory, name=f"{self.name}-{kind}")
        self._pools.append(pool)
        return pool

    def drop_pool(self, pool: Pool[Any]) -> None:
        """Close one that isn't needed any more; what is being worked on goes on."""
        pool.close()
        if pool in self._pools:
            self._pools.remove(pool)

    def _cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self.loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flush_due = False
        if self._out:
            self._flush()

    def _flush(self) -> None:
        buffers, self._out, self._gathered = self._out, [], 0
        if buffers and self._transport is not None and not self._transport.is_closing():
            # not writelines: before 3.12.9 and 3.13.2 it never tells a protocol to pause
            # (CVE-2024-12254); in 3.11 it joins as well
            self._transport.write(buffers[0] if len(buffers) == 1 else b"".join(buffers))

    def _end(self, error: BaseException | None) -> None:
        if self.core.ended is None:
            lost = Closed("the connection to the node is lost")
            lost.__cause__ = error
            self.core.end(lost)
        self._cut()

    # See `asyncio.Protocol`

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who we are."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.set_write_buffer_limits(high=_HIGH_WATER)
        if self._closing:
            transport.abort()
            return
        self.write_soon(self.core.greeting)

    def data_received(self, data: bytes) -> None:
        """Take what the node sent."""
        try:
            self.core.feed(data)
        except ProtocolError as exc:
            _log.error("%s: the node broke the rules: %s", self.name, exc)
            self._end(exc)
        except Closed as exc:
            self._end(exc)
        except Exception as exc:
            _log.exception("%s: what the node sent couldn't be carried out", self.name)  # our bug
            self._end(exc)
        if self.core.ended is not None:
            self._cut()
        if self._out:
            self._flush()  # plain handlers have said something
        else:
            # behind all tasks that have just been told something, and may have something to say
            self._flush_soon()

    def pause_writing(self) -> None:
        """The node takes too little."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It takes more again."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody, if that wasn't done already."""
        self._end(exc)
        self._writable.set()
        for pool in self._pools:
            if dropped := pool.close():
                _log.warning("%s: %d messages weren't handled any more", self.name, dropped)
        if not self._gone.done():
            self._gone.set_result(None)
        reason = self.core.ended
        assert reason is not None
        if self._closing:
            _log.info("%s: detached", self.name)
            return
        _log.warning("%s: dropped: %s", self.name, reason)
        if self._on_drop is not None:
            pool = self.new_pool(self._on_drop, tasks=1, memory=0, kind="drop")
            pool.submit(reason.again(), 0)
            pool.start()

    # See `protocol.Face`

    def write_soon(self, first: codec.ImmutableBytes, /, *more: codec.ImmutableBytes) -> None:
        """Write one packet, without waiting."""
        if not self._flush_due:
            self._flush_soon()
        self._out.append(first)
        self._gathered += len(first)
        if more:
            self._out += more
            self._gathered += sum(map(len, more))
        if self._gathered >= _BULK:
            # so that who writes on and on, and never lets the loop come round, is held back some
            # time
            self._flush()

    def new_tunnel(self, number: int, chunk_limit: int) -> Tunnel:
        """Make the end of a tunnel."""
        return Tunnel(self, number, chunk_limit)
