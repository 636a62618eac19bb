"""Several hosts in real time.

Finding each other, the four patterns between all, and what must not be lost when hosts come and go.
"""

import contextlib
import statistics
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.cluster import Node, answers, exercise, failures, hosts, load, reach, start
from tests.support.lab import Lab
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.timeout(150)]

BEATS = 9.0  # seconds of silence until a peer is dead
SILENCE = BEATS + 6.0  # until everybody has drawn the consequences


def test_seven_nodes_on_six_hosts_carry_all_patterns_between_every_pair(
    lab: Lab, key_file: Path
) -> None:
    machines = hosts(lab, 6)
    nodes = [start(lab, key_file, host) for host in machines]
    nodes.append(start(lab, key_file, machines[-1], port=55556))
    reach(nodes)
    exercise(nodes)
    assert [node.process.stop() for node in nodes] == [0] * len(nodes)
    for node in nodes:
        assert "Traceback" not in node.process.text()


def test_three_hosts_share_the_requests_of_a_cluster(lab: Lab, key_file: Path) -> None:
    nodes = [start(lab, key_file, host) for host in hosts(lab, 4)]
    reach(nodes)
    served: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        for node in nodes[1:]:
            stack.enter_context(
                node.client(
                    "work", on_request=lambda data, name=node.name: served.update([name]) or data
                )
            )
        client = stack.enter_context(nodes[0].client())
        wait_for(lambda: answers(client, "work") and len(served) == 3, 10.0, "a share for each")
        time.sleep(2.0)  # capacities are sent every beat
        served.clear()
        pending = []
        for _ in range(3_000):
            pending.append(client.request_later("work", b"x", 10.0))
            time.sleep(0.001)
        for future in pending:
            future.result(timeout=15.0)
    print(served)
    assert sum(served.values()) == 3_000
    assert all(600 <= count <= 1_500 for count in served.values()), served


@pytest.mark.parametrize(
    "die",
    [lambda node: node.process.kill(), lambda node: node.host.unplug()],
    ids=["killed, which TCP reports", "silent"],
)
def test_a_dead_host_costs_no_more_than_the_beats_allow(
    lab: Lab, key_file: Path, die: Callable[[Node], None]
) -> None:
    nodes = [start(lab, key_file, host) for host in hosts(lab, 4)]
    reach(nodes)
    with contextlib.ExitStack() as stack:
        for node in nodes[1:]:
            stack.enter_context(node.client("work", on_request=lambda data: data))
        client = stack.enter_context(nodes[0].client())
        wait_for(lambda: answers(client, "work"), 10.0)
        time.sleep(1.5)
        with load(client, "work", rate=100.0, timeout=1.0) as issued:
            time.sleep(1.0)
            died = time.monotonic()
            die(nodes[2])
            time.sleep(SILENCE + 2.0)
        lost = failures(issued)
        nodes[2].process.kill()
    print(f"lost {len(lost)} of {len(issued)}, after {[round(at - died, 2) for at in lost]} s")
    assert all(died - 1.5 <= at <= died + SILENCE for at in lost), [at - died for at in lost]
    assert len(issued) - len(lost) > 800


@pytest.mark.parametrize("leaver", [1, 2, 3])
def test_a_gracefully_stopped_host_loses_no_request(lab: Lab, key_file: Path, leaver: int) -> None:
    nodes = [start(lab, key_file, host) for host in hosts(lab, 5)]
    reach(nodes)
    with contextlib.ExitStack() as stack:
        for node in nodes[1:4]:
            stack.enter_context(node.client("work", on_request=lambda data: data))
        clients = [stack.enter_context(nodes[i].client()) for i in (0, 4)]
        for client in clients:
            wait_for(partial(answers, client, "work"), 10.0)
        time.sleep(1.5)
        with (
            load(clients[0], "work", rate=700.0, timeout=5.0) as first,
            load(clients[1], "work", rate=700.0, timeout=5.0) as second,
        ):
            wait_for(lambda: len(first) + len(second) >= 1_000, 20.0)
            assert nodes[leaver].process.stop() == 0
            wait_for(lambda: len(first) + len(second) >= 5_000, 30.0)
        assert failures(first) + failures(second) == []


def test_a_partitioned_pair_heals(lab: Lab, key_file: Path) -> None:
    one, other = hosts(lab, 2)
    nodes = [start(lab, key_file, one), start(lab, key_file, other)]
    reach(nodes)
    with contextlib.ExitStack() as stack:
        for node, name in zip(nodes, ("here", "there"), strict=True):
            stack.enter_context(node.client(name, on_request=lambda data: data))
        client, visitor = (stack.enter_context(node.client()) for node in nodes)
        wait_for(lambda: answers(client, "there") and answers(visitor, "here"), 10.0)
        lab.partition([one], [other])
        wait_for(lambda: not answers(client, "there"), 10.0, "the cut")
        time.sleep(BEATS + 4.0)  # both have given each other up
        lab.heal()
        wait_for(lambda: answers(client, "there") and answers(visitor, "here"), 20.0, "the healing")


def test_a_late_host_answers_others_within_a_second_and_a_half_of_its_start(
    lab: Lab, key_file: Path
) -> None:
    early = [start(lab, key_file, lab.host(f"h{i}", f"10.77.0.{i}/24")) for i in (20, 240)]
    reach(early)
    took = []
    with early[0].client() as client:
        for i in range(10):
            host = lab.host(f"late{i}", f"10.77.0.{100 + i}/24")
            began = time.monotonic()
            process = host.python("-m", "iris", "-net", "demo", "-rsa", str(key_file))
            wait_for(partial(host.listens, 55555), 10.0, "a relay")
            late = Node(host, process)
            with late.client(f"late-{i}", on_request=lambda data: data):
                wait_for(
                    partial(answers, client, f"late-{i}", 0.2),
                    10.0,
                    "an answer from the late host",
                )
                took.append(time.monotonic() - began)
            process.stop()
            # its ARP entries go: all hosts here share the kernel's one table
            host.run("ip", "link", "set", "e0", "down")
    print("seconds:", sorted(round(each, 2) for each in took))
    assert statistics.median(took) < 1.5, took


def test_the_relay_of_a_lone_node_serves_within_a_second(lab: Lab, key_file: Path) -> None:
    took = []
    for i in range(5):
        host = lab.host(f"lone{i}", f"10.78.{i}.1/24")
        began = time.monotonic()
        process = host.python("-m", "iris", "-net", f"lone-{i}", "-rsa", str(key_file))
        wait_for(partial(host.listens, 55555), 10.0, "a relay")
        with Node(host, process).client("alone", on_request=lambda data: data) as client:
            assert client.request("alone", b"?", 1.0) == b"?"
        took.append(time.monotonic() - began)
        assert process.stop() == 0
    print("seconds:", sorted(round(each, 2) for each in took))
    assert statistics.median(took) < 1.0, took
