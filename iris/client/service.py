"""Services: what a program does for others, as a member of a cluster; with threads. `iris.aio` has the same for asyncio.

Answers to iris-go's service.go, and to its half of events.go.
"""

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from iris.client.attachment import Attachment, attach
from iris.client.codec import Buffer
from iris.client.connection import Connection
from iris.client.errors import Closed, Fault
from iris.client.limits import PATIENCE, PORT, ServiceLimits
from iris.client.tunnel import Tunnel

_log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., object])


class Handler:
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

    def on_init(self, function: F) -> F:
        """Decorate what is called with the connection, before anything is handled."""
        return self._set("init", function)

    def on_broadcast(self, function: F) -> F:
        """Decorate what takes broadcasts."""
        return self._set("handle_broadcast", function)

    def on_request(self, function: F) -> F:
        """Decorate what answers requests."""
        return self._set("handle_request", function)

    def on_tunnel(self, function: F) -> F:
        """Decorate what uses tunnels."""
        return self._set("handle_tunnel", function)

    def on_drop(self, function: F) -> F:
        """Decorate what learns that the node is lost."""
        return self._set("handle_drop", function)

    def _set(self, name: str, function: F) -> F:
        setattr(self, name, function)
        return function


class _Intake:
    """Hands what comes for a service to its pools."""

    def __init__(self, attachment: Attachment, handler: Handler, limits: ServiceLimits) -> None:
        self._attachment, self._handler, self._limits = attachment, handler, limits
        self._clock = time.monotonic
        self._lock = threading.Lock()  # guards _open_tunnels
        self._open_tunnels = 0
        self._broadcasts = attachment.new_pool(
            handler.handle_broadcast, threads=limits.broadcast_threads, memory=limits.broadcast_memory, kind="broadcast"
        )
        self._requests = attachment.new_pool(self._answer, threads=limits.request_threads, memory=limits.request_memory, kind="request")
        self._tunnels = attachment.new_pool(self._use, threads=limits.tunnel_threads, memory=0, kind="tunnel")

    def start(self) -> None:
        for pool in (self._broadcasts, self._requests, self._tunnels):
            pool.start()

    def handle_broadcast(self, message: bytes) -> None:
        if not self._broadcasts.submit(message, len(message)):
            self._dropped("broadcast", self._limits.broadcast_memory)

    def handle_request(self, number: int, request: bytes, timeout: float) -> None:
        if not self._requests.submit((number, request, self._clock() + timeout), len(request)):
            self._dropped("request", self._limits.request_memory)

    def handle_offer(self, build_id: int, chunk_limit: int) -> None:
        with self._lock:
            accepted = self._open_tunnels < self._limits.tunnel_threads
            self._open_tunnels += accepted
        if not accepted:
            _log.error("%s: a tunnel isn't accepted, %d are in use", self._attachment.name, self._limits.tunnel_threads)
            return
        self._tunnels.submit(self._attachment.core.accept(build_id, chunk_limit), 0)

    def _dropped(self, kind: str, memory: int) -> None:
        _log.error("%s: a %s is dropped: those that wait may take %d bytes", self._attachment.name, kind, memory)

    def _answer(self, item: tuple[int, bytes, float]) -> None:
        number, request, deadline = item
        late = self._clock() - deadline
        if late >= 0:
            _log.error("%s: a request expired %.3f s before its turn came", self._attachment.name, late)
            return
        core = self._attachment.core
        try:
            try:
                core.reply(number, self._handler.handle_request(request))
            except Closed:
                raise
            except Fault as exc:
                core.fail(number, str(exc) or "failed")
            except Exception as exc:
                _log.exception("%s: a request's handler failed", self._attachment.name)
                core.fail(number, f"{type(exc).__name__}: {exc}")
        except Closed:
            return  # nobody can be told any more
        self._attachment.hold_back()

    def _use(self, tunnel: Tunnel) -> None:
        try:
            with tunnel:
                self._handler.handle_tunnel(tunnel)
        except Closed as exc:
            _log.info("%s: a tunnel ended while it was used: %s", self._attachment.name, exc)
        finally:
            with self._lock:
                self._open_tunnels -= 1


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
