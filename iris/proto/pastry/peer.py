"""A connection with another node of the ring.

The record, and which of two connections to the same node is kept.

Counterpart of Go's proto/pastry/peer.go and the duplicate filter of handshake.go. No I/O: the
session is carried along for the shell in overlay.py.
"""

from dataclasses import dataclass
from typing import Any

from iris.proto.wire.node_id import NodeId


@dataclass(slots=True, eq=False)
class Peer:
    """One connection with a node that has introduced itself.

    A node may have several for a moment, of which the core keeps one.

    addresses: where it listens; local, remote: both ends of the control link; all "ip:port".
    dialled: by this node.
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


def keeps_old(own: NodeId, old: Peer, new: Peer) -> bool:
    """Whether the first of two connections with a node is kept; both ends choose the same.

    Addresses are compared as text.
    """
    # WIRE: Go proto/pastry/handshake.go (dedup); the first rule that fits decides, as there
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
    # here it is the end of the lower id, which gives the same wherever Go's ends agree
    if own > new.node_id:
        old_hosts, new_hosts = old_hosts[::-1], new_hosts[::-1]
    return old_hosts < new_hosts


def _hosts(peer: Peer) -> tuple[str, str]:
    return peer.local.rpartition(":")[0], peer.remote.rpartition(":")[0]


def _direction(peer: Peer) -> tuple[str, str]:
    """(server, client)."""
    return (peer.remote, peer.local) if peer.dialled else (peer.local, peer.remote)
