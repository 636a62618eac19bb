"""Tunnels from client to client through the relay's sockets, on one node and between two."""

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from iris.config import Config
from iris.relay_protocol.schema import Op
from iris.runtime.timer import Timer
from iris.service.relay.server import RelayServer
from tests.support.client import Client, Closed, Raw, Tunnel
from tests.support.fake_scribe import FakeNetwork
from tests.support.relay_node import attach, relay_config, running, running_relay
from tests.support.tunnels import LOOPBACK

PEER_LOST = "the other application disconnected, or its node"


@pytest.fixture
def relay() -> Iterator[RelayServer]:
    with running() as relay:
        yield relay


def test_a_tunnel_carries_large_messages_both_ways(relay: RelayServer) -> None:
    with Client(relay.port, "c") as service, Client(relay.port) as client:
        here = client.tunnel("c")
        there = service.tunnels.get(timeout=5)
        message = bytes(range(256)) * (16 << 12)
        for one, other in ((here, there), (there, here)):
            sender = threading.Thread(target=one.send, args=(message,))
            sender.start()
            assert other.recv() == message
            sender.join()
        there.send(b"last words")
        there.close()
        assert here.recv() == b"last words"
        with pytest.raises(Closed):
            here.recv()
        assert here.reason == ""


def test_a_tunnel_survives_messages_that_are_given_up_halfway(relay: RelayServer) -> None:
    with Client(relay.port, "c") as service, Client(relay.port) as client:
        here = client.tunnel("c")
        there = service.tunnels.get(timeout=5)
        for _ in range(10):
            with pytest.raises(TimeoutError):
                here.send(bytes(64 << 20), timeout=-1.0)  # as far as the allowance goes
        for i in range(10):
            here.send(b"%d" % i)
            assert there.recv() == b"%d" % i


def test_a_receiver_that_reads_nothing_throttles_its_sender_and_nothing_else(
    relay: RelayServer,
) -> None:
    service, client = attach(relay, "c"), Client(relay.port)
    echo = Client(relay.port, "echo", on_request=lambda data: data)
    pending = threading.Thread(target=lambda: tunnels.append(client.tunnel("c")))
    tunnels: list[Tunnel] = []
    pending.start()
    service.send(Op.TUNNEL_CONFIRM, build_id=service.expect(Op.TUNNEL_INIT).build_id, id=0)
    service.send(Op.TUNNEL_ALLOW, id=0, space=1 << 40)
    pending.join()
    with pytest.raises(TimeoutError):
        tunnels[0].send(bytes(64 << 20), timeout=0.3)
    assert client.request("echo", b"still here") == b"still here"
    service.close()
    assert tunnels[0].wait_closed() == "the other application disconnected"
    client.close(), echo.close()


@contextlib.contextmanager
def two_nodes() -> Iterator[tuple[RelayServer, RelayServer]]:
    """Relays of two nodes, with tunnels between these."""
    config, timer = relay_config(), Timer()
    timer.start()
    network = FakeNetwork([1, 2], real_timer=timer, config=config)
    for node in (1, 2):
        network[node].start_tunnels([LOOPBACK])
    with (
        running_relay(config, network[1], timer) as here,
        running_relay(config, network[2], timer) as there,
    ):
        yield here, there
    for node in (1, 2):
        network[node].close()
    timer.close()


def test_a_tunnel_between_nodes_carries_large_messages_and_its_tail() -> None:
    with (
        two_nodes() as (here, there),
        Client(here.port) as client,
        Client(there.port, "c") as service,
    ):
        tunnel = client.tunnel("c", 5)
        end = service.tunnels.get(timeout=5)
        message = bytes(range(256)) * (16 << 12)
        sender = threading.Thread(target=tunnel.send, args=(message,))
        sender.start()
        assert end.recv() == message
        sender.join()
        tunnel.send(message[:1_000_000])
        tunnel.close()
        assert end.recv() == message[:1_000_000]
        assert end.wait_closed() == ""


@pytest.mark.parametrize("asks", [True, False])
def test_a_disconnect_is_distinguished_from_a_close_after_all_that_was_sent(*, asks: bool) -> None:
    with (
        two_nodes() as (here, there),
        Client(here.port) as client,
        Client(there.port, "c") as service,
    ):
        tunnel = client.tunnel("c", 5)
        end = service.tunnels.get(timeout=5)
        (leaver, gone), other = ((client, tunnel), end) if asks else ((service, end), tunnel)
        message = bytes(range(256)) * (16 << 10)
        gone.send(message)
        gone.wait_for_space(Config().relay.tunnel_buffer)  # its node has taken it
        leaver.vanish()
        assert other.recv() == message
        assert other.wait_closed() == PEER_LOST


def test_when_a_node_shuts_down_the_other_end_gets_an_error() -> None:
    with (
        two_nodes() as (here, there),
        Client(there.port, "c") as service,
        Client(here.port) as client,
    ):
        client.tunnel("c", 5)
        end = service.tunnels.get(timeout=5)
        here.close("the node is shutting down")
        assert end.wait_closed() == PEER_LOST
        assert client.wait_closed() == "the node is shutting down"


def test_a_stalled_tunnel_between_nodes_keeps_nothing_else_of_its_client_waiting() -> None:
    with (
        two_nodes() as (here, there),
        Client(here.port) as client,
        Client(there.port, "echo", on_request=lambda data: data) as echo,
    ):
        deaf = Raw(there.port).init("deaf")
        tunnels: list[Tunnel] = []
        asking = threading.Thread(target=lambda: tunnels.append(client.tunnel("deaf", 5)))
        asking.start()
        deaf.send(Op.TUNNEL_CONFIRM, build_id=deaf.expect(Op.TUNNEL_INIT).build_id, id=0)
        deaf.send(Op.TUNNEL_ALLOW, id=0, space=1 << 40)
        asking.join()
        with pytest.raises(TimeoutError):
            tunnels[0].send(bytes(64 << 20), timeout=0.3)
        begin = time.monotonic()
        assert client.request("echo", b"still here", 5) == b"still here"
        assert time.monotonic() - begin < 0.5
        deaf.close()
        assert tunnels[0].wait_closed() == PEER_LOST
        assert echo.close() == ""
