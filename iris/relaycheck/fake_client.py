"""A client that sends whatever a case wants, and checks what the node answers. Shell."""

import contextlib
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from iris.relay_protocol.schema import VERSION, Op, Side
from iris.relaycheck.checker import ConformanceChecker
from iris.relaycheck.reader import GENEROUS, Packet
from iris.relaycheck.rules import Violation
from iris.relaycheck.tunnel import CHUNK_LIMIT

RESPONSE_TIMEOUT = 5.0  # seconds for what must arrive
QUIET_TIME = 0.25  # seconds for what must not arrive
CLIENT_CREDIT = 64 << 20  # bytes that a binding grants for a tunnel
PROBE = b"relaycheck probe "

packet = GENEROUS.client  # encodes a client's packet


class Failure(Exception):
    """The node fails a case; the text says what it does."""


class FakeClient:
    """One connection. Credit is added up in `granted`, by tunnel; other packets are queued."""

    def __init__(
        self,
        number: int,
        address: tuple[str, int],
        report: Callable[[Violation], None],
        clock: Callable[[], float],
    ) -> None:
        self._report, self._clock = report, clock
        self._received: deque[Packet] = deque()
        self.granted: Counter[int] = Counter()
        self.ended = False  # the node disconnected
        self._checker = ConformanceChecker(number, self._keep)
        self.sock = socket.create_connection(address, RESPONSE_TIMEOUT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _keep(self, packet: Packet) -> None:
        if packet.side is Side.NODE:
            if packet.op is Op.TUNNEL_ALLOW:
                self.granted[packet.body.id] += packet.body.space
            else:
                self._received.append(packet)

    def _check(self, side: Side, data: bytes) -> None:
        for violation in self._checker.feed(side, data, self._clock()):
            if violation.side is Side.NODE:
                self._report(violation)

    # Sending

    def send(self, op: Op, **body: Any) -> None:
        """Send a packet."""
        self.send_bytes(packet(op, **body))

    def send_bytes(self, data: bytes, cut: int | None = None) -> None:
        """Send any bytes; with a cut in two segments, which arrive one after the other."""
        self._check(Side.CLIENT, data)
        with contextlib.suppress(OSError):  # as receiving will show
            self.sock.settimeout(RESPONSE_TIMEOUT)
            self.sock.sendall(data[:cut])
            if cut is not None:
                time.sleep(0.001)
                self.sock.sendall(data[cut:])

    def init(self, cluster: str = "") -> "FakeClient":
        """Attach."""
        self.send(Op.INIT, version=VERSION, cluster=cluster)
        self.expect(Op.INIT)
        return self

    def disconnect(self) -> None:
        """Close the socket, without a close packet."""
        self._check(Side.CLIENT, b"")
        self.sock.close()
        self.ended = True

    # Receiving

    def drain(self) -> None:
        """Read what has arrived, so that it is checked."""
        for _ in range(1_000):
            if not self._read(self._clock()):
                return

    def _read(self, deadline: float) -> bool:
        """Read once; False when nothing arrives by the deadline."""
        if self.ended:
            return False
        self.sock.settimeout(max(0.001, deadline - self._clock()))
        try:
            data = self.sock.recv(262_144)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        self.ended = not data
        self._check(Side.NODE, data)
        return True

    def receive_packet(self, timeout: float = RESPONSE_TIMEOUT) -> Packet | None:
        """Return the next packet but credit; None after the timeout, or at the end."""
        deadline = self._clock() + timeout
        while not self._received:
            if not self._read(deadline):
                return None
        return self._received.popleft()

    def expect(self, op: Op, timeout: float = RESPONSE_TIMEOUT, **fields: Any) -> Any:
        """Receive a packet, which must be this one. Returns: its body."""
        packet = self.receive_packet(timeout)
        if packet is None:
            why = ": the node disconnects" if self.ended else f" within {timeout} s"
            raise Failure(f"no {op.name} arrives{why}")
        body = packet.body
        if packet.op is not op or any(body.get(name) != fields[name] for name in fields):
            shown = {
                name: value if len(str(value)) < 80 else f"{len(value)} bytes"
                for name, value in body.items()
                if name != "_io"
            }
            wanted = f" {fields}" if len(str(fields)) < 200 else ""
            raise Failure(f"{packet.op.name} {shown} arrives instead of {op.name}{wanted}")
        return body

    def expect_event(self, topic: str, event: bytes) -> None:
        """Receive an event, which must be this one; probes are skipped."""
        while (body := self.expect(Op.PUBLISH, topic=topic)).event.startswith(PROBE):
            pass
        if body.event != event:
            raise Failure(f"another event arrives: {body.event[:40]!r}")

    def expect_silence(self, seconds: float = QUIET_TIME) -> None:
        """Check that nothing arrives but probes."""
        until = self._clock() + seconds
        while (packet := self.receive_packet(until - self._clock())) is not None:
            if packet.op is not Op.PUBLISH or not packet.body.event.startswith(PROBE):
                raise Failure(f"unexpected {packet.op.name}")
        if self.ended:
            raise Failure("the node disconnects")

    def expect_rejection(self) -> None:
        """Check that the node disconnects this client, with a reason if it's attached."""
        reason: str | None = None
        while (packet := self.receive_packet()) is not None:
            if packet.op is Op.CLOSE:
                reason = packet.body.reason
        if not self.ended:
            raise Failure("the node accepts it")
        if reason == "":
            raise Failure("the close has no reason")

    def skip_to(self, *ops: Op, timeout: float = RESPONSE_TIMEOUT) -> None:
        """Receive packets up to the first of these."""
        while (packet := self.receive_packet(timeout)) is not None:
            if packet.op in ops:
                return
        raise Failure(f"no {' or '.join(op.name for op in ops)} arrives")

    def expect_close(self) -> None:
        """Check that the node answers a close, and disconnects."""
        self.expect(Op.CLOSE, reason="")
        self.expect_end()

    def expect_end(self) -> None:
        """Check that the node disconnects, and sends nothing before."""
        packet = self.receive_packet()
        if packet is not None:
            raise Failure(f"{packet.op.name} arrives instead of the end of the stream")
        if not self.ended:
            raise Failure("the node doesn't disconnect")

    def sync(self) -> None:
        """Wait until the node has processed everything: it answers a request that times out."""
        self.send(Op.REQUEST, id=1 << 40, cluster="relaycheck: nobody", request=b"", timeout=0)
        self.expect(Op.REPLY, id=1 << 40, timed_out=True)

    def leave(self) -> None:
        """Close gracefully."""
        self.send(Op.CLOSE)
        self.expect_close()

    # Requests and tunnels

    def answer(self, result: bytes | str, request: bytes | None = None) -> None:
        """Receive a request, and reply, or fail it with a text."""
        body = self.expect(Op.REQUEST)
        if request not in (None, body.request):
            raise Failure(f"another request arrives: {body.request[:40]!r}")
        self.reply(body.id, result)

    def reply(self, number: int, result: bytes | str) -> None:
        """Reply to a request, or fail it with a text."""
        self.send(Op.REPLY, id=number, success=isinstance(result, bytes), result=result)

    def await_grant(self, number: int, total: int) -> None:
        """Wait until the credit of a tunnel adds up to `total`."""
        deadline = self._clock() + RESPONSE_TIMEOUT
        while self.granted[number] < total:
            if not self._read(deadline):
                raise Failure(f"credit of {self.granted[number]} bytes, not {total}")

    def transfer(self, number: int, message: bytes) -> None:
        """Send a message in chunks, whatever the credit."""
        size = len(message)
        for at in range(0, size, CHUNK_LIMIT):
            chunk = message[at : at + CHUNK_LIMIT]
            self.send(Op.TUNNEL_TRANSFER, id=number, size=0 if at else size, chunk=chunk)

    def receive(self, number: int, message: bytes) -> None:
        """Receive the chunks of a message, which must be this one."""
        got = bytearray()
        while len(got) < len(message):
            body = self.expect(Op.TUNNEL_TRANSFER, id=number, size=0 if got else len(message))
            got += body.chunk
        if got != message:
            raise Failure("a message arrives changed")
