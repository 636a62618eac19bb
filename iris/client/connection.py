"""A program's connection to the node on its host, for programs with threads.

`iris.aio` has the same for asyncio.

Answers to the upper half of iris-go's connection.go.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType

from iris.client.errors import Closed, TimedOut
from iris.client.limits import PATIENCE, PORT, TopicLimits
from iris.client.node_connection import NodeConnection, attach
from iris.client.pending import Answer, Reply
from iris.client.pool import Pool
from iris.client.tunnel import Tunnel
from iris.relay_protocol.client_codec import Buffer
from iris.runtime.batch import Batch, flush_batch

_log = logging.getLogger(__name__)


class Connection:
    """An attached program; made by `iris.connect`, or at hand as `Service.connection`.

    Any number of threads may use one.

    Everything raises `Closed` once the connection has ended, and ValueError or TypeError for
    arguments that can't be right. Messages are bytes-like; `bytes` are sent from where they are,
    and anything that can change is copied first. Times are in seconds.
    """

    def __init__(self, attachment: NodeConnection) -> None:
        self._attachment, self._core = attachment, attachment.core
        self._lock = threading.Lock()  # guards _topics, in one go with what the core does
        self._topics: dict[str, Pool[bytes]] = {}

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def request(self, cluster: str, request: Buffer, timeout: float) -> bytes:
        """Ask one member of a cluster, and wait for its reply. Raises.

        Fault with what it said when it failed; TimedOut.
        """
        self._attachment.may_wait()
        answer = Answer()
        number = self._core.request(cluster, request, timeout, answer)
        flush_batch()
        if not answer.wait(timeout + PATIENCE):
            if self._core.forget(number):
                raise TimedOut("the node doesn't say what became of a request")
            answer.wait(-1)  # it comes in the same moment
        return answer.result()

    def submit(self, cluster: str, request: Buffer, timeout: float) -> "Future[bytes]":
        """The same without waiting: the future gets the reply, or what `request` would raise.

        It can't be cancelled.

        Its callbacks run in the thread that reads, so they must be quick, and can't wait for
        anything of this connection.
        """
        reply = Reply()
        self._core.request(cluster, request, timeout, reply)
        self._attachment.hold_back()
        return reply

    def broadcast(self, cluster: str, message: Buffer) -> None:
        """Send to all members of a cluster: best effort."""
        self._core.broadcast(cluster, message)
        self._attachment.hold_back()

    def publish(self, topic: str, event: Buffer) -> None:
        """Send to all subscribers of a topic: best effort."""
        self._core.publish(topic, event)
        self._attachment.hold_back()

    def subscribe(
        self, topic: str, handler: Callable[[bytes], None], limits: TopicLimits | None = None
    ) -> "Subscription":
        """Have a handler called with each event of a topic, in bounded threads.

        It may take a moment until the first ones come.

        Raises: StateError when there is a subscription of that topic already.
        """
        limits = limits or TopicLimits()
        attachment = self._attachment
        pool = attachment.new_pool(
            handler, threads=limits.event_threads, memory=limits.event_memory, kind="topic"
        )

        def deliver(event: bytes) -> None:
            if not pool.submit(event, len(event)):
                _log.error(
                    "%s: an event of '%s' is dropped: those that wait take %d bytes",
                    attachment.name,
                    topic,
                    limits.event_memory,
                )

        with self._lock:
            try:
                self._core.subscribe(topic, deliver)
            except BaseException:
                attachment.drop_pool(pool)
                raise
            self._topics[topic] = pool
        pool.start()
        return Subscription(self, topic, pool)

    def unsubscribe(self, topic: str) -> None:
        """End a subscription: its handler isn't called any more. Raises.

        StateError when there is none.
        """
        self._unsubscribe(topic)

    def _unsubscribe(self, topic: str, only: Pool[bytes] | None = None) -> None:
        with self._lock:
            pool = self._topics.get(topic)
            if only is not None and pool is not only:
                return  # it has ended, and maybe there is another one of that topic
            self._core.unsubscribe(topic)
            del self._topics[topic]
        assert pool is not None
        self._attachment.drop_pool(pool)

    def tunnel(self, cluster: str, timeout: float) -> Tunnel:
        """Build a tunnel to one member of a cluster. Raises: TimedOut."""
        self._attachment.may_wait()
        future: Future[Tunnel] = Future()
        number = self._core.tunnel(cluster, timeout, future)
        flush_batch()
        try:
            return future.result(timeout + PATIENCE)
        except TimeoutError:
            if self._core.forget_tunnel(number):
                raise TimedOut("the node doesn't say what became of a tunnel") from None
            return future.result()  # that was the node's word, or it comes in the same moment

    def batch(self) -> Batch:
        """While a thread is in `with connection.batch():`, what it says gathers, and is sent at the
        end of the block, in few system calls.

        For many requests of `submit`, broadcasts, events or small messages at a time. Don't wait in
        there for a future of `submit`.
        """
        return Batch()

    @property
    def closed(self) -> bool:
        """Whether it has ended, for whatever reason."""
        return self._core.ended is not None

    def close(self, timeout: float = 10.0) -> None:
        """Leave in order.

        What was sent is sent, requests in hand are finished, tunnels and subscriptions end.
        Idempotent, never raises.

        Called by one of its own handlers it doesn't wait for that. When the node doesn't answer
        within the timeout, it hangs up.
        """
        self._attachment.close(timeout)

    def abort(self) -> None:
        """Hang up, at once, without more words.

        To others, this program has vanished, so that nobody takes its tunnels for complete.

        For who can't finish what it has begun to say. Idempotent, never raises; whatever this
        program waits for ends with `Closed`.
        """
        self._attachment.abort()


class Subscription:
    """A topic whose events come, until `close` or the end of its `with` block."""

    def __init__(self, connection: Connection, topic: str, pool: Pool[bytes]) -> None:
        self._connection, self.topic, self._pool = connection, topic, pool

    def __enter__(self) -> "Subscription":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unsubscribe, unless that happened already. Never raises."""
        with contextlib.suppress(Closed):
            self._connection._unsubscribe(self.topic, self._pool)


def connect(
    port: int = PORT, *, on_drop: Callable[[Closed], None] | None = None, timeout: float = PATIENCE
) -> Connection:
    """Attach to the node on this host, to use services of others.

    on_drop is told when the node is lost: once, by the thread that read from it, after everything
    that waited was told.
    Raises: OSError when there is no node; Denied when it doesn't want us; TimedOut, Closed.
    """
    attachment = NodeConnection(attach(port, timeout), on_drop=on_drop)
    attachment.start(None, timeout)
    return Connection(attachment)
