"""The relay with its sockets and threads, on loopback, above a fake network."""

import contextlib
import gc
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from iris.config import Config
from iris.errors import ConfigError, LimitReached
from iris.proto.iris.base import Delivery, Handler
from iris.proto.iris.connection import Connection
from iris.relay_protocol.schema import DEFAULT, VERSION, Op
from iris.runtime.send_buffer import SendBuffer
from iris.runtime.timer import Timer
from iris.service.relay.server import RelayServer
from tests.support.client import Client, Closed, Denied, Fault, TimedOut
from tests.support.fake_scribe import FakeNetwork
from tests.support.relay_node import attach, connect, relay_config, running
from tests.support.waiting import wait_for


@pytest.fixture
def relay() -> Iterator[RelayServer]:
    with running() as relay:
        yield relay


# Listening


def test_it_listens_on_both_loopback_addresses(relay: RelayServer) -> None:
    Client(relay.port, host="127.0.0.1").close()
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        client = Client(relay.port, host="::1")
    except OSError as exc:
        pytest.skip(f"no IPv6 here: {exc}")
    assert client.close() == ""


def test_a_port_in_use_is_reported_in_one_line(relay: RelayServer) -> None:
    config = relay_config()
    timer = Timer()
    other = RelayServer(FakeNetwork()[1], config=replace_port(config, relay.port), timer=timer)
    with pytest.raises(ConfigError) as error:
        other.start()
    assert (
        str(error.value)
        == f"port {relay.port} is in use, maybe by another node: choose one with -port"
    )


def replace_port(config: Config, port: int) -> Config:
    return replace(config, relay=replace(config.relay, port=port))


def test_a_port_can_be_had_again_at_once_after_a_close() -> None:
    with running() as first:
        Client(first.port).close()
        port = first.port
    with running(replace_port(relay_config(), port)) as second:
        assert second.port == port


# Attaching


def test_another_version_is_denied_and_the_stream_ends(relay: RelayServer) -> None:
    raw = connect(relay)
    raw.send(Op.INIT, version="v2", cluster="")
    assert raw.expect(Op.DENY).reason == f"Unsupported protocol. Client: v2. Iris: {VERSION}."
    assert raw.at_end()


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x10iris-relay-magic",
        b"\x00\x11iris-client-cigam",
        b"\x02",
        b"\xff" * 99,
    ],
)
def test_another_protocol_is_hung_up_on_without_a_packet(relay: RelayServer, first: bytes) -> None:
    raw = connect(relay)
    raw.send_bytes(first)
    assert raw.at_end()


def test_a_silent_connection_is_hung_up_on_and_delays_no_other() -> None:
    with running(relay_config(init_timeout=0.5)) as relay:
        attached = relay.metrics.clients_attached
        silent = [connect(relay) for _ in range(20)]
        silent[0].send_bytes(b"\x00\x11iris")
        with Client(relay.port):
            assert attached["failed"].value == 0
        assert all(raw.at_end() for raw in silent)
        assert attached["failed"].value == 20
        assert attached["accepted"].value == 1


def test_the_longest_silent_connection_is_denied_when_too_many_are_attaching() -> None:
    with running(relay_config(limits={"client_handshakes": 2})) as relay:
        silent, second = connect(relay), connect(relay)
        third = connect(relay)
        assert silent.expect(Op.DENY).reason == "limit of 2 attaching applications reached"
        assert silent.at_end()
        for other in (third, second):
            other.init()
        assert attach(relay)
        assert relay.metrics.clients_attached["denied"].value == 1


def test_applications_beyond_the_limit_are_denied_until_one_leaves() -> None:
    with running(relay_config(limits={"clients": 2})) as relay:
        first, _ = Client(relay.port), Client(relay.port)
        with pytest.raises(Denied, match="limit of 2 applications reached"):
            Client(relay.port)
        first.close()
        wait_for(lambda: attaches(relay))  # once the node's thread has noticed


def attaches(relay: RelayServer) -> bool:
    with contextlib.suppress(Denied):
        Client(relay.port)
        return True
    return False


class Refusing:
    """An overlay that rejects every connection."""

    def connect(self, cluster: str, handler: Handler) -> Connection:
        handler.handle_broadcast(Delivery(b"never sent"))
        raise LimitReached("the network is full")


def test_an_error_while_connecting_is_the_reason_of_a_deny() -> None:
    with running(overlay=Refusing()) as relay, pytest.raises(Denied, match="the network is full"):
        Client(relay.port)


def test_no_thread_left_is_the_reason_of_a_deny(
    relay: RelayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = connect(relay)  # a connection from before still finds its thread
    raw.init()

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        late = connect(relay)
        assert late.expect(Op.DENY).reason == "can't start new thread"
    Client(relay.port).close()


# Talking


def test_packets_may_come_in_single_bytes_and_all_at_once(relay: RelayServer) -> None:
    service = Client(relay.port, "echo", on_request=lambda data: data)
    raw = attach(relay)
    packets = b"".join(
        DEFAULT.client(Op.REQUEST, id=i, cluster="echo", request=bytes([i]), timeout=5_000)
        for i in range(200)
    )
    for i in range(200):
        raw.send_bytes(packets[i : i + 1])
    raw.send_bytes(packets[200:])
    assert sorted(
        (body.id, body.result) for body in (raw.expect(Op.REPLY) for _ in range(200))
    ) == [(i, bytes([i])) for i in range(200)]
    service.close()


def test_the_greatest_message_passes_and_a_greater_one_is_refused_before_it_is_sent(
    relay: RelayServer,
) -> None:
    limit = Config().limits.message_size
    listener, raw = Client(relay.port, "c"), attach(relay)
    message = bytes(range(256)) * (limit // 256)
    raw.send(Op.BROADCAST, cluster="c", message=message)
    assert listener.broadcasts.get(timeout=20) == message
    raw.send_bytes(b"\x03\x01c" + b"\x81\x80\x80\x20")  # one byte more
    assert raw.expect(Op.CLOSE).reason == f"message of {limit + 1} bytes, limit {limit}"
    assert raw.at_end()
    listener.close()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"\x0e", "unknown opcode 14"),
        (b"\x00\x11iris-client-magic", "unknown opcode 0"),
        (b"\x01", "unknown opcode 1"),
        (b"\x05\x00\x02", "invalid boolean 2"),
        (b"\x06" + b"\xff" * 10, "varint exceeds 64 bits"),
        (b"\x06\x01\xff", "string is not valid UTF-8"),
        (b"\x07\x01t", "topic: not subscribed"),
        (b"\x0c\x00\x00\x81\x80\x04", "message of 65537 bytes, limit 65536"),
    ],
)
def test_a_violation_is_the_reason_of_a_close_and_what_came_before_counts(
    relay: RelayServer, bad: bytes, reason: str
) -> None:
    listener, raw = Client(relay.port, "c"), attach(relay)
    raw.send_bytes(
        DEFAULT.client(Op.BROADCAST, cluster="c", message=b"before")
        + bad
        + DEFAULT.client(Op.BROADCAST, cluster="c", message=b"")
    )
    assert raw.expect(Op.CLOSE).reason == reason
    assert raw.at_end()
    assert listener.broadcasts.get(timeout=5) == b"before"
    assert listener.close() == ""
    assert listener.broadcasts.empty()
    assert relay.metrics.clients_closed["protocol violation"].value == 1


def test_a_violation_amid_a_flood_of_data_does_not_lose_the_reason(relay: RelayServer) -> None:
    raw = attach(relay)
    with contextlib.suppress(OSError):  # the node may hang up before all of it is out
        raw.send_bytes(b"\x0e" + bytes(3_000_000))
    assert raw.expect(Op.CLOSE).reason == "unknown opcode 14"
    assert raw.at_end()


def test_our_own_bug_costs_one_client_and_is_logged(
    relay: RelayServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def publish(self: Connection, topic: str, data: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Connection, "publish", publish)
    client = Client(relay.port)
    client.publish("t", b"")
    assert client.wait_closed() == "internal error"
    assert "ZeroDivisionError" in caplog.text
    Client(relay.port).close()


def test_many_threads_may_share_a_connection(relay: RelayServer) -> None:
    service, client = (
        Client(relay.port, "echo", on_request=lambda data: data),
        Client(relay.port),
    )
    failures: list[BaseException] = []

    def ask(i: int) -> None:
        try:
            for j in range(50):
                assert client.request("echo", b"%d/%d" % (i, j), 10) == b"%d/%d" % (i, j)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    client.close(), service.close()


def test_messages_of_one_client_keep_their_order(relay: RelayServer) -> None:
    listener, client = Client(relay.port, "c"), Client(relay.port)
    for i in range(3_000):
        client.broadcast("c", b"%d" % i)
    assert [listener.broadcasts.get(timeout=5) for _ in range(3_000)] == [
        b"%d" % i for i in range(3_000)
    ]
    client.close(), listener.close()


def test_a_faulty_and_a_silent_service(relay: RelayServer) -> None:
    def serve(data: bytes) -> bytes:
        raise Fault("no " + data.decode())

    service, silent, client = (
        Client(relay.port, "faulty", on_request=serve),
        Client(relay.port, "silent"),
        Client(relay.port),
    )
    with pytest.raises(Fault, match="no thanks"):
        client.request("faulty", b"thanks")
    begin = time.monotonic()
    with pytest.raises(TimedOut):
        client.request("silent", b"", 0.1)
    assert 0.1 <= time.monotonic() - begin < 1
    client.close(), service.close(), silent.close()


# Leaving


def test_replies_sent_right_before_a_close_are_not_lost(relay: RelayServer) -> None:
    raw, client = attach(relay, "c"), Client(relay.port)
    answers = [client.request_later("c", b"%d" % i, 10) for i in range(50)]
    replies = b"".join(
        DEFAULT.client(Op.REPLY, id=raw.expect(Op.REQUEST).id, success=True, result=b"ok")
        for _ in range(50)
    )
    raw.send_bytes(replies + DEFAULT.client(Op.CLOSE))
    assert raw.expect(Op.CLOSE).reason == ""
    assert raw.at_end()
    assert [answer.result(5) for answer in answers] == [b"ok"] * 50
    client.close()


def test_a_close_follows_all_that_a_slow_reader_is_owed(relay: RelayServer) -> None:
    slow, client = attach(relay, "c"), Client(relay.port)
    message = bytes(20 << 20)
    client.broadcast("c", message)
    client.close()
    slow.send(Op.CLOSE)
    assert slow.expect(Op.BROADCAST).message == message
    assert slow.expect(Op.CLOSE).reason == ""
    assert slow.at_end()


def test_a_client_that_half_closes_after_its_close_gets_the_answer(relay: RelayServer) -> None:
    raw = attach(relay)
    raw.send(Op.CLOSE)
    raw.sock.shutdown(socket.SHUT_WR)
    assert raw.expect(Op.CLOSE).reason == ""
    assert raw.at_end()


def test_callers_of_a_service_that_disconnects_get_a_fault_at_once(relay: RelayServer) -> None:
    service, client = attach(relay, "c"), Client(relay.port)
    answer = client.request_later("c", b"", 60)
    service.expect(Op.REQUEST)
    service.close()
    with pytest.raises(Fault, match="service disconnected"):
        answer.result(2)
    client.close()


def test_a_connection_that_never_hangs_up_is_cut_after_the_drain_timeout() -> None:
    with running(relay_config(drain_timeout=0.1)) as relay:
        raw = attach(relay)
        raw.send(Op.CLOSE)
        raw.expect(Op.CLOSE)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            for _ in iter(lambda: raw.send(Op.CLOSE), False):
                pass


def test_slow_listeners_miss_events_and_stay() -> None:
    with running(relay_config(limits={"client_send_buffer": 200_000})) as relay:
        slow, client = attach(relay, "c"), Client(relay.port)

        def dropped() -> int:
            client.broadcast("c", bytes(50_000))
            return relay.metrics.dropped["broadcast"].value

        wait_for(dropped)
        client.request_later("c", b"question", 30)
        while (packet := slow.recv())[0] == Op.BROADCAST:
            assert packet[1].message == bytes(50_000)
        assert packet[1].request == b"question"
        client.close()


def test_a_service_that_takes_nothing_is_closed_and_its_callers_know() -> None:
    with running(
        relay_config(limits={"client_send_buffer": 200_000}, drain_timeout=0.2, stall_timeout=0.2)
    ) as relay:
        service, client = attach(relay, "c"), Client(relay.port)
        answers = []
        while not relay.metrics.clients_closed["slow consumer"].value:
            # the last ones may find no service any more
            answers.append(client.request_later("c", bytes(50_000), 2))
        for answer in answers:
            with pytest.raises((Fault, TimedOut)):
                answer.result(5)
        client.close()
        service.close()


class Keeping(Connection):
    """A network that keeps what is broadcast."""

    asking = False

    def __init__(self) -> None:
        self.kept: list[bytes] = []
        self.came = threading.Event()

    def connect(self, cluster: str, handler: Handler) -> "Keeping":
        return self

    def broadcast(self, cluster: str, data: bytes) -> None:
        self.kept.append(data)
        self.came.set()

    def nothing(self, *arguments: object, **others: object) -> None:
        pass

    publish = request = subscribe = unsubscribe = tunnel = leave = close = nothing


def test_nothing_of_its_packets_is_kept_while_a_client_is_idle() -> None:
    network = Keeping()
    with running(overlay=network) as relay:
        attach(relay).send(Op.BROADCAST, cluster="c", message=bytes(300_000))
        assert network.came.wait(5)
        # the list's, and the call's
        wait_for(lambda: sys.getrefcount(network.kept[0]) == 2)


def test_clients_that_are_gone_leave_no_work_to_the_garbage_collector(relay: RelayServer) -> None:
    packets = DEFAULT.client(Op.INIT, version=VERSION, cluster="c"), DEFAULT.client(Op.CLOSE)
    for count in (1, 50):
        gc.collect()
        gc.disable()
        try:
            for _ in range(count):
                with socket.create_connection(("127.0.0.1", relay.port)) as raw:
                    raw.sendall(b"".join(packets))
                    while raw.recv(1_000):
                        pass
            wait_for(lambda: relay.metrics.clients.value == 0)
            found = gc.collect()
        finally:
            gc.enable()
    assert found < 50


# Throttling by peers


class Uphill(Keeping):
    """A network whose peers take nothing."""

    def __init__(self, peers: int) -> None:
        super().__init__()
        self.pairs = [socket.socketpair() for _ in range(peers)]
        self.buffers = [SendBuffer(near, name="peer", limit=1 << 30) for near, _ in self.pairs]
        self.changed = threading.Condition()

    def broadcast(self, cluster: str, data: bytes) -> None:
        for buffer in self.buffers:
            buffer.write(data)
        with self.changed:
            self.kept.append(data)
            self.changed.notify_all()


@pytest.mark.parametrize("peers", [1, 10])
def test_whose_traffic_fills_peers_is_not_read_from_until_they_take_some(peers: int) -> None:
    network = Uphill(peers)
    with running(
        relay_config(limits={"peer_high_water": 1_000_000}, tunnel_buffer=0), overlay=network
    ) as relay:
        raw = attach(relay)
        packet = DEFAULT.client(Op.BROADCAST, cluster="c", message=bytes(100_000))
        begin = time.monotonic()
        for _ in range(32):
            raw.send_bytes(packet)
        with network.changed:
            assert network.changed.wait_for(lambda: len(network.kept) == 32, 30)
        # it had to wait, but not for ever, nor for each of them
        assert 0.5 <= time.monotonic() - begin < 8.0
        for _, far in network.pairs:
            far.close()
        raw.close()
    for buffer in network.buffers:
        buffer.close()


def test_pending_requests_cost_no_thread() -> None:
    with running() as relay, Client(relay.port) as client:
        before = threading.active_count()
        pending = [client.request_later("nobody", b"x", 1.0) for _ in range(2_000)]
        with pytest.raises(TimedOut):
            client.request("nobody", b"x", 0.0)  # by now all the others are under way
        assert threading.active_count() == before
        for future in pending:
            with pytest.raises(TimedOut):
                future.result(10.0)


# The end of the relay


def test_a_closing_relay_waits_for_requests_in_flight_and_takes_no_new_ones() -> None:
    with running() as relay:
        service, client = Client(relay.port, "c"), Client(relay.port)
        answer = client.request_later("c", b"", 10)
        number, _, _ = service.next_request()
        closing = threading.Thread(target=relay.close, args=("over", 5.0))
        closing.start()
        late = client.request_later("c", b"", 0.2)
        with pytest.raises(TimedOut):
            late.result(5)
        service.reply(number, b"in time")
        assert answer.result(5) == b"in time"
        closing.join()
        assert (client.wait_closed(), service.wait_closed()) == ("over", "over")
        with pytest.raises(ConnectionError):
            connect(relay)


def test_a_closing_relay_waits_for_the_answers_that_its_clients_wait_for() -> None:
    with running() as relay:
        service, caller = Client(relay.port, "c"), Client(relay.port)
        answer = caller.request_later("c", b"", 10)
        number, _, _ = service.next_request()
        idle = threading.Event()
        connection = next(each for each in relay._attached if "(" not in each.session.label)
        connection.session.drain(idle.set, requests=True)
        assert not idle.is_set()
        service.reply(number, b"in time")
        assert answer.result(5) == b"in time"
        assert idle.wait(5)


def test_a_closing_relay_is_bounded_in_time_whatever_its_clients_do() -> None:
    with running() as relay:
        deaf = [attach(relay, "c") for _ in range(3)]
        greeting = connect(relay)
        client = Client(relay.port)
        client.broadcast("c", bytes(20 << 20))
        answer = client.request_later("c", b"", 60)
        assert deaf[0].recv()  # so that all of it has been carried out
        begin = time.monotonic()
        relay.close("over", 0.1)
        assert time.monotonic() - begin < 3
        with pytest.raises((Fault, Closed)):
            answer.result(1)
        assert greeting.at_end()
        assert [
            thread.name for thread in threading.enumerate() if thread.name.startswith("relay")
        ] == []
        assert relay.metrics.clients_attached["accepted"].value == 4
        assert relay.metrics.clients_closed["shutdown"].value == 4
        assert relay.metrics.clients.value == 0


def test_closing_twice_tells_clients_once(relay: RelayServer) -> None:
    raw = attach(relay)
    relay.close("over")
    relay.close("over again")
    assert raw.expect(Op.CLOSE).reason == "over"
    assert raw.at_end()
