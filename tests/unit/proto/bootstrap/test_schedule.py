"""Which host is asked when, with a clock that the tests turn."""

import math
import random
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise

from iris.config import BootstrapConfig
from iris.proto.bootstrap.schedule import Schedule, Target, obstacle
from iris.runtime.interfaces import Interface

CONFIG = BootstrapConfig(
    ports=(1, 2), fast_probe=10.0, slow_probe=40.0, scan=3.0, burst_hosts=3, burst_rate=1_000.0
)


def interface(address: str, network: str) -> Interface:
    return Interface("e0", IPv4Address(address), IPv4Network(network))


def plan(
    address: str = "10.0.0.4",
    network: str = "10.0.0.0/28",
    port: int = 1,
    config: BootstrapConfig = CONFIG,
) -> Schedule:
    return Schedule(interface(address, network), port, config=config, rng=random.Random(1))


def run(schedule: Schedule, until: float, start: float = 0.0) -> dict[float, list[Target]]:
    """What is sent at which time."""
    sent, now = {}, start
    while now < until:
        targets, again_at = schedule.step(now)
        if targets:
            sent[round(now, 6)] = targets
        now = again_at
    return sent


def test_the_burst_asks_the_own_address_and_then_the_nearest_hosts_port_by_port() -> None:
    first = run(plan(), until=0.001)[0.0]
    near = (3, 5, 2)
    assert first == [("10.0.0.4", 2)] + [(f"10.0.0.{n}", port) for port in (1, 2) for n in near]


def test_the_burst_keeps_its_rate() -> None:
    schedule = plan(
        network="10.0.0.0/16",
        config=BootstrapConfig(
            burst_hosts=1_000, burst_rate=500.0, fast_probe=math.inf, scan=math.inf
        ),
    )
    sent = run(schedule, until=60.0)
    assert 1.9 < max(sent) - min(sent) < 2.1
    # 10 ms of 500 hosts with 6 ports a second
    assert max(len(targets) for targets in sent.values()) == 30


def test_a_class_c_network_is_swept_in_a_quarter_of_a_second() -> None:
    sent = run(plan(network="10.0.0.0/24", port=14142, config=BootstrapConfig()), until=0.5)
    asked = {target for at, targets in sent.items() if at < 0.26 for target in targets}
    assert len(asked) == 254 * 6 - 1
    assert {host for host, port in asked if port == 27182} == {f"10.0.0.{n}" for n in range(1, 255)}


def test_then_the_whole_subnet_is_scanned_one_host_at_a_time() -> None:
    sent = run(
        plan(config=BootstrapConfig(ports=(1, 2), burst_hosts=3, scan=3.0, fast_probe=1_000.0)),
        until=41.0,
    )
    scanned = [targets for at, targets in sent.items() if at > 0]
    hosts = (3, 5, 2, 6, 1, 7, 8, 9, 10, 11, 12, 13, 14)
    assert scanned == [[("10.0.0.4", 2)]] + [
        [(f"10.0.0.{n}", port) for port in (1, 2)] for n in hosts
    ]
    times = [at for at in sent if at > 0]
    assert all(math.isclose(after - before, 3.0, abs_tol=1e-5) for before, after in pairwise(times))


def test_the_scan_ends_when_the_subnet_is_covered_and_probing_goes_on() -> None:
    sent = run(plan(), until=2_000.0)
    assert all(math.isclose(at % 10.0, 0.0, abs_tol=1e-5) for at in sent if at > 100)
    assert sum(1 for at in sent if 1_000 <= at < 2_000) == 100


def test_slow_mode_probes_at_the_slow_pace() -> None:
    schedule = plan()
    schedule.slow()
    assert sum(1 for at in run(schedule, until=2_000.0) if 1_000 <= at < 2_000) == 25


def test_a_late_step_sends_no_more_than_is_due_at_once() -> None:
    schedule = plan(network="10.0.0.0/24", config=BootstrapConfig())
    schedule.step(0.0)
    targets, again_at = schedule.step(3_600.0)
    assert len(targets) <= 6 + 60
    assert again_at > 3_600.0


def test_a_host_that_was_heard_of_is_asked_next_and_then_in_turn() -> None:
    schedule = plan()
    run(schedule, until=100.0)
    for target in (("10.0.0.9", 2), ("10.0.0.7", 1), ("10.0.0.9", 2)):
        schedule.remember(target)
    known = [targets[0] for targets in run(schedule, start=100.0, until=140.0).values()]
    assert known == [("10.0.0.7", 1), ("10.0.0.9", 2), ("10.0.0.7", 1), ("10.0.0.9", 2)]


def test_who_is_heard_of_from_elsewhere_is_never_asked() -> None:
    schedule = plan()
    for address in ("10.0.0.0", "10.0.0.15", "10.0.1.1", "192.168.1.1"):
        schedule.remember((address, 1))
    schedule.remember(("10.0.0.4", 1))  # our own
    hosts = {target for targets in run(schedule, until=300.0).values() for target in targets}
    assert hosts == {(f"10.0.0.{n}", port) for n in range(1, 15) for port in (1, 2)} - {
        ("10.0.0.4", 1)
    }


def test_a_bounded_number_of_hosts_is_remembered() -> None:
    schedule = plan(
        network="10.0.0.0/16", config=BootstrapConfig(burst_hosts=0, scan=math.inf, fast_probe=1.0)
    )
    run(schedule, until=1.5)
    heard = [(f"10.0.{n // 250}.{n % 250 + 5}", 14142) for n in range(1_100)]
    for target in heard:
        schedule.remember(target)
    asked = [targets[0] for targets in run(schedule, start=2.0, until=2_050.0).values()]
    assert asked[:1_024] == heard[:75:-1]
    assert asked[1_024:2_048] == asked[:1_024]


def test_alone_on_an_address_its_other_ports_are_asked_for_ever() -> None:
    sent = run(plan("127.0.0.1", "127.0.0.0/8", port=2), until=100.0)
    assert sent == {10.0 * n: [("127.0.0.1", 1)] for n in range(10)}


def test_what_keeps_a_subnet_from_being_searched_is_told() -> None:
    assert obstacle(interface("10.0.0.1", "10.0.0.0/30"), CONFIG) is None
    assert "mask" in str(obstacle(interface("10.0.0.1", "10.0.0.0/31"), CONFIG))
    assert "public" in str(obstacle(interface("8.8.8.8", "8.8.8.0/24"), CONFIG))
    assert "this machine" in str(obstacle(interface("127.0.0.1", "127.0.0.0/8"), CONFIG))
    assert obstacle(interface("8.8.8.8", "8.8.8.0/24"), BootstrapConfig(probe_public=True)) is None
