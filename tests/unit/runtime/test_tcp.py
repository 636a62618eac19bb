"""TCP connections and handshake streams."""

import errno
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from iris.errors import HandshakeTimeout, LinkClosed, ProtocolError
from iris.gobber import Encoder
from iris.proto.link.gob_stream import GobStream
from iris.proto.wire.session import AuthRequest, AuthResponse, InitRequest, LinkRequest
from iris.runtime.tcp import Address, Listener, connect
from tests.support.sockets import tcp_pair


def stream(
    sock: socket.socket, *, seconds: float = 10.0, max_size: int = 16_384, **more: Any
) -> GobStream:
    return GobStream(
        sock,
        more.pop("clock", time.monotonic)() + seconds,
        max_size=max_size,
        max_types=128,
        **more,
    )


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = tcp_pair()
    with one, other:
        yield one, other


def test_a_connection_is_accepted_and_sends_small_packets_at_once() -> None:
    accepted: list[tuple[socket.socket, Address]] = []
    arrived = threading.Event()

    def on_connection(sock: socket.socket, remote: Address) -> None:
        accepted.append((sock, remote))
        arrived.set()

    listener = Listener(("127.0.0.1", 0), on_connection)
    listener.start()
    with connect(listener.address, 5.0) as sock:
        assert arrived.wait(5.0)
        assert accepted[0][1] == sock.getsockname()
        for end in (sock, accepted[0][0]):
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert end.gettimeout() is None
    accepted[0][0].close()
    listener.close()
    listener.close()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    with pytest.raises(LinkClosed, match="can't connect") as caught:
        connect(address, 5.0)
    assert isinstance(caught.value.__cause__, OSError)


class ExhaustedSocket:
    """A listening socket whose process runs out of descriptors for a while."""

    def __init__(self, results: list[Any]) -> None:
        self._results, self._shut = results, threading.Event()

    def getsockname(self) -> Address:
        return "127.0.0.1", 7

    def accept(self) -> Any:
        if not self._results:
            self._shut.wait(10.0)
            raise OSError(errno.EINVAL, "Invalid argument")
        result = self._results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result, ("127.0.0.1", 8)

    def shutdown(self, how: int) -> None:
        self._shut.set()

    def close(self) -> None: ...


def test_a_listener_survives_a_lack_of_descriptors_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    exhausted = OSError(errno.EMFILE, "Too many open files")
    first, second = tcp_pair()
    results: list[Any] = [exhausted, exhausted, ConnectionAbortedError(), exhausted, first, second]
    arrived: list[socket.socket] = []
    both = threading.Event()

    def on_connection(sock: socket.socket, remote: Address) -> None:
        arrived.append(sock)
        if len(arrived) == 2:
            both.set()

    with first, second, caplog.at_level(logging.WARNING):
        fake = ExhaustedSocket(results)
        listener = Listener(
            ("127.0.0.1", 0),
            on_connection,
            bind=lambda address: cast(socket.socket, fake),
            recovery=0.0,
        )
        listener.start()
        assert both.wait(5.0)
        listener.close()
    assert [record.getMessage() for record in caplog.records] == [
        "127.0.0.1:7 can't accept connections: Too many open files; trying again",
        "127.0.0.1:7 accepts connections again",
    ]


def test_a_listener_survives_whatever_becomes_of_a_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = threading.Semaphore(0)

    def on_connection(sock: socket.socket, remote: Address) -> None:
        seen.release()
        raise ValueError("our bug")

    listener = Listener(("127.0.0.1", 0), on_connection)
    listener.start()
    for _ in range(2):
        with connect(listener.address, 5.0) as sock:
            assert seen.acquire(timeout=5.0)
            assert sock.recv(1) == b""  # closed, not forgotten
    listener.close()


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


def test_a_side_that_hangs_up_is_told_apart_from_a_silent_one(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    pair[0].close()
    with pytest.raises(LinkClosed, match="hung up"):
        stream(pair[1]).recv(InitRequest)


def test_an_announced_size_beyond_the_bound_is_refused_before_it_comes(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    pair[0].sendall(b"\xfc\x40\x00\x00\x00")
    with pytest.raises(ProtocolError):
        stream(pair[1]).recv(InitRequest)


def test_noise_breaks_the_rules(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].sendall(b"GET / HTTP/1.1\r\nHost: iris\r\n\r\n" * 10)
    with pytest.raises(ProtocolError):
        stream(pair[1]).recv(InitRequest)


def test_an_interrupt_wakes_who_waits(pair: tuple[socket.socket, socket.socket]) -> None:
    waiting = stream(pair[1])
    threading.Timer(0.01, waiting.interrupt).start()
    with pytest.raises(LinkClosed):
        waiting.recv(InitRequest)
