"""TCP connections: dialled and accepted."""

import errno
import logging
import socket
import threading
from typing import Any, cast

import pytest

from iris.errors import LinkClosed
from iris.runtime.tcp import Address, Listener, connect
from tests.support.sockets import tcp_pair


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


def test_connecting_to_a_closed_port_fails() -> None:
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


def test_a_listener_survives_errors_of_connections(
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
    assert caplog.text.count("ValueError: our bug") == 2
