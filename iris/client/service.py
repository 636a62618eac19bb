"""Services: what a program does for others, as a member of a cluster; with threads. `iris.aio` has the same for asyncio.

Answers to iris-go's service.go, and to its half of events.go.
"""

import contextlib
import logging
import time
from collections.abc import Callable
from types import TracebackType

from iris.client.attachment import Attachment, attach
from iris.client.codec import Buffer, name, payload
from iris.client.connection import Connection
from iris.client.errors import Closed, Fault
from iris.client.handlers import Decorators, Intake, Request, fault_text
from iris.client.limits import PATIENCE, PORT, ServiceLimits
from iris.client.tunnel import Tunnel

_log = logging.getLogger(__name__)


class Handler(Decorators):
    """What a service does. Subclass it and define what it handles, or decorate functions with an instance's `on_…`:

        handler = iris.Handler()

        @handler.on_request
        def echo(request: bytes) -> bytes:
            return request

    Handlers run in bounded pools of threads (see `ServiceLimits`), several at a time.
    """

    def init(self, connection: Connection) -> None:
        """Get ready: called once, before anything is handled. An exception ends the registration."""

    def handle_broadcast(self, message: bytes) -> None:
        """Take a message to all of the cluster."""

    def handle_request(self, request: bytes) -> Buffer:
        """Answer a request. An exception fails it: the caller gets its text, only that of a `Fault` if it is one."""
        raise Fault("this service takes no requests")

    def handle_tunnel(self, tunnel: Tunnel) -> None:
        """Use a tunnel that somebody has built; it is closed when this returns."""

    def handle_drop(self, reason: Closed) -> None:
        """Learn that the node is lost, and this service with it."""


class _Intake(Intake[Tunnel]):
    """Runs a service's handlers."""

    def __init__(self, attachment: Attachment, handler: Handler, limits: ServiceLimits) -> None:
        self._attachment, self._handler = attachment, handler
        new_pool, broadcast_memory = attachment.new_pool, limits.broadcast_memory
        super().__init__(
            attachment.core,
            limits,
            time.monotonic,
            name=attachment.name,
            broadcasts=new_pool(handler.handle_broadcast, threads=limits.broadcast_threads, memory=broadcast_memory, kind="broadcast"),
            requests=new_pool(self._answer, threads=limits.request_threads, memory=limits.request_memory, kind="request"),
            tunnels=new_pool(self._use, threads=limits.tunnel_threads, memory=0, kind="tunnel"),
        )

    def _answer(self, request: Request) -> None:
        if self.expired(request):
            return
        number = request[0]
        with contextlib.suppress(Closed):  # nobody can be told any more
            try:
                reply = payload(self._handler.handle_request(request[1]))
            except BaseException as exc:  # an exit too: somebody waits for the answer
                self._core.fail(number, fault_text(exc, self._name))
            else:
                self._core.reply(number, reply)
        self._attachment.hold_back()

    def _use(self, tunnel: Tunnel) -> None:
        try:
            with tunnel:
                self._handler.handle_tunnel(tunnel)
        except Closed as exc:
            _log.info("%s: a tunnel ended while it was used: %s", self._name, exc)
        finally:
            self.tunnel_done()


class Service:
    """A registered service, until `close` or the end of its `with` block."""

    def __init__(self, attachment: Attachment, cluster: str) -> None:
        self._attachment, self.cluster = attachment, cluster
        self.connection = Connection(attachment)

    def __enter__(self) -> "Service":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end. Returns: whether it has ended, which False denies after `timeout` seconds."""
        return self._attachment.wait(timeout)

    def close(self, timeout: float = 10.0) -> None:
        """Leave the cluster, finish the requests in hand, and detach. See `Connection.close`."""
        self._attachment.close(timeout)


def register(
    cluster: str,
    handler: Handler | Callable[[bytes], Buffer],
    limits: ServiceLimits | None = None,
    *,
    port: int = PORT,
    timeout: float = PATIENCE,
) -> Service:
    """Attach to the node on this host as a member of a cluster. A mere function as the handler answers requests.

    Raises: OSError when there is no node; Denied when it doesn't want us; TimedOut, Closed; what the handler's `init` raises.
    """
    if not isinstance(handler, Handler):
        function, handler = handler, Handler()
        handler.on_request(function)
    if not cluster:
        raise ValueError("a service needs a cluster's name")
    name(cluster)
    attachment = Attachment(attach(port, timeout), cluster, on_drop=handler.handle_drop)
    intake = _Intake(attachment, handler, limits or ServiceLimits())
    attachment.start(intake, timeout)
    service = Service(attachment, cluster)
    try:
        handler.init(service.connection)
    except BaseException:
        service.close()
        raise
    intake.start()
    return service
