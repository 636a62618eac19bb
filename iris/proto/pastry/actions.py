"""Actions: what the shell does after an event, as `Maintenance` decided, in this order.

No counterpart in Go.
"""

from dataclasses import dataclass
from enum import Enum

from iris.proto.pastry.peer import Peer
from iris.proto.wire.node_id import NodeId
from iris.proto.wire.ring import Header
from iris.runtime.tcp import Address


@dataclass(frozen=True, slots=True)
class Send:
    """Send a system packet."""

    peer: Peer
    header: Header


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to a node at the first of its addresses that answers.

    Report `connected` or `failed`, with this. The id is None where only the address is known.
    """

    node_id: NodeId | None
    addresses: tuple[Address, ...]

    @property
    def key(self) -> NodeId | Address:
        """What tells apart the dials that are under way at a time."""
        return self.addresses[0] if self.node_id is None else self.node_id


@dataclass(frozen=True, slots=True)
class Close:
    """Close a session gracefully after `delay` seconds; what still comes over it is routed."""

    peer: Peer
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Abort:
    """Cut a session."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class PeerFound:
    """A node is connected that wasn't."""

    peer: Peer


class Cause(Enum):
    """Why a node isn't connected any more; the values are those of `Metrics.peers_lost`."""

    LEFT = "left"
    BROKEN = "connection lost"
    SILENT = "silent"
    VIOLATION = "protocol violation"
    UNUSED = "not needed"  # by either side: not lost


@dataclass(frozen=True, slots=True)
class PeerGone:
    """A node isn't connected any more. `details` say more than the cause, or nothing."""

    peer: Peer
    cause: Cause
    details: str = ""


@dataclass(frozen=True, slots=True)
class TableChanged:
    """`table` is a new one."""


@dataclass(frozen=True, slots=True)
class Joined:
    """This node has become part of a ring."""


@dataclass(frozen=True, slots=True)
class RestartQuietTimer:
    """The node has converged in so many seconds, unless another of these comes before."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Wake:
    """Call `wake` in so many seconds."""

    seconds: float


Notice = PeerFound | PeerGone | TableChanged | Joined
Action = Send | Dial | Close | Abort | Notice | RestartQuietTimer | Wake
