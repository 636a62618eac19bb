"""Connections: what one attached application sends to the network, and what is delivered to it.

Counterpart of Go's proto/iris/connection.go and the application's side of events.go. A pending
request is a table entry and a deadline at the timer, nothing else. What can end in two ways (reply
or deadline, first or second reply) is decided by which thread takes the entry out of its table:
`dict.pop` is atomic, so messages take no lock.

**Splits.** A cluster or topic is five trees with five roots on the wire, and a message takes one of
them. A request and a tunnel pick it by their own id. Broadcasts and events of one connection all
take the same one, picked by the connection's id: messages through different trees overtake each
other, so that taking the trees in turn, as Go does, loses the order in which they were sent. The
load is spread over the trees all the same, by the many connections; and as every member is in all
five trees, both ways work together on one network.

Lock order: connection -> nothing; no lock is held across a call.
"""

import itertools
import threading
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from iris.errors import LimitReached, StateError
from iris.proto.iris.base import DISCONNECTED, ClosedHandler, Handler
from iris.proto.iris.connection_tunnels import ConnectionTunnels, Shared
from iris.proto.iris.memberships import Memberships
from iris.proto.iris.requests import (
    MAX_TIMEOUT,
    TIMED_OUT,
    Call,
    Fault,
    OpenCalls,
    Outcome,
    Reply,
    to_nanoseconds,
)
from iris.proto.wire.clusters import Header, Op
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.node_id import NodeId
from iris.runtime.compiling import mypyc_attr
from iris.runtime.timer import TimerEntry

_BROADCAST: Final = Header(Op.BROADCAST)  # shared: headers are never changed once sent
_PUBLISH: Final = Header(Op.PUBLISH)
_CLOSED_HANDLER: Final = ClosedHandler()


class _Pending:
    """A request without an outcome."""

    __slots__ = ("deadline", "done")

    def __init__(self, done: Callable[[Outcome], None]) -> None:
        self.done = done
        self.deadline: TimerEntry | None = None


@mypyc_attr(allow_interpreted_subclasses=True)
class Connection:
    """One attached application: made by `Overlay.connect`, closed by its caller.

    After `close` all calls are ignored: no request is answered and no tunnel is built any more.
    """

    def __init__(
        self,
        shared: Shared,
        memberships: "Memberships[Connection]",
        connections: "dict[int, Connection]",
        connection_id: int,
        cluster: str,
        handler: Handler,
    ) -> None:
        """Register in `connections`, without joining the cluster yet."""
        self.id, self.handler = connection_id, handler
        self._shared, self._scribe, self._timer = shared, shared.scribe, shared.timer
        self._memberships, self._connections = memberships, connections
        self._lock = threading.Lock()  # guards _closed, _cluster and _topics
        self._closed = False
        self._cluster = cluster
        self._topics: set[str] = set()
        split = connection_id % len(shared.clusters)
        self._cluster_split, self._topic_split = shared.clusters[split], shared.topics[split]
        self._request_ids, self._call_ids = itertools.count(), itertools.count()
        self._pending: dict[int, _Pending] = {}
        self._calls: OpenCalls = {}
        self.tunnels = ConnectionTunnels(shared, connection_id)
        connections[connection_id] = self

    @property
    def asking(self) -> bool:
        """Whether requests of its own are pending."""
        return bool(self._pending)

    def join(self) -> None:
        """Become a member of the cluster, if there is one."""
        if self._cluster:
            self._join(self._shared.clusters, self._cluster)

    # Broadcasts and topics

    def broadcast(self, cluster: str, data: bytes) -> None:
        """Send to all members of a cluster, best effort, in the order of the calls."""
        if not self._closed:
            self._scribe.publish(
                self._cluster_split + cluster, Message(_BROADCAST, Payload.of(data))
            )

    def publish(self, topic: str, data: bytes) -> None:
        """Send to all subscribers of a topic, best effort, in the order of the calls."""
        if not self._closed:
            self._scribe.publish(self._topic_split + topic, Message(_PUBLISH, Payload.of(data)))

    def subscribe(self, topic: str) -> None:
        """Deliver a topic's events from now on.

        Raises: StateError when it is subscribed already; LimitReached.
        """
        with self._lock:
            if self._closed:
                return
            if topic in self._topics:
                raise StateError("already subscribed")
            if len(self._topics) >= self._shared.config.limits.client_subscriptions:
                raise LimitReached(f"limit of {len(self._topics)} subscriptions reached")
            self._topics.add(topic)
        self._join(self._shared.topics, topic)
        if topic not in self._topics:  # closed meanwhile, maybe before all of it was joined
            self._leave(self._shared.topics, topic)

    def unsubscribe(self, topic: str) -> None:
        """Deliver a topic's events no more. Raises: StateError when it isn't subscribed."""
        with self._lock:
            if self._closed:
                return
            if topic not in self._topics:
                raise StateError("not subscribed")
            self._topics.remove(topic)
        self._leave(self._shared.topics, topic)

    def _join(self, prefixes: Iterable[str], name: str) -> None:
        for prefix in prefixes:
            self._memberships.join(prefix + name, self)

    def _leave(self, prefixes: Iterable[str], name: str) -> None:
        for prefix in prefixes:
            self._memberships.leave(prefix + name, self)

    # Requests

    def request(
        self, cluster: str, data: bytes, timeout: float, done: Callable[[Outcome], None]
    ) -> None:
        """Ask any one member of a cluster, `timeout` seconds at most.

        `done` is called exactly once, from any thread, maybe before this returns. Never after a
        close.

        Raises: LimitReached when too many requests are pending; then `done` is never called.
        """
        pending, shared = self._pending, self._shared
        if timeout <= 0:
            done(TIMED_OUT)
            return
        if len(pending) >= shared.config.limits.client_requests:
            raise LimitReached(f"limit of {len(pending)} pending requests reached")
        request_id = next(self._request_ids)
        pending[request_id] = entry = _Pending(done)
        entry.deadline = self._timer.after(
            min(timeout, MAX_TIMEOUT), partial(self._expire, request_id)
        )
        if self._closed:  # meanwhile, so that close() may have missed the entry
            pending.pop(request_id, None)
            self._timer.cancel(entry.deadline)
            return
        header = Header(Op.REQUEST, self.id, 0, request_id, False, to_nanoseconds(timeout))
        prefix = shared.clusters[request_id % len(shared.clusters)]
        self._scribe.balance(prefix + cluster, Message(header, Payload.of(data)))

    def _expire(self, request_id: int) -> None:
        entry = self._pending.pop(request_id, None)
        if entry is not None:
            self._shared.metrics.requests_timed_out.inc()
            entry.done(TIMED_OUT)

    def handle_reply(self, header: Header, message: Message) -> None:
        """Complete a pending request; drop the reply when it isn't pending any more."""
        entry = self._pending.pop(header.req_id, None)
        if entry is None:
            self._shared.metrics.replies_late.inc()
            return
        if entry.deadline is not None:
            self._timer.cancel(entry.deadline)
        data = message.data()
        entry.done(Fault(data.decode(errors="replace")) if header.req_fail else Reply(data))

    def handle_request(self, sender: NodeId, header: Header, message: Message) -> bool:
        """Take a request to the cluster; False when the connection has left it."""
        if not self._cluster:
            return False
        if header.req_time <= 0:
            self._shared.metrics.undeliverable["expired"].inc()
            return True
        call = Call(
            self._calls, next(self._call_ids), self._scribe.direct, sender, header, message.data()
        )
        if self._closed:  # meanwhile, so that close() may have missed the call
            return self._calls.pop(call.id, None) is None
        if len(self._calls) > self._shared.config.limits.client_requests:
            self._shared.metrics.rejected["request"].inc()
            call.fail("service overloaded: too many requests in flight")
        else:
            self.handler.handle_request(call)
        return True

    def handle_offer(self, header: Header) -> bool:
        """Take a tunnel that is offered to the cluster; False when the connection has left it."""
        if not self._cluster:
            return False
        offer = self.tunnels.offer(header)
        if offer is not None:
            self.handler.handle_tunnel(offer)
        return True

    # The end

    def leave(self) -> None:
        """Leave the cluster: no new requests come, but from a thread that is just delivering one.

        What is in flight goes on. Idempotent.
        """
        with self._lock:
            cluster, self._cluster = self._cluster, ""
        if cluster:
            self._leave(self._shared.clusters, cluster)

    def close(self, *, disconnected: bool = False) -> None:
        """Release everything at once: fail open calls, close tunnels after all data. Idempotent.

        disconnected: the application said no close; the other ends of its tunnels get an error.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            topics, self._topics = self._topics, set()
        self.leave()
        for topic in topics:
            self._leave(self._shared.topics, topic)
        for request_id in list(self._pending):
            entry = self._pending.pop(request_id, None)
            if entry is not None and entry.deadline is not None:
                self._timer.cancel(entry.deadline)
        self.tunnels.close(disconnected=disconnected)
        for call in list(self._calls.values()):
            call.fail(DISCONNECTED)
        self._connections.pop(self.id, None)
        self.handler = _CLOSED_HANDLER
