"""Services, with threads: what a program does as a member of a cluster.

Counterpart of iris-go's service.go, and of its half of events.go.
"""

from collections.abc import Callable

from iris.client.closing import Closing
from iris.client.connection import Connection
from iris.client.errors import Closed, Fault
from iris.client.handlers import BaseHandler, as_handler
from iris.client.limits import CONNECT_TIMEOUT, PORT, ServiceLimits
from iris.client.node_connection import NodeConnection, open_socket
from iris.client.threaded_dispatcher import ThreadedDispatcher
from iris.client.tunnel import Tunnel
from iris.relay_protocol import client_packets as codec
from iris.relay_protocol.client_packets import Buffer


class Handler(BaseHandler):
    """The callbacks of a service.

    Subclass it and override what it handles, or decorate functions with an instance's `on_…`:

        handler = iris.Handler()

        @handler.on_request
        def echo(request: bytes) -> bytes:
            return request

    They run in bounded pools of threads (see `ServiceLimits`), several at a time.
    """

    def init(self, connection: Connection) -> None:
        """Initialise, before anything is handled. An exception ends the registration."""

    def handle_broadcast(self, message: bytes) -> None:
        """Handle a broadcast to the cluster."""

    def handle_request(self, request: bytes) -> Buffer:
        """Return the reply to a request. An exception fails it, with a `Fault` for the caller."""
        raise Fault("this service takes no requests")

    def handle_tunnel(self, tunnel: Tunnel) -> None:
        """Serve an inbound tunnel, which is closed when this returns."""

    def handle_disconnect(self, reason: Closed) -> None:
        """React to the loss of the connection, which ends the service."""


class Service(Closing):
    """A registered service, until `close` or the end of its `with` block."""

    def __init__(self, node: NodeConnection, cluster: str) -> None:
        self._node, self.cluster = node, cluster
        self.connection = Connection(node)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the service. Returns: False after `timeout` seconds."""
        return self._node.wait(timeout)

    def close(self, timeout: float = 10.0) -> None:
        """Leave the cluster, finish in-flight requests, and close. See `Connection.close`."""
        self._node.close(timeout)


def register(
    cluster: str,
    handler: Handler | Callable[[bytes], Buffer],
    limits: ServiceLimits | None = None,
    *,
    port: int = PORT,
    timeout: float = CONNECT_TIMEOUT,
) -> Service:
    """Connect to the node on this host as a member of a cluster.

    Args:
        handler: a plain function answers requests.
        timeout: seconds.
    Raises:
        OSError: no node listens at that port.
        Denied: the node rejects this program.
        TimedOut, Closed; what the handler's `init` raises.
    """
    codec.name(cluster)
    handler = as_handler(handler, Handler)
    node = NodeConnection(
        open_socket(port, timeout), cluster, on_disconnect=handler.handle_disconnect
    )
    dispatcher = ThreadedDispatcher(node, handler, limits or ServiceLimits())
    node.start(dispatcher, timeout)
    service = Service(node, cluster)
    try:
        handler.init(service.connection)
    except BaseException:
        service.close()
        raise
    dispatcher.start()
    return service
