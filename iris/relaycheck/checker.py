"""The protocol's state machine per connection: bytes of both directions in, violations out. Core.

The observer is between the sides, or at one of them: what it has seen may still be in flight. So a
rule about an answer is checked in the order of observation, and what both sides send at the same
time, like data for a tunnel that is being closed, is valid.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Any

from iris.relay_protocol.schema import VERSION, Op, Side
from iris.relaycheck.reader import Malformed, Packet, Reader
from iris.relaycheck.rules import RULES, Violation
from iris.relaycheck.tunnel import RESPONSE_GRACE, TUNNEL_OPS, Finding, Tunnels

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
        self._closing = self._deadlines_checked = False
        self._version, self._cluster = VERSION, ""
        self._unanswered: Counter[int] = Counter()  # the client's unanswered requests
        self._deadlines: dict[int, float] = {}  # of them, by id: the last one's
        self._delivered: set[int] = set()  # the node's unanswered requests
        self._replied: dict[int, None] = {}  # the last answered ones, in order
        self._topics: set[str] = set()
        self._known_topics: set[str] = set()
        self._tunnels = Tunnels()
        self._now = 0.0

    def feed(self, side: Side, data: bytes, now: float = 0.0) -> list[Violation]:
        """Check bytes of one side; none are the end of its stream. Returns: the violations."""
        if not data:
            return self.end(side, now)
        self._now = max(now, self._now)
        found: list[Violation] = []
        if side in self._unreadable:
            return found
        try:
            for packet in self._readers[side].feed(data):
                self._on_packet(packet)
                if packet.op is Op.CLOSE:
                    found += self._overdue()
                for each in self._check(packet):
                    found.append(self._violation(side, packet.offset, each, packet.data))
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
            finding = "value.whole", "the stream ends in a packet"
            found.append(self._violation(side, reader.offset, finding, reader.rest))
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
            if self._version == VERSION:
                yield "open.answer", "the init isn't answered"
            else:
                yield "open.deny", "the init isn't denied"
        if self.state not in (State.ATTACHED, State.CLOSING):
            return
        if self._closing:
            yield "close.answer", "the close isn't answered"
        elif Side.CLIENT not in self._ended:
            yield "close.word", "the connection ends without a close"

    def _overdue(self) -> list[Violation]:
        """Check the deadlines, once: at the first close, or else the first end of a stream."""
        if self.state is not State.ATTACHED or self._deadlines_checked:
            return []
        self._deadlines_checked = True
        if self._violators or self._unreadable:
            return []
        late = self._now - RESPONSE_GRACE
        found: list[tuple[Side, Finding]] = [
            (Side.NODE, ("request.owed", f"request {number} isn't answered"))
            for number, deadline in self._deadlines.items()
            if deadline < late
        ]
        found += self._tunnels.overdue(late)
        return [self._violation(at, self._readers[at].offset, each, b"") for at, each in found]

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
            rule = "close.last" if self.state is State.CLOSED else "open.denied"
            yield rule, f"{op.name} after the end"
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
        if op in TUNNEL_OPS:
            yield from self._tunnels.check(packet, self._now)
        elif side is Side.CLIENT:
            yield from self._from_client(op, packet.body)
        else:
            yield from self._from_node(op, packet.body)
        self.state = following or self.state

    def _from_client(self, op: Op, body: Any) -> Iterator[Finding]:
        match op:
            case Op.INIT:
                self._version, self._cluster = body.version, body.cluster
                if body.version != VERSION:
                    yield "open.version", f"the client speaks '{body.version}'"
            case Op.CLOSE:
                if self._closing:
                    yield "close.once", "another close"
                self._closing = True
            case Op.REQUEST:
                self._unanswered[body.id] += 1
                self._deadlines[body.id] = self._now + body.timeout / 1_000
            case Op.REPLY if body.id in self._delivered:
                self._delivered.discard(body.id)
                self._replied[body.id] = None
                if len(self._replied) > _REMEMBERED:
                    del self._replied[next(iter(self._replied))]
            case Op.REPLY if body.id in self._replied:
                yield "request.twice", f"another reply to request {body.id}"
            case Op.REPLY:
                yield "request.reply", f"there is no request {body.id}"
            case Op.SUBSCRIBE:
                if body.topic in self._topics:
                    yield "topic.twice", f"'{body.topic}' again"
                self._topics.add(body.topic)
                self._known_topics.add(body.topic)
            case Op.UNSUBSCRIBE:
                if body.topic not in self._topics:
                    yield "topic.unknown", f"there is no subscription of '{body.topic}'"
                self._topics.discard(body.topic)

    def _from_node(self, op: Op, body: Any) -> Iterator[Finding]:
        match op:
            case Op.INIT:
                if self._version != VERSION:
                    yield "open.deny", f"a client of '{self._version}' is attached"
                if body.version != VERSION:
                    yield "open.version", f"the node speaks '{body.version}'"
            case Op.DENY:
                wanted = f"Unsupported protocol. Client: {self._version}. Iris: {VERSION}."
                if self._version != VERSION and body.reason != wanted:
                    yield "open.deny", f"'{body.reason}' isn't '{wanted}'"
            case Op.CLOSE if self._closing and body.reason:
                text = f"the answer to the client's close has the reason '{body.reason}'"
                yield "close.answer", text
            case Op.REQUEST:
                if body.id in self._delivered:
                    yield "request.number", f"request {body.id} isn't answered yet"
                self._delivered.add(body.id)
                self._replied.pop(body.id, None)
            case Op.REPLY if self._unanswered[body.id] <= 0:
                yield "request.answer", f"there is no unanswered request {body.id}"
            case Op.REPLY:
                self._unanswered[body.id] -= 1
                if not self._unanswered[body.id]:
                    # else a proxy that runs for long would accumulate all ids
                    del self._unanswered[body.id]
                    self._deadlines.pop(body.id, None)
            case Op.PUBLISH if body.topic not in self._known_topics:
                yield "topic.event", f"'{body.topic}' was never subscribed to"
