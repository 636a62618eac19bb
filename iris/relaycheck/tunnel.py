"""The state of one tunnel, from the packets of both sides. Core."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from iris.config import RelayConfig
from iris.relay_protocol.schema import Side

WINDOW = RelayConfig().tunnel_buffer  # bytes; what a node grants first
Finding = tuple[str, str]  # rule, text


class TunnelState(Enum):
    """The state of a client's tunnel."""

    BUILDING = auto()  # the client has requested it
    OPEN = auto()
    CLOSING = auto()  # the client has closed it
    CLOSED = auto()  # the node has closed it


@dataclass
class _Direction:
    """What one side sends."""

    granted: int | None = None  # bytes of credit, by the other side
    used: int = 0  # bytes
    left: int = 0  # bytes of the current message that are still to come


@dataclass
class Tunnel:
    """One tunnel. The methods yield what is wrong about a packet."""

    state: TunnelState
    chunk_limit: int
    deadline: float  # seconds; of the node's answer to the init or the close
    directions: dict[Side, _Direction] = field(
        default_factory=lambda: {side: _Direction() for side in Side}
    )

    def allow(self, side: Side, space: int) -> Iterator[Finding]:
        """`side` grants credit for so many bytes."""
        direction = self.directions[side.other]
        if side is Side.NODE:
            if direction.granted is None:
                if space != WINDOW:
                    yield "allow.first", f"{space} bytes, not {WINDOW}"
            elif direction.granted + space > WINDOW + direction.used:
                yield (
                    "allow.excess",
                    f"{space} bytes, {WINDOW + direction.used - direction.granted} are due",
                )
        direction.granted = (direction.granted or 0) + space

    def transfer(self, side: Side, size: int, length: int) -> Iterator[Finding]:
        """`side` sends a chunk of a message of `size` bytes, or 0 for a continuation."""
        direction = self.directions[side]
        if length > self.chunk_limit:
            yield "chunk.limit", f"a chunk of {length} bytes, limit {self.chunk_limit}"
        if side is Side.NODE and not length:
            yield "chunk.empty", "an empty chunk"
        # an abandoned one counts: its credit is given back only when the next begins
        begun = direction.left > 0
        if size:
            direction.left = size
        elif length and not direction.left:
            yield "chunk.begin", f"a continuation of {length} bytes of no message"
        if direction.left and length > direction.left:
            yield (
                "chunk.size",
                f"a chunk of {length} bytes, {direction.left} are left of its message",
            )
        space = (direction.granted or 0) - direction.used
        if length > space and not (begun and side is Side.NODE):
            yield "chunk.allowance", f"a chunk of {length} bytes, the credit is {space}"
        direction.left = max(0, direction.left - length)
        direction.used += length
