"""Tunnels with threads, against a fake node."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import iris
from iris.client.limits import TUNNEL_BUFFER
from iris.relay_protocol.schema import Op
from iris.runtime.batch import Batch
from tests.support.fake_node import FakeNode

PATIENCE = 10.0  # seconds


@contextlib.contextmanager
def opened(chunk_limit: int = 10) -> Iterator[tuple[FakeNode, iris.Tunnel, ThreadPoolExecutor]]:
    """Open a tunnel; yield also its node, and threads for calls that block."""
    with FakeNode() as node, ThreadPoolExecutor(4) as elsewhere:
        welcome = node.accept_soon()
        connection = iris.connect(node.port)
        welcome.join()
        opening = elsewhere.submit(connection.tunnel, "c", 1.0)
        number = node.expect(Op.TUNNEL_INIT).id
        node.send(Op.TUNNEL_CONFIRM, id=number, timed_out=False, chunk_limit=chunk_limit)
        tunnel = opening.result(PATIENCE)
        assert node.expect(Op.TUNNEL_ALLOW).space == TUNNEL_BUFFER
        try:
            yield node, tunnel, elsewhere
        finally:
            node.vanish()
            connection.close()


def chunk(node: FakeNode) -> tuple[int, bytes]:
    body = node.expect(Op.TUNNEL_TRANSFER)
    return body.size, body.chunk


def test_a_message_waits_for_credit() -> None:
    with opened() as (node, tunnel, elsewhere):
        sending = elsewhere.submit(tunnel.send, b"0123456789abcde")
        node.send(Op.TUNNEL_ALLOW, id=0, space=12)
        assert chunk(node) == (15, b"0123456789")
        with pytest.raises(TimeoutError):
            sending.result(0.02)
        node.send(Op.TUNNEL_ALLOW, id=0, space=3)
        assert chunk(node) == (0, b"abcde")
        sending.result(PATIENCE)


def test_a_message_without_credit_times_out() -> None:
    with opened() as (node, tunnel, elsewhere):
        with pytest.raises(TimeoutError, match="0 of 15"):
            tunnel.send(b"0123456789abcde", 0.01)
        node.send(Op.TUNNEL_ALLOW, id=0, space=10)
        sending = elsewhere.submit(tunnel.send, b"0123456789abcde", PATIENCE)
        assert chunk(node) == (15, b"0123456789")
        with pytest.raises(TimeoutError, match="other threads are sending"):
            tunnel.send(b"another", 0.01)
        node.send(Op.TUNNEL_ALLOW, id=0, space=100)
        assert chunk(node) == (0, b"abcde")
        sending.result(PATIENCE)
        tunnel.send(b"next", 0)
        assert chunk(node) == (4, b"next")


def test_messages_of_many_threads_stay_whole() -> None:
    with opened() as (node, tunnel, elsewhere):
        messages = [bytes([i]) * 25 for i in range(4)]
        sending = [elsewhere.submit(tunnel.send, message) for message in messages]
        for _ in range(10):
            node.send(Op.TUNNEL_ALLOW, id=0, space=10)
        got = []
        for _ in messages:
            size, data = chunk(node)
            while len(data) < size:
                data += chunk(node)[1]
            got.append(data)
        assert sorted(got) == messages
        for call in sending:
            call.result(PATIENCE)


def test_messages_are_received_in_order_and_then_the_end() -> None:
    with opened() as (node, tunnel, _):
        with pytest.raises(TimeoutError):
            tunnel.recv(0)
        for size, data in ((3, b"one"), (12, b"long mess"), (0, b"age"), (1, b"!")):
            node.send(Op.TUNNEL_TRANSFER, id=0, size=size, chunk=data)
        node.send(Op.TUNNEL_CLOSE, id=0, reason="")
        assert list(tunnel) == [b"one", b"long message", b"!"]
        assert tunnel.closed
        with pytest.raises(iris.Closed):
            tunnel.recv()
        with pytest.raises(iris.Closed):
            tunnel.send(b"x")
        tunnel.close()


def test_a_broken_tunnel_ends_an_iteration_with_the_reason() -> None:
    with opened() as (node, tunnel, elsewhere):
        receiving, sending = elsewhere.submit(list, tunnel), elsewhere.submit(tunnel.send, b"x")
        node.send(Op.TUNNEL_TRANSFER, id=0, size=1, chunk=b"1")
        node.send(Op.TUNNEL_CLOSE, id=0, reason="cut")
        for call in (receiving, sending):
            error = call.exception(PATIENCE)
            assert isinstance(error, iris.Closed)
            assert error.reason == "cut"


def test_credit_is_granted_when_messages_are_received() -> None:
    lot = TUNNEL_BUFFER // 16
    with opened(chunk_limit=65_536) as (node, tunnel, _):
        for start in range(0, lot, 65_536):
            node.send(Op.TUNNEL_TRANSFER, id=0, size=0 if start else lot, chunk=bytes(65_536))
        assert len(tunnel.recv(PATIENCE)) == lot
        assert node.expect(Op.TUNNEL_ALLOW).space == lot


def test_closing_waits_for_the_node() -> None:
    with opened() as (node, tunnel, elsewhere):
        with tunnel:
            leaving = elsewhere.submit(tunnel.close)
            assert node.expect(Op.TUNNEL_CLOSE).id == 0
            with pytest.raises(TimeoutError):
                leaving.result(0.02)
            node.send(Op.TUNNEL_CLOSE, id=0, reason="")
            leaving.result(PATIENCE)
        assert tunnel.closed


def test_an_unconfirmed_close_times_out(caplog: pytest.LogCaptureFixture) -> None:
    with opened() as (_, tunnel, _):
        tunnel.close(timeout=0.01)
        assert not tunnel.closed
    assert "close timed out" in caplog.text


def test_a_lost_node_ends_all_waiting() -> None:
    with opened() as (node, tunnel, elsewhere):
        calls: list[Future[Any]] = [
            elsewhere.submit(tunnel.recv),
            elsewhere.submit(tunnel.send, b"x"),
        ]
        node.vanish()
        for call in calls:
            assert isinstance(call.exception(PATIENCE), iris.Closed)


def test_bytes_are_read_as_from_a_file() -> None:
    with opened() as (node, tunnel, _):
        for data in (b"one\ntw", b"o\nthree", b"!"):
            node.send(Op.TUNNEL_TRANSFER, id=0, size=len(data), chunk=data)
        node.send(Op.TUNNEL_CLOSE, id=0, reason="")
        with tunnel.makefile() as file:
            assert file.readline() == b"one\n"
            assert file.read(3) == b"two"
            assert file.read() == b"\nthree!"
            assert file.read() == b""


def test_a_file_raises_for_a_broken_tunnel() -> None:
    with opened() as (node, tunnel, _):
        node.send(Op.TUNNEL_TRANSFER, id=0, size=2, chunk=b"ab")
        node.send(Op.TUNNEL_CLOSE, id=0, reason="cut")
        with tunnel.makefile() as file, pytest.raises(iris.Closed, match="cut"):
            file.read()


def test_a_file_times_out() -> None:
    with (
        opened() as (_, tunnel, _),
        tunnel.makefile(timeout=0.01) as file,
        pytest.raises(TimeoutError),
    ):
        file.read(1)


def test_bytes_are_written_as_to_a_file() -> None:
    with opened() as (node, tunnel, _):
        node.send(Op.TUNNEL_ALLOW, id=0, space=1_000)
        with tunnel.makefile("wb", buffering=8) as file:
            file.write(b"one")
            file.write(b"two")
            file.flush()
            assert chunk(node) == (6, b"onetwo")
            file.write(b"three")
        assert chunk(node) == (5, b"three")
        assert not tunnel.closed
        with tunnel.makefile("rwb") as both:
            both.write(b"both ways")
            both.flush()
            node.send(Op.TUNNEL_TRANSFER, id=0, size=2, chunk=b"ok")
            assert both.read1(10) == b"ok"
        with pytest.raises(ValueError, match="mode"):
            tunnel.makefile("r")  # type: ignore[call-overload]


def test_a_long_write_is_sent_in_several_messages() -> None:
    with opened(chunk_limit=65_536) as (node, tunnel, elsewhere):
        node.send(Op.TUNNEL_ALLOW, id=0, space=1 << 30)
        data = bytes(3 << 20)

        def write() -> None:
            with tunnel.makefile("wb") as file:
                file.write(data)

        writing = elsewhere.submit(write)
        sizes: list[int] = []
        while sum(sizes) < len(data):
            size, _ = chunk(node)
            sizes.append(size)
            for _ in range((size - 1) // 65_536):
                chunk(node)
        writing.result(PATIENCE)
        assert max(sizes) == 1 << 20


def test_threads_that_receive_share_the_messages() -> None:
    with opened() as (node, tunnel, elsewhere):
        receiving = [elsewhere.submit(tunnel.recv, PATIENCE) for _ in range(3)]
        for i in range(3):
            node.send(Op.TUNNEL_TRANSFER, id=0, size=1, chunk=bytes([i]))
        assert sorted(call.result(PATIENCE) for call in receiving) == [b"\0", b"\1", b"\2"]
        assert not [
            thread
            for thread in threading.enumerate()
            if "pool" in thread.name and thread.name.startswith("iris-")
        ]


def test_waiting_in_a_batch_flushes_it() -> None:
    def talk() -> bytes:
        with Batch():
            tunnel.send(b"0123456789abcde")
            return tunnel.recv(PATIENCE)

    with opened() as (node, tunnel, elsewhere):
        node.send(Op.TUNNEL_ALLOW, id=0, space=10)
        talking = elsewhere.submit(talk)
        assert chunk(node) == (15, b"0123456789")
        node.send(Op.TUNNEL_ALLOW, id=0, space=10)
        assert chunk(node) == (0, b"abcde")
        node.send(Op.TUNNEL_TRANSFER, id=0, size=2, chunk=b"ok")
        assert talking.result(PATIENCE) == b"ok"
