"""Subnet searches on loopback.

Each test has an address and a network of its own, as other test runs use the same boot ports.
"""

import itertools
import os
import queue
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from iris.config import BootstrapConfig
from iris.errors import CloseTimeout, ConfigError
from iris.metrics import Metrics
from iris.proto.bootstrap.greeting import Greeting
from iris.proto.bootstrap.subnet import SubnetSearch
from iris.proto.wire.node_id import NodeId
from iris.runtime.interfaces import Interface
from iris.runtime.tcp import Address

CONFIG = BootstrapConfig(fast_probe=0.02)
WAIT = 10.0  # seconds; how long something may take that takes milliseconds
IP_RECVERR = 11  # Linux; the socket module doesn't know it in 3.11
_numbers = itertools.count(1)


@dataclass
class Room:
    """A loopback address and a network that nobody else uses."""

    interface: Interface
    network: str
    stack: ExitStack
    metrics: dict[int, Metrics] = field(default_factory=dict)
    found: "dict[int, queue.SimpleQueue[tuple[Address, NodeId | None]]]" = field(
        default_factory=dict
    )

    def node(
        self,
        node_id: int,
        *,
        start: bool = True,
        network: str = "",
        config: BootstrapConfig = CONFIG,
    ) -> SubnetSearch:
        found = self.found[node_id] = queue.SimpleQueue()
        self.metrics[node_id] = Metrics()

        def on_found(address: Address, node: NodeId | None = None) -> None:
            found.put((address, node))

        made = SubnetSearch(
            self.interface,
            network or self.network,
            NodeId(node_id),
            1_000 + node_id,
            config=config,
            rng=random.Random(node_id),
            metrics=self.metrics[node_id],
        )
        self.stack.callback(made.close)
        if start:
            made.start(on_found)
        return made

    def finds(self, finder: int, wanted: int) -> bool:
        """Wait until the one has found the other."""
        address = str(self.interface.address), 1_000 + wanted
        while self.found[finder].get(timeout=WAIT) != (address, wanted):
            continue
        return True

    def received(self, node_id: int, kind: str) -> int:
        return self.metrics[node_id].discovery_received[kind].value

    def failed(self, node_id: int, kind: str) -> int:
        return self.metrics[node_id].discovery_sent[kind, "failed"].value

    def foreign_socket(self) -> socket.socket:
        sock = self.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sock.bind((str(self.interface.address), 0))
        sock.settimeout(WAIT)
        return sock


@pytest.fixture
def room() -> Iterator[Room]:
    pid, number = os.getpid(), next(_numbers)
    address = IPv4Address(f"127.{1 + number % 250}.{pid // 250 % 250}.{1 + pid % 250}")
    with ExitStack() as stack:
        yield Room(
            Interface("lo", address, IPv4Network("127.0.0.0/8")), f"test-{pid}-{number}", stack
        )


def test_two_nodes_on_one_address_find_each_other(room: Room) -> None:
    room.node(1)
    room.node(2)
    assert room.finds(1, 2)
    assert room.finds(2, 1)
    assert room.received(1, "request")
    assert room.received(2, "request")


def test_a_node_that_comes_late_is_found(room: Room) -> None:
    room.node(1)
    room.node(2).slow()
    assert room.finds(1, 2)
    room.node(3)
    assert room.finds(3, 1)
    assert room.finds(3, 2)
    assert room.finds(1, 3)


def test_networks_side_by_side_dont_see_each_other(room: Room) -> None:
    room.node(1)
    room.node(2, network="other")
    room.node(3)
    assert room.finds(1, 3)
    assert room.finds(3, 1)
    assert room.found[2].empty()
    assert room.received(2, "request") == room.received(2, "response") == 0


def test_the_first_free_boot_port_is_taken(room: Room) -> None:
    nodes = [room.node(i, start=False) for i in range(len(CONFIG.ports))]
    assert [node.address[1] for node in nodes] == list(CONFIG.ports)
    nodes[2].close()
    assert room.node(9, start=False).address[1] == CONFIG.ports[2]


def test_without_a_free_boot_port_the_error_says_so_in_one_line(room: Room) -> None:
    for i in range(len(CONFIG.ports)):
        room.node(i, start=False)
    with pytest.raises(
        ConfigError, match=r"no boot port is free on lo \(127\..*14142, .*: Address already in use"
    ) as refused:
        room.node(9)
    assert "\n" not in str(refused.value)


def test_an_address_that_is_gone_is_refused(room: Room) -> None:
    gone = replace(room.interface, address=IPv4Address("203.0.113.77"))
    with pytest.raises(ConfigError, match="Cannot assign requested address"):
        replace(room, interface=gone).node(1)


def test_a_request_is_answered_to_where_it_came_from(room: Room) -> None:
    node, foreign = room.node(1), room.foreign_socket()
    theirs = Greeting(room.network, 2, 1_002)
    foreign.sendto(theirs.request, node.address)
    answer, source = foreign.recvfrom(2_048)
    message = theirs.read(answer)
    assert source == node.address
    assert message is not None
    assert (message.node_id, message.overlay, message.request) == (1, 1_001, False)
    assert room.received(1, "request") == 1
    assert room.found[1].empty()  # it will dial us, now that it knows


def test_a_response_is_reported_and_not_answered(room: Room) -> None:
    node, foreign = room.node(1), room.foreign_socket()
    foreign.sendto(Greeting(room.network, 2, 1_002).response, node.address)
    assert room.finds(1, 2)
    foreign.sendto(Greeting(room.network, 3, 1_003).request, node.address)
    assert Greeting(room.network, 2, 0).read(foreign.recv(2_048)) is not None  # to the request
    foreign.setblocking(False)
    with pytest.raises(BlockingIOError):
        foreign.recv(2_048)


def test_junk_is_counted_and_otherwise_ignored(room: Room) -> None:
    node, foreign = room.node(1), room.foreign_socket()
    junk = [
        b"",
        b"x",
        os.urandom(64),
        bytes(9_000),
        b"v0.3" + room.network.encode(),
        Greeting(room.network, 1, 9).request,
    ]
    for data in junk:
        foreign.sendto(data, node.address)
    foreign.sendto(Greeting(room.network, 2, 1_002).response, node.address)
    assert room.finds(1, 2)
    assert room.found[1].empty()
    assert room.received(1, "ignored") == len(junk)


def test_ports_where_nobody_listens_are_no_problem(room: Room) -> None:
    node = room.node(1, start=False)
    # have Linux report what it keeps from unconnected sockets
    node._sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    node.start(lambda address, node_id=None: room.found[1].put((address, node_id)))
    room.node(2)
    room.node(3)
    assert room.finds(1, 2)
    assert room.finds(1, 3)
    assert room.finds(2, 1)
    assert room.received(1, "error") + room.failed(1, "request") > 0


def test_an_error_of_the_callback_is_logged_and_survived(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    told = threading.Semaphore(0)

    def on_found(address: Address, node_id: NodeId | None = None) -> None:
        told.release()
        raise RuntimeError("taken aback")

    node = SubnetSearch(
        room.interface, room.network, NodeId(1), 1, config=CONFIG, rng=random.Random(1)
    )
    room.stack.callback(node.close)
    node.start(on_found)
    room.node(2)
    for _ in range(3):
        assert told.acquire(timeout=WAIT)
    assert "discovery callback failed" in caplog.text
    assert "taken aback" in caplog.text


def test_loopback_isnt_warned_of(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    room.node(1, start=False)
    assert not caplog.records


def threads_of(node: SubnetSearch) -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [
        name
        for name in names
        if name in (f"boot-rx-{node.address[0]}", f"boot-tx-{node.address[0]}")
    ]


def test_close_wakes_and_joins_both_threads_and_frees_the_port(room: Room) -> None:
    node = room.node(1, config=replace(CONFIG, fast_probe=1_000.0))
    assert len(threads_of(node)) == 2
    node.close(timeout=WAIT)
    assert threads_of(node) == []
    assert room.node(2, start=False).address == node.address
    node.close()


def test_close_without_start_frees_the_port(room: Room) -> None:
    node = room.node(1, start=False)
    node.close()
    assert room.node(2, start=False).address == node.address


def test_close_frees_the_port_after_a_start_that_found_no_thread_left(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = room.node(1, start=False)

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            node.start(lambda address, node_id=None: None)
    node.close()
    assert room.node(2, start=False).address == node.address


def test_close_times_out_when_the_callback_doesnt_return(room: Room) -> None:
    entered, leave = threading.Event(), threading.Event()

    def on_found(address: Address, node_id: NodeId | None = None) -> None:
        entered.set()
        leave.wait(WAIT)

    node = SubnetSearch(
        room.interface, room.network, NodeId(1), 1, config=CONFIG, rng=random.Random(1)
    )
    node.start(on_found)
    room.foreign_socket().sendto(Greeting(room.network, 2, 1_002).response, node.address)
    assert entered.wait(WAIT)
    with pytest.raises(CloseTimeout, match="boot-rx"):
        node.close(timeout=0.01)
    leave.set()
    node.close()
    assert threads_of(node) == []
