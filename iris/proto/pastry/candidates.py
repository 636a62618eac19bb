"""Which nodes are dialled, and when.

A node dials those that others name, those that discovery finds, and, for a while, those that it
couldn't reach. No counterpart in Go, which dials a node each time that another one names it. Core.

Discovery may know an address without the node's id: it is dialled, and the node that answers is
remembered, so that the same address leads to no further session with a node that is connected, of
no use, or this node itself.
"""

from dataclasses import dataclass
from typing import Final

from iris.proto.addresses import dialable, parse_address
from iris.proto.pastry.actions import Action, Dial
from iris.proto.pastry.peer import Peer
from iris.proto.pastry.table import RoutingTable
from iris.proto.wire.node_id import NodeId
from iris.runtime.tcp import Address, format_address

_MAX_DIALS: Final = 128  # at a time, of nodes that others named
_MAX_FOUND_DIALS: Final = 3  # the same, of those that discovery found
_MAX_BACKLOG: Final = 64  # addresses found by discovery that wait for their turn
_MAX_ABSENT: Final = 256  # ids remembered as unreachable
_ATTEMPTS: Final = 4  # dials to an unreachable id, 1, 2, 4.. beats apart, before it is forgotten
_MAX_RESIDENTS: Final = 1_024  # addresses with a known node
_RESIDENT_BEATS: Final = 100  # before an address may belong to another node: then it's dialled anew


@dataclass(slots=True)
class _Absent:
    """A node that couldn't be reached, or has left (no addresses). Not dialled before `due`."""

    addresses: tuple[Address, ...]
    due: int  # beat
    attempts: int


class Candidates:
    """Dials of one `Maintenance`: those under way, and those to come."""

    def __init__(
        self, addresses: list[str], links: dict[NodeId, Peer], actions: list[Action], patience: int
    ) -> None:
        """Share the addresses, links and actions of the `Maintenance`.

        Args:
            patience: beats for which a node that has left isn't dialled.
        """
        self._addresses, self._links, self._actions = addresses, links, actions
        self._patience = patience
        self.beats = 0  # counted by `Maintenance`
        self.dialling: dict[NodeId | Address, Dial] = {}  # by id, or by address without an id
        self.absent: dict[NodeId, _Absent] = {}
        self._found: set[NodeId | Address] = set()  # keys of dials that discovery caused
        self._backlog: dict[Address, NodeId | None] = {}
        self.residents: dict[Address, tuple[NodeId, int]] = {}  # the node, and the beat it's from

    @property
    def room(self) -> int:
        """How many more nodes may be dialled on behalf of others."""
        return max(0, _MAX_DIALS - len(self.dialling))

    def dial(
        self, node: NodeId | None, addresses: tuple[Address, ...], *, found: bool = False
    ) -> None:
        """Dial a node, unless that is under way or done."""
        dial = Dial(node, addresses)
        if dial.key not in self.dialling and node not in self._links:
            self.dialling[dial.key] = dial
            self._actions.append(dial)
            if found:
                self._found.add(dial.key)

    def finish(self, dial: Dial, peer: Peer | None = None) -> None:
        """Note the end of a dial, and the peer that it has reached."""
        self._found.discard(dial.key)
        self.dialling.pop(dial.key, None)
        if peer is not None and (address := parse_address(peer.remote)) is not None:
            self.residents.pop(address, None)
            self.residents[address] = peer.node_id, self.beats
            if len(self.residents) > _MAX_RESIDENTS:
                del self.residents[next(iter(self.residents))]

    # Nodes that can't be reached

    def miss(self, node: NodeId, addresses: tuple[Address, ...]) -> None:
        """Note that a node can't be reached: it is tried again later, but not each time it's named.

        Args:
            addresses: where to try; empty for one that has left.
        """
        entry = self.absent.pop(node, None) or _Absent((), 0, 0)
        entry.addresses = addresses
        entry.due = self.beats + (1 << entry.attempts if addresses else self._patience)
        entry.attempts += 1
        self.absent[node] = entry
        if len(self.absent) > _MAX_ABSENT:
            del self.absent[next(iter(self.absent))]

    def retry(self, target: RoutingTable) -> None:
        """Dial the missed nodes whose time has come, and forget those that stay away.

        They aren't in the target: most are dead.
        """
        for node, entry in list(self.absent.items()):
            if entry.due > self.beats or node in self.dialling:
                continue
            if entry.addresses and entry.attempts <= _ATTEMPTS and target.wants(node):
                self.dial(node, entry.addresses)
            else:
                del self.absent[node]

    # Nodes that discovery finds

    def found(self, address: Address, node: NodeId | None) -> None:
        """Let a found address wait for its turn; it is dropped where too many wait."""
        if len(self._backlog) < _MAX_BACKLOG or address in self._backlog:
            self._backlog[address] = node

    def dial_found(self, target: RoutingTable) -> None:
        """Dial some of the found nodes, a few at a time, since the first one brings the others."""
        while self._backlog and len(self._found) < _MAX_FOUND_DIALS:
            address = next(iter(self._backlog))
            node = self._backlog.pop(address)
            usable = dialable((format_address(address),), self._addresses)
            if usable and self._is_useful(address, node, target):
                self.dial(node, usable, found=True)

    def _is_useful(self, address: Address, node: NodeId | None, target: RoutingTable) -> bool:
        """Whether a found node could become a part of the target, as far as that is known."""
        if node is None:
            node, since = self.residents.get(address, (None, 0))
            if node is None or node in self.absent or self.beats - since >= _RESIDENT_BEATS:
                return True
        # one that couldn't be reached may be back, since it answers; one that has left isn't
        absent = self.absent.get(node)
        has_left = absent is not None and not absent.addresses
        busy = node in self._links or node in self.dialling or has_left
        return not busy and target.wants(node)
