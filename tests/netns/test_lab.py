"""The lab itself: what tests with several hosts rely on."""

import os
import socket
import subprocess
import sys
from contextlib import closing

import pytest

from tests.support.lab import ROOT, Host, Lab
from tests.support.waiting import wait_for

pytestmark = pytest.mark.netns


def bound(host: Host) -> socket.socket:
    with host.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host.address, 9))
    sock.settimeout(0.3)
    return sock


def reaches(sender: socket.socket, receiver: socket.socket) -> bool:
    sender.sendto(b"hello", receiver.getsockname())
    try:
        return receiver.recv(9) == b"hello"
    except TimeoutError:
        return False


def test_a_partition_loses_packets_until_it_heals(lab: Lab) -> None:
    hosts = [
        lab.host(name, f"10.77.0.{i}/24") for i, name in enumerate(("alice", "bob", "carol"), 1)
    ]
    with (
        closing(bound(hosts[0])) as alice,
        closing(bound(hosts[1])) as bob,
        closing(bound(hosts[2])) as carol,
    ):
        assert reaches(alice, bob)
        lab.partition(hosts[:1], hosts[1:2])
        assert not reaches(alice, bob)
        assert not reaches(bob, alice)
        assert reaches(alice, carol)
        assert reaches(carol, bob)
        lab.heal()
        assert reaches(alice, bob)
        assert reaches(bob, alice)


def test_a_partition_may_be_one_way(lab: Lab) -> None:
    hosts = [lab.host("alice", "10.77.0.1/24"), lab.host("bob", "10.77.0.2/24")]
    lab.partition(hosts[:1], hosts[1:], both_ways=False)
    with closing(bound(hosts[0])) as alice, closing(bound(hosts[1])) as bob:
        assert not reaches(alice, bob)
        assert reaches(bob, alice)


def test_an_unplugged_host_is_alone_until_it_is_plugged_in(lab: Lab) -> None:
    hosts = [lab.host("alice", "10.77.0.1/24"), lab.host("bob", "10.77.0.2/24")]
    with closing(bound(hosts[0])) as alice, closing(bound(hosts[1])) as bob:
        hosts[1].unplug()
        assert not reaches(alice, bob)
        hosts[1].plug()
        wait_for(lambda: reaches(alice, bob), 5, "the next try of ARP")
        assert reaches(bob, alice)


def test_a_host_has_loopback_and_all_its_addresses(lab: Lab) -> None:
    host = lab.host("alice", "10.77.0.1/24", "10.78.0.1/16")
    with host.inside():
        for family, address in (
            (socket.AF_INET6, "::1"),
            (socket.AF_INET, "127.0.0.1"),
            (socket.AF_INET, "10.78.0.1"),
        ):
            with socket.socket(family) as sock:
                sock.bind((address, 0))
    assert [found.name for found in host.interfaces] == ["e0", "e1"]


def test_interfaces_of_a_host_are_what_a_node_there_finds(lab: Lab) -> None:
    host = lab.host("alice", "10.77.0.1/24", "10.78.0.1/16")
    assert eval_there(host, "interfaces()") == repr(host.interfaces)
    assert eval_there(lab.host("hermit"), "interfaces()[0].name") == repr("lo")


def eval_there(host: Host, expression: str) -> str:
    return host.run(
        "env",
        f"PYTHONPATH={ROOT}",
        sys.executable,
        "-c",
        f"from iris.runtime.interfaces import *; print(repr({expression}))",
    ).strip()


def test_a_host_without_addresses_can_be_made_and_reaches_itself_only(lab: Lab) -> None:
    hermit = lab.host("hermit")
    with hermit.inside(), socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert hermit.listens(port)
    assert not hermit.listens(port)


def test_programs_run_on_their_host_and_end_with_the_lab(lab: Lab) -> None:
    sleeper = lab.host("alice", "10.77.0.1/24").popen("sleep", "60")
    wait_for(
        lambda: os.readlink(f"/proc/{sleeper.pid}/exe").endswith(("sleep", "coreutils", "busybox")),
        5,
        "exec",
    )
    lab.close()
    assert not sleeper.running


def test_what_a_killed_run_left_is_removed_by_the_next(lab: Lab) -> None:
    crash = (
        "import os; from tests.support.lab import Lab\n"
        "lab = Lab().__enter__(); host = lab.host('alice', '10.77.0.1/24')\n"
        "process = host.popen('sleep', '60')\n"
        "print(host.namespace, lab.switch, process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    child = subprocess.run(
        [sys.executable, "-c", crash], cwd=ROOT, capture_output=True, text=True, check=False
    )
    *left, pid = child.stdout.split()
    assert all(os.path.exists(f"/run/netns/{namespace}") for namespace in left)
    with Lab():
        assert not any(os.path.exists(f"/run/netns/{namespace}") for namespace in left)
        wait_for(lambda: not os.path.exists(f"/proc/{pid}/exe"), 5, "the end of its program")


def test_nothing_is_left_when_a_test_fails() -> None:
    def fail() -> None:
        with Lab() as lab:
            made.extend((lab.switch, lab.host("alice", "10.77.0.1/24").namespace))
            raise KeyboardInterrupt

    made: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert len(made) == 2
    assert not any(os.path.exists(f"/run/netns/{namespace}") for namespace in made)
