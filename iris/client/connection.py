"""A program's connection to the node on its host, with threads; `iris.aio` has one with asyncio.

Counterpart of the upper half of iris-go's connection.go.
"""

import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from iris.client.base_connection import BaseConnection
from iris.client.closing import Closing
from iris.client.errors import Closed, TimedOut
from iris.client.handlers import renamed
from iris.client.limits import CONNECT_TIMEOUT, PORT, RESPONSE_GRACE, TopicLimits
from iris.client.node_connection import NodeConnection, open_socket
from iris.client.pending import BlockingReply, ReplyFuture
from iris.client.tunnel import Tunnel
from iris.relay_protocol.client_packets import Buffer
from iris.runtime.batch import Batch, flush_batch
from iris.runtime.worker_pool import WorkerPool


class Connection(Closing, BaseConnection[NodeConnection, WorkerPool[Any]]):
    """A connection to the local node, made by `iris.connect`; also `Service.connection`.

    Any number of threads may share one. Every method raises `Closed` once it has ended, and
    ValueError or TypeError for invalid arguments. Messages are bytes-like: `bytes` are sent without
    copying, mutable ones are copied first. Times are in seconds.
    """

    def request(self, cluster: str, request: Buffer, timeout: float) -> bytes:
        """Send a request to one member of a cluster, and wait for the reply.

        Raises:
            Fault: the member failed the request; the text is its own.
            TimedOut: no reply within `timeout` seconds.
        """
        self._node.check_may_wait()
        reply = BlockingReply()
        number = self._protocol.request(cluster, request, timeout, reply)
        flush_batch()
        if not reply.wait(timeout + RESPONSE_GRACE):
            if self._protocol.forget(number):
                raise TimedOut("request timed out: no response from the node")
            reply.wait(-1)  # it arrives at this very moment
        return reply.result()

    def submit(self, cluster: str, request: Buffer, timeout: float) -> "Future[bytes]":
        """Send a request without waiting, to have many in flight.

        Returns: a future of what `request` returns or raises. It cannot be cancelled. Its callbacks
        run in the thread that reads from the node, so they must be quick, and cannot wait for
        anything of this connection.
        """
        reply = ReplyFuture()
        self._protocol.request(cluster, request, timeout, reply)
        self._node.throttle()
        return reply

    def broadcast(self, cluster: str, message: Buffer) -> None:
        """Send to all members of a cluster: best effort."""
        self._protocol.broadcast(cluster, message)
        self._node.throttle()

    def publish(self, topic: str, event: Buffer) -> None:
        """Send to all subscribers of a topic: best effort."""
        self._protocol.publish(topic, event)
        self._node.throttle()

    def subscribe(
        self, topic: str, handler: Callable[[bytes], None], limits: TopicLimits | None = None
    ) -> "Subscription":
        """Call a handler with each event of a topic, in a bounded pool of threads.

        The first events may take a moment to arrive.

        Raises: StateError when this connection has a subscription of that topic already.
        """
        return Subscription(self, topic, self._subscribe(topic, handler, limits))

    def unsubscribe(self, topic: str) -> None:
        """End a subscription, and the calls of its handler. Raises: StateError without one."""
        self._unsubscribe(topic)

    def tunnel(self, cluster: str, timeout: float) -> Tunnel:
        """Build a tunnel to one member of a cluster. Raises: TimedOut after `timeout` seconds."""
        self._node.check_may_wait()
        future: Future[Tunnel] = Future()
        number = self._protocol.tunnel(cluster, timeout, future)
        flush_batch()
        try:
            return future.result(timeout + RESPONSE_GRACE)
        except TimeoutError:
            if self._protocol.forget_tunnel(number):
                raise TimedOut("tunnel timed out: no response from the node") from None
            return future.result()  # the node's own timeout, or it is built at this very moment

    def batch(self) -> Batch:
        """Gather what this thread sends in a `with connection.batch():` block, until its end.

        It takes few system calls to send many `submit` requests, broadcasts, events or small
        messages like that. Don't wait for a future of `submit` inside of the block.
        """
        return Batch()

    def close(self, timeout: float = 10.0) -> None:
        """Send what was written, finish in-flight requests, end tunnels and subscriptions.

        Idempotent, never raises. Disconnects after `timeout` seconds without a confirmation of the
        node. Doesn't wait when called by one of the connection's own handlers.
        """
        self._node.close(timeout)


class Subscription(Closing):
    """The subscription of a topic, until `close` or the end of its `with` block."""

    def __init__(self, connection: Connection, topic: str, pool: WorkerPool[Any]) -> None:
        self._connection, self.topic, self._pool = connection, topic, pool

    def close(self) -> None:
        """Unsubscribe. Idempotent, never raises."""
        with contextlib.suppress(Closed):
            self._connection._unsubscribe(self.topic, self._pool)


def connect(
    port: int = PORT,
    *,
    on_disconnect: Callable[[Closed], None] | None = None,
    timeout: float = CONNECT_TIMEOUT,
    on_drop: Callable[[Closed], None] | None = None,
) -> Connection:
    """Connect to the node on this host as a client.

    Args:
        on_disconnect: called once if the connection is lost, after all that waited has raised, by
            the thread that read from the node.
        timeout: seconds.
        on_drop: deprecated name of on_disconnect.
    Raises:
        OSError: no node listens at that port.
        Denied: the node rejects this program.
        TimedOut, Closed.
    """
    on_disconnect = renamed(on_disconnect, on_drop)
    node = NodeConnection(open_socket(port, timeout), on_disconnect=on_disconnect)
    node.start(None, timeout)
    return Connection(node)
