"""The life of one tunnel as both sides tell it. Core."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from iris.config import RelayConfig
from iris.relaycheck.rules import Side

WINDOW = RelayConfig().tunnel_buffer  # bytes; what a node grants first
Broken = tuple[str, str]  # rule, text


class TunnelState(Enum):
    """Of a tunnel of a client."""

    ASKED = auto()  # the client wants it
    OPEN = auto()
    LEFT = auto()  # the client has closed it
    CLOSED = auto()  # the node has closed it


@dataclass
class _Way:
    """What one side sends."""

    granted: int | None = None  # bytes, by the other side
    used: int = 0  # bytes
    left: int = 0  # bytes of the begun message that are still to come


@dataclass
class Tunnel:
    """One tunnel. The methods yield what was wrong about a packet."""

    state: TunnelState
    chunk_limit: int
    deadline: float  # seconds; of what the node owes it
    ways: dict[Side, _Way] = field(default_factory=lambda: {side: _Way() for side in Side})

    def allow(self, side: Side, space: int) -> Iterator[Broken]:
        """The other side may send so many bytes more."""
        way = self.ways[side.other]
        if side is Side.NODE:
            if way.granted is None:
                if space != WINDOW:
                    yield "allow.first", f"{space} bytes, not {WINDOW}"
            elif way.granted + space > WINDOW + way.used:
                yield "allow.excess", f"{space} bytes, {WINDOW + way.used - way.granted} are due"
        way.granted = (way.granted or 0) + space

    def transfer(self, side: Side, size: int, length: int) -> Iterator[Broken]:
        """A chunk of a message of `size` bytes, or 0 for a continuation."""
        way = self.ways[side]
        if length > self.chunk_limit:
            yield "chunk.limit", f"a chunk of {length} bytes, limit {self.chunk_limit}"
        if side is Side.NODE and not length:
            yield "chunk.empty", "an empty chunk"
        # one that was abandoned counts: its bytes are given back only when the next begins
        begun = way.left > 0
        if size:
            way.left = size
        elif length and not way.left:
            yield "chunk.begin", f"a continuation of {length} bytes of no message"
        if way.left and length > way.left:
            yield "chunk.size", f"a chunk of {length} bytes, {way.left} are left of its message"
        space = (way.granted or 0) - way.used
        if length > space and not (begun and side is Side.NODE):
            yield "chunk.allowance", f"a chunk of {length} bytes, the allowance is {space}"
        way.left = max(0, way.left - length)
        way.used += length
