"""A schedule's search, for any subnet, own address and settings."""

import random
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import chain

from hypothesis import given, settings
from hypothesis import strategies as st

from iris.config import BootstrapConfig
from iris.proto.bootstrap.schedule import Schedule, Target, outward
from iris.runtime.interfaces import Interface


@st.composite
def interfaces(draw: st.DrawFn) -> Interface:
    network = IPv4Network(
        (
            int(IPv4Address("10.0.0.0")) + (draw(st.integers(0, 255)) << 12),
            draw(st.integers(20, 30)),
        ),
        strict=False,
    )
    host = draw(st.integers(1, network.num_addresses - 2))
    return Interface("e0", network[host], network)


configs = st.builds(
    BootstrapConfig,
    burst_hosts=st.integers(0, 5_000),
    burst_rate=st.floats(1, 10_000),
    scan=st.floats(0.001, 1),
    fast_probe=st.just(1e9),
)


def search(schedule: Schedule) -> list[Target]:
    """Everything from the burst and the scan; the first probe is far away."""
    now, steps = 0.0, []
    while now < 1e9:
        targets, again_at = schedule.step(now)
        assert again_at > now
        steps.append(targets)
        now = again_at
    return list(chain.from_iterable(steps))


@settings(max_examples=40)
@given(interface=interfaces(), config=configs, own=st.sampled_from(BootstrapConfig().ports))
def test_every_port_of_every_host_is_asked_once_in_the_burst_if_near_and_once_in_the_scan(
    interface: Interface, config: BootstrapConfig, own: int
) -> None:
    asked = search(Schedule(interface, own, config=config, rng=random.Random(0)))
    hosts = sorted(
        map(int, interface.network.hosts()),
        key=lambda host: (abs(host - int(interface.address)), host),
    )
    near, everything = (
        [(str(IPv4Address(host)), port) for host in some for port in config.ports]
        for some in (hosts[: 1 + config.burst_hosts], hosts)
    )
    for targets in (near, everything):
        targets.remove((str(interface.address), own))
    assert sorted(asked[: len(near)]) == sorted(near)
    assert asked[len(near) :] == everything


@settings(max_examples=40)
@given(interface=interfaces(), seed=st.integers(), fast=st.booleans())
def test_probes_ask_hosts_of_the_subnet_other_than_the_own(
    interface: Interface, seed: int, fast: bool
) -> None:
    config = BootstrapConfig(burst_hosts=0, scan=0.001)
    schedule = Schedule(interface, config.ports[0], config=config, rng=random.Random(seed))
    if not fast:
        schedule.slow()
    probed: list[Target] = []
    now = 0.0
    while len(probed) < 50:
        targets, now = schedule.step(now)
        if now > 10.0:  # the scan is over
            probed += targets
    hosts = {str(host) for host in interface.network.hosts()} - {str(interface.address)}
    assert {host for host, _ in probed} <= hosts
    assert {port for _, port in probed} == set(config.ports)


@settings(max_examples=60)
@given(start=st.integers(0, 300), first=st.integers(0, 300), size=st.integers(0, 50))
def test_outward_walks_all_of_a_range_by_distance(start: int, first: int, size: int) -> None:
    last = first + size
    walked = list(outward(start, first, last))
    assert walked == sorted(range(first, last + 1), key=lambda host: (abs(host - start), host))


@settings(max_examples=60)
@given(
    prefix=st.integers(8, 32),
    address=st.one_of(
        st.integers(int(IPv4Address("127.0.0.0")), int(IPv4Address("127.255.255.255"))),
        st.integers(int(IPv4Address("8.0.0.0")), int(IPv4Address("8.255.255.255"))),
    ),
    own=st.sampled_from(BootstrapConfig().ports),
)
def test_on_loopback_and_public_subnets_only_the_own_address_is_asked(
    prefix: int, address: int, own: int
) -> None:
    both = IPv4Interface((address, prefix))
    schedule = Schedule(
        Interface("e0", both.ip, both.network), own, config=BootstrapConfig(), rng=random.Random(0)
    )
    schedule.remember((str(both.network[-1]), 14142))
    others = {(str(both.ip), port) for port in BootstrapConfig().ports} - {(str(both.ip), own)}
    now = 0.0
    for _ in range(20):
        targets, now = schedule.step(now)
        assert set(targets) in (others, set())


@settings(max_examples=20)
@given(interface=interfaces(), config=configs)
def test_a_public_subnet_is_searched_like_any_other_when_that_is_asked_for(
    interface: Interface, config: BootstrapConfig
) -> None:
    shift = int(IPv4Address("8.0.0.0")) - int(IPv4Address("10.0.0.0"))
    moved = [address + shift for address in (interface.address, interface.network.network_address)]
    public = Interface("e0", moved[0], IPv4Network((moved[1], interface.network.prefixlen)))
    asked = search(
        Schedule(public, 14142, config=replace(config, probe_public=True), rng=random.Random(0))
    )
    assert {host for host, _ in asked} == {str(host) for host in public.network.hosts()}
