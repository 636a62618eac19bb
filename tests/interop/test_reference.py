"""One network with the original's Go nodes, which IRIS_REFERENCE names the binary of."""

import contextlib
import hashlib
import itertools
import random
import time
from functools import partial
from pathlib import Path

import pytest

from tests.support.cluster import Node, answers, exercise, hosts, reach, start, start_reference
from tests.support.lab import Lab
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.timeout(180)]

LENGTH = 16 << 20  # bytes of a tunnel's message


@pytest.fixture
def mixed(lab: Lab, key_file: Path) -> list[Node]:
    """Two Go nodes and two of ours, on four hosts."""
    machines = hosts(lab, 4)
    nodes = [start_reference(lab, key_file, host) for host in machines[:2]]
    nodes += [start(lab, key_file, host) for host in machines[2:]]
    reach(nodes, 30.0)
    return nodes


def test_all_patterns_in_all_directions(mixed: list[Node]) -> None:
    exercise(mixed)


def test_tunnels_carry_sixteen_mebibytes_both_ways(mixed: list[Node]) -> None:
    go, ours = mixed[0], mixed[2]
    for initiator, acceptor in ((go, ours), (ours, go)):
        with acceptor.client("sink") as service, initiator.client() as client:
            time.sleep(1.5)  # a Go node tells of a new member with its next beat
            tunnel = client.tunnel("sink", 5.0)
            other = service.tunnels.get(timeout=5.0)
            message = random.Random(1).randbytes(LENGTH)
            for source, target in ((tunnel, other), (other, tunnel)):
                source.send(message)
                assert (
                    hashlib.sha256(target.recv(30.0)).digest() == hashlib.sha256(message).digest()
                )
            tunnel.close()
            assert other.wait_closed() == ""


def test_an_application_that_vanishes_is_a_close_to_the_other_kind_of_node(
    mixed: list[Node],
) -> None:
    go, ours = mixed[0], mixed[2]
    message = random.Random(2).randbytes(1 << 20)
    with ours.client("left") as ours_there, go.client("left-too") as go_there:
        time.sleep(1.5)
        for source, cluster, service in ((go, "left", ours_there), (ours, "left-too", go_there)):
            for _ in range(3):  # and it harms neither node
                client = source.client()
                tunnel = client.tunnel(cluster, 5.0)
                other = service.tunnels.get(timeout=5.0)
                tunnel.send(message)
                assert other.recv(10.0) == message
                client.vanish()
                assert other.wait_closed(10.0) == ""
    exercise([go, ours])


def test_a_killed_node_cuts_the_tunnels_of_the_others(mixed: list[Node]) -> None:
    with mixed[2].client("cut") as service:
        time.sleep(1.5)
        for victim in (mixed[0], mixed[3]):
            client = victim.client()
            client.tunnel("cut", 5.0)
            other = service.tunnels.get(timeout=5.0)
            victim.process.kill()
            assert other.wait_closed(10.0) != ""
            client.vanish()


def test_a_killed_go_node_is_missed_and_taken_back(
    lab: Lab, key_file: Path, mixed: list[Node]
) -> None:
    victim, others = mixed[1], [mixed[0], *mixed[2:]]
    victim.process.kill()
    reach(others, 30.0)
    revived = start_reference(lab, key_file, victim.host)
    reach([*others, revived], 30.0)
    with contextlib.ExitStack() as stack:
        for node in (*others, revived):
            stack.enter_context(node.client(f"again-{node.name}", on_request=lambda data: data))
        for one, other in itertools.product((*others, revived), repeat=2):
            client = stack.enter_context(one.client())
            wait_for(partial(answers, client, f"again-{other.name}"), 10.0)


def test_our_node_comes_and_goes_among_go_nodes(
    lab: Lab, key_file: Path, mixed: list[Node]
) -> None:
    assert mixed[3].process.stop() == 0
    reach(mixed[:3], 30.0)
    mixed[2].process.kill()
    back = start(lab, key_file, mixed[3].host)
    reach([*mixed[:2], back], 30.0)
