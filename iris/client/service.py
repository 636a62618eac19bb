"""Services: what a program does for others, as a member of a cluster; with threads.

`iris.aio` has the same for asyncio.

Counterpart of iris-go's service.go, and to its half of events.go.
"""

from collections.abc import Callable
from types import TracebackType

from iris.client.connection import Connection
from iris.client.errors import Closed, Fault
from iris.client.handlers import Decorators
from iris.client.limits import PATIENCE, PORT, ServiceLimits
from iris.client.node_connection import NodeConnection, attach
from iris.client.threaded_dispatcher import ThreadedDispatcher
from iris.client.tunnel import Tunnel
from iris.relay_protocol.client_codec import Buffer, name


class Handler(Decorators):
    """What a service does.

    Subclass it and define what it handles, or decorate functions with an instance's `on_…`:

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
        """Answer a request. An exception fails it.

        The caller gets its text, only that of a `Fault` if it is one.
        """
        raise Fault("this service takes no requests")

    def handle_tunnel(self, tunnel: Tunnel) -> None:
        """Use a tunnel that somebody has built; it is closed when this returns."""

    def handle_drop(self, reason: Closed) -> None:
        """Learn that the node is lost, and this service with it."""


class Service:
    """A registered service, until `close` or the end of its `with` block."""

    def __init__(self, attachment: NodeConnection, cluster: str) -> None:
        self._attachment, self.cluster = attachment, cluster
        self.connection = Connection(attachment)

    def __enter__(self) -> "Service":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end. Returns.

        Whether it has ended, which False denies after `timeout` seconds.
        """
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
    """Attach to the node on this host as a member of a cluster.

    A mere function as the handler answers requests.

    Raises: OSError when there is no node; Denied when it doesn't want us; TimedOut, Closed; what
    the handler's `init` raises.
    """
    if not isinstance(handler, Handler):
        function, handler = handler, Handler()
        handler.on_request(function)
    if not cluster:
        raise ValueError("a service needs a cluster's name")
    name(cluster)
    attachment = NodeConnection(attach(port, timeout), cluster, on_drop=handler.handle_drop)
    intake = ThreadedDispatcher(attachment, handler, limits or ServiceLimits())
    attachment.start(intake, timeout)
    service = Service(attachment, cluster)
    try:
        handler.init(service.connection)
    except BaseException:
        service.close()
        raise
    intake.start()
    return service
