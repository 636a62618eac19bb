"""A program's connection to the node on its host, with asyncio."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from iris.aio.connector import AsyncConnector
from iris.aio.node_connection import NodeConnection
from iris.aio.pool import Pool
from iris.aio.tunnel import Tunnel
from iris.client.base_connection import BaseConnection
from iris.client.closing import AsyncClosing
from iris.client.errors import Closed, TimedOut
from iris.client.handlers import renamed
from iris.client.limits import CONNECT_TIMEOUT, PORT, RESPONSE_GRACE, TopicLimits
from iris.relay_protocol.client_packets import Buffer

_NEVER = float("inf")


class Connection(AsyncClosing, BaseConnection[NodeConnection, Pool[Any]]):
    """A connection to the local node, made by `iris.aio.connect`; also `Service.connection`.

    The tasks of one event loop may share one. Every method raises `Closed` once it has ended, and
    ValueError or TypeError for invalid arguments. Messages are bytes-like: `bytes` are sent without
    copying, mutable ones are copied first. Times are in seconds.
    """

    def __init__(self, node: NodeConnection) -> None:
        super().__init__(node)
        self._deadlines: dict[asyncio.Future[bytes], float] = {}  # of in-flight requests
        self._expire_at = _NEVER  # the next of them
        self._timer: asyncio.TimerHandle | None = None

    async def request(self, cluster: str, request: Buffer, timeout: float) -> bytes:
        """Send a request to one member of a cluster, and wait for the reply.

        Raises:
            Fault: the member failed the request; the text is its own.
            TimedOut: no reply within `timeout` seconds.
        """
        loop = self._node.loop
        future: asyncio.Future[bytes] = loop.create_future()
        number = self._protocol.request(cluster, request, timeout, future)
        self._deadlines[future] = deadline = loop.time() + timeout + RESPONSE_GRACE
        if deadline < self._expire_at:
            self._schedule_expiry(deadline)
        try:
            return await future
        except BaseException:
            self._protocol.forget(number)
            raise
        finally:
            del self._deadlines[future]

    def _schedule_expiry(self, deadline: float) -> None:
        """Set the timer that all requests share."""
        if self._timer is not None:
            self._timer.cancel()
        self._expire_at = deadline
        self._timer = self._node.loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        """Fail overdue requests: hardly ever any, as the node itself reports timeouts."""
        # a loop's timers may be early by its clock's resolution
        now = max(self._node.loop.time(), self._expire_at)
        self._expire_at, self._timer = _NEVER, None
        for future, deadline in self._deadlines.items():
            if deadline <= now and not future.done():
                future.set_exception(TimedOut("request timed out: no response from the node"))
        later = [deadline for deadline in self._deadlines.values() if deadline > now]
        if later:
            self._schedule_expiry(min(later))

    async def tunnel(self, cluster: str, timeout: float) -> Tunnel:
        """Build a tunnel to one member of a cluster. Raises: TimedOut after `timeout` seconds."""
        future: asyncio.Future[Tunnel] = self._node.loop.create_future()
        number = self._protocol.tunnel(cluster, timeout, future)
        try:
            async with asyncio.timeout(timeout + RESPONSE_GRACE):
                return await future
        except (TimeoutError, asyncio.CancelledError) as exc:
            if not future.cancelled() and future.done() and future.exception() is None:
                self._protocol.close_tunnel(number)  # it was built at this very moment
            if isinstance(exc, TimeoutError) and not isinstance(exc, TimedOut):
                raise TimedOut("tunnel timed out: no response from the node") from None
            raise
        finally:
            self._protocol.forget_tunnel(number)

    async def broadcast(self, cluster: str, message: Buffer) -> None:
        """Send to all members of a cluster: best effort."""
        self._protocol.broadcast(cluster, message)
        await self._node.drain()

    async def publish(self, topic: str, event: Buffer) -> None:
        """Send to all subscribers of a topic: best effort."""
        self._protocol.publish(topic, event)
        await self._node.drain()

    async def subscribe(
        self, topic: str, handler: Callable[[bytes], Any], limits: TopicLimits | None = None
    ) -> "Subscription":
        """Call a handler with each event of a topic, in a bounded number of tasks.

        The first events may take a moment to arrive.

        Args:
            handler: a coroutine function or a plain one.
        Raises: StateError when this connection has a subscription of that topic already.
        """
        pool = self._subscribe(topic, handler, limits)
        await self._node.drain()
        return Subscription(self, topic, pool)

    async def unsubscribe(self, topic: str) -> None:
        """End a subscription, and the calls of its handler. Raises: StateError without one."""
        self._unsubscribe(topic)
        await self._node.drain()

    async def close(self, timeout: float = 10.0) -> None:
        """Send what was written, finish in-flight requests, end tunnels and subscriptions.

        Idempotent, never raises. Disconnects after `timeout` seconds without a confirmation of the
        node, and cancels handlers that still run. Doesn't wait when called by one of the
        connection's own handlers.
        """
        await self._node.close(timeout)


class Subscription(AsyncClosing):
    """The subscription of a topic, until `close` or the end of its `async with` block."""

    def __init__(self, connection: Connection, topic: str, pool: Pool[Any]) -> None:
        self._connection, self.topic, self._pool = connection, topic, pool

    async def close(self) -> None:
        """Unsubscribe. Idempotent, never raises."""
        with contextlib.suppress(Closed):
            self._connection._unsubscribe(self.topic, self._pool)
        await self._connection._node.drain()


def connect(
    port: int = PORT,
    *,
    on_disconnect: Callable[[Closed], Any] | None = None,
    timeout: float = CONNECT_TIMEOUT,
    on_drop: Callable[[Closed], Any] | None = None,
) -> AsyncConnector[Connection]:
    """Connect to the node on this host as a client; `await` it, or use it in an `async with`.

    Args:
        on_disconnect: called, and awaited if it is a coroutine function, once if the connection is
            lost, after all that waited has raised.
        timeout: seconds.
        on_drop: deprecated name of on_disconnect.
    Raises:
        OSError: no node listens at that port.
        Denied: the node rejects this program.
        TimedOut, Closed.
    """
    on_disconnect = renamed(on_disconnect, on_drop)

    async def open_connection() -> Connection:
        node = NodeConnection(on_disconnect=on_disconnect)
        await node.start(None, port, timeout)
        return Connection(node)

    return AsyncConnector(open_connection)
