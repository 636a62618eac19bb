"""The protocol's state machine per connection: bytes of both directions in, violations out. Core.

The observer is between the sides, or at one of them: what it has seen may still be in flight. So a
rule about an answer is checked in the order of observation, and what both sides send at the same
time, like data for a tunnel that is being closed, is valid.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum, auto

from iris.config import RelayConfig
from iris.relay_protocol.schema import VERSION, Op, Side
from iris.relaycheck.reader import Malformed, Packet, Reader
from iris.relaycheck.rules import RULES, Violation
from iris.relaycheck.tunnel import Finding, Tunnel, TunnelState

CHUNK_LIMIT = RelayConfig().chunk_limit  # bytes
CONFIRM_TIMEOUT = RelayConfig().tunnel_confirm_timeout  # seconds
RESPONSE_GRACE = 1.0  # seconds that an answer may be late

_REMEMBERED = 10_000  # answered requests; a second reply to an older one counts as unexpected
_SERVICE_OPS = (Op.BROADCAST, Op.REQUEST, Op.TUNNEL_INIT)


class State(Enum):
    """The state of a connection."""

    NEW = auto()
    OPENING = auto()  # the client has sent its init
    ATTACHED = auto()
    CLOSING = auto()  # the client has sent a close
    DENIED = auto()
    CLOSED = auto()  # the node has sent a close


STEPS = {
    (State.NEW, Side.CLIENT, Op.INIT): State.OPENING,
    (State.OPENING, Side.NODE, Op.INIT): State.ATTACHED,
    (State.OPENING, Side.NODE, Op.DENY): State.DENIED,
    (State.ATTACHED, Side.CLIENT, Op.CLOSE): State.CLOSING,
    (State.OPENING, Side.CLIENT, Op.CLOSE): State.OPENING,  # the node answers the init first
    (State.ATTACHED, Side.NODE, Op.CLOSE): State.CLOSED,
    (State.CLOSING, Side.NODE, Op.CLOSE): State.CLOSED,
}


class ConformanceChecker:
    """Check one connection; times are in seconds of a monotonic clock."""

    def __init__(
        self, connection: int = 0, on_packet: Callable[[Packet], None] = lambda packet: None
    ) -> None:
        """on_packet gets each well-formed packet, before it is checked."""
        self.connection, self.state = connection, State.NEW
        self._on_packet = on_packet
        self._readers: dict[Side, Reader] = {side: Reader(side) for side in Side}
        self._unreadable: set[Side] = set()
        self._violators: set[Side] = set()
        self._ended: set[Side] = set()
        self._close_asked = self._deadlines_checked = False
        self._version, self._cluster = VERSION, ""
        self._unanswered: Counter[int] = Counter()  # the client's unanswered requests
        self._deadlines: dict[int, float] = {}  # of them, by id: the last one's
        self._delivered: set[int] = set()  # the node's unanswered requests
        self._replied: dict[int, None] = {}  # the last answered ones, in order
        self._topics: set[str] = set()
        self._known_topics: set[str] = set()
        self._tunnels: dict[int, Tunnel] = {}
        self._offers: dict[int, float] = {}
        self._now = 0.0

    def feed(self, side: Side, data: bytes, now: float = 0.0) -> list[Violation]:
        """Check bytes of one side. Returns: the violations."""
        self._now = max(now, self._now)
        found: list[Violation] = []
        if side in self._unreadable:
            return found
        try:
            for packet in self._readers[side].feed(data):
                self._on_packet(packet)
                if packet.op is Op.CLOSE:
                    found += self._overdue()
                found += [
                    self._violation(side, packet.offset, each, packet.data)
                    for each in self._check(packet)
                ]
        except Malformed as exc:
            self._unreadable.add(side)
            rule = exc.rule
            if rule == "value.opcode" and self.state is State.NEW and side is Side.CLIENT:
                rule = "open.first"
            found.append(self._violation(side, exc.offset, (rule, exc.text), exc.data))
        return found

    def end(self, side: Side, now: float = 0.0) -> list[Violation]:
        """Check the end of one side's stream. Returns: the violations."""
        self._now = max(now, self._now)
        if side in self._ended:
            return []
        found = self._overdue()
        self._ended.add(side)
        reader = self._readers[side]
        if reader.rest and side not in self._unreadable and not self._over(side):
            found.append(
                self._violation(
                    side, reader.offset, ("value.whole", "the stream ends in a packet"), reader.rest
                )
            )
        if side is Side.NODE:
            found += [self._violation(side, reader.offset, each, b"") for each in self._node_end()]
        return found

    def _over(self, side: Side) -> bool:
        """Whether that side's packets are ignored."""
        return side is Side.CLIENT and (
            self.state in (State.DENIED, State.CLOSED) or Side.NODE in self._ended
        )

    def _node_end(self) -> Iterator[Finding]:
        if self.state is State.OPENING and not self._unreadable and not self._ended - {Side.NODE}:
            yield (
                ("open.answer", "the init isn't answered")
                if self._version == VERSION
                else ("open.deny", "the init isn't denied")
            )
        if self.state not in (State.ATTACHED, State.CLOSING):
            return
        if self._close_asked:
            yield "close.answer", "the close isn't answered"
        elif Side.CLIENT not in self._ended:
            yield "close.word", "the connection ends without a close"

    def _overdue(self) -> list[Violation]:
        """Check the deadlines, once: at the first close, or else the first end of a stream."""
        if self.state is not State.ATTACHED or self._deadlines_checked:
            return []
        self._deadlines_checked = True
        late_answers: list[tuple[Side, Finding]] = []
        if not self._violators and not self._unreadable:
            late = self._now - RESPONSE_GRACE
            late_answers += [
                (Side.NODE, ("request.owed", f"request {n} isn't answered"))
                for n, at in self._deadlines.items()
                if at < late
            ]
            for number, tunnel in self._tunnels.items():
                if tunnel.deadline < late and tunnel.state in (
                    TunnelState.BUILDING,
                    TunnelState.CLOSING,
                ):
                    rule = "tunnel.owed" if tunnel.state is TunnelState.BUILDING else "tunnel.close"
                    late_answers.append((Side.NODE, (rule, f"tunnel {number} isn't answered")))
            for number, at in self._offers.items():
                if at < late:
                    late_answers.append(
                        (Side.CLIENT, ("offer.owed", f"offer {number} isn't confirmed"))
                    )
        return [
            self._violation(side, self._readers[side].offset, each, b"")
            for side, each in late_answers
        ]

    def _violation(self, side: Side, offset: int, finding: Finding, data: bytes) -> Violation:
        rule, text = finding
        assert rule in RULES
        self._violators.add(side)
        return Violation(self.connection, side, offset, rule, text, data)

    def _check(self, packet: Packet) -> Iterator[Finding]:
        side, op = packet.side, packet.op
        if self._over(side):
            return
        if side is Side.NODE and self.state in (State.CLOSED, State.DENIED):
            yield (
                ("close.last" if self.state is State.CLOSED else "open.denied"),
                f"{op.name} after the end",
            )
            return
        following = STEPS.get((self.state, side, op))
        if following is None:
            if self.state is State.NEW or (side is Side.NODE and self.state is State.OPENING):
                yield "open.first", f"{op.name} is the first packet"
                return
            if op is Op.INIT or op is Op.DENY:
                yield "open.once", f"another {op.name}"
                return
        if (
            side is Side.NODE and Side.CLIENT in self._violators and self.state is not State.OPENING
        ) or side.other in self._unreadable:
            self.state = following or self.state
            return  # answers to a violation aren't checked
        if side is Side.NODE and op in _SERVICE_OPS and not self._cluster:
            yield "service.only", f"{op.name} for a client without a cluster"
        if op in (Op.TUNNEL_ALLOW, Op.TUNNEL_TRANSFER, Op.TUNNEL_CLOSE):
            yield from self._tunnel_packet(packet)
        elif check := getattr(self, f"_{side.value}_{op.name.lower()}", None):
            yield from check(packet)
        self.state = following or self.state

    # The client's packets

    def _client_init(self, packet: Packet) -> Iterator[Finding]:
        self._version, self._cluster = packet.body.version, packet.body.cluster
        if self._version != VERSION:
            yield "open.version", f"the client speaks '{self._version}'"

    def _client_close(self, packet: Packet) -> Iterator[Finding]:
        if self._close_asked:
            yield "close.once", "another close"
        self._close_asked = True

    def _client_request(self, packet: Packet) -> Iterator[Finding]:
        self._unanswered[packet.body.id] += 1
        self._deadlines[packet.body.id] = self._now + packet.body.timeout / 1_000
        yield from ()

    def _client_reply(self, packet: Packet) -> Iterator[Finding]:
        number = packet.body.id
        if number in self._delivered:
            self._delivered.discard(number)
            self._replied[number] = None
            if len(self._replied) > _REMEMBERED:
                del self._replied[next(iter(self._replied))]
        elif number in self._replied:
            yield "request.twice", f"another reply to request {number}"
        else:
            yield "request.reply", f"there is no request {number}"

    def _client_subscribe(self, packet: Packet) -> Iterator[Finding]:
        topic = packet.body.topic
        if topic in self._topics:
            yield "topic.twice", f"'{topic}' again"
        self._topics.add(topic)
        self._known_topics.add(topic)

    def _client_unsubscribe(self, packet: Packet) -> Iterator[Finding]:
        if packet.body.topic not in self._topics:
            yield "topic.unknown", f"there is no subscription of '{packet.body.topic}'"
        self._topics.discard(packet.body.topic)

    def _new_tunnel(self, number: int, state: TunnelState, deadline: float) -> Iterator[Finding]:
        old = self._tunnels.get(number)
        if old is not None and old.state is not TunnelState.CLOSED:
            yield "tunnel.id", f"there is a tunnel {number}"
        self._tunnels[number] = Tunnel(state, CHUNK_LIMIT, deadline)

    def _client_tunnel_init(self, packet: Packet) -> Iterator[Finding]:
        body = packet.body
        yield from self._new_tunnel(body.id, TunnelState.BUILDING, self._now + body.timeout / 1_000)

    def _client_tunnel_confirm(self, packet: Packet) -> Iterator[Finding]:
        number = packet.body.build_id
        deadline = self._offers.pop(number, None)
        if deadline is None:
            yield "offer.known", f"there is no offer {number}"
        elif self._now > deadline + RESPONSE_GRACE:
            yield "offer.owed", f"offer {number} is confirmed {self._now - deadline:.1f} s too late"
        yield from self._new_tunnel(packet.body.id, TunnelState.OPEN, 0.0)

    # The node's packets

    def _node_init(self, packet: Packet) -> Iterator[Finding]:
        if self._version != VERSION:
            yield "open.deny", f"a client of '{self._version}' is attached"
        if packet.body.version != VERSION:
            yield "open.version", f"the node speaks '{packet.body.version}'"

    def _node_deny(self, packet: Packet) -> Iterator[Finding]:
        wanted = f"Unsupported protocol. Client: {self._version}. Iris: {VERSION}."
        if self._version != VERSION and packet.body.reason != wanted:
            yield "open.deny", f"'{packet.body.reason}' isn't '{wanted}'"

    def _node_close(self, packet: Packet) -> Iterator[Finding]:
        if self._close_asked and packet.body.reason:
            yield (
                "close.answer",
                f"the answer to the client's close has the reason '{packet.body.reason}'",
            )

    def _node_request(self, packet: Packet) -> Iterator[Finding]:
        number = packet.body.id
        if number in self._delivered:
            yield "request.number", f"request {number} isn't answered yet"
        self._delivered.add(number)
        self._replied.pop(number, None)

    def _node_reply(self, packet: Packet) -> Iterator[Finding]:
        number = packet.body.id
        if self._unanswered[number] <= 0:
            yield "request.answer", f"there is no unanswered request {number}"
            return
        self._unanswered[number] -= 1
        if not self._unanswered[number]:
            # else a proxy that runs for long would accumulate all ids
            del self._unanswered[number]
            self._deadlines.pop(number, None)

    def _node_publish(self, packet: Packet) -> Iterator[Finding]:
        if packet.body.topic not in self._known_topics:
            yield "topic.event", f"'{packet.body.topic}' was never subscribed to"

    def _node_tunnel_init(self, packet: Packet) -> Iterator[Finding]:
        number = packet.body.build_id
        if self._offers.get(number, 0.0) > self._now:
            yield "offer.number", f"build id {number} again"
        self._offers[number] = self._now + CONFIRM_TIMEOUT
        yield from self._limit(packet.body.chunk_limit)

    def _node_tunnel_confirm(self, packet: Packet) -> Iterator[Finding]:
        number = packet.body.id
        tunnel = self._tunnels.get(number)
        if tunnel is None or tunnel.state is not TunnelState.BUILDING:
            yield "tunnel.answer", f"no tunnel {number} is being built"
        elif packet.body.timed_out:
            tunnel.state = TunnelState.CLOSED
        else:
            tunnel.state = TunnelState.OPEN
            yield from self._limit(packet.body.chunk_limit)
            tunnel.chunk_limit = packet.body.chunk_limit

    @staticmethod
    def _limit(limit: int) -> Iterator[Finding]:
        if limit != CHUNK_LIMIT:
            yield "tunnel.limit", f"{limit} bytes"

    # Tunnel packets of both sides

    def _tunnel_packet(self, packet: Packet) -> Iterator[Finding]:
        side, op, body = packet.side, packet.op, packet.body
        tunnel = self._tunnels.get(body.id)
        if tunnel is None or tunnel.state is TunnelState.BUILDING:
            yield "tunnel.unknown", f"{op.name} for tunnel {body.id}, which isn't built"
            return
        if side is Side.NODE and tunnel.state is TunnelState.CLOSED:
            yield "tunnel.closed", f"{op.name} for tunnel {body.id}, which is closed"
            return
        if op is Op.TUNNEL_ALLOW:
            yield from tunnel.allow(side, body.space)
        elif op is Op.TUNNEL_TRANSFER:
            if side is Side.CLIENT and tunnel.state is TunnelState.CLOSING:
                yield "tunnel.closed", f"data for tunnel {body.id}, which this client closed"
            yield from tunnel.transfer(side, body.size, len(body.chunk))
        elif side is Side.NODE:
            tunnel.state = TunnelState.CLOSED
        elif tunnel.state is TunnelState.OPEN:
            tunnel.state, tunnel.deadline = TunnelState.CLOSING, self._now + CONFIRM_TIMEOUT
