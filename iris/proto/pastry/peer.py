"""A connection to another node of the ring.

The record, which of two survives, and which addresses are worth a dial.

Counterpart of Go's proto/pastry/peer.go, the duplicate filter of handshake.go, and the address handling
of maintenance.go. No I/O: the session is carried along, the shell in overlay.py uses it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from iris.proto.wire.node_id import NodeId

_ADDRESSES = 16  # of one node that are looked at; a node has one for every interface
_BROADCAST = IPv4Address("255.255.255.255")


@dataclass(slots=True, eq=False)
class Peer:
    """One connection to a node that has shown its id. A node may have several for a moment.

    The core keeps one.

    addresses: where it listens; local, remote: both ends of the control link; all "ip:port".
    dialled: by us.
    """

    node_id: NodeId
    addresses: tuple[str, ...]
    local: str
    remote: str
    dialled: bool
    session: Any = None  # the shell's

    alive: bool = True  # set by any thread for every packet, taken back by the core at every beat
    version: int = 0  # of the latest state that was merged from this connection
    known: bool = False  # part of the ring: it announced its state, or others did
    since: int = 0  # the beat when it was accepted
    pending: int = 0  # its packets in the queue of the maintenance thread, which guards it


def keeps_old(own: NodeId, old: Peer, new: Peer) -> bool:
    """Of two connections to one node, whether the one that was there first is kept.

    Both ends come to the same choice.

    The rules, of which the first that fits decides; addresses are compared as text.
    """
    # WIRE: Go proto/pastry/handshake.go (dedup); 1 to 3 as there
    # 1. one end is the same, so both were made in the same direction: the lower address at the end
    # that differs
    if old.local == new.local:
        return old.remote < new.remote
    if old.remote == new.remote:
        return old.local < new.local
    # 2. one network: the lower server
    old_hosts, new_hosts = _hosts(old), _hosts(new)
    if old_hosts == new_hosts:
        return _direction(old) < _direction(new)
    # 3. different networks: the lower host. Go's ends look at their own one each, and may disagree;
    # we look at the end of the lower id first, which gives the same wherever Go's ends agree
    if own > new.node_id:
        old_hosts, new_hosts = old_hosts[::-1], new_hosts[::-1]
    return old_hosts < new_hosts


def _hosts(peer: Peer) -> tuple[str, str]:
    return peer.local.rpartition(":")[0], peer.remote.rpartition(":")[0]


def _direction(peer: Peer) -> tuple[str, str]:
    """(server, client)."""
    return (peer.remote, peer.local) if peer.dialled else (peer.local, peer.remote)


def parse_address(text: str) -> tuple[str, int] | None:
    """Read "ip:port", None when it isn't one that somebody can listen on."""
    host, _, port = text.rpartition(":")
    try:
        address = IPv4Address(host)
    except AddressValueError:
        return None
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65_536):
        return None
    if address.is_unspecified or address.is_multicast or address == _BROADCAST:
        return None
    return str(address), int(port)


def usable(addresses: Iterable[str], own: Collection[str]) -> tuple[str, ...]:
    """Those of a peer's addresses that may be dialled, each once.

    Refused: malformed ones, our own, loopback unless we are there ourselves, and what nobody can
    listen on.
    """
    on_loopback = any(address.startswith("127.") for address in own)
    chosen: dict[str, None] = {}
    for text in list(addresses)[:_ADDRESSES]:
        parsed = parse_address(text)
        if (
            parsed is None
            or text in own
            or (not on_loopback and IPv4Address(parsed[0]).is_loopback)
        ):
            continue
        chosen["{}:{}".format(*parsed)] = None
    return tuple(chosen)
