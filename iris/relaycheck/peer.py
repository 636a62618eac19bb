"""A binding that says what it is told to, and judges what the node answers.

What the cases of `relaycheck node` are made of. Shell.
"""

import contextlib
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from iris.relay_protocol.schema import VERSION, Op
from iris.relaycheck.checker import Judge
from iris.relaycheck.reader import GENEROUS, Packet
from iris.relaycheck.rules import Side, Violation

PATIENCE = 5.0  # seconds for what must come
SILENCE = 0.25  # seconds for what mustn't
GRANT = 64 << 20  # bytes that a binding grants
WINDOW = 4 << 20  # bytes that a node grants
LIMIT = 65_536  # bytes of a chunk
PROBE = b"relaycheck probe "


class Failure(Exception):
    """The node doesn't do what the case is about; the text says what it does."""


class Peer:
    """A connection to the node. Allowances are added up in `granted`, by tunnel.

    Everything else waits to be heard.
    """

    def __init__(
        self,
        number: int,
        address: tuple[str, int],
        report: Callable[[Violation], None],
        clock: Callable[[], float],
    ) -> None:
        self._report, self._clock = report, clock
        self._heard: deque[Packet] = deque()
        self.granted: Counter[int] = Counter()
        self.over = False  # the node hung up
        self._judge = Judge(number, self._keep)
        self.sock = socket.create_connection(address, PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _keep(self, packet: Packet) -> None:
        if packet.side is Side.NODE:
            if packet.op is Op.TUNNEL_ALLOW:
                self.granted[packet.body.id] += packet.body.space
            else:
                self._heard.append(packet)

    def _judged(self, violations: list[Violation]) -> None:
        for violation in violations:
            if violation.side is Side.NODE:
                self._report(violation)

    # Saying

    def say(self, op: Op, **body: Any) -> None:
        """Send a packet."""
        self.say_bytes(GENEROUS.client(op, **body))

    def say_bytes(self, data: bytes, cut: int | None = None) -> None:
        """Send any bytes; with a cut in two pieces, which reach the node one after the other."""
        self._judged(self._judge.feed(Side.CLIENT, data, self._clock()))
        with contextlib.suppress(OSError):  # as hearing will tell
            self.sock.settimeout(PATIENCE)
            if cut is None:
                self.sock.sendall(data)
            else:
                self.sock.sendall(data[:cut])
                time.sleep(0.001)
                self.sock.sendall(data[cut:])

    def init(self, cluster: str = "") -> "Peer":
        """Attach."""
        self.say(Op.INIT, version=VERSION, cluster=cluster)
        self.expect(Op.INIT)
        return self

    def hang_up(self) -> None:
        """Vanish."""
        self._judged(self._judge.end(Side.CLIENT, self._clock()))
        self.sock.close()
        self.over = True

    def half_close(self) -> None:
        """Say that nothing more comes."""
        self.sock.shutdown(socket.SHUT_WR)

    # Hearing

    def drain(self) -> None:
        """Take what has come, so that it is judged."""
        for _ in range(1_000):
            if not self._read(self._clock()):
                return

    def _read(self, deadline: float) -> bool:
        """Take what comes next; False when nothing does until then."""
        if self.over:
            return False
        self.sock.settimeout(max(0.001, deadline - self._clock()))
        try:
            data = self.sock.recv(262_144)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        if data:
            self._judged(self._judge.feed(Side.NODE, data, self._clock()))
        else:
            self.over = True
            self._judged(self._judge.end(Side.NODE, self._clock()))
        return True

    def listen(self, timeout: float = PATIENCE) -> Packet | None:
        """The next packet but allowances; None when the time is over, or the node hung up."""
        deadline = self._clock() + timeout
        while not self._heard:
            if not self._read(deadline):
                return None
        return self._heard.popleft()

    def expect(self, op: Op, timeout: float = PATIENCE, **fields: Any) -> Any:
        """The next packet, which must be this one. Returns: its body."""
        packet = self.listen(timeout)
        if packet is None:
            raise Failure(
                f"no {op.name} comes" + (", but the end" if self.over else f" within {timeout} s")
            )
        wrong = {
            name: packet.body.get(name)
            for name, value in fields.items()
            if packet.body.get(name) != value
        }
        if packet.op is not op or wrong:
            shown = {
                name: value if len(str(value)) < 80 else f"{len(value)} bytes"
                for name, value in packet.body.items()
                if name != "_io"
            }
            raise Failure(
                f"{op.name} {fields if len(str(fields)) < 200 else ''} should come, not {packet.op.name} {shown}"
            )
        return packet.body

    def expect_event(self, topic: str, event: bytes) -> None:
        """The next event, probes left aside."""
        while (body := self.expect(Op.PUBLISH, topic=topic)).event.startswith(PROBE):
            pass
        if body.event != event:
            raise Failure(f"another event comes: {body.event[:40]!r}")

    def quiet(self, seconds: float = SILENCE) -> None:
        """Nothing must come, probes left aside."""
        until = self._clock() + seconds
        while (packet := self.listen(until - self._clock())) is not None:
            if packet.op is not Op.PUBLISH or not packet.body.event.startswith(PROBE):
                raise Failure(f"{packet.op.name} comes, and nothing should")
        if self.over:
            raise Failure("the node hangs up")

    def refused(self) -> None:
        """The node must end this connection, with a reason if it's attached.

        Whatever it says before doesn't matter.
        """
        reason: str | None = None
        while (packet := self.listen()) is not None:
            if packet.op is Op.CLOSE:
                reason = packet.body.reason
        if not self.over:
            raise Failure("the node puts up with it")
        if reason == "":
            raise Failure("the close has no reason")

    def ended(self) -> None:
        """The node must hang up, and say nothing before."""
        packet = self.listen()
        if packet is not None:
            raise Failure(f"{packet.op.name} comes instead of the end")
        if not self.over:
            raise Failure("the node doesn't hang up")

    def sync(self) -> None:
        """The node must be through with all that was said to it.

        It answers a request that nobody can.
        """
        self.say(Op.REQUEST, id=1 << 40, cluster="relaycheck: nobody", request=b"", timeout=0)
        self.expect(Op.REPLY, id=1 << 40, timed_out=True)

    def leave(self) -> None:
        """Close gracefully."""
        self.say(Op.CLOSE)
        self.expect(Op.CLOSE, reason="")
        self.ended()

    # Tunnels

    def await_grant(self, number: int, total: int) -> None:
        """Allowances for a tunnel must add up to `total`."""
        deadline = self._clock() + PATIENCE
        while self.granted[number] < total:
            if not self._read(deadline):
                raise Failure(f"allowances come to {self.granted[number]} bytes, not {total}")

    def transfer(self, number: int, message: bytes) -> None:
        """Send a message in chunks, within the allowance that is there."""
        for at in range(0, len(message), LIMIT):
            self.say(
                Op.TUNNEL_TRANSFER,
                id=number,
                size=0 if at else len(message),
                chunk=message[at : at + LIMIT],
            )

    def receive(self, number: int, message: bytes) -> None:
        """That message must come, in chunks."""
        got = bytearray()
        while len(got) < len(message):
            body = self.expect(Op.TUNNEL_TRANSFER, id=number, size=0 if got else len(message))
            got += body.chunk
        if got != message:
            raise Failure("a message comes changed")
