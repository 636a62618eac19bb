"""The state of a connection's tunnels, from the packets of both sides. Core."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from iris.config import RelayConfig
from iris.relay_protocol.schema import Op, Side
from iris.relaycheck.reader import Packet

NODE_WINDOW = RelayConfig().tunnel_buffer  # bytes; what a node grants first
CHUNK_LIMIT = RelayConfig().chunk_limit  # bytes
CONFIRM_TIMEOUT = RelayConfig().tunnel_confirm_timeout  # seconds
RESPONSE_GRACE = 1.0  # seconds that an answer may be late
TUNNEL_OPS = frozenset(op for op in Op if op.name.startswith("TUNNEL_"))

Finding = tuple[str, str]  # rule, text


class TunnelState(Enum):
    """The state of a client's tunnel."""

    BUILDING = auto()  # the client has requested it
    OPEN = auto()
    CLOSING = auto()  # the client has closed it
    CLOSED = auto()  # the node has closed it


_OWED = {TunnelState.BUILDING: "tunnel.owed", TunnelState.CLOSING: "tunnel.close"}  # by the node


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
            due = NODE_WINDOW + direction.used - (direction.granted or 0)
            if direction.granted is None and space != NODE_WINDOW:
                yield "allow.first", f"{space} bytes, not {NODE_WINDOW}"
            elif direction.granted is not None and space > due:
                yield "allow.excess", f"{space} bytes, {due} are due"
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
            left = direction.left
            yield "chunk.size", f"a chunk of {length} bytes, {left} are left of its message"
        space = (direction.granted or 0) - direction.used
        if length > space and not (begun and side is Side.NODE):
            yield "chunk.allowance", f"a chunk of {length} bytes, the credit is {space}"
        direction.left = max(0, direction.left - length)
        direction.used += length


class Tunnels:
    """The tunnels and the unconfirmed offers of a connection; times are in seconds."""

    def __init__(self) -> None:
        self._tunnels: dict[int, Tunnel] = {}
        self._offers: dict[int, float] = {}  # deadlines, by build id

    def overdue(self, late: float) -> Iterator[tuple[Side, Finding]]:
        """Yield the sides that owe an answer since before `late`, and which."""
        for number, tunnel in self._tunnels.items():
            if tunnel.deadline < late and (rule := _OWED.get(tunnel.state)):
                yield Side.NODE, (rule, f"tunnel {number} isn't answered")
        for number, deadline in self._offers.items():
            if deadline < late:
                yield Side.CLIENT, ("offer.owed", f"offer {number} isn't confirmed")

    def check(self, packet: Packet, now: float) -> Iterator[Finding]:
        """Follow a packet of TUNNEL_OPS. Yields: what is wrong about it."""
        body = packet.body
        match packet.op, packet.side:
            case Op.TUNNEL_INIT, Side.CLIENT:
                yield from self._begin(body.id, TunnelState.BUILDING, now + body.timeout / 1_000)
            case Op.TUNNEL_INIT, Side.NODE:
                if self._offers.get(body.build_id, 0.0) > now:
                    yield "offer.number", f"build id {body.build_id} again"
                self._offers[body.build_id] = now + CONFIRM_TIMEOUT
                yield from _check_limit(body.chunk_limit)
            case Op.TUNNEL_CONFIRM, Side.CLIENT:
                deadline = self._offers.pop(body.build_id, None)
                if deadline is None:
                    yield "offer.known", f"there is no offer {body.build_id}"
                elif now > deadline + RESPONSE_GRACE:
                    late = f"{now - deadline:.1f} s too late"
                    yield "offer.owed", f"offer {body.build_id} is confirmed {late}"
                yield from self._begin(body.id, TunnelState.OPEN, 0.0)
            case Op.TUNNEL_CONFIRM, Side.NODE:
                yield from self._built(body)
            case _:
                yield from self._follow(packet, now)

    def _begin(self, number: int, state: TunnelState, deadline: float) -> Iterator[Finding]:
        old = self._tunnels.get(number)
        if old is not None and old.state is not TunnelState.CLOSED:
            yield "tunnel.id", f"there is a tunnel {number}"
        self._tunnels[number] = Tunnel(state, CHUNK_LIMIT, deadline)

    def _built(self, body: Any) -> Iterator[Finding]:
        tunnel = self._tunnels.get(body.id)
        if tunnel is None or tunnel.state is not TunnelState.BUILDING:
            yield "tunnel.answer", f"no tunnel {body.id} is being built"
        elif body.timed_out:
            tunnel.state = TunnelState.CLOSED
        else:
            tunnel.state, tunnel.chunk_limit = TunnelState.OPEN, body.chunk_limit
            yield from _check_limit(body.chunk_limit)

    def _follow(self, packet: Packet, now: float) -> Iterator[Finding]:
        """Follow a packet of a tunnel that was built."""
        side, op, body = packet.side, packet.op, packet.body
        tunnel = self._tunnels.get(body.id)
        if tunnel is None or tunnel.state is TunnelState.BUILDING:
            yield "tunnel.unknown", f"{op.name} for tunnel {body.id}, which isn't built"
        elif side is Side.NODE and tunnel.state is TunnelState.CLOSED:
            yield "tunnel.closed", f"{op.name} for tunnel {body.id}, which is closed"
        elif op is Op.TUNNEL_ALLOW:
            yield from tunnel.allow(side, body.space)
        elif op is Op.TUNNEL_TRANSFER:
            if side is Side.CLIENT and tunnel.state is TunnelState.CLOSING:
                yield "tunnel.closed", f"data for tunnel {body.id}, which this client closed"
            yield from tunnel.transfer(side, body.size, len(body.chunk))
        elif side is Side.NODE:
            tunnel.state = TunnelState.CLOSED
        elif tunnel.state is TunnelState.OPEN:
            tunnel.state, tunnel.deadline = TunnelState.CLOSING, now + CONFIRM_TIMEOUT


def _check_limit(limit: int) -> Iterator[Finding]:
    if limit != CHUNK_LIMIT:
        yield "tunnel.limit", f"{limit} bytes"
