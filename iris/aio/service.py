"""Services: what a program does for others, as a member of a cluster; with asyncio."""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from iris.aio.connection import Connection
from iris.aio.connector import AsyncConnector
from iris.aio.node_connection import NodeConnection
from iris.aio.pool import call, cancelled
from iris.aio.tunnel import Tunnel
from iris.client.dispatcher import Dispatcher, Request
from iris.client.errors import Closed, Fault
from iris.client.handlers import Decorators, fault_text
from iris.client.limits import PATIENCE, PORT, ServiceLimits
from iris.relay_protocol.client_codec import Buffer

_log = logging.getLogger(__name__)


class Handler(Decorators):
    """What a service does.

    Subclass it and define what it handles, or decorate functions with an instance's `on_…`:

        handler = iris.aio.Handler()

        @handler.on_request
        async def echo(request: bytes) -> bytes:
            return request

    Handlers run in a bounded number of tasks (see `ServiceLimits`), several at a time. Plain
    functions will do, too: they run when what they take is read, without a task.
    """

    async def init(self, connection: Connection) -> None:
        """Get ready: called once, before anything is handled. An exception ends the registration."""

    async def handle_broadcast(self, message: bytes) -> None:
        """Take a message to all of the cluster."""

    async def handle_request(self, request: bytes) -> Buffer:
        """Answer a request. An exception fails it.

        The caller gets its text, only that of a `Fault` if it is one.
        """
        raise Fault("this service takes no requests")

    async def handle_tunnel(self, tunnel: Tunnel) -> None:
        """Use a tunnel that somebody has built; it is closed when this returns."""

    async def handle_drop(self, reason: Closed) -> None:
        """Learn that the node is lost, and this service with it."""


class _Intake(Dispatcher[Tunnel]):
    """Runs a service's handlers."""

    def __init__(self, attachment: NodeConnection, handler: Handler, limits: ServiceLimits) -> None:
        self._attachment, self._handler = attachment, handler
        new_pool, broadcast_memory = attachment.new_pool, limits.broadcast_memory
        super().__init__(
            attachment.core,
            limits,
            attachment.loop.time,
            name=attachment.name,
            broadcasts=new_pool(
                handler.handle_broadcast,
                tasks=limits.broadcast_threads,
                memory=broadcast_memory,
                kind="broadcast",
            ),
            requests=new_pool(
                self._answer,
                tasks=limits.request_threads,
                memory=limits.request_memory,
                kind="request",
            ),
            tunnels=new_pool(self._use, tasks=limits.tunnel_threads, memory=0, kind="tunnel"),
        )

    def _answer(self, request: Request) -> Awaitable[None] | None:
        """Answer, unless there is something to wait for. Returns: what is left to be awaited."""
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
            self._core.reply(number, reply)
        except Closed:
            return None  # nobody can be told any more
        except (TypeError, ValueError) as exc:
            return self._fail(number, exc)
        return None if self._attachment.writable else self._attachment.drain()

    def _fail(self, number: int, error: BaseException) -> Awaitable[None] | None:
        with contextlib.suppress(Closed):
            self._core.fail(number, fault_text(error, self._name))
        return None if self._attachment.writable else self._attachment.drain()

    async def _use(self, tunnel: Tunnel) -> None:
        try:
            async with tunnel:
                await call(self._handler.handle_tunnel, tunnel)
        except Closed as exc:
            _log.info("%s: a tunnel ended while it was used: %s", self._name, exc)
        finally:
            self.tunnel_done()


class Service:
    """A registered service, until `close` or the end of its `async with` block."""

    def __init__(self, attachment: NodeConnection, cluster: str) -> None:
        self._attachment, self.cluster = attachment, cluster
        self.connection = Connection(attachment)

    async def __aenter__(self) -> "Service":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end. Returns.

        Whether it has ended, which False denies after `timeout` seconds.
        """
        return await self._attachment.wait(timeout)

    async def close(self, timeout: float = 10.0) -> None:
        """Leave the cluster, finish the requests in hand, and detach. See `Connection.close`."""
        await self._attachment.close(timeout)


def register(
    cluster: str,
    handler: Handler | Callable[[bytes], Any],
    limits: ServiceLimits | None = None,
    *,
    port: int = PORT,
    timeout: float = PATIENCE,
) -> AsyncConnector[Service]:
    """Attach to the node on this host as a member of a cluster.

    `await` it, or put it into an `async with`.

    A mere function as the handler, plain or a coroutine function, answers requests. Raises: OSError
    when there is no node; Denied when it doesn't want us; TimedOut, Closed; what the handler's
    `init` raises.
    """
    if not cluster:
        raise ValueError("a service needs a cluster's name")
    if isinstance(handler, Handler):
        does = handler
    else:
        does = Handler()
        does.on_request(handler)

    async def attach() -> Service:
        attachment = NodeConnection(cluster, on_drop=does.handle_drop)
        intake = _Intake(attachment, does, limits or ServiceLimits())
        await attachment.start(intake, port, timeout)
        service = Service(attachment, cluster)
        try:
            await call(does.init, service.connection)
        except BaseException:
            await service.close()
            raise
        intake.start()
        return service

    return AsyncConnector(attach)
