"""Services, with asyncio: what a program does as a member of a cluster."""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from iris.aio.connection import Connection
from iris.aio.connector import AsyncConnector
from iris.aio.node_connection import NodeConnection
from iris.aio.pool import Pool, call, cancelled
from iris.aio.tunnel import Tunnel
from iris.client.closing import AsyncClosing
from iris.client.dispatcher import Dispatcher, Request
from iris.client.errors import Closed, Fault
from iris.client.handlers import BaseHandler, as_handler, fault_text
from iris.client.limits import CONNECT_TIMEOUT, PORT, ServiceLimits
from iris.relay_protocol import client_packets as codec
from iris.relay_protocol.client_packets import Buffer

_log = logging.getLogger(__name__)


class Handler(BaseHandler):
    """The callbacks of a service.

    Subclass it and override what it handles, or decorate functions with an instance's `on_…`:

        handler = iris.aio.Handler()

        @handler.on_request
        async def echo(request: bytes) -> bytes:
            return request

    They run in a bounded number of tasks (see `ServiceLimits`), several at a time. Plain functions
    are allowed, too: they run as soon as a message is read, without a task.
    """

    async def init(self, connection: Connection) -> None:
        """Initialise, before anything is handled. An exception ends the registration."""

    async def handle_broadcast(self, message: bytes) -> None:
        """Handle a broadcast to the cluster."""

    async def handle_request(self, request: bytes) -> Buffer:
        """Return the reply to a request. An exception fails it, with a `Fault` for the caller."""
        raise Fault("this service takes no requests")

    async def handle_tunnel(self, tunnel: Tunnel) -> None:
        """Serve an inbound tunnel, which is closed when this returns."""

    async def handle_disconnect(self, reason: Closed) -> None:
        """React to the loss of the connection, which ends the service."""


class _AsyncDispatcher(Dispatcher[Tunnel, Pool[Any]]):
    """Calls the methods of a `Handler`."""

    def __init__(self, node: NodeConnection, handler: Handler, limits: ServiceLimits) -> None:
        self._node = node
        super().__init__(node, handler, limits, node.loop.time)

    def answer(self, request: Request) -> Awaitable[None] | None:
        """See `Dispatcher`. Returns: what is left to be awaited."""
        if self.expired(request):
            return None
        try:
            reply: Any = self._handler.handle_request(request[1])
        except (Exception, asyncio.CancelledError) as exc:
            return self._fail(request[0], exc)
        if type(reply) is not bytes and inspect.isawaitable(reply):
            return self._answer_later(request[0], reply)
        return self._reply(request[0], reply)

    async def _answer_later(self, number: int, reply: Awaitable[Buffer]) -> None:
        try:
            rest = self._reply(number, await reply)
        except (Exception, asyncio.CancelledError) as exc:
            if isinstance(exc, asyncio.CancelledError) and cancelled():
                raise
            rest = self._fail(number, exc)
        if rest is not None:
            await rest

    def _reply(self, number: int, reply: Any) -> Awaitable[None] | None:
        try:
            self._protocol.reply(number, reply)
        except Closed:
            return None  # the caller cannot be reached any more
        except (TypeError, ValueError) as exc:
            return self._fail(number, exc)
        return None if self._node.writable else self._node.drain()

    def _fail(self, number: int, error: BaseException) -> Awaitable[None] | None:
        with contextlib.suppress(Closed):
            self._protocol.fail(number, fault_text(error, self._name))
        return None if self._node.writable else self._node.drain()

    async def serve_tunnel(self, tunnel: Tunnel) -> None:
        """See `Dispatcher`."""
        try:
            async with tunnel:
                await call(self._handler.handle_tunnel, tunnel)
        except Closed as exc:
            _log.info("%s: tunnel closed while in use: %s", self._name, exc)
        finally:
            self.tunnel_done()


class Service(AsyncClosing):
    """A registered service, until `close` or the end of its `async with` block."""

    def __init__(self, node: NodeConnection, cluster: str) -> None:
        self._node, self.cluster = node, cluster
        self.connection = Connection(node)

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the service. Returns: False after `timeout` seconds."""
        return await self._node.wait(timeout)

    async def close(self, timeout: float = 10.0) -> None:
        """Leave the cluster, finish in-flight requests, and close. See `Connection.close`."""
        await self._node.close(timeout)


def register(
    cluster: str,
    handler: Handler | Callable[[bytes], Any],
    limits: ServiceLimits | None = None,
    *,
    port: int = PORT,
    timeout: float = CONNECT_TIMEOUT,
) -> AsyncConnector[Service]:
    """Connect to the node on this host as a member of a cluster; `await` it, or enter it.

    Args:
        handler: a function, plain or a coroutine function, answers requests.
        timeout: seconds.
    Raises:
        OSError: no node listens at that port.
        Denied: the node rejects this program.
        TimedOut, Closed; what the handler's `init` raises.
    """
    codec.name(cluster)
    callbacks = as_handler(handler, Handler)

    async def open_service() -> Service:
        node = NodeConnection(cluster, on_disconnect=callbacks.handle_disconnect)
        dispatcher = _AsyncDispatcher(node, callbacks, limits or ServiceLimits())
        await node.start(dispatcher, port, timeout)
        service = Service(node, cluster)
        try:
            await call(callbacks.init, service.connection)
        except BaseException:
            await service.close()
            raise
        dispatcher.start()
        return service

    return AsyncConnector(open_service)
