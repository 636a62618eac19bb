"""What `relaycheck binding` does to a binding's program.

A node that is right, slow, broken or gone. Core.

A scenario is a kind of `Seat`. Whatever the node does wrong on purpose, the client has to be right;
in some scenarios it has to hang up.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from iris.relay_protocol.schema import Op
from iris.relaycheck.checker import Judge
from iris.relaycheck.fake_session import Seat, StandIn
from iris.relaycheck.peer import LIMIT
from iris.relaycheck.reader import GENEROUS
from iris.relaycheck.rules import Side, Violation

PROMPT = 5.0  # seconds within which a client hangs up on a node that is wrong


class JudgedSeat(Seat):
    """A seat whose client is judged, by a clock that `binding.py` sets."""

    clock: Callable[[], float]

    def __init__(
        self, node: StandIn, number: int, send: Callable[[bytes], None], hang_up: Callable[[], None]
    ) -> None:
        super().__init__(node, number, self._judged, self._hang_up)
        self._really_send, self._really_hang_up = send, hang_up
        self._judge = Judge(number)
        self.violations: list[Violation] = []
        self.wrong_since: float | None = None  # the node did what a client hangs up for
        self.left_at: float | None = None

    def _found(self, violations: list[Violation]) -> None:
        self.violations += [violation for violation in violations if violation.side is Side.CLIENT]

    def _judged(self, data: bytes) -> None:
        self._found(self._judge.feed(Side.NODE, data, self.clock()))
        self._really_send(data)

    def _hang_up(self) -> None:
        self._found(self._judge.end(Side.NODE, self.clock()))
        self._really_hang_up()

    def feed(self, data: bytes) -> None:
        """Judge what the client says, and carry it out."""
        self._found(self._judge.feed(Side.CLIENT, data, self.clock()))
        super().feed(data)

    def left(self) -> None:
        """The client hung up."""
        self.left_at = self.clock()
        self._found(self._judge.end(Side.CLIENT, self.clock()))

    def wrong(self) -> None:
        """From now on the client should hang up; nothing more is said to it."""
        self.wrong_since = self.clock()
        self.gone()

    def problem(self) -> str | None:
        """Why the client's end isn't right."""
        if self.wrong_since is None:
            return None
        if self.left_at is None or self.left_at - self.wrong_since > PROMPT:
            return f"connection {self.number} isn't hung up on within {PROMPT:.0f} s"
        return None


@dataclass(frozen=True)
class Scenario:
    """A run of the program."""

    id: str
    words: str
    seat: type[JudgedSeat]
    succeeds: bool  # the program has to exit with 0; else it only has to end
    pieces: Callable[[bytes], Sequence[bytes]] = lambda data: (data,)
    delay: float = 0.0


SCENARIOS: dict[str, Scenario] = {}


def _add(
    id: str, words: str, seat: type[JudgedSeat] = JudgedSeat, *, succeeds: bool = False, **how: Any
) -> None:
    SCENARIOS[id] = Scenario(id, words, seat, succeeds, **how)


def _bytewise(data: bytes) -> Sequence[bytes]:
    """The beginning byte by byte, which is where all but payloads are."""
    return [*(data[i : i + 1] for i in range(min(len(data), 64))), data[64:]]


class _Denying(JudgedSeat):
    def on_init(self, body: Any) -> None:
        self.wrong_since = self.clock()
        self.write(Op.DENY, reason="relaycheck denies everybody")
        self.over = True


class _OtherVersion(JudgedSeat):
    def on_init(self, body: Any) -> None:
        self.write(Op.INIT, version="v2.0")
        self.wrong()


class _OtherMagic(JudgedSeat):
    def on_init(self, body: Any) -> None:
        self.send(b"\x00\x10iris-relay-MAGIC\x0bv1.0-draft2")
        self.wrong()


class _Silent(JudgedSeat):
    def on_init(self, body: Any) -> None:
        self.wrong_since = self.clock()
        self.over = True
        self.hang_up()


class _After(JudgedSeat, ABC):
    """Lets the client in, and does something to it with its first packet afterwards."""

    def handle(self, packet: Any) -> None:
        attached = self.attached
        super().handle(packet)
        if attached and packet.op is not Op.CLOSE and not self.over:
            self.do()

    @abstractmethod
    def do(self) -> None:
        """What is done to it."""


class _Dropping(_After):
    def do(self) -> None:
        self.send(GENEROUS.node(Op.PUBLISH, topic="relaycheck", event=bytes(100))[:50])
        self.wrong()
        self.hang_up()


class _Vanishing(_After):
    def do(self) -> None:
        self.wrong()
        self.hang_up()


class _Closing(_After):
    def do(self) -> None:
        self.write(Op.CLOSE, reason="relaycheck closes")
        self.wrong()


class _Opcode(_After):
    def do(self) -> None:
        self.send(b"\x0e")
        self.wrong()


class _Bool(_After):
    def do(self) -> None:
        self.send(b"\x05\x00\x02")
        self.wrong()


class _Varint(_After):
    def do(self) -> None:
        self.send(b"\x05" + b"\x80" * 10)
        self.wrong()


class _Length(_After):
    def do(self) -> None:
        self.send(b"\x02" + b"\x80" * 9 + b"\x01")
        self.wrong()


class _Reordering(JudgedSeat):
    """Answers of the stand-in wait for one another, and come the other way round."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._held: list[tuple[int, bool, Any]] = []

    def answer(self, number: int, *, success: bool, result: Any) -> None:
        self._held.append((number, success, result))
        if len(self._held) == 1:
            self.node.after(0.02, self._release)

    def _release(self) -> None:
        held, self._held = self._held, []
        for number, success, result in reversed(held):
            super().answer(number, success=success, result=result)


class _LateEvents(JudgedSeat):
    def on_unsubscribe(self, body: Any) -> None:
        super().on_unsubscribe(body)
        self.write(Op.PUBLISH, topic=body.topic, event=b"a late event")


class _Offering(JudgedSeat):
    """Services get tunnels that nobody asked for: two that end at once, one with a message."""

    def on_init(self, body: Any) -> None:
        super().on_init(body)
        if self.attached and self.cluster:
            for _ in range(3):
                self.offer(None, 0, 3.0)

    def on_tunnel_confirm(self, body: Any) -> None:
        offer = self.offers.get(body.build_id)
        super().on_tunnel_confirm(body)
        if (
            offer is not None
            and offer.seat is None
            and (end := self.tunnels.get(body.id)) is not None
        ):
            if body.build_id == 2:
                end.waiting.append((7, b"message"))
                self.node.after(0.05, lambda: self._leave(end))
            else:
                end.end("" if body.build_id else "relaycheck closes it")

    def _leave(self, end: Any) -> None:
        end.last = ""
        end.deliver()
        self.node.after(0.2, lambda: end.end("relaycheck closes it") if end.open else None)


class _Asking(JudgedSeat):
    """Services get broadcasts, and requests, which are to be answered by the deadline."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._owed: set[int] = set()  # numbers of requests
        self._late = False

    def on_init(self, body: Any) -> None:
        super().on_init(body)
        if self.attached and self.cluster:
            for number, data in enumerate((b"", b"relaycheck asks", bytes(100_000))):
                self._owed.add(number)
                self.write(Op.BROADCAST, message=data)
                self.ask(None, 0, data, 2_000)
            self.node.after(2.0, self._check)

    def on_reply(self, body: Any) -> None:
        self._owed.discard(body.id)
        super().on_reply(body)

    def _check(self) -> None:
        self._late = bool(self._owed) and not self.over

    def problem(self) -> str | None:
        """Why the client's end isn't right."""
        return (
            f"connection {self.number} owes an answer to requests"
            if self._late
            else super().problem()
        )


class _Starving(JudgedSeat):
    """Allowance is given back late, and little by little."""

    def write(self, op: Op, **body: Any) -> None:
        end = self.tunnels.get(body.get("id", -1))
        if op is Op.TUNNEL_ALLOW and end is not None and 1 < body["space"] <= LIMIT:
            parts = (body["space"] // 2, body["space"] - body["space"] // 2)
            for part, delay in zip(parts, (0.002, 0.004), strict=True):
                self.node.after(delay, lambda part=part: self._late(end, part))  # type: ignore[misc]
        else:
            super().write(op, **body)

    def _late(self, end: Any, space: int) -> None:
        if end.open and not self.over:
            super().write(Op.TUNNEL_ALLOW, id=end.number, space=space)


class _Ungranted(JudgedSeat):
    """No allowance at all."""

    def write(self, op: Op, **body: Any) -> None:
        if op is not Op.TUNNEL_ALLOW:
            super().write(op, **body)


class _TimingOut(JudgedSeat):
    def on_request(self, body: Any) -> None:
        self.node.after(
            body.timeout / 1_000, lambda: self.write(Op.REPLY, id=body.id, timed_out=True)
        )

    def on_tunnel_init(self, body: Any) -> None:
        self.node.after(
            body.timeout / 1_000, lambda: self.write(Op.TUNNEL_CONFIRM, id=body.id, timed_out=True)
        )


class _Failing(JudgedSeat):
    def on_request(self, body: Any) -> None:
        self.answer(body.id, success=False, result="relaycheck fails everything")


class _TunnelDropping(JudgedSeat):
    def on_tunnel_transfer(self, body: Any) -> None:
        if (end := self.tunnels.get(body.id)) is not None:
            end.end("relaycheck closes it")
            end.drop("relaycheck closes it")


_add("binding.plain", "with a node that is right the program succeeds", succeeds=True)
_add(
    "binding.bytewise",
    "the same, when what the node says comes byte by byte",
    succeeds=True,
    pieces=_bytewise,
)
_add("binding.joined", "the same, when many packets come in one piece", succeeds=True, delay=0.02)
_add("binding.reorder", "replies may come in any order", _Reordering, succeeds=True)
_add(
    "binding.late-events",
    "events of a topic that was just unsubscribed are ignored",
    _LateEvents,
    succeeds=True,
)
_add(
    "binding.offers",
    "a service confirms tunnels that come unasked, and bears with their end",
    _Offering,
    succeeds=True,
)
_add(
    "binding.requests",
    "a service takes broadcasts and requests of the node's",
    _Asking,
    succeeds=True,
)
_add(
    "binding.starved",
    "a program waits for allowance that comes late and little by little",
    _Starving,
    succeeds=True,
)
_add("binding.ungranted", "without an allowance no data is sent", _Ungranted)
_add("binding.deny", "who is denied hangs up", _Denying)
_add("binding.version", "a node of another version is hung up on", _OtherVersion)
_add("binding.magic", "a node with another magic is hung up on", _OtherMagic)
_add("binding.silent", "a node that hangs up instead of answering leaves nobody waiting", _Silent)
_add(
    "binding.drop-packet",
    "a node that is gone in the middle of a packet leaves nobody waiting",
    _Dropping,
)
_add("binding.drop", "a node that is gone without a close leaves nobody waiting", _Vanishing)
_add("binding.close", "a node that closes is hung up on", _Closing)
_add("binding.opcode", "a node that says an unknown opcode is hung up on", _Opcode)
_add("binding.bool", "a node that says a bool of 2 is hung up on", _Bool)
_add("binding.varint", "a node that says a number of eleven bytes is hung up on", _Varint)
_add("binding.length", "a node that announces 2^63 bytes is hung up on", _Length)
_add("binding.timeouts", "requests and tunnels that all time out are borne", _TimingOut)
_add("binding.faults", "requests that all fail are borne", _Failing)
_add("binding.tunnel-drop", "tunnels that the node closes with a reason are borne", _TunnelDropping)
