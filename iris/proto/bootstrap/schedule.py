"""Which host of a subnet is asked when.

Counterpart of the probe and scan loops of Go's proto/bootstrap/bootstrap.go. Core.

Unlike the reference, which takes 25 s to walk through a /24, the nearest hosts are asked in one
burst first. It goes port by port, as nodes use the first port of nearly every host, and hosts that
aren't there delay what comes later (see subnet.py). The walk follows all the same, since much of a
burst may get lost: a full ARP table drops datagrams silently. Hosts with a node are asked again for
ever, so that the halves of a partitioned network find each other as soon as it is whole again.
"""

import math
import random
from collections import OrderedDict
from collections.abc import Iterator
from ipaddress import IPv4Address
from itertools import islice

from iris.config import BootstrapConfig
from iris.runtime.interfaces import Interface, is_public

Target = tuple[str, int]  # address and UDP port

_BATCH = 0.01  # seconds' worth of the burst that goes out at once
_REMEMBERED = 1_024  # hosts


def obstacle(interface: Interface, config: BootstrapConfig) -> str | None:
    """Return why the interface's subnet can't or mustn't be searched; None when it can."""
    if interface.address.is_loopback:
        return "loopback reaches this machine only"
    if interface.network.prefixlen > 30:
        return "its network mask leaves no other hosts"
    if is_public(interface) and not config.probe_public:
        return "its subnet is public"
    return None


class Schedule:
    """What to send at a given time. Not thread-safe.

    First the burst over the nearest hosts, then a walk through the subnet, one host at a time until
    it is covered once; random hosts and known ones for ever. Where there is an obstacle, only the
    other boot ports of the own address, for ever. Never the own socket, the network's or the
    broadcast address.
    """

    def __init__(
        self, interface: Interface, port: int, *, config: BootstrapConfig, rng: random.Random
    ) -> None:
        """Plan for the node that listens on `port` of the interface."""
        self._own_host, self._own = int(interface.address), (str(interface.address), port)
        self._first = int(interface.network.network_address) + 1
        self._last = int(interface.network.broadcast_address) - 1
        self._ports, self._rng = config.ports, rng
        self._searching = obstacle(interface, config) is None
        self._burst = self._nearest(config.burst_hosts)
        self._scan = self._outward()
        self._batch = max(1, int(config.burst_rate * len(self._ports) * _BATCH))
        self._batch_time = self._batch / (config.burst_rate * len(self._ports))
        self._scan_time, self._probe_time = config.scan, config.fast_probe
        self._slow_probe = config.slow_probe
        self._burst_at = -math.inf
        self._scan_at = self._probe_at = math.inf  # once the burst is over; a while after it began
        self._known: OrderedDict[Target, None] = OrderedDict()  # the first is asked next

    def slow(self) -> None:
        """Probe at the slow pace from now on."""
        self._probe_time = self._slow_probe

    def remember(self, target: Target) -> None:
        """Ask a node's socket with the next probe, and again from time to time.

        Ignored outside of the searched subnet.
        """
        if not self._searching or target in self._known or target == self._own:
            return
        if self._first <= int(IPv4Address(target[0])) <= self._last:
            self._known[target] = None
            self._known.move_to_end(target, last=False)
            if len(self._known) > _REMEMBERED:
                self._known.popitem()  # the one that was asked last

    def step(self, now: float) -> tuple[list[Target], float]:
        """Return the targets that are due at `now` (seconds), and when to call again."""
        targets: list[Target] = []
        if self._burst_at == -math.inf:  # the first step
            self._probe_at = now + self._probe_time
        if now >= self._probe_at:
            targets += self._probe()
            self._probe_at = now + self._probe_time
        if now >= self._burst_at:
            batch = list(islice(self._burst, self._batch))
            targets += batch
            self._burst_at = now + self._batch_time
            if not batch:
                self._burst_at, self._scan_at = math.inf, now
        if now >= self._scan_at:
            host = next(self._scan, None)
            self._scan_at = math.inf if host is None else now + self._scan_time
            if host is not None:
                targets += self._all_ports(host)
        return targets, min(self._probe_at, self._burst_at, self._scan_at)

    def _outward(self) -> Iterator[int]:
        return outward(self._own_host, self._first, self._last) if self._searching else iter(())

    def _nearest(self, count: int) -> Iterator[Target]:
        """Yield all ports of the own address, then its nearest neighbours port by port."""
        yield from self._all_ports(self._own_host)
        others = [str(IPv4Address(host)) for host in islice(self._outward(), 1, 1 + count)]
        for port in self._ports:
            yield from ((host, port) for host in others)

    def _probe(self) -> list[Target]:
        if not self._searching:
            return self._all_ports(self._own_host)
        known = list(islice(self._known, 1))
        for target in known:
            self._known.move_to_end(target)
        host = self._own_host
        while host == self._own_host:
            host = self._rng.randint(self._first, self._last)
        return known + self._all_ports(host)

    def _all_ports(self, host: int) -> list[Target]:
        address = str(IPv4Address(host))
        return [target for port in self._ports if (target := (address, port)) != self._own]


def outward(start: int, first: int, last: int) -> Iterator[int]:
    """Walk all of first..last, nearest to `start` first: +0, -1, +1, -2, +2 …"""
    for offset in range(max(start - first, last - start) + 1):
        if first <= start - offset <= last:
            yield start - offset
        if offset > 0 and first <= start + offset <= last:
            yield start + offset
