"""The classic suite: the one that Go nodes speak.

Both sides prove that they hold the network's RSA key, agree on a secret, and derive the keys of a
session's two links from it; a tunnel's link has keys derived from the tunnel's. Counterpart of Go's
proto/session/handshake.go, and of the handshake in proto/iris/tunnel.go. The exchange itself is in
`iris.crypto.sts`. Unlike Go, a side whose authentication fails gives up, and everything has a
deadline.

    client                                    server
    control: InitRequest(auth)          ->
                                        <-    AuthChallenge
    AuthResponse                        ->
    from here on a link                 <-    LinkRequest(id)
    data:    InitRequest(link(id))      ->
    from here on a link: LinkRequest    <->   LinkRequest

    tunnel's dialler                          tunnel's listener
    InitPacket(connection, tunnel)      ->
    from here on a link: AuthPacket     <->   AuthPacket

Lock order: an acceptor's lock is a leaf.
"""

import os
import socket
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from iris.crypto.sts import Exchange
from iris.errors import AuthenticationError, HandshakeTimeout, LinkClosed, ProtocolError
from iris.proto.link.classic import ClassicCodec, LinkKeys, derive_links
from iris.proto.link.link import Link
from iris.proto.session.base import FindKey, HandshakeRefused, LinkFactory
from iris.proto.session.gob_stream import GobStream
from iris.proto.session.session import Session
from iris.proto.wire.clusters import AuthPacket, InitPacket
from iris.proto.wire.message import Entropy, Message
from iris.proto.wire.session import (
    AuthChallenge,
    AuthRequest,
    AuthResponse,
    InitRequest,
    LinkRequest,
)
from iris.runtime.tcp import Address, connect

_ID_BITS = 63  # of a link request; Go's int64, never negative


class ClassicSuite:
    """Authenticate by an RSA key that all members hold; two links per session."""

    def __init__(
        self, key: RSAPrivateKey, links: LinkFactory, *, entropy: Entropy = os.urandom
    ) -> None:
        """Take the network's key; `entropy` draws session ids."""
        self._key, self._links, self._entropy = key, links, entropy

    def dial(self, address: Address) -> Session:
        """See `Suite.dial`."""
        links, config = self._links, self._links.config
        stream = open_stream(connect(address, config.dial_timeout), config.auth_timeout, links)
        try:
            secret = authenticate_client(stream, Exchange(self._key))
            return link_client(stream, secret, lambda: connect(address, config.dial_timeout), links)
        except BaseException:
            stream.close()
            raise

    def acceptor(self) -> "ClassicAcceptor":
        """See `Suite.acceptor`."""
        return ClassicAcceptor(self._key, self._links, self._entropy)

    def dial_tunnel(
        self, sock: socket.socket, conn_id: int, tun_id: int, key: bytes, deadline: float
    ) -> Link:
        """See `Suite.dial_tunnel`."""
        stream = GobStream(sock, deadline, self._links.limits, self._links.clock)
        stream.send(InitPacket(conn_id, tun_id))
        return self._tunnel(stream, key, tun_id, deadline, server=False)

    def accept_tunnel(
        self, sock: socket.socket, find_key: FindKey, deadline: float
    ) -> tuple[int, int, Link]:
        """See `Suite.accept_tunnel`."""
        stream = GobStream(sock, deadline, self._links.limits, self._links.clock)
        init = stream.recv(InitPacket)
        key = find_key(init.conn_id, init.tun_id)
        if key is None:
            raise ProtocolError("no such tunnel was requested")
        link = self._tunnel(stream, key, init.tun_id, deadline, server=True)
        return init.conn_id, init.tun_id, link

    def _tunnel(
        self, stream: GobStream, key: bytes, tun_id: int, deadline: float, *, server: bool
    ) -> Link:
        link = continue_as_link(
            stream, next(derive_links(key, server=server)), "tunnel", self._links
        )
        link.send_direct(Message(AuthPacket(tun_id)), deadline)
        if link.recv_direct(deadline).meta != AuthPacket(tun_id):
            raise AuthenticationError("the other end is another tunnel's")
        return link


class ClassicAcceptor:
    """Accept the two connections of each session; see `Acceptor`."""

    def __init__(self, key: RSAPrivateKey, links: LinkFactory, entropy: Entropy) -> None:
        self._key, self._links, self._entropy = key, links, entropy
        self._lock = threading.Lock()
        self._closed = False
        # sessions that wait for their data connection, by id; None: it won't come
        self._pending: dict[int, SimpleQueue[GobStream | None]] = {}

    def accept(self, sock: socket.socket, authenticated: Callable[[], None]) -> Session | None:
        """See `Acceptor.accept`."""
        stream = open_stream(sock, self._links.config.auth_timeout, self._links)
        request = stream.recv(InitRequest)
        if request.auth is not None:
            secret = authenticate_server(stream, request.auth, Exchange(self._key))
            authenticated()
            return self._link(stream, secret)
        if request.link is None:
            raise ProtocolError("init request without auth or link")
        with self._lock:
            arrival = self._pending.pop(request.link.id, None)  # the first connection counts
            if arrival is not None:
                arrival.put(stream)
        if arrival is None:
            raise ProtocolError("no session waits for this data connection")
        return None

    def _link(self, control: GobStream, secret: bytes) -> Session:
        # the id admits the data connection, so it must be unpredictable
        session_id = int.from_bytes(self._entropy(8), "big") >> (64 - _ID_BITS)
        arrival = SimpleQueue[GobStream | None]()
        with self._lock:
            if self._closed:
                raise LinkClosed("listener closed")
            self._pending[session_id] = arrival
        try:
            return link_server(
                control, secret, session_id, lambda: self._wait(arrival), self._links
            )
        finally:
            with self._lock:
                self._pending.pop(session_id, None)
            while not arrival.empty():
                if (late := arrival.get()) is not None:
                    late.close()

    def _wait(self, arrival: "SimpleQueue[GobStream | None]") -> GobStream:
        try:
            stream = arrival.get(timeout=self._links.config.link_timeout)
        except Empty:
            raise HandshakeTimeout("the data connection didn't arrive in time") from None
        if stream is None:
            raise LinkClosed("listener closed")
        return stream

    def close(self) -> None:
        """See `Acceptor.close`."""
        with self._lock:
            self._closed = True
            for arrival in self._pending.values():
                arrival.put(None)


def open_stream(sock: socket.socket, timeout: float, links: LinkFactory) -> GobStream:
    """Begin a handshake on a new connection, which must be over in `timeout` seconds."""
    return GobStream(sock, links.clock() + timeout, links.limits, links.clock)


def continue_as_link(stream: GobStream, keys: LinkKeys, kind: str, links: LinkFactory) -> Link:
    """Make a link of a connection; its kind is control, data or tunnel."""
    sock, leftover = stream.detach()
    return links.link(sock, ClassicCodec(keys, links.limits), kind, leftover)


def authenticate_client(stream: GobStream, exchange: Exchange) -> bytes:
    """Prove the key as the side that dialled. Returns: the secret agreed on.

    Raises: AuthenticationError when the peer holds a different key; ProtocolError,
        HandshakeTimeout, LinkClosed.
    """
    stream.send(InitRequest(auth=AuthRequest(exchange.initiate())))
    challenge = stream.recv(AuthChallenge)
    if challenge.exp is None:
        raise ProtocolError("challenge without an exponential")
    stream.send(AuthResponse(exchange.verify(challenge.exp, challenge.token)))
    return exchange.secret()


def authenticate_server(stream: GobStream, request: AuthRequest, exchange: Exchange) -> bytes:
    """Prove the key as the side that was dialled. Returns: the secret agreed on.

    Raises: AuthenticationError when the peer holds a different key, HandshakeRefused when it
        finds that this side does; ProtocolError, HandshakeTimeout, LinkClosed.
    """
    if request.exp is None:
        raise ProtocolError("authentication without an exponential")
    stream.send(AuthChallenge(*exchange.accept(request.exp)))
    try:
        response = stream.recv(AuthResponse)
    except LinkClosed as exc:
        raise HandshakeRefused("peer hung up on the challenge") from exc
    exchange.finalize(response.token)
    return exchange.secret()


def link_client(
    stream: GobStream, secret: bytes, connect: Callable[[], socket.socket], links: LinkFactory
) -> Session:
    """Make the control link, dial the data connection and make its link.

    The control connection is the caller's to close; the data connection is closed here when
    anything fails.

    Raises: ProtocolError, HandshakeTimeout, LinkClosed.
    """
    timeout = links.config.auth_timeout
    control_keys, data_keys = derive_links(secret, server=False)
    control = continue_as_link(stream, control_keys, "control", links)
    session_id = _link_id(control.recv_direct(links.clock() + timeout))
    data_stream = open_stream(connect(), timeout, links)
    try:
        data_stream.send(InitRequest(link=LinkRequest(session_id)))
        data = continue_as_link(data_stream, data_keys, "data", links)
        _confirm(data, session_id, links.clock() + timeout)
    except BaseException:
        data_stream.close()
        raise
    return links.session(control, data)


def link_server(
    stream: GobStream,
    secret: bytes,
    session_id: int,
    wait_for_data: Callable[[], GobStream],
    links: LinkFactory,
) -> Session:
    """Make the control link, and the data link of the connection that `wait_for_data` returns.

    Closes and raises what `link_client` does.
    """
    timeout = links.config.link_timeout
    control_keys, data_keys = derive_links(secret, server=True)
    control = continue_as_link(stream, control_keys, "control", links)
    control.send_direct(Message(LinkRequest(session_id)), links.clock() + timeout)
    data_stream = wait_for_data()
    try:
        data = continue_as_link(data_stream, data_keys, "data", links)
        _confirm(data, session_id, links.clock() + timeout)
    except BaseException:
        data_stream.close()
        raise
    return links.session(control, data)


def _confirm(data: Link, session_id: int, deadline: float) -> None:
    """Exchange the id on the data link, which takes the secret."""
    data.send_direct(Message(LinkRequest(session_id)), deadline)
    if _link_id(data.recv_direct(deadline)) != session_id:
        raise ProtocolError("the data link is another session's")


def _link_id(message: Message) -> int:
    if not isinstance(message.meta, LinkRequest):
        raise ProtocolError("a link began without its request")
    return message.meta.id
