"""A second suite, without proof or encryption, and with one link per session; what suites need."""

import socket
import struct
import time
from collections.abc import Callable
from typing import cast

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from iris.config import Limits, SessionConfig
from iris.errors import AuthenticationError, LinkClosed, MessageTooBig, ProtocolError
from iris.gobber import Decoder, Encoder
from iris.metrics import Metrics
from iris.proto.link.base import LinkCodec
from iris.proto.link.link import Link
from iris.proto.session.base import FindKey, LinkFactory
from iris.proto.session.classic import ClassicSuite
from iris.proto.session.session import Session
from iris.proto.wire.link import Header
from iris.proto.wire.message import Message, Payload
from iris.runtime.deadline import socket_timeout
from iris.runtime.tcp import Address, connect, handshake_errors, hang_up

_GREETING = b"null"
_FRAME = struct.Struct("<BII")  # whether there is a payload; bytes of the head, of the payload
_TUNNEL = struct.Struct("<QQ16s")  # connection, tunnel, key


def link_factory(
    config: SessionConfig | None = None,
    limits: Limits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> LinkFactory:
    return LinkFactory(
        config=config or SessionConfig(), limits=limits or Limits(), metrics=Metrics(), clock=clock
    )


def tunnel_suite(links: LinkFactory) -> ClassicSuite:
    """The classic suite, for tunnels only, which need no key of a network."""
    return ClassicSuite(cast(RSAPrivateKey, None), links)


class NullCodec(LinkCodec):
    def __init__(self, limits: Limits) -> None:
        self._limits, self._bound = limits, limits.unauthenticated_size
        self._data = bytearray()
        self._encoder, self._decoder = Encoder(), Decoder(max_size=limits.message_size)

    def seal(self, message: Message) -> tuple[bytes, ...]:
        head = self._encoder.encode(Header(message.meta))
        frame = _FRAME.pack(message.payload is not None, len(head), len(message.data()))
        return (frame + head, message.data())

    def feed(self, data: bytes) -> None:
        self._data += data

    def open(self) -> Message | None:
        if len(self._data) < _FRAME.size:
            return None
        has_payload, head, payload = _FRAME.unpack_from(self._data)
        if max(head, payload) > self._bound:
            raise MessageTooBig(max(head, payload), self._bound)
        start = _FRAME.size + head
        if len(self._data) < start + payload:
            return None
        meta = self._decoder.decode(self._data[_FRAME.size : start], Header).meta
        data = bytes(self._data[start : start + payload])
        del self._data[: start + payload]
        return Message(meta, Payload.of(data) if has_payload else None)

    def raise_bounds(self) -> None:
        self._bound = self._limits.message_size


class NullSuite:
    def __init__(self, links: LinkFactory) -> None:
        self._links = links
        self.made: list[Session] = []

    def dial(self, address: Address) -> Session:
        sock = connect(address, self._links.config.dial_timeout)
        try:
            sock.sendall(_GREETING)
            return self._session(sock)
        except BaseException:
            hang_up(sock)
            raise

    def acceptor(self) -> "NullSuite":
        return self

    def accept(self, sock: socket.socket, authenticated: Callable[[], None]) -> Session | None:
        if self._recv(sock, len(_GREETING), self._links.clock() + 1.0) != _GREETING:
            raise ProtocolError("not the null suite")
        authenticated()
        return self._session(sock)

    def close(self) -> None: ...

    def _session(self, sock: socket.socket) -> Session:
        link = self._link(sock, "session")
        session = self._links.session(link, link)
        self.made.append(session)
        return session

    def _link(self, sock: socket.socket, kind: str) -> Link:
        return self._links.link(sock, NullCodec(self._links.limits), kind)

    def _recv(self, sock: socket.socket, size: int, deadline: float) -> bytes:
        with handshake_errors():
            sock.settimeout(socket_timeout(deadline, self._links.clock))
            data = sock.recv(size, socket.MSG_WAITALL)
            sock.settimeout(None)
        if len(data) < size:
            raise LinkClosed("connection closed during the handshake")
        return data

    def dial_tunnel(
        self, sock: socket.socket, conn_id: int, tun_id: int, key: bytes, deadline: float
    ) -> Link:
        sock.sendall(_TUNNEL.pack(conn_id, tun_id, key))
        return self._link(sock, "tunnel")

    def accept_tunnel(
        self, sock: socket.socket, find_key: FindKey, deadline: float
    ) -> tuple[int, int, Link]:
        conn_id, tun_id, key = _TUNNEL.unpack(self._recv(sock, _TUNNEL.size, deadline))
        if find_key(conn_id, tun_id) != key:
            raise AuthenticationError("not this tunnel's key")
        return conn_id, tun_id, self._link(sock, "tunnel")
