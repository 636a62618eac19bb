"""The tunnels of one connection: requested, offered, and open.

Core; counterpart of the handshake half of Go's proto/iris/tunnel.go, as far as it isn't sockets
(`tunnel_manager.py`). Like a request, a requested tunnel is a table entry and a deadline, and the
thread that takes the entry out of its table completes it.
"""

import hmac
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from iris.config import Config
from iris.errors import LimitReached, ProtocolError
from iris.metrics import Metrics
from iris.proto.iris.base import Scribe
from iris.proto.iris.requests import MAX_TIMEOUT, to_nanoseconds, to_seconds
from iris.proto.iris.tunnel import Tunnel, TunnelOffer, local_pair
from iris.proto.iris.tunnel_manager import TunnelManager
from iris.proto.link.link import Link
from iris.proto.wire.clusters import Header, Op
from iris.proto.wire.message import KEY_SIZE, Entropy, Message, Payload
from iris.runtime.timer import Timer, TimerEntry

Done = Callable[[Tunnel | None], None]


@dataclass(eq=False)  # without slots, or it wouldn't be compiled
class Shared:
    """What all connections of a node have in common."""

    scribe: Scribe
    tunnels: "dict[int, ConnectionTunnels]"  # by their connection's id
    tunnel_manager: TunnelManager
    config: Config
    timer: Timer
    entropy: Entropy
    clock: Callable[[], float]
    metrics: Metrics
    clusters: tuple[str, ...]  # prefixes of a cluster's topics
    topics: tuple[str, ...]  # prefixes of a topic's


@dataclass(eq=False)
class _Requested:
    """A tunnel that isn't built yet."""

    key: bytes
    done: Done
    deadline: TimerEntry | None = None


class ConnectionTunnels:
    """Request tunnels, accept offered ones, and keep them until they are gone."""

    def __init__(self, shared: Shared, connection_id: int) -> None:
        self._shared, self._connection_id = shared, connection_id
        self._ids = itertools.count()
        self._requested: dict[int, _Requested] = {}
        self._dialling: set[object] = set()  # one token for each
        self._open: set[Tunnel] = set()
        self._closed = self._disconnected = False
        self._rejected = shared.metrics.rejected["tunnel"]
        shared.tunnels[connection_id] = self

    def _full(self) -> bool:
        return (
            len(self._open) + len(self._requested) + len(self._dialling)
            >= self._shared.config.limits.client_tunnels
        )

    # Requested here

    def request(self, cluster: str, timeout: float, done: Done) -> None:
        """Ask any one member of a cluster for a tunnel.

        `done` is called exactly once with it, or with None after `timeout` seconds; from any
        thread, maybe before this returns. Never after a close.

        Raises: LimitReached when the connection has too many tunnels; then `done` is never called.
        """
        shared = self._shared
        if timeout <= 0:
            done(None)
            return
        if self._full():
            raise LimitReached(
                f"limit of {shared.config.limits.client_tunnels} tunnels of one application reached"
            )
        tunnel_id = next(self._ids)
        self._requested[tunnel_id] = entry = _Requested(shared.entropy(KEY_SIZE), done)
        entry.deadline = shared.timer.after(
            min(timeout, MAX_TIMEOUT), partial(self._expire, tunnel_id)
        )
        if self._closed:  # meanwhile, so that close() may have missed the entry
            self._requested.pop(tunnel_id, None)
            shared.timer.cancel(entry.deadline)
            return
        header = Header(
            Op.TUNNEL,
            self._connection_id,
            tun_id=tunnel_id,
            tun_key=entry.key,
            tun_addrs=shared.tunnel_manager.addresses,
            tun_time=to_nanoseconds(timeout),
        )
        prefix = shared.clusters[tunnel_id % len(shared.clusters)]
        shared.scribe.balance(prefix + cluster, Message(header, Payload.of(b"")))

    def _expire(self, tunnel_id: int) -> None:
        entry = self._requested.pop(tunnel_id, None)
        if entry is not None:
            entry.done(None)

    def key(self, tunnel_id: int) -> bytes | None:
        """Return the key of a requested tunnel that isn't built yet, or None."""
        entry = self._requested.get(tunnel_id)
        return None if entry is None else entry.key

    def _take(self, tunnel_id: int) -> Done | None:
        entry = self._requested.pop(tunnel_id, None)
        if entry is None:
            return None
        if entry.deadline is not None:
            self._shared.timer.cancel(entry.deadline)
        return entry.done

    def handle_link(self, tunnel_id: int, link: Link) -> None:
        """Take the authenticated link of a requested tunnel."""
        done = self._take(tunnel_id)
        if done is None:
            link.abort()  # too late, or a second one
        else:
            self._wrap(link, done)

    # Offered by others

    def offer(self, header: Header) -> TunnelOffer | None:
        """Make an offer of another connection's request; None when it can't be accepted.

        Raises: ProtocolError.
        """
        if len(header.tun_key) != KEY_SIZE:
            raise ProtocolError(f"tunnel with a key of {len(header.tun_key)} bytes")
        timeout = to_seconds(header.tun_time)
        if timeout <= 0:
            return None
        if self._full():
            self._rejected.inc()
            return None
        deadline = self._shared.clock() + timeout
        return TunnelOffer(timeout, partial(self._accept, header, deadline))

    def _accept(self, header: Header, deadline: float, done: Done) -> None:
        shared = self._shared
        full = self._full()
        if full:
            self._rejected.inc()
        if self._closed or full or shared.clock() >= deadline:
            done(None)
            return
        caller = shared.tunnels.get(header.src)
        key = caller.key(header.tun_id) if caller is not None else None
        if caller is not None and key is not None and hmac.compare_digest(key, header.tun_key):
            self._pair(caller, header.tun_id, done)
        else:
            token = object()
            self._dialling.add(token)
            shared.tunnel_manager.dial(header, deadline, partial(self._dialled, token, done))

    def _pair(self, caller: "ConnectionTunnels", tunnel_id: int, done: Done) -> None:
        """Build a tunnel between two connections of this node."""
        caller_done = caller._take(tunnel_id)
        if caller_done is None:
            done(None)
            return
        config = self._shared.config
        mine, theirs = local_pair(
            config.iris.tunnel_window,
            config.limits.peer_send_buffer,
            self._open.discard,
            caller._open.discard,
        )
        if caller._keep(theirs):
            caller_done(theirs)
        if self._keep(mine):
            done(mine)

    def _dialled(self, token: object, done: Done, link: Link | None) -> None:
        self._dialling.discard(token)
        if link is None:
            done(None)
        else:
            self._wrap(link, done)

    # Both

    def _wrap(self, link: Link, done: Done) -> None:
        tunnel = self._shared.tunnel_manager.wrap(link, self._open.discard)
        if self._keep(tunnel):
            done(tunnel)

    def _keep(self, tunnel: Tunnel) -> bool:
        self._open.add(tunnel)
        if self._closed:  # meanwhile, so that close() may have missed it
            self._end(tunnel)
            return False
        return True

    def _end(self, tunnel: Tunnel) -> None:
        if self._disconnected:
            tunnel.break_off()
        else:
            tunnel.close()

    def close(self, *, disconnected: bool) -> None:
        """Forget the requested tunnels, and close the open ones after all data. Once.

        disconnected: the other ends get an error, for the application said no close.
        """
        self._disconnected = disconnected
        self._closed = True
        self._shared.tunnels.pop(self._connection_id, None)
        for tunnel_id in list(self._requested):
            self._take(tunnel_id)
        for tunnel in list(self._open):
            self._end(tunnel)
