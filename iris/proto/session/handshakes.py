"""Dialling and accepting sessions, by whatever suite: bounded, counted, failures reported.

Shell; counterpart of the sockets of Go's proto/session/handshake.go.

A connection that isn't authenticated costs one thread, a few KiB and a few seconds. There are at
most `Limits.peer_handshakes` times `_UNAUTHENTICATED_FACTOR` of them; with one more, the oldest one
of the host that has the most is dropped. So a silent host harms itself, and to push others out it
must open connections faster than they finish their handshakes.

Lock order: none is taken with another held.
"""

import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from iris.errors import AuthenticationError, HandshakeTimeout, IrisError, ProtocolError
from iris.metrics import Metrics
from iris.proto.session.base import HandshakeRefused, Suite
from iris.proto.session.session import Session
from iris.runtime.rate_limited_log import RateLimitedLogger
from iris.runtime.tcp import Address, Listener, format_address, hang_up, shut_down

_UNAUTHENTICATED_FACTOR = 8

_log = logging.getLogger(__name__)


class HandshakeReporter:
    """Count handshakes by outcome, and warn of hosts with a different key. Thread-safe."""

    def __init__(
        self, network: str, metrics: Metrics, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`network` is named in warnings."""
        self._network, self._metrics, self.clock = network, metrics, clock
        self._mismatches = RateLimitedLogger(_log, clock=clock)

    def established(self, side: str, begun: float) -> None:
        """Count a handshake that made a session; its side is dialled or accepted."""
        self._metrics.handshakes[side, "established"].inc()
        self._metrics.handshake_seconds[side].observe(self.clock() - begun)

    def failed(self, side: str, host: str, error: IrisError, *, dropped: bool = False) -> None:
        """Count and log a handshake that failed; `dropped` when this node hung up."""
        certain = isinstance(error, AuthenticationError)
        if certain or (isinstance(error, HandshakeRefused) and not dropped):
            outcome = "wrong key"
            self._mismatches.log(
                logging.WARNING,
                host,
                "%s %s a different key for network '%s'",
                host,
                "holds" if certain else "seems to hold",
                self._network,
            )
        else:
            outcome = _outcome(error)
            if side == "accepted":  # callers of `dial` log it
                _log.info("no session with %s: %s", host, error)
        self._metrics.handshakes[side, outcome].inc()


def _outcome(error: IrisError) -> str:
    if isinstance(error, HandshakeTimeout):
        return "timed out"
    return "protocol violation" if isinstance(error, ProtocolError) else "closed"


def dial(address: Address, suite: Suite, reporter: HandshakeReporter) -> Session:
    """Set up a session: see `Suite.dial`."""
    begun = reporter.clock()
    try:
        session = suite.dial(address)
    except IrisError as exc:
        reporter.failed("dialled", address[0], exc)
        raise
    reporter.established("dialled", begun)
    return session


class SessionListener:
    """Accept sessions at one address.

    Owns the accepting thread, and a thread `handshake-ip:port` for each handshake.
    """

    def __init__(
        self,
        address: Address,
        suite: Suite,
        on_session: Callable[[Session], None],
        reporter: HandshakeReporter,
        *,
        max_handshakes: int,
    ) -> None:
        """Listen at `address`, port 0 for a free one; accept nothing before `start`.

        Args:
            on_session: owns the session it is given, which isn't started; called on the
                handshake's thread. It may wait, and `close` doesn't wait for it.
            max_handshakes: `Limits.peer_handshakes`.

        Raises: OSError when the address is taken or not this host's.
        """
        self._acceptor, self._on_session, self._reporter = suite.acceptor(), on_session, reporter
        self._max_unauthenticated = max_handshakes * _UNAUTHENTICATED_FACTOR
        self._lock = threading.Lock()
        self._closed = False
        self._under_way: dict[socket.socket, threading.Thread] = {}
        self._unauthenticated: dict[socket.socket, str] = {}  # by host, oldest first
        self._listener = Listener(address, self._admit)
        self.address = self._listener.address

    def start(self) -> None:
        """Accept from now on."""
        self._listener.start()

    def _admit(self, sock: socket.socket, remote: Address) -> None:
        """Begin a connection's handshake in a thread of its own; on the accepting thread."""
        thread = threading.Thread(
            target=self._handshake,
            args=(sock, remote[0]),
            name=f"handshake-{format_address(remote)}",
            daemon=True,
        )
        with self._lock:
            if self._closed:
                sock.close()
                return
            self._under_way[sock] = thread
            self._unauthenticated[sock] = remote[0]
            if len(self._unauthenticated) > self._max_unauthenticated:
                self._evict()
        try:
            thread.start()
        except RuntimeError:  # out of threads: it passes, like a lack of descriptors
            self._forget(sock)
            sock.close()
            _log.warning("no thread for a handshake with %s", remote[0])

    def _evict(self) -> None:
        """Drop the oldest unauthenticated connection of the host with the most; under the lock."""
        worst, count = Counter(self._unauthenticated.values()).most_common(1)[0]
        victim = next(sock for sock, host in self._unauthenticated.items() if host == worst)
        del self._unauthenticated[victim]
        shut_down(victim)
        _log.info("%s has %d unfinished handshakes: dropped the oldest", worst, count)

    def _forget(self, sock: socket.socket) -> None:
        self._authenticated(sock)
        with self._lock:
            self._under_way.pop(sock, None)

    def _authenticated(self, sock: socket.socket) -> None:
        with self._lock:
            self._unauthenticated.pop(sock, None)

    def _handshake(self, sock: socket.socket, host: str) -> None:
        begun = self._reporter.clock()
        try:
            session = self._acceptor.accept(sock, partial(self._authenticated, sock))
        except IrisError as exc:
            hang_up(sock)
            with self._lock:
                dropped = self._closed or sock not in self._unauthenticated
            self._reporter.failed("accepted", host, exc, dropped=dropped)
        except Exception:
            hang_up(sock)
            _log.exception("a handshake with %s failed", host)  # our bug
        else:
            if session is not None:
                self._reporter.established("accepted", begun)
                self._forget(sock)  # from now on it is on_session's
                self._deliver(session)
        finally:
            self._forget(sock)

    def _deliver(self, session: Session) -> None:
        try:
            self._on_session(session)
        except Exception:
            _log.exception("the session with %s couldn't be handled", session.remote)  # our bug
            session.abort()

    def close(self) -> None:
        """Accept no more, and drop unfinished handshakes. Idempotent; from any thread."""
        self._listener.close()
        with self._lock:
            self._closed = True
            under_way = dict(self._under_way)
        self._acceptor.close()
        for sock in under_way:
            shut_down(sock)
        for thread in under_way.values():
            thread.join()
