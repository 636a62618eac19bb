"""The scenarios of `relaycheck binding`: a node that is right, slow, broken or gone. Core.

A scenario is a kind of `FakeSession`. Whatever the node does wrong on purpose, the client has to
keep to the protocol; in some scenarios it has to disconnect.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from iris.relay_protocol.schema import VERSION, Op, Side
from iris.relaycheck.checker import ConformanceChecker
from iris.relaycheck.fake_session import End, FakeNode, FakeSession, Send
from iris.relaycheck.reader import GENEROUS
from iris.relaycheck.rules import Violation
from iris.relaycheck.runner import Checkable
from iris.relaycheck.tunnel import CHUNK_LIMIT

DISCONNECT_TIMEOUT = 5.0  # seconds within which a client disconnects from a node that is wrong

packet = GENEROUS.node


class CheckedSession(FakeSession):
    """A session whose client is checked."""

    clock = staticmethod(time.monotonic)  # seconds

    def __init__(self, node: FakeNode, number: int, send: Send) -> None:
        super().__init__(node, number, self._send_checked)
        self._send = send
        self._checker = ConformanceChecker(number)
        self.violations: list[Violation] = []
        self.wrong_since: float | None = None  # the node did what a client disconnects for
        self.disconnected_at: float | None = None

    def _check(self, side: Side, data: bytes) -> None:
        found = self._checker.feed(side, data, self.clock())
        self.violations += [violation for violation in found if violation.side is Side.CLIENT]

    def _send_checked(self, data: bytes | None) -> None:
        self._check(Side.NODE, data or b"")
        self._send(data)

    def feed(self, data: bytes) -> None:
        """Check the client's bytes, and process them."""
        self._check(Side.CLIENT, data)
        super().feed(data)

    def disconnected(self) -> None:
        """The client disconnected."""
        self.disconnected_at = self.clock()
        self._check(Side.CLIENT, b"")
        super().disconnected()

    def misbehave(self, data: bytes, *, hangs_up: bool = False) -> None:
        """Send the last bytes, for which the client should disconnect."""
        if data:
            self.send(data)
        self.wrong_since = self.clock()
        self.release()
        if hangs_up:
            self.send(None)

    def problem(self) -> str | None:
        """Say how the client's end is wrong."""
        since, at = self.wrong_since, self.disconnected_at
        if since is None or (at is not None and at - since <= DISCONNECT_TIMEOUT):
            return None
        limit = f"{DISCONNECT_TIMEOUT:.0f} s"
        return f"connection {self.number}: the client doesn't disconnect within {limit}"


@dataclass(frozen=True)
class Scenario(Checkable):
    """A run of the program."""

    session: type[CheckedSession]
    succeeds: bool = False  # the program has to exit with 0; else it only has to end
    pieces: Callable[[bytes], Sequence[bytes]] = lambda data: (data,)
    delay: float = 0.0


def _bytewise(data: bytes) -> Sequence[bytes]:
    """Cut the beginning into bytes, which is where everything but payloads is."""
    return [*(data[i : i + 1] for i in range(min(len(data), 64))), data[64:]]


SCENARIOS: dict[str, Scenario] = {}
Kind = type[CheckedSession]


def _scenario(id: str, description: str, **how: Any) -> Callable[[Kind], Kind]:
    """Register a kind of session as a scenario; its full id begins with `binding.`."""

    def register(session: Kind) -> Kind:
        SCENARIOS[f"binding.{id}"] = Scenario(f"binding.{id}", description, session, **how)
        return session

    return register


_right = partial(_scenario, succeeds=True)
_right("plain", "with a node that is right the program succeeds")(CheckedSession)
_right("bytewise", "the same, when the node's packets arrive byte by byte", pieces=_bytewise)(
    CheckedSession
)
_right("joined", "the same, when many packets arrive in one segment", delay=0.02)(CheckedSession)


def _answers(data: bytes, *, hangs_up: bool = False) -> type[CheckedSession]:
    """Answer the init by these bytes."""

    class Answering(CheckedSession):
        def on_init(self, body: Any) -> None:
            self.misbehave(data, hangs_up=hangs_up)

    return Answering


def _sends(data: bytes, *, hangs_up: bool = False) -> type[CheckedSession]:
    """Attach the client, and send these bytes after its next packet."""

    class Sending(CheckedSession):
        def handle(self, packet: Any) -> None:
            attached = self.attached
            super().handle(packet)
            if attached and packet.op is not Op.CLOSE and not self.over:
                self.misbehave(data, hangs_up=hangs_up)

    return Sending


@_right("reorder", "replies may arrive in any order")
class _Reordering(CheckedSession):
    """Hold the node's own replies, and send them in reverse order."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._held: list[tuple[int, bool, Any]] = []

    def answer(self, number: int, *, success: bool, result: Any) -> None:
        self._held.append((number, success, result))
        if len(self._held) == 1:
            self.node.after(0.02, self._flush)

    def _flush(self) -> None:
        held, self._held = self._held, []
        for number, success, result in reversed(held):
            super().answer(number, success=success, result=result)


@_right("late-events", "events of a topic that was just unsubscribed are ignored")
class _LateEvents(CheckedSession):
    def on_unsubscribe(self, body: Any) -> None:
        super().on_unsubscribe(body)
        self.write(Op.PUBLISH, topic=body.topic, event=b"a late event")


@_right("offers", "a service confirms offered tunnels, and handles their end")
class _Offering(CheckedSession):
    """Offer tunnels to services: two that end at once, one with a message."""

    def on_init(self, body: Any) -> None:
        super().on_init(body)
        if self.attached and self.cluster:
            for _ in range(3):
                self.offer(None, 0, 3.0)

    def on_tunnel_confirm(self, body: Any) -> None:
        initiator, _ = self.offers.get(body.build_id, (self, 0))
        super().on_tunnel_confirm(body)
        end = self.tunnels.get(body.id)
        if initiator is not None or end is None:  # not an offer of the node
            return
        if body.build_id == 2:
            end.waiting.append((7, b"message"))
            self.node.after(0.05, lambda: self._close_after_data(end))
        else:
            end.end("" if body.build_id else "relaycheck closes it")

    def _close_after_data(self, end: End) -> None:
        end.last = ""
        end.deliver()
        self.node.after(0.2, lambda: end.end("relaycheck closes it") if end.open else None)


@_right("requests", "a service handles broadcasts, and answers requests in time")
class _Asking(CheckedSession):
    """Send services broadcasts, and requests, which are to be answered by the deadline."""

    _late = False

    def on_init(self, body: Any) -> None:
        super().on_init(body)
        if self.attached and self.cluster:
            self.node.after(2.0, self._check_replies)  # just before the first request expires
            for data in (b"", b"relaycheck asks", bytes(100_000)):
                self.write(Op.BROADCAST, message=data)
                self.deliver_request(None, 0, data, 2_000)

    def _check_replies(self) -> None:
        self._late = any(caller is None for caller, _ in self.unanswered.values())

    def problem(self) -> str | None:
        """Say how the client's end is wrong."""
        if self._late:
            return f"connection {self.number}: requests aren't answered by their deadline"
        return super().problem()


@_right("starved", "a program waits for credit that arrives late and little by little")
class _Starving(CheckedSession):
    """Give credit back late, and little by little."""

    def write(self, op: Op, **body: Any) -> None:
        end = self.tunnels.get(body.get("id", -1))
        if op is Op.TUNNEL_ALLOW and end is not None and 1 < body["space"] <= CHUNK_LIMIT:
            parts = (body["space"] // 2, body["space"] - body["space"] // 2)
            for part, delay in zip(parts, (0.002, 0.004), strict=True):
                self.node.after(delay, lambda part=part: self._grant(end, part))  # type: ignore[misc]
        else:
            super().write(op, **body)

    def _grant(self, end: End, space: int) -> None:
        if end.open and not self.over:
            super().write(Op.TUNNEL_ALLOW, id=end.number, space=space)


@_scenario("ungranted", "without credit no data is sent")
class _Ungranted(CheckedSession):
    def write(self, op: Op, **body: Any) -> None:
        if op is not Op.TUNNEL_ALLOW:
            super().write(op, **body)


@_scenario("timeouts", "a program copes with requests and tunnels that time out")
class _TimingOut(CheckedSession):
    def _time_out(self, op: Op, body: Any) -> None:
        self.node.after(body.timeout / 1_000, lambda: self.write(op, id=body.id, timed_out=True))

    def on_request(self, body: Any) -> None:
        self._time_out(Op.REPLY, body)

    def on_tunnel_init(self, body: Any) -> None:
        self._time_out(Op.TUNNEL_CONFIRM, body)


@_scenario("faults", "a program copes with requests that fail")
class _Failing(CheckedSession):
    def on_request(self, body: Any) -> None:
        self.answer(body.id, success=False, result="relaycheck fails everything")


@_scenario("tunnel-drop", "a program copes with tunnels that the node closes with a reason")
class _TunnelDropping(CheckedSession):
    def on_tunnel_packet(self, op: Op, end: End, body: Any) -> None:
        if op is Op.TUNNEL_TRANSFER:
            end.end("relaycheck closes it")
            end.drop("relaycheck closes it")
        else:
            super().on_tunnel_packet(op, end, body)


_DENY = packet(Op.DENY, reason="relaycheck denies every client")
_CLOSE = packet(Op.CLOSE, reason="relaycheck closes")
_HALF = packet(Op.PUBLISH, topic="relaycheck", event=bytes(100))[:50]
_MAGIC = packet(Op.INIT, version=VERSION).replace(b"magic", b"MAGIC")
_V2 = packet(Op.INIT, version="v2.0")
_hang_up, _vanish = _answers(b"", hangs_up=True), _sends(b"", hangs_up=True)
_SENDS = "a client disconnects from a node that sends"
for _id, _description, _session in (
    ("deny", "a denied client disconnects", _answers(_DENY)),
    ("version", "a client disconnects from a node of another version", _answers(_V2)),
    ("magic", "a client disconnects from a node with another magic", _answers(_MAGIC)),
    ("silent", "no call hangs when the node disconnects instead of answering the init", _hang_up),
    (
        "drop-packet",
        "no call hangs when the node vanishes in the middle of a packet",
        _sends(_HALF, hangs_up=True),
    ),
    ("drop", "no call hangs when the node vanishes without a close", _vanish),
    ("close", "a client disconnects after the node's close", _sends(_CLOSE)),
    ("opcode", f"{_SENDS} an unknown opcode", _sends(b"\x0e")),
    ("bool", f"{_SENDS} a bool of 2", _sends(b"\x05\x00\x02")),
    ("varint", f"{_SENDS} a varint of eleven bytes", _sends(b"\x05" + b"\x80" * 10)),
    ("length", f"{_SENDS} a length of 2^63 bytes", _sends(b"\x02" + b"\x80" * 9 + b"\x01")),
):
    _scenario(_id, _description)(_session)
