"""Sessions between two nodes: a control and a data link each, dialled or accepted.

Shell; answers to Go's proto/session/session.go and to the sockets of its handshake.go.

A connection that hasn't proven the key yet costs one thread, a few KiB and a few seconds. There are
at most `Limits.peer_handshakes` times `_UNPROVEN_FACTOR` of them at a time; with one more, the
oldest one of the host that has the most is dropped. So whoever stays silent harms itself, and to
push others out a host must open connections faster than they finish their handshakes.

Lock order: none is taken with another held.
"""

import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from queue import Empty, SimpleQueue

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from iris.config import Limits, SessionConfig
from iris.crypto.sts import Exchange
from iris.errors import AuthenticationError, HandshakeTimeout, IrisError, LinkClosed, ProtocolError
from iris.proto.link.gob_stream import GobStream
from iris.proto.link.link import Link
from iris.proto.session.classic import (
    ChallengeRefused,
    Settings,
    authenticate_client,
    authenticate_server,
    link_client,
    link_server,
    random_id,
)
from iris.proto.wire.message import Entropy, Message
from iris.proto.wire.session import AuthRequest, InitRequest
from iris.runtime import tcp as stream
from iris.runtime.compiling import with_cause
from iris.runtime.deadline import time_left
from iris.runtime.tcp import Address, connect, format_address

_UNPROVEN_FACTOR = 8
_COMPLAINT_PERIOD = 60.0  # seconds between two warnings about the same host
_COMPLAINT_HOSTS = 256  # hosts remembered for that

_log = logging.getLogger(__name__)


class KeyMismatchReporter:
    """Says that a host holds a different key, once per host and period. Thread-safe."""

    def __init__(self, network: str = "", *, clock: Callable[[], float] = time.monotonic) -> None:
        """`network` is named in what is said."""
        self._where = f"network {network!r}" if network else "this network"
        self._clock = clock
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}

    def report(self, host: str, *, certain: bool = True) -> None:
        """Say it, unless it was said lately. Not certain.

        It hung up on our proof, and can't have told us why.
        """
        now = self._clock()
        with self._lock:
            if now - self._said.get(host, float("-inf")) < _COMPLAINT_PERIOD:
                return
            self._said.pop(host, None)
            self._said[host] = now
            if len(self._said) > _COMPLAINT_HOSTS:
                del self._said[next(iter(self._said))]
        _log.warning(
            "%s %s a different key for %s",
            host,
            "holds" if certain else "seems to hold",
            self._where,
        )


class Session:
    """Two links to one node. Its maker closes or aborts it."""

    def __init__(
        self,
        control: Link,
        data: Link,
        *,
        grace: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over both links, which aren't started yet; grace in seconds is `close`'s default."""
        self.control, self.data = control, data
        self.local, self.remote = control.local, control.remote
        self.local_host, self.remote_host = control.local_host, control.remote_host
        self._grace, self._clock = grace, clock
        self._lock = threading.Lock()
        self._on_end: Callable[[Exception | None], None] | None = None

    def start(
        self, on_message: Callable[[Message], None], on_end: Callable[[Exception | None], None]
    ) -> None:
        """Receive from now on: see `Link.start`. on_end comes once, for the link that ends first.

        The other one may still deliver.
        """
        self._on_end = on_end
        self.control.start(on_message, self._ended)
        self.data.start(on_message, self._ended)

    def _ended(self, error: Exception | None) -> None:
        with self._lock:
            on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(error)

    def send(self, message: Message) -> None:
        """Queue a message: an application's on the data link, a node's own on the control link.

        Raises: LinkClosed, LimitReached.

        WIRE: Go sends an application's empty ones on the control link, where they overtake what was
        sent before; it takes them from either.
        """
        (self.control if message.payload is None else self.data).send(message)

    def close(self, grace: float | None = None) -> None:
        """Close both links gracefully, within `grace` seconds for both: see `Link.close`."""
        deadline = self._clock() + (self._grace if grace is None else grace)
        self.control.finish()
        self.data.finish()
        self.control.close(time_left(deadline, self._clock))
        self.data.close(time_left(deadline, self._clock))

    def abort(self) -> None:
        """End both links now. Never waits; from any thread."""
        self.control.abort()
        self.data.abort()


def dial(
    address: Address,
    key: RSAPrivateKey,
    *,
    session: SessionConfig,
    limits: Limits,
    strangers: KeyMismatchReporter | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Session:
    """Set up a session with the node that listens at `address`.

    Raises: AuthenticationError when it holds a different key, which `strangers` is told as well;
    HandshakeTimeout; LinkClosed when it can't be reached or hangs up; ProtocolError for anything
    else that it isn't allowed to say.
    """
    settings = Settings(config=session, limits=limits, clock=clock)
    control_stream = settings.stream(connect(address, session.dial_timeout), session.auth_timeout)
    try:
        secret = authenticate_client(control_stream, Exchange(key))
        control, data = link_client(
            control_stream, secret, lambda: connect(address, session.dial_timeout), settings
        )
    except BaseException as exc:
        control_stream.close()
        if isinstance(exc, AuthenticationError) and strangers is not None:
            strangers.report(address[0])
        raise
    return Session(control, data, grace=session.grace_timeout, clock=clock)


class Listener:
    """Accepts sessions at one address.

    Owns the accepting thread, and a thread `handshake-ip:port` for each handshake.
    """

    def __init__(
        self,
        address: Address,
        key: RSAPrivateKey,
        on_session: Callable[[Session], None],
        *,
        session: SessionConfig,
        limits: Limits,
        strangers: KeyMismatchReporter | None = None,
        entropy: Entropy = os.urandom,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Listen at `address`, port 0 for a free one; accept nothing before `start`.

        on_session owns the session it is given, which isn't started yet; it is called from the
        handshake's thread, may take its time, and `close` doesn't wait for it.
        Raises: OSError when the address can't be had.
        """
        self._key, self._on_session, self._entropy = key, on_session, entropy
        self._settings = Settings(config=session, limits=limits, clock=clock)
        self._strangers = strangers or KeyMismatchReporter(clock=clock)
        self._max_unproven = limits.peer_handshakes * _UNPROVEN_FACTOR
        self._lock = threading.Lock()
        self._closed = False
        self._under_way: dict[GobStream, threading.Thread] = {}
        self._unproven: dict[GobStream, str] = {}  # to the host, oldest first
        # sessions that wait for their data connection; None: for nothing
        self._pending: dict[int, SimpleQueue[GobStream | None]] = {}
        self._listener = stream.Listener(address, self._admit)
        self.address = self._listener.address

    def start(self) -> None:
        """Accept from now on."""
        self._listener.start()

    def _admit(self, sock: socket.socket, remote: Address) -> None:
        """Begin a connection's handshake in a thread of its own; on the accepting thread."""
        connection = self._settings.stream(sock, self._settings.config.auth_timeout)
        thread = threading.Thread(
            target=self._shake,
            args=(connection, remote[0]),
            name=f"handshake-{format_address(remote)}",
            daemon=True,
        )
        with self._lock:
            if self._closed:
                connection.close()
                return
            self._under_way[connection] = thread
            self._unproven[connection] = remote[0]
            if len(self._unproven) > self._max_unproven:
                self._evict()
        try:
            thread.start()
        except RuntimeError:  # no more threads to be had: it passes, like a lack of descriptors
            self._forget(connection)
            connection.close()
            _log.warning("no thread for a handshake with %s", remote[0])

    def _evict(self) -> None:
        """Drop the oldest connection of the host that has the most which prove nothing.

        The lock is held.
        """
        worst, count = Counter(self._unproven.values()).most_common(1)[0]
        victim = next(connection for connection, host in self._unproven.items() if host == worst)
        del self._unproven[victim]
        victim.interrupt()
        _log.info("%s has %d unfinished handshakes: dropped the oldest", worst, count)

    def _forget(self, connection: GobStream) -> None:
        with self._lock:
            self._unproven.pop(connection, None)
            self._under_way.pop(connection, None)

    def _shake(self, connection: GobStream, host: str) -> None:
        try:
            request = connection.recv(InitRequest)
            if request.auth is not None:
                self._accept(connection, request.auth)
            elif request.link is not None:
                self._attach(connection, request.link.id)
            else:
                raise ProtocolError("it asked for nothing")
        except IrisError as exc:
            connection.close()
            with self._lock:
                dropped = self._closed or connection not in self._unproven  # by us
            if isinstance(exc, AuthenticationError):
                self._strangers.report(host)
            elif isinstance(exc, ChallengeRefused) and not dropped:
                self._strangers.report(host, certain=False)
            else:
                _log.info("no session with %s: %s", host, exc)
        except Exception:
            connection.close()
            _log.exception("a handshake with %s failed", host)  # our bug
        finally:
            self._forget(connection)

    def _accept(self, connection: GobStream, request: AuthRequest) -> None:
        """Carry a control connection from its first packet to a session."""
        secret = authenticate_server(connection, request, Exchange(self._key))
        session_id, arrival = random_id(self._entropy), SimpleQueue[GobStream | None]()
        with self._lock:
            if self._closed:
                raise LinkClosed("we don't listen any more")
            self._unproven.pop(connection, None)
            self._pending[session_id] = arrival
        try:
            control, data = link_server(
                connection, secret, session_id, lambda: self._arrived(arrival), self._settings
            )
        finally:
            with self._lock:
                self._pending.pop(session_id, None)
            while not arrival.empty():
                if (late := arrival.get()) is not None:
                    late.close()
        session = Session(
            control, data, grace=self._settings.config.grace_timeout, clock=self._settings.clock
        )
        self._forget(connection)  # what is a session isn't ours any more
        try:
            self._on_session(session)
        except Exception:
            _log.exception("the session with %s couldn't be handled", session.remote)  # our bug
            session.abort()

    def _arrived(self, arrival: "SimpleQueue[GobStream | None]") -> GobStream:
        try:
            connection = arrival.get(timeout=self._settings.config.link_timeout)
        except Empty:
            raise with_cause(
                HandshakeTimeout("its data connection didn't arrive in time"), None
            ) from None
        if connection is None:
            raise LinkClosed("we don't listen any more")
        return connection

    def _attach(self, connection: GobStream, session_id: int) -> None:
        """Hand a data connection to the session that waits for it, the first time."""
        with self._lock:
            arrival = self._pending.pop(session_id, None)
            if arrival is not None:
                arrival.put(connection)
        if arrival is None:
            raise ProtocolError("its data connection belongs to no session that waits for one")

    def close(self) -> None:
        """Accept no more, and drop what isn't a session yet. Idempotent; from any thread."""
        self._listener.close()
        with self._lock:
            self._closed = True
            under_way = dict(self._under_way)
            for arrival in self._pending.values():
                arrival.put(None)
        for connection in under_way:
            connection.interrupt()
        for thread in under_way.values():
            thread.join()
