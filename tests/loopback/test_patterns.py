"""All patterns between programs on one node, with threads."""

import queue
import threading
from pathlib import Path

import pytest

import iris
from tests.support.irisctl import publish_until
from tests.support.node import running_node

PATIENCE = 10.0  # seconds


class Everything(iris.Handler):
    """A service of all kinds."""

    def __init__(self) -> None:
        self.broadcasts: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.connection: iris.Connection | None = None
        self.disconnects: list[iris.Closed] = []

    def init(self, connection: iris.Connection) -> None:
        self.connection = connection

    def handle_broadcast(self, message: bytes) -> None:
        self.broadcasts.put(message)

    def handle_request(self, request: bytes) -> bytes:
        if request == b"refuse":
            raise iris.Fault("I'd rather not")
        if request == b"fail":
            raise KeyError("what is missing")
        if request.startswith(b"ask "):
            assert self.connection is not None
            return b"heard " + self.connection.request(request[4:].decode(), b"you", 5.0)
        return request

    def handle_tunnel(self, tunnel: iris.Tunnel) -> None:
        for message in tunnel:
            tunnel.send(message[::-1])

    def handle_disconnect(self, reason: iris.Closed) -> None:
        self.disconnects.append(reason)


def test_requests_are_answered_failed_or_time_out(port: int) -> None:
    with iris.register("all", Everything(), port=port), iris.connect(port) as client:
        assert client.request("all", b"hello", 5.0) == b"hello"
        assert client.request("all", b"", 5.0) == b""
        assert client.request("all", bytearray(b"x" * 1_000_000), 10.0) == b"x" * 1_000_000
        with pytest.raises(iris.Fault, match=r"^I'd rather not$"):
            client.request("all", b"refuse", 5.0)
        with pytest.raises(iris.Fault, match=r"^KeyError: 'what is missing'$"):
            client.request("all", b"fail", 5.0)
        with pytest.raises(TimeoutError):
            client.request("nobody", b"hello", 0.05)


def test_a_handler_may_ask_its_own_cluster(port: int) -> None:
    with iris.register("self", Everything(), port=port), iris.connect(port) as client:
        assert client.request("self", b"ask self", 5.0) == b"heard you"


def test_many_threads_share_a_connection(port: int) -> None:
    wrong: list[bytes] = []

    def run(number: int) -> None:
        for i in range(100):
            text = f"{number} {i}".encode()
            if client.request("shared", text, 10.0) != text:
                wrong.append(text)

    with iris.register("shared", lambda request: request, port=port), iris.connect(port) as client:
        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with client.batch():
            futures = [client.submit("shared", str(i).encode(), 10.0) for i in range(500)]
        assert [future.result() for future in futures] == [str(i).encode() for i in range(500)]
    assert not wrong


def test_a_broadcast_reaches_all_members(port: int) -> None:
    members = [Everything(), Everything()]
    with (
        iris.register("both", members[0], port=port),
        iris.register("both", members[1], port=port) as service,
    ):
        service.connection.broadcast("both", b"news")
        assert [member.broadcasts.get(timeout=PATIENCE) for member in members] == [b"news"] * 2


def test_events_arrive_during_a_subscription(port: int) -> None:
    events: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    with iris.connect(port) as one, iris.connect(port) as other:
        with one.subscribe("weather", events.put, iris.TopicLimits(event_threads=1)):
            with pytest.raises(iris.StateError):
                one.subscribe("weather", events.put)
            publish_until(lambda: not events.empty(), "weather", b"dry", port)
            while events.get(timeout=PATIENCE) != b"end":
                other.publish("weather", b"end")
        one.subscribe("weather", events.put).close()
        with pytest.raises(iris.StateError):
            one.unsubscribe("weather")


def test_tunnels_carry_messages_of_any_size_both_ways(port: int) -> None:
    with (
        iris.register("back", Everything(), port=port),
        iris.connect(port) as client,
        client.tunnel("back", 5.0) as tunnel,
    ):
        for size in (1, 65_535, 65_536, 65_537, 300_000, 16 << 20):
            message = bytes(range(256)) * (size // 256 + 1)
            tunnel.send(message[:size], PATIENCE)
            assert tunnel.recv(PATIENCE) == message[:size][::-1]
        with pytest.raises(TimeoutError):
            tunnel.recv(0.01)
        with pytest.raises(ValueError, match="empty"):
            tunnel.send(b"")


def test_messages_abandoned_halfway_are_forgotten(port: int) -> None:
    handler, go_on = iris.Handler(), threading.Event()
    got: list[bytes] = []

    @handler.on_tunnel
    def later(tunnel: iris.Tunnel) -> None:
        assert go_on.wait(PATIENCE)
        got.extend(tunnel)

    with (
        iris.register("slow", handler, port=port),
        iris.connect(port) as client,
        client.tunnel("slow", 5.0) as tunnel,
    ):
        abandoned = 0
        for _ in range(6):
            try:
                tunnel.send(bytes(32 << 20), 0.2)
            except iris.TimedOut:
                abandoned += 1
        assert abandoned >= 3
        go_on.set()
        tunnel.send(b"small", PATIENCE)
        tunnel.close()
    assert len(got) == 6 - abandoned + 1
    assert got[-1] == b"small"


def test_a_file_goes_through_a_tunnel(port: int) -> None:
    handler = iris.Handler()
    lines: queue.SimpleQueue[list[bytes]] = queue.SimpleQueue()

    @handler.on_tunnel
    def read(tunnel: iris.Tunnel) -> None:
        with tunnel.makefile("rb") as file:
            lines.put(file.readlines())

    sent = [f"line {i}\n".encode() for i in range(50_000)]
    with (
        iris.register("lines", handler, port=port),
        iris.connect(port) as client,
        client.tunnel("lines", 5.0) as tunnel,
    ):
        with tunnel.makefile("wb") as file:
            file.writelines(sent)
        tunnel.close()
        assert lines.get(timeout=PATIENCE) == sent


@pytest.mark.parametrize("whole", [True, False])
def test_a_broken_stream_differs_from_a_complete_one(port: int, *, whole: bool) -> None:
    handler, got, ends = iris.Handler(), queue.SimpleQueue[bytes](), queue.SimpleQueue[str]()

    @handler.on_tunnel
    def read(tunnel: iris.Tunnel) -> None:
        try:
            for message in tunnel:
                got.put(message)
            ends.put("")
        except iris.Closed as exc:
            with pytest.raises(iris.Closed, match="disconnected"), tunnel.makefile() as file:
                file.read()
            ends.put(exc.reason)

    with iris.register("stream", handler, port=port), iris.connect(port) as client:
        tunnel = client.tunnel("stream", 5.0)
        tunnel.send(b"so far")
        assert got.get(timeout=PATIENCE) == b"so far"
        if whole:
            client.close()  # which closes its tunnels
            assert ends.get(timeout=PATIENCE) == ""
        else:
            client.abort()
            assert ends.get(timeout=PATIENCE).startswith("the other application disconnected")


def test_a_lost_node_fails_all_that_is_pending(tmp_path: Path) -> None:
    handler, dropped = Everything(), threading.Event()
    with running_node(tmp_path / "node.log") as port:
        service = iris.register("lonely", handler, port=port)
        client = iris.connect(port, on_disconnect=lambda _: dropped.set())
        tunnel = client.tunnel("lonely", 5.0)
        assert client.request("lonely", b"hello", 5.0) == b"hello"
    assert dropped.wait(PATIENCE)
    assert service.wait(PATIENCE)
    assert len(handler.disconnects) == 1
    for call in (
        lambda: client.request("lonely", b"", 1.0),
        lambda: tunnel.send(b"x"),
        tunnel.recv,
        lambda: client.publish("t", b""),
    ):
        with pytest.raises(iris.Closed):
            call()
    client.close()
    service.close()
    with pytest.raises(ConnectionRefusedError):
        iris.connect(port)
