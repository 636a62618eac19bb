"""What the ring's core wants done: what `Maintenance` answers to each event, in this order.

No counterpart in Go.
"""

from dataclasses import dataclass

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
    """Connect to a node, and report `connected` or `failed`."""

    node_id: NodeId
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class Close:
    """Close a session gracefully after `lull` seconds; what still comes over it is routed."""

    peer: Peer
    lull: float = 0.0


@dataclass(frozen=True, slots=True)
class Abort:
    """Cut a session to a silent node."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class PeerFound:
    """A node is connected that wasn't."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class PeerGone:
    """A node isn't connected any more. Not lost: both sides have no use for the session."""

    peer: Peer
    why: str
    lost: bool


@dataclass(frozen=True, slots=True)
class TableChanged:
    """`table` is a new one."""


@dataclass(frozen=True, slots=True)
class Joined:
    """This node has become part of a ring."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Call `settled` when so many seconds have passed without another Settle."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Wake:
    """Call `wake` in so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Converged:
    """Nothing has changed for the quiet time."""


Action = (
    Send
    | Dial
    | Close
    | Abort
    | PeerFound
    | PeerGone
    | TableChanged
    | Joined
    | Settle
    | Wake
    | Converged
)
