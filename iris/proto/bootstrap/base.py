"""The seam of discovery: what finds other nodes, as the ring sees it.

No counterpart in Go, which only has the search of the subnet (`subnet`). A source knows nothing of
the ring; the ring dials what it finds, and learns by that which node is there. `node.py` chooses
the sources.
"""

from typing import Protocol

from iris.proto.wire.node_id import NodeId
from iris.runtime.tcp import Address


class OnFound(Protocol):
    """Takes what a source found. From any thread; never waits, and drops what is too much."""

    def __call__(self, address: Address, node_id: NodeId | None = None, /) -> None:
        """Consider the node whose peer listener is at `address`; its id, where it is known.

        Repeated reports of one address are welcome: they replace those that were dropped, and a
        node that failed to answer is tried again. Own addresses needn't be left out.
        """


class Source(Protocol):
    """Finds addresses of nodes of this network. Made by `node.py`, closed by the ring."""

    def __str__(self) -> str:
        """Name the source in log lines, e.g. "subnet search on UDP port 14142"."""

    def start(self, on_found: OnFound) -> None:
        """Search, and report to `on_found`, until `close`. Called once, and doesn't wait."""

    def slow(self) -> None:
        """Save effort from now on: the ring has converged. It may lose its peers nevertheless."""

    def close(self) -> None:
        """Stop and join what was started. Idempotent, also before `start`. Raises: CloseTimeout."""
