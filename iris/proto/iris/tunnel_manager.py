"""Handshakes of tunnels to other nodes: accept those requested here, dial those offered to us.

Shell; counterpart of the handshake half of Go's proto/iris/tunnel.go. The node of the caller
listens, that of the service dials:

    dialler: InitPacket(the caller's connection, its tunnel), in plain gob
    from here on a link, under keys derived from the tunnel's, the listener as its server
    both:    AuthPacket(tunnel)

A connection that hasn't proven the tunnel's key costs a few KiB and one of a bounded number of
threads, for a second. Unlike in Go, a handshake that fails on one address goes on with the next
one: hosts often share addresses that lead nowhere, those of their bridges.

Lock order: none; nothing is called with the lock held.
"""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable

from iris.config import Config
from iris.errors import HandshakeTimeout, IrisError
from iris.metrics import Metrics
from iris.proto.addresses import dialable
from iris.proto.iris.tunnel import Tunnel
from iris.proto.iris.tunnel_link import LinkTunnel
from iris.proto.link.link import Link
from iris.proto.session.base import FindKey, Suite
from iris.proto.wire.clusters import Header
from iris.runtime.interfaces import Interface
from iris.runtime.rate_limited_log import RateLimitedLogger
from iris.runtime.tcp import Address, Listener, connect, format_address
from iris.runtime.timer import Timer
from iris.runtime.worker_pool import WorkerPool

_KEEPALIVE_PROBES = 3

_log = logging.getLogger(__name__)


class TunnelManager:
    """Owns the tunnel listeners, the running handshakes, and the links of all tunnels."""

    def __init__(
        self,
        config: Config,
        timer: Timer,
        suite: Suite,
        find_key: FindKey,
        on_link: Callable[[int, int, Link], None],
        clock: Callable[[], float] = time.monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        """Listen nowhere yet.

        Args:
            find_key: returns the key of a requested tunnel, by its connection's and its own id.
            on_link: called with the same ids and the tunnel's link, once authenticated.
        """
        self._config, self._timer, self._clock = config.iris, timer, clock
        self._metrics = metrics or Metrics()
        self._limit = config.limits.tunnels
        self._session, self._suite = config.session, suite
        self._find_key, self._on_link = find_key, on_link
        threads, limit = config.iris.tunnel_handshakes, config.limits.client_tunnels
        self._accepting = WorkerPool(
            self._serve, threads=threads, limit=limit, name="tunnel-accept"
        )
        self._dialling = WorkerPool(self._answer, threads=threads, limit=limit, name="tunnel-dial")
        self._listeners: list[Listener] = []
        self.addresses: list[str] = []  # "ip:port" of every listener, sorted
        self._rejections = RateLimitedLogger(_log, clock=clock)
        self._changed = threading.Condition(threading.Lock())  # guards what follows
        self._tunnels: set[LinkTunnel] = set()
        self._closed = False

    # Requested here

    def listen(self, interfaces: Iterable[Interface]) -> None:
        """Listen on each interface, at a port of its own; skip one where that fails."""
        for interface in interfaces:
            try:
                listener = Listener((str(interface.address), 0), self._accept)
            except OSError as exc:
                _log.warning(
                    "cannot listen for tunnels on %s (%s): %s",
                    interface.name,
                    interface.address,
                    exc.strerror or exc,
                )
                continue
            self._listeners.append(listener)
        self.addresses = sorted(format_address(listener.address) for listener in self._listeners)
        for listener in self._listeners:
            listener.start()

    def _accept(self, sock: socket.socket, remote: Address) -> None:
        if self._full() or not self._accepting.submit((sock, remote, self._clock())):
            self._reject("accepted", f"from {format_address(remote)}")
            sock.close()

    def _serve(self, arrival: tuple[socket.socket, Address, float]) -> None:
        sock, remote, arrived = arrival
        try:
            if self._clock() - arrived > self._config.tunnel_accept_timeout:
                raise HandshakeTimeout("timed out in the accept queue")
            deadline = self._clock() + self._config.tunnel_init_timeout
            conn_id, tun_id, link = self._suite.accept_tunnel(sock, self._find_key, deadline)
            self._keep_alive(sock)
        except (IrisError, OSError) as exc:
            self._metrics.tunnel_handshakes["accepted", "failed"].inc()
            _log.debug("tunnel from %s failed: %s", format_address(remote), exc)
            sock.close()
        else:
            self._metrics.tunnel_handshakes["accepted", "established"].inc()
            self._on_link(conn_id, tun_id, link)

    # Offered to us

    def dial(self, offer: Header, deadline: float, done: Callable[[Link | None], None]) -> None:
        """Dial the node of an offer's caller.

        `done` gets the link, or None when that fails, mostly from a thread of the pool.
        """
        if self._full() or not self._dialling.submit((offer, deadline, done)):
            self._reject("dialled", "offered by another node")
            done(None)

    def _answer(self, job: tuple[Header, float, Callable[[Link | None], None]]) -> None:
        offer, deadline, done = job
        done(self._dial(offer, deadline))

    def _dial(self, offer: Header, deadline: float) -> Link | None:
        addresses = dialable(offer.tun_addrs, self.addresses)
        reason: object = "none of its addresses can be dialled"
        for at, address in enumerate(addresses):
            last = at == len(addresses) - 1
            until = min(
                deadline,
                self._clock()
                + (self._session.auth_timeout if last else self._session.dial_timeout),
            )
            if self._closed or until <= self._clock():
                break
            try:
                link = self._dial_address(offer, address, until)
            except (IrisError, OSError) as exc:
                reason = exc
            else:
                self._metrics.tunnel_handshakes["dialled", "established"].inc()
                return link
        self._metrics.tunnel_handshakes["dialled", "failed"].inc()
        # without addresses it was mostly a connection of this node, which has given up by now
        _log.log(
            logging.WARNING if addresses else logging.DEBUG,
            "tunnel to %s failed: %s",
            ", ".join(map(format_address, addresses)) or "another node",
            reason,
        )
        return None

    def _dial_address(self, offer: Header, address: Address, deadline: float) -> Link:
        sock = connect(address, deadline - self._clock())
        try:
            link = self._suite.dial_tunnel(sock, offer.src, offer.tun_id, offer.tun_key, deadline)
            self._keep_alive(sock)
        except BaseException:
            sock.close()
            raise
        return link

    # Both

    def _full(self) -> bool:
        return len(self._tunnels) >= self._limit

    def _reject(self, side: str, which: str) -> None:
        self._metrics.tunnel_handshakes[side, "rejected"].inc()
        self._rejections.log(
            logging.WARNING,
            side,
            "tunnel %s rejected: limit of %d tunnels, or of %d handshakes at a time, reached",
            which,
            self._limit,
            self._config.tunnel_handshakes,
        )

    def _keep_alive(self, sock: socket.socket) -> None:
        """Let the kernel notice a host that vanished silently."""
        period = max(1, int(self._config.tunnel_keepalive))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, period)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, period)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)

    def wrap(self, link: Link, on_gone: Callable[[Tunnel], None]) -> LinkTunnel:
        """Make an authenticated link a tunnel; on_gone is called when its owner is rid of it."""
        config = self._config
        tunnel = LinkTunnel(
            link,
            window=config.tunnel_window,
            linger=config.tunnel_linger,
            timer=self._timer,
            on_gone=on_gone,
            on_down=self._forget,
        )
        with self._changed:
            closed = self._closed
            if not closed:
                self._tunnels.add(tunnel)
                self._metrics.tunnels.inc()
        if closed:
            tunnel.abort()
        return tunnel

    def _forget(self, tunnel: LinkTunnel) -> None:
        with self._changed:
            if tunnel in self._tunnels:
                self._tunnels.discard(tunnel)
                self._metrics.tunnels.inc(-1)
            self._changed.notify_all()

    def close(self, grace: float | None = None) -> None:
        """Stop listening, and close all tunnels. Idempotent.

        They get `grace` seconds, or the session's grace timeout, to send what is queued.
        """
        for listener in self._listeners:
            listener.close()
        with self._changed:
            self._closed = True
            tunnels = list(self._tunnels)
        for sock, _, _ in self._accepting.close():
            sock.close()
        for _, _, done in self._dialling.close():
            done(None)
        for tunnel in tunnels:
            tunnel.close()
        with self._changed:
            self._changed.wait_for(
                lambda: not self._tunnels, self._session.grace_timeout if grace is None else grace
            )
            tunnels = list(self._tunnels)
        for tunnel in tunnels:
            tunnel.abort()
