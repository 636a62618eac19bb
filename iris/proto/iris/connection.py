"""Connections: what one attached application asks of the network, and what the network brings it.

Counterpart of Go's proto/iris/connection.go and the application's side of events.go. A pending request
or tunnel is a table entry and a deadline at the timer, nothing else. What can end in two ways
(answer or deadline, first or second answer) is decided by who takes the entry out of its table,
which `dict.pop` does for one thread only; so the ways of messages take no lock.

**Splits.** A cluster or topic is five trees with five roots on the wire, and a message takes one of
them. A request and a tunnel pick it by their own id. Broadcasts and events of one connection all
take the same one, picked by the connection's id: messages through different trees overtake each
other, so that taking the trees in turn, as Go does, loses the order in which they were sent. The
load is spread over the trees all the same, by the many connections; and as every member is in all
five trees, both ways work together on one network.

Lock order: connection -> nothing; no lock is held across a call.
"""

import hmac
import itertools
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from iris.config import Config
from iris.errors import LimitReached, ProtocolError, StateError
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
    to_seconds,
)
from iris.proto.iris.tunnel import Tunnel, local_pair
from iris.proto.iris.tunnel_manager import TunnelManager
from iris.proto.link.link import Link
from iris.proto.wire.clusters import Header, Op
from iris.proto.wire.message import KEY_SIZE, Entropy, Message, Payload
from iris.proto.wire.node_id import NodeId
from iris.runtime.compiling import mypyc_attr
from iris.runtime.timer import Timer, TimerEntry

_BROADCAST: Final = Header(Op.BROADCAST)  # the same for all; headers are never changed once sent
_PUBLISH: Final = Header(Op.PUBLISH)

_WENT_AWAY = "the service went away"
_BUSY = "the service has too many requests in hand"


class Scribe(Protocol):
    """What is used of `iris.proto.scribe.overlay.Overlay`."""

    def subscribe(self, topic: str) -> None:
        """Take part in a topic's tree."""

    def unsubscribe(self, topic: str) -> None:
        """Take no part any more."""

    def publish(self, topic: str, message: Message) -> None:
        """Send to all of a topic."""

    def balance(self, topic: str, message: Message) -> None:
        """Send to any one of a topic."""

    def direct(self, node: NodeId, message: Message) -> None:
        """Send to a node."""


class Delivery:
    """A broadcast or an event on its way to the members here: one object for all of them.

    The first handler that encodes `data` leaves the result in `encoded` for the others.
    """

    __slots__ = ("data", "encoded")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.encoded: tuple[bytes, ...] | None = None


class Handler(Protocol):
    """Who owns a connection.

    Called from any thread, from before `connect` has returned until shortly after `close`; must
    never wait.
    """

    def handle_broadcast(self, message: Delivery) -> None:
        """A broadcast to the connection's cluster."""

    def handle_event(self, topic: str, event: Delivery) -> None:
        """An event of a topic that is subscribed, or was until a moment ago."""

    def handle_request(self, call: Call) -> None:
        """A request to the cluster."""

    def handle_tunnel(self, offer: "TunnelOffer") -> None:
        """A tunnel to the cluster."""


class TunnelOffer:
    """A tunnel that somebody asks the cluster for. timeout.

    Seconds that are left, counted from now.
    """

    __slots__ = ("_undecided", "timeout")

    def __init__(
        self, timeout: float, accept: Callable[[Callable[[Tunnel | None], None]], None]
    ) -> None:
        self.timeout = timeout
        self._undecided = [accept]

    def accept(self, done: Callable[[Tunnel | None], None]) -> None:
        """Take it; `done` gets the tunnel, or None when it can't be had, maybe before this returns.

        Ignored after a decision.
        """
        if (accept := self._decide()) is not None:
            accept(done)

    def refuse(self) -> None:
        """Leave it; the one who asked will time out, for the wire has no word for it.

        Ignored after a decision.
        """
        self._decide()

    def _decide(self) -> Callable[[Callable[[Tunnel | None], None]], None] | None:
        try:
            return self._undecided.pop()  # atomic
        except IndexError:
            return None


@dataclass(eq=False)  # without slots, or it wouldn't be compiled
class Shared:
    """What all connections of a node have in common."""

    scribe: Scribe
    memberships: "Memberships[Connection]"
    connections: "dict[int, Connection]"  # by id
    tunneler: TunnelManager
    config: Config
    timer: Timer
    entropy: Entropy
    clock: Callable[[], float]
    clusters: tuple[str, ...]  # prefixes of a cluster's topics
    topics: tuple[str, ...]  # prefixes of a topic's


class _Pending:
    """A request without an outcome."""

    __slots__ = ("deadline", "done")

    def __init__(self, done: Callable[[Outcome], None]) -> None:
        self.done = done
        self.deadline: TimerEntry | None = None


@dataclass(eq=False)
class _Building:
    """A tunnel that was asked for."""

    key: bytes
    done: Callable[[Tunnel | None], None]
    deadline: TimerEntry | None = None


@mypyc_attr(allow_interpreted_subclasses=True)
class Connection:
    """One attached application: made by `Overlay.connect`, closed by whoever asked for it.

    After `close` whatever is asked is ignored: no request is answered and no tunnel is built any
    more.
    """

    def __init__(self, shared: Shared, connection_id: int, cluster: str, handler: Handler) -> None:
        self.id, self.handler = connection_id, handler
        self._shared, self._scribe, self._timer = shared, shared.scribe, shared.timer
        self._lock = threading.Lock()  # guards _closed, _cluster and _topics
        self._closed = False
        self._cluster = cluster
        self._topics: set[str] = set()
        split = connection_id % len(shared.clusters)
        self._cluster_split, self._topic_split = shared.clusters[split], shared.topics[split]
        self._request_ids, self._tunnel_ids, self._call_ids = (
            itertools.count(),
            itertools.count(),
            itertools.count(),
        )
        self._pending: dict[int, _Pending] = {}
        self._calls: OpenCalls = {}
        self._building: dict[int, _Building] = {}  # asked for
        self._dialling: set[object] = set()  # accepted, one token each
        self._tunnels: set[Tunnel] = set()
        self._vanished = False  # whoever owns it

    @property
    def asking(self) -> bool:
        """Whether requests of its own wait for an answer."""
        return bool(self._pending)

    def join(self) -> None:
        """Become a member of the cluster, if there is one."""
        if self._cluster:
            self._join(self._shared.clusters, self._cluster)

    # Messages

    def broadcast(self, cluster: str, data: bytes) -> None:
        """Send to all members of a cluster, best effort.

        Those of one connection to one cluster keep their order.
        """
        if not self._closed:
            self._scribe.publish(
                self._cluster_split + cluster, Message(_BROADCAST, Payload.of(data))
            )

    def publish(self, topic: str, data: bytes) -> None:
        """Send to all subscribers of a topic, best effort.

        Those of one connection to one topic keep their order.
        """
        if not self._closed:
            self._scribe.publish(self._topic_split + topic, Message(_PUBLISH, Payload.of(data)))

    def request(
        self, cluster: str, data: bytes, timeout: float, done: Callable[[Outcome], None]
    ) -> None:
        """Ask any one member of a cluster.

        `done` is called exactly once, from any thread, maybe before this returns.

        Raises: LimitReached when too many requests are pending; then `done` is never called.
        Timeout in seconds.
        """
        pending, shared = self._pending, self._shared
        if timeout <= 0:
            done(TIMED_OUT)
            return
        if len(pending) >= shared.config.limits.client_requests:
            raise LimitReached(f"{len(pending)} requests are pending")
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
            entry.done(TIMED_OUT)

    def handle_reply(self, header: Header, message: Message) -> None:
        """Take the answer to a request; a late one is dropped."""
        entry = self._pending.pop(header.req_id, None)
        if entry is None:
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
            return True  # nobody waits for the answer
        call = Call(
            self._calls, next(self._call_ids), self._scribe.direct, sender, header, message.data()
        )
        if self._closed:  # meanwhile, so that close() may have missed the call
            return self._calls.pop(call.id, None) is None
        if len(self._calls) > self._shared.config.limits.client_requests:
            call.fail(_BUSY)
        else:
            self.handler.handle_request(call)
        return True

    # Topics

    def subscribe(self, topic: str) -> None:
        """Get a topic's events from now on. Raises: StateError when that is so already.

        LimitReached.
        """
        with self._lock:
            if self._closed:
                return
            if topic in self._topics:
                raise StateError("subscribed already")
            if len(self._topics) >= self._shared.config.limits.client_subscriptions:
                raise LimitReached(f"{len(self._topics)} topics are subscribed")
            self._topics.add(topic)
        self._join(self._shared.topics, topic)
        if topic not in self._topics:  # closed meanwhile, maybe before all of it was joined
            self._leave(self._shared.topics, topic)

    def unsubscribe(self, topic: str) -> None:
        """Get a topic's events no more. Raises: StateError when it isn't subscribed."""
        with self._lock:
            if self._closed:
                return
            if topic not in self._topics:
                raise StateError("not subscribed")
            self._topics.remove(topic)
        self._leave(self._shared.topics, topic)

    def _join(self, prefixes: Iterable[str], name: str) -> None:
        for prefix in prefixes:
            self._shared.memberships.join(prefix + name, self)

    def _leave(self, prefixes: Iterable[str], name: str) -> None:
        for prefix in prefixes:
            self._shared.memberships.leave(prefix + name, self)

    # Tunnels

    def tunnel(self, cluster: str, timeout: float, done: Callable[[Tunnel | None], None]) -> None:
        """Ask any one member of a cluster for a tunnel.

        `done` gets it, or None after the timeout in seconds; once, as with `request`.

        Raises: LimitReached when the connection has too many tunnels; then `done` is never called.
        """
        shared = self._shared
        if timeout <= 0:
            done(None)
            return
        if self._crowded():
            raise LimitReached(
                f"{shared.config.limits.client_tunnels} tunnels are open, or being built"
            )
        tunnel_id = next(self._tunnel_ids)
        self._building[tunnel_id] = entry = _Building(shared.entropy(KEY_SIZE), done)
        entry.deadline = self._timer.after(
            min(timeout, MAX_TIMEOUT), partial(self._give_up, tunnel_id)
        )
        if self._closed:  # as in request()
            self._building.pop(tunnel_id, None)
            self._timer.cancel(entry.deadline)
            return
        header = Header(
            Op.TUNNEL,
            self.id,
            tun_id=tunnel_id,
            tun_key=entry.key,
            tun_addrs=shared.tunneler.addresses,
            tun_time=to_nanoseconds(timeout),
        )
        prefix = shared.clusters[tunnel_id % len(shared.clusters)]
        self._scribe.balance(prefix + cluster, Message(header, Payload.of(b"")))

    def _crowded(self) -> bool:
        return (
            len(self._tunnels) + len(self._building) + len(self._dialling)
            >= self._shared.config.limits.client_tunnels
        )

    def _give_up(self, tunnel_id: int) -> None:
        entry = self._building.pop(tunnel_id, None)
        if entry is not None:
            entry.done(None)

    def tunnel_key(self, tunnel_id: int) -> bytes | None:
        """The key of a tunnel that was asked for and isn't there yet."""
        entry = self._building.get(tunnel_id)
        return None if entry is None else entry.key

    def _claim(self, tunnel_id: int) -> Callable[[Tunnel | None], None] | None:
        entry = self._building.pop(tunnel_id, None)
        if entry is None:
            return None
        if entry.deadline is not None:
            self._timer.cancel(entry.deadline)
        return entry.done

    def handle_link(self, tunnel_id: int, link: Link) -> None:
        """Take the link of a tunnel that was asked for."""
        done = self._claim(tunnel_id)
        if done is None:
            link.abort()  # too late, or a second one
        else:
            self._take(link, done)

    def handle_offer(self, sender: NodeId, header: Header, message: Message) -> bool:
        """Take a tunnel offered to the cluster; False when the connection has left it."""
        if not self._cluster:
            return False
        if len(header.tun_key) != KEY_SIZE:
            raise ProtocolError(f"tunnel with a key of {len(header.tun_key)} bytes")
        timeout = to_seconds(header.tun_time)
        if timeout > 0 and not self._crowded():
            deadline = self._shared.clock() + timeout
            self.handler.handle_tunnel(
                TunnelOffer(timeout, partial(self._accept, header, deadline))
            )
        return True

    def _accept(
        self, header: Header, deadline: float, done: Callable[[Tunnel | None], None]
    ) -> None:
        shared = self._shared
        if self._closed or self._crowded() or shared.clock() >= deadline:
            done(None)
            return
        caller = shared.connections.get(header.src)
        key = caller.tunnel_key(header.tun_id) if caller is not None else None
        if caller is not None and key is not None and hmac.compare_digest(key, header.tun_key):
            self._pair(caller, header.tun_id, done)
        else:
            token = object()
            self._dialling.add(token)
            shared.tunneler.dial(header, deadline, partial(self._dialled, token, done))

    def _pair(
        self, caller: "Connection", tunnel_id: int, done: Callable[[Tunnel | None], None]
    ) -> None:
        """Build a tunnel between two connections of this node."""
        caller_done = caller._claim(tunnel_id)
        if caller_done is None:
            done(None)
            return
        config = self._shared.config
        mine, theirs = local_pair(
            config.iris.tunnel_window,
            config.limits.peer_send_buffer,
            self._tunnels.discard,
            caller._tunnels.discard,
        )
        if caller._keep(theirs):
            caller_done(theirs)
        if self._keep(mine):
            done(mine)

    def _dialled(
        self, token: object, done: Callable[[Tunnel | None], None], link: Link | None
    ) -> None:
        self._dialling.discard(token)
        if link is None:
            done(None)
        else:
            self._take(link, done)

    def _take(self, link: Link, done: Callable[[Tunnel | None], None]) -> None:
        tunnel = self._shared.tunneler.tunnel(link, self._tunnels.discard)
        if self._keep(tunnel):
            done(tunnel)

    def _keep(self, tunnel: Tunnel) -> bool:
        self._tunnels.add(tunnel)
        if self._closed:  # meanwhile, so that close() may have missed it
            self._let_go(tunnel)
            return False
        return True

    def _let_go(self, tunnel: Tunnel) -> None:
        if self._vanished:
            tunnel.break_off()
        else:
            tunnel.close()

    # The end

    def leave(self) -> None:
        """Leave the cluster: nothing new comes, but from a thread that is just bringing it.

        What is in hand goes on. Idempotent.
        """
        with self._lock:
            cluster, self._cluster = self._cluster, ""
        if cluster:
            self._leave(self._shared.clusters, cluster)

    def close(self, *, vanished: bool = False) -> None:
        """Let go of everything, at once. Who waits for an answer of this connection is told.

        Tunnels end after all data. Idempotent.

        vanished: the application was lost, or ended by its node; the other ends of its tunnels are
        told of more than a close.
        """
        with self._lock:
            if self._closed:
                return
            self._closed, self._vanished = True, vanished
            topics, self._topics = self._topics, set()
        self.leave()
        for topic in topics:
            self._leave(self._shared.topics, topic)
        for table in (self._pending, self._building):
            for key in list(table):
                entry = table.pop(key, None)
                if entry is not None and entry.deadline is not None:
                    self._timer.cancel(entry.deadline)
        for tunnel in list(self._tunnels):
            self._let_go(tunnel)
        for call in list(self._calls.values()):
            call.fail(_WENT_AWAY)
        self._shared.connections.pop(self.id, None)
        self.handler = _NOBODY


class _Nobody:
    """The handler of a closed connection, for those who still bring something."""

    def handle_broadcast(self, message: Delivery) -> None:
        pass

    def handle_event(self, topic: str, event: Delivery) -> None:
        pass

    def handle_request(self, call: Call) -> None:
        call.fail(_WENT_AWAY)

    def handle_tunnel(self, offer: TunnelOffer) -> None:
        offer.refuse()


_NOBODY = _Nobody()
