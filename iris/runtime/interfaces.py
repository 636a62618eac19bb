"""The IPv4 interfaces that a node joins on: all but loopback, or loopback alone, or those named.

Counterpart of the interface walk of Go's proto/pastry/overlay.go (Boot). `select` is the core;
`interfaces` asks the system.
"""

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network

import psutil

from iris.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Interface:
    """One IPv4 address of an interface, of maybe several, with the subnet that it reaches."""

    name: str
    address: IPv4Address
    network: IPv4Network


def is_public(interface: Interface) -> bool:
    """Whether its subnet is part of the open internet."""
    return interface.address.is_global


def interfaces(wanted: Sequence[str] = ()) -> list[Interface]:
    """List the interfaces to join on: those wanted by name or address, or the default ones.

    Raises: ConfigError when one that is wanted isn't up, or there is none at all.
    """
    return select(_present(), wanted)


def select(present: Sequence[Interface], wanted: Sequence[str] = ()) -> list[Interface]:
    """Choose from the interfaces that are up. Errors as `interfaces`."""
    if wanted:
        return list(dict.fromkeys(found for name in wanted for found in _matching(present, name)))
    chosen = [found for found in present if not found.address.is_loopback] or list(present)
    if not chosen:
        raise ConfigError("this machine has no IPv4 interface that is up, not even loopback")
    return chosen


def _matching(present: Sequence[Interface], wanted: str) -> list[Interface]:
    found = [
        entry for entry in present if wanted in (entry.name, str(entry.address))
    ] or _loopback_alias(present, wanted)
    if not found:
        there = ", ".join(f"{entry.name} ({entry.address})" for entry in present) or "none"
        raise ConfigError(
            f"no IPv4 interface with the name or address {wanted!r} is up; there are: {there}"
        )
    return found


def _loopback_alias(present: Sequence[Interface], wanted: str) -> list[Interface]:
    """Accept the whole of 127.0.0.0/8, of which the system lists 127.0.0.1 only."""
    try:
        address = IPv4Address(wanted)
    except AddressValueError:
        return []
    return [
        replace(entry, address=address)
        for entry in present
        if address.is_loopback and address in entry.network
    ][:1]


def _present() -> list[Interface]:
    up = {name for name, stats in psutil.net_if_stats().items() if stats.isup}
    listed = [
        (name, entry)
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if entry.family == socket.AF_INET
    ]
    return parse(up, ((name, entry.address, entry.netmask) for name, entry in listed))


def parse(up: set[str], addresses: Iterable[tuple[str, str, str | None]]) -> list[Interface]:
    """Make interfaces of the (name, address, netmask) that the system lists, if they are `up`."""
    found = []
    for name, address, netmask in addresses:
        if name.partition(":")[0] in up:  # eth0:1 labels a further address of eth0
            # a point-to-point link may have no mask
            both = IPv4Interface(f"{address}/{netmask or 32}")
            found.append(Interface(name, both.ip, both.network))
    return found
