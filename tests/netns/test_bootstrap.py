"""The subnet search between hosts, in real time."""

import logging
import queue
import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from iris.config import BootstrapConfig
from iris.metrics import Metrics
from iris.proto.bootstrap.greeting import Greeting
from iris.proto.bootstrap.subnet import SubnetSearch
from iris.proto.wire.node_id import NodeId
from iris.runtime.interfaces import Interface
from iris.runtime.tcp import Address
from tests.support.cluster import start_reference
from tests.support.lab import Host, Lab
from tests.support.waiting import wait_for

pytestmark = pytest.mark.netns

Found = tuple[Address, NodeId | None]


class Node:
    """A subnet search on a host, with what it found."""

    def __init__(
        self, host: Host, node_id: int, config: BootstrapConfig, interface: Interface | None = None
    ) -> None:
        self.found: queue.SimpleQueue[Found] = queue.SimpleQueue()
        self.node_id = node_id
        self.metrics = Metrics()
        with host.inside():
            self.boot = SubnetSearch(
                interface or host.interfaces[0],
                "demo",
                NodeId(node_id),
                1_000 + node_id,
                config=config,
                rng=random.Random(node_id),
                metrics=self.metrics,
            )
            self.boot.start(lambda address, node=None: self.found.put((address, node)))

    def finds(self, other: "Node", timeout: float) -> float:
        """Wait for it; seconds that it took. Raises: TimeoutError."""
        start = time.monotonic()
        wanted = ((other.boot.address[0], 1_000 + other.node_id), other.node_id)
        wait_for(
            lambda: not self.found.empty() and self.found.get() == wanted,
            timeout,
            f"that {self.node_id} finds {other.node_id}",
        )
        return time.monotonic() - start

    def asked(self) -> bool:
        """Whether another node has searched this one."""
        return self.metrics.discovery_received["request"].value > 0

    def sent(self, outcome: str, kind: str = "request") -> int:
        """Datagrams sent, or tried to."""
        return self.metrics.discovery_sent[kind, outcome].value


class Nodes:
    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        self.lab, self._stack, self._count = lab, stack, 0

    def start(
        self, host: Host, config: BootstrapConfig | None = None, interface: Interface | None = None
    ) -> Node:
        self._count += 1
        node = Node(host, self._count, config or BootstrapConfig(), interface)
        self._stack.callback(node.boot.close)
        return node


@pytest.fixture
def nodes(lab: Lab) -> Iterator[Nodes]:
    with ExitStack() as stack:
        yield Nodes(lab, stack)


def test_hosts_at_both_ends_of_a_class_c_network_meet_within_a_second(nodes: Nodes) -> None:
    alice = nodes.start(nodes.lab.host("alice", "10.77.0.1/24"))
    time.sleep(1.0)
    bob = nodes.start(nodes.lab.host("bob", "10.77.0.254/24"))  # added late
    assert bob.finds(alice, timeout=1.0) < 1.0
    assert alice.finds(bob, timeout=1.0) < 1.0


def test_a_request_to_a_late_node_makes_both_report_each_other(nodes: Nodes) -> None:
    alice = nodes.start(nodes.lab.host("alice", "10.77.0.1/27"))
    bob = nodes.start(nodes.lab.host("bob", "10.77.0.2/27"))
    alice.finds(bob, timeout=5.0)
    bob.finds(alice, timeout=5.0)
    assert alice.asked()
    assert bob.asked()


def test_all_of_several_nodes_on_several_hosts_meet(nodes: Nodes) -> None:
    hosts = [nodes.lab.host(f"h{i}", f"10.77.0.{i}/27") for i in (7, 19, 30)]
    several = [nodes.start(host) for host in hosts for _ in range(2)]
    expected = {
        (node.node_id, other.node_id) for node in several for other in several if node is not other
    }
    found: set[tuple[int, int | None]] = set()

    def all_found() -> bool:
        for node in several:
            while not node.found.empty():
                found.add((node.node_id, node.found.get()[1]))
        return found == expected

    wait_for(all_found, 5.0, "that all find all")


def test_the_halves_of_a_network_meet_again_soon_after_it_is_whole_even_in_slow_mode(
    nodes: Nodes,
) -> None:
    hosts = [nodes.lab.host("alice", "10.77.0.1/16"), nodes.lab.host("bob", "10.77.0.2/16")]
    config = BootstrapConfig(burst_hosts=8, scan=1_000.0)  # at random they would never meet
    alice, bob = nodes.start(hosts[0], config), nodes.start(hosts[1], config)
    alice.finds(bob, timeout=5.0)
    alice.boot.slow()
    bob.boot.slow()
    nodes.lab.partition(hosts[:1], hosts[1:])
    time.sleep(1.5)
    while not alice.found.empty():
        alice.found.get()
    nodes.lab.heal()
    alice.finds(bob, timeout=4.0)


def test_a_network_that_goes_away_and_comes_back_harms_nobody(nodes: Nodes) -> None:
    host = nodes.lab.host("alice", "10.77.0.1/27")
    alice = nodes.start(host, BootstrapConfig(fast_probe=0.02))
    host.run("ip", "link", "set", "e0", "down")
    wait_for(lambda: alice.sent("failed") > 100, 5.0, "requests without a network")
    host.run("ip", "link", "set", "e0", "up")
    bob = nodes.start(nodes.lab.host("bob", "10.77.0.2/27"))
    alice.finds(bob, timeout=5.0)


def test_close_is_prompt_while_the_search_waits_for_silent_hosts(nodes: Nodes) -> None:
    alice = nodes.start(nodes.lab.host("alice", "10.77.0.1/22"))
    wait_for(lambda: stalled(alice), 5.0, "a full send buffer")
    start = time.monotonic()
    alice.boot.close()
    assert time.monotonic() - start < 0.5


def stalled(node: Node) -> bool:
    before = node.sent("sent")
    time.sleep(0.1)
    return 200 < node.sent("sent") == before


def test_requests_are_answered_while_the_search_waits_for_silent_hosts(nodes: Nodes) -> None:
    alice = nodes.start(nodes.lab.host("alice", "10.77.0.1/22"))
    wait_for(lambda: stalled(alice), 5.0, "a full send buffer")
    bob, greeting = nodes.lab.host("bob", "10.77.3.254/22"), Greeting("demo", 2, 1_002)
    with bob.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(2.0)  # ARP takes 3 to give up
        sock.sendto(greeting.request, alice.boot.address)
        assert greeting.read(sock.recv(2_048)) is not None
    assert alice.sent("failed", "response") == 0


@pytest.mark.parametrize(
    ("address", "reason"), [("10.77.0.1/31", "no other hosts"), ("8.8.8.1/24", "public")]
)
def test_where_searching_is_impossible_or_rude_a_node_only_answers(
    nodes: Nodes, caplog: pytest.LogCaptureFixture, address: str, reason: str
) -> None:
    with caplog.at_level(logging.WARNING):
        alice = nodes.start(nodes.lab.host("alice", address), BootstrapConfig(fast_probe=0.02))
    assert reason in caplog.text
    assert "e0" in caplog.text
    ip, _, prefix = address.partition("/")
    second = f"{ip[:-1]}0/{prefix}" if prefix == "31" else f"{ip[:-1]}2/{prefix}"
    bob_host = nodes.lab.host("bob", second)
    with bob_host.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.bind((bob_host.address, BootstrapConfig().ports[0]))
        sock.settimeout(0.5)
        with pytest.raises(TimeoutError):
            sock.recv(2_048)  # never asked
    bob = nodes.start(bob_host, BootstrapConfig(probe_public=True))
    if prefix == "24":
        bob.finds(alice, timeout=5.0)


def test_a_node_and_the_go_node_hear_of_each_other(nodes: Nodes, key_file: Path) -> None:
    go = nodes.lab.host("gopher", "10.77.0.9/27")
    ours = nodes.start(nodes.lab.host("alice", "10.77.0.10/27"))
    process = start_reference(nodes.lab, key_file, go).process

    def both() -> bool:
        while not ours.found.empty():
            (ip, port), node_id = ours.found.get()
            assert ip == go.address
            assert node_id is not None
            assert 0 <= node_id < 1 << 40
            assert go.listens(port, go.address)
            found.add(node_id)
        return bool(found) and ours.asked()

    found: set[NodeId] = set()
    wait_for(both, 60.0, "a request and a response of the Go node")
    process.stop()
