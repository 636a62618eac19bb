"""The stream of a classic handshake, over a pair of sockets."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from iris.config import Limits
from iris.errors import HandshakeTimeout, LinkClosed, ProtocolError
from iris.gobber import Encoder
from iris.proto.session.gob_stream import GobStream
from iris.proto.wire.session import AuthRequest, AuthResponse, InitRequest, LinkRequest
from iris.runtime.tcp import shut_down
from tests.support.sockets import tcp_pair


def stream(
    sock: socket.socket, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic
) -> GobStream:
    return GobStream(sock, clock() + seconds, Limits(), clock)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = tcp_pair()
    with one, other:
        yield one, other


def test_values_cross_a_stream_and_the_rest_is_handed_over(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    one, other = map(stream, pair)
    one.send(InitRequest(auth=AuthRequest(17)))
    one.send(AuthResponse(b"token"))
    pair[0].sendall(b"and the link's first bytes")
    assert other.recv(InitRequest) == InitRequest(auth=AuthRequest(17))
    assert other.recv(AuthResponse) == AuthResponse(b"token")
    sock, rest = other.detach()
    assert sock.gettimeout() is None
    rest += sock.recv(100) if not rest else b""
    assert rest == b"and the link's first bytes"


def test_a_handshake_ends_at_its_deadline_even_if_bytes_keep_dripping(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    data = Encoder().encode(InitRequest(link=LinkRequest(9)))
    now = 0.0

    def clock() -> float:  # each look at it takes a second, and brings a byte
        nonlocal now
        now += 1.0
        pair[0].sendall(data[int(now) : int(now) + 1])
        return now

    with pytest.raises(HandshakeTimeout):
        stream(pair[1], seconds=20.0, clock=clock).recv(InitRequest)
    assert now < 25.0


def test_a_silent_side_runs_into_the_deadline(pair: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(HandshakeTimeout):
        stream(pair[1], seconds=0.01).recv(InitRequest)


def test_a_hang_up_is_not_a_timeout(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].close()
    with pytest.raises(LinkClosed, match="closed"):
        stream(pair[1]).recv(InitRequest)


def test_an_announced_size_beyond_the_bound_is_refused_before_it_comes(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    pair[0].sendall(b"\xfc\x40\x00\x00\x00")
    with pytest.raises(ProtocolError):
        stream(pair[1]).recv(InitRequest)


def test_noise_is_a_protocol_violation(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].sendall(b"GET / HTTP/1.1\r\nHost: iris\r\n\r\n" * 10)
    with pytest.raises(ProtocolError):
        stream(pair[1]).recv(InitRequest)


def test_a_shut_down_socket_wakes_a_waiting_stream(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    waiting = stream(pair[1])
    threading.Timer(0.01, shut_down, (pair[1],)).start()
    with pytest.raises(LinkClosed):
        waiting.recv(InitRequest)
