"""A program's connection to the node on its host, with asyncio."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any

from iris.aio.connector import AsyncConnector
from iris.aio.node_connection import NodeConnection
from iris.aio.pool import Pool
from iris.aio.tunnel import Tunnel
from iris.client.errors import Closed, TimedOut
from iris.client.limits import PATIENCE, PORT, TopicLimits
from iris.relay_protocol.client_codec import Buffer

_NEVER = float("inf")

_log = logging.getLogger(__name__)


class Connection:
    """An attached program; made by `iris.aio.connect`, or at hand as `Service.connection`.

    For tasks of one event loop.

    Everything raises `Closed` once the connection has ended, and ValueError or TypeError for
    arguments that can't be right. Messages are bytes-like; `bytes` are sent from where they are,
    and anything that can change is copied first. Times are in seconds.
    """

    def __init__(self, attachment: NodeConnection) -> None:
        self._attachment, self._core = attachment, attachment.core
        self._topics: dict[str, Pool[bytes]] = {}
        # by when a request under way must have its reply
        self._backstops: dict[asyncio.Future[bytes], float] = {}
        self._sweep_at = _NEVER  # the next of them
        self._sweeper: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> "Connection":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def request(self, cluster: str, request: Buffer, timeout: float) -> bytes:
        """Ask one member of a cluster. Raises: Fault with what it said when it failed; TimedOut."""
        loop = self._attachment.loop
        future: asyncio.Future[bytes] = loop.create_future()
        number = self._core.request(cluster, request, timeout, future)
        self._backstops[future] = due = loop.time() + timeout + PATIENCE
        if due < self._sweep_at:
            self._sweep_by(due)
        try:
            return await future
        except BaseException:
            self._core.forget(number)
            raise
        finally:
            del self._backstops[future]

    def _sweep_by(self, due: float) -> None:
        """Have `_sweep` called at that time: one timer is enough for all requests."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._sweep_at, self._sweeper = due, self._attachment.loop.call_at(due, self._sweep)

    def _sweep(self) -> None:
        """Give up what the node owes for too long.

        It answers requests that time out as well, so there hardly ever is any.
        """
        # a loop's timers may be early by its clock's resolution
        now = max(self._attachment.loop.time(), self._sweep_at)
        self._sweep_at, self._sweeper = _NEVER, None
        for future, due in self._backstops.items():
            if due <= now:
                _give_up(future, "a request")
        if (
            first := min((due for due in self._backstops.values() if due > now), default=_NEVER)
        ) < _NEVER:
            self._sweep_by(first)

    async def tunnel(self, cluster: str, timeout: float) -> Tunnel:
        """Build a tunnel to one member of a cluster. Raises: TimedOut."""
        future: asyncio.Future[Tunnel] = self._attachment.loop.create_future()
        number = self._core.tunnel(cluster, timeout, future)
        try:
            await self._answered(future, timeout, "a tunnel")
            return future.result()
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._core.close_tunnel(number)  # it came in the same moment
            raise
        finally:
            self._core.forget_tunnel(number)

    async def _answered(self, future: "asyncio.Future[Any]", timeout: float, what: str) -> None:
        backstop = self._attachment.loop.call_later(timeout + PATIENCE, _give_up, future, what)
        try:
            await future
        finally:
            backstop.cancel()

    async def broadcast(self, cluster: str, message: Buffer) -> None:
        """Send to all members of a cluster: best effort."""
        self._core.broadcast(cluster, message)
        await self._attachment.drain()

    async def publish(self, topic: str, event: Buffer) -> None:
        """Send to all subscribers of a topic: best effort."""
        self._core.publish(topic, event)
        await self._attachment.drain()

    async def subscribe(
        self, topic: str, handler: Callable[[bytes], Any], limits: TopicLimits | None = None
    ) -> "Subscription":
        """Have a handler, plain or a coroutine function, called with each event of a topic, in a
        bounded number of tasks.

        It may take a moment until the first ones come. Raises: StateError when there is a
        subscription of that topic already.
        """
        limits = limits or TopicLimits()
        attachment = self._attachment
        pool = attachment.new_pool(
            handler, tasks=limits.event_threads, memory=limits.event_memory, kind="topic"
        )

        def deliver(event: bytes) -> None:
            if not pool.submit(event, len(event)):
                _log.error(
                    "%s: an event of '%s' is dropped: those that wait take %d bytes",
                    attachment.name,
                    topic,
                    limits.event_memory,
                )

        try:
            self._core.subscribe(topic, deliver)
        except BaseException:
            attachment.drop_pool(pool)
            raise
        self._topics[topic] = pool
        pool.start()
        await attachment.drain()
        return Subscription(self, topic, pool)

    async def unsubscribe(self, topic: str) -> None:
        """End a subscription: its handler isn't called any more. Raises.

        StateError when there is none.
        """
        self._core.unsubscribe(topic)
        self._attachment.drop_pool(self._topics.pop(topic))
        await self._attachment.drain()

    async def _unsubscribe(self, topic: str, only: Pool[bytes]) -> None:
        # else it has ended, and maybe there is another one of that topic
        if self._topics.get(topic) is only:
            await self.unsubscribe(topic)

    @property
    def closed(self) -> bool:
        """Whether it has ended, for whatever reason."""
        return self._core.ended is not None

    async def close(self, timeout: float = 10.0) -> None:
        """Leave in order.

        What was sent is sent, requests in hand are finished, tunnels and subscriptions end.
        Idempotent, never raises.

        Called by one of its own handlers it doesn't wait for that. When the node doesn't answer
        within the timeout, it hangs up; handlers that still run then are cancelled.
        """
        await self._attachment.close(timeout)

    def abort(self) -> None:
        """Hang up, at once, without more words.

        To others, this program has vanished, so that nobody takes its tunnels for complete.

        For who can't finish what it has begun to say. Idempotent, never raises; whatever this
        program waits for ends with `Closed`.
        """
        self._attachment.abort()


class Subscription:
    """A topic whose events come, until `close` or the end of its `async with` block."""

    def __init__(self, connection: Connection, topic: str, pool: Pool[bytes]) -> None:
        self._connection, self.topic, self._pool = connection, topic, pool

    async def __aenter__(self) -> "Subscription":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Unsubscribe, unless that happened already. Never raises."""
        with contextlib.suppress(Closed):
            await self._connection._unsubscribe(self.topic, self._pool)


def _give_up(future: "asyncio.Future[Any]", what: str) -> None:
    if not future.done():
        future.set_exception(TimedOut(f"the node doesn't say what became of {what}"))


def connect(
    port: int = PORT, *, on_drop: Callable[[Closed], Any] | None = None, timeout: float = PATIENCE
) -> AsyncConnector[Connection]:
    """Attach to the node on this host, to use services of others.

    `await` it, or put it into an `async with`.

    on_drop, plain or a coroutine function, is told when the node is lost: once, after everything
    that waited was told.
    Raises: OSError when there is no node; Denied when it doesn't want us; TimedOut, Closed.
    """

    async def attach() -> Connection:
        attachment = NodeConnection(on_drop=on_drop)
        await attachment.start(None, port, timeout)
        return Connection(attachment)

    return AsyncConnector(attach)
