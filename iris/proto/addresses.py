"""Addresses of other nodes: parsed and judged in one place.

No counterpart in Go, which dials whatever it is given. Core; formatting is
`iris.runtime.tcp.format_address`.
"""

from collections.abc import Collection, Iterable
from ipaddress import AddressValueError, IPv4Address
from itertools import islice
from typing import Final

from iris.runtime.tcp import Address, format_address

MAX_ADDRESSES: Final = 16  # of one node that are considered; a node has one for every interface

_MAX_LENGTH: Final = len("255.255.255.255:65535")
_BROADCAST: Final = IPv4Address("255.255.255.255")


def parse_address(text: str) -> Address | None:
    """Read "ip:port", strictly; None for anything that a node can't listen on."""
    host, _, port = text.rpartition(":")
    if len(text) > _MAX_LENGTH or not (port.isascii() and port.isdigit() and len(port) <= 5):
        return None
    try:
        ip = IPv4Address(host)
    except AddressValueError:
        return None
    if not 0 < int(port) < 65_536 or ip.is_unspecified or ip.is_multicast or ip == _BROADCAST:
        return None
    return str(ip), int(port)


def dialable(addresses: Iterable[str], own: Collection[str]) -> tuple[Address, ...]:
    """Choose those of a node's addresses that make sense to dial, each once, in their order.

    Args:
        addresses: as a peer sent them; those beyond the first MAX_ADDRESSES are ignored.
        own: where this node listens. Never dialled; one on loopback permits others there.
    """
    on_loopback = any(address.startswith("127.") for address in own)
    parsed = map(parse_address, islice(addresses, MAX_ADDRESSES))
    return tuple(
        dict.fromkeys(
            address
            for address in parsed
            if address is not None
            and format_address(address) not in own
            and (on_loopback or not address[0].startswith("127."))
        )
    )
