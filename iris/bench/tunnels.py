"""Tunnels: echo, and bulk one way and both ways. Core (`Tunnel`) and the shell around it."""

import re
import select
import time

from iris.bench.board import Board
from iris.bench.line import STALL, Line, Window
from iris.bench.stats import latencies
from iris.bench.wire import VARINT, Buffer, Failure, binary, payload, varint

GRANT = 64 << 20  # bytes that an end grants at first, like the bindings
_GRANT_STEP = 1 << 20  # bytes received after which as much is granted again
_CHUNK_LIMIT = 65_536
_TIMEOUT = 2_000  # ms for a tunnel to be built
_ATTEMPTS = 5
_OFFER = re.compile(rb"\x09(%b)(%b)" % (VARINT, VARINT))
_BUILT = re.compile(rb"\x0a(%b)(?:(\x01)|\x00(%b))" % (VARINT, VARINT))


class Tunnel:
    """One end. All messages have the same payload, and are one chunk when they're sent; what comes may be cut in any way."""

    def __init__(self, number: int, data: bytes) -> None:
        self._number, self._payload = varint(number), data
        self.packet = b"\x0c" + self._number + varint(len(data)) + binary(data)
        self._space = 0  # bytes that may be sent
        self._chunk = 0  # bytes that are missing of a chunk
        self._message = 0  # bytes that have come of a message
        self._granted = GRANT  # bytes that may come
        self.received = 0  # bytes
        self.messages = 0
        self.closed: str | None = None  # the reason

    def spend(self) -> bool:
        """Use the allowance for one message. Returns: False when it doesn't suffice."""
        if self._space < len(self._payload):
            return False
        self._space -= len(self._payload)
        return True

    def grant(self) -> bytes:
        """The packet that lets the other end go on, if it's time for one."""
        step = GRANT - self._granted
        if step < _GRANT_STEP:
            return b""
        self._granted = GRANT
        return b"\x0b" + self._number + varint(step)

    def take(self, data: Buffer) -> int:
        """Take in what came. Returns: how many bytes were used; the rest isn't whole. Raises: Failure."""
        at, end = 0, len(data)
        try:
            while at < end and self.closed is None:
                if self._chunk:
                    size = min(self._chunk, end - at)
                    self._add(data[at : at + size])
                    at += size
                    self._chunk -= size
                else:
                    at = self._packet(data, at)
        except IndexError:
            pass  # the packet isn't whole
        return at

    def _packet(self, data: Buffer, at: int) -> int:
        """Read a packet up to the payload. Raises: IndexError when it isn't whole."""
        op = data[at]
        stop = at + 1 + len(self._number)
        if op not in (0x0B, 0x0C, 0x0D):
            raise Failure(f"not a packet of a tunnel: {bytes(data[at : at + 16]).hex(' ')}")
        if data[at + 1 : stop] != self._number:
            if stop > len(data):
                raise IndexError
            raise Failure(f"a packet of another tunnel: {bytes(data[at : at + 16]).hex(' ')}")
        first, stop = _read(data, stop)
        if op == 0x0B:
            self._space += first
        elif op == 0x0D:
            if stop + first > len(data):
                raise IndexError
            self.closed, stop = bytes(data[stop : stop + first]).decode(errors="replace"), stop + first
        else:
            size, stop = _read(data, stop)
            left = len(self._payload) - self._message
            if first != (0 if self._message else len(self._payload)) or not 0 < size <= min(left, _CHUNK_LIMIT):
                raise Failure(f"a chunk of {size} bytes of a message of {first}, where {left} are missing")
            if size > self._granted:
                raise Failure("more came than was granted")
            self._granted -= size
            self._chunk = size
        return stop

    def _add(self, part: Buffer) -> None:
        if not self._payload.startswith(part, self._message):
            raise Failure("a message came with another payload")
        self.received += len(part)
        self._message += len(part)
        if self._message == len(self._payload):
            self._message = 0
            self.messages += 1


def _read(data: Buffer, at: int) -> tuple[int, int]:
    """Read a number. Returns: (value, offset behind it). Raises: IndexError when the data ends first; Failure."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Failure("a number of more than ten bytes")


def _build(line: Line, cluster: str, data: bytes) -> Tunnel:
    """Build a tunnel. Raises: Failure."""
    for number in range(_ATTEMPTS):
        line.push(b"\x09" + varint(number) + binary(cluster.encode()) + varint(_TIMEOUT))
        while not (built := _BUILT.match(line.data)):
            line.pull()
        timed_out, its_number = built[2], built[1]
        line.drop(built.end())
        if its_number != varint(number):
            raise Failure("the node builds a tunnel that we didn't ask for")
        if not timed_out:
            line.push(b"\x0b" + varint(number) + varint(GRANT))
            return _started(line, number, data)
    raise Failure("no tunnel can be built")


def _accept(line: Line, data: bytes) -> Tunnel:
    """Wait for a tunnel. Raises: Failure."""
    while not (offer := _OFFER.match(line.data)):
        line.pull()
    build_id = offer[1]
    line.drop(offer.end())
    line.push(b"\x0a" + build_id + varint(0) + b"\x0b" + varint(0) + varint(GRANT))
    return _started(line, 0, data)


def _started(line: Line, number: int, data: bytes) -> Tunnel:
    tunnel = Tunnel(number, data)
    line.drop(tunnel.take(line.data))  # what came right behind
    return tunnel


def _turn(line: Line, tunnel: Tunnel) -> None:
    """Wait for something, and take it in."""
    line.pull()
    line.drop(tunnel.take(line.data))
    if more := tunnel.grant():
        line.push(more)


def answer(port: int, cluster: str, size: int) -> dict[str, object]:
    """Accept a tunnel, and send back each message, until it's closed."""
    with Line(port, cluster, room=1 << 18, patient=True) as line:
        print("ready", flush=True)
        tunnel = _accept(line, payload(size))
        answered = 0
        while tunnel.closed is None:
            _turn(line, tunnel)
            while answered < tunnel.messages:
                if not tunnel.spend():
                    raise Failure("the node doesn't give allowance back")
                line.push(tunnel.packet)
                answered += 1
        return {"messages": answered}


def echo(port: int, cluster: str, size: int, warm_up: float, seconds: float, pids: dict[str, int]) -> dict[str, object]:
    """Send a message, wait for it to come back, and so on."""
    clock = time.perf_counter_ns
    with Line(port, room=1 << 18) as line:
        tunnel = _build(line, cluster, payload(size))
        window = Window(warm_up, seconds, pids)
        for until, then in ((window.opens, window.begin), (window.closes, window.end)):
            counted, now = list[int](), 0
            while now < until:
                while not tunnel.spend():
                    _turn(line, tunnel)
                awaited, began = tunnel.messages + 1, clock()
                line.push(tunnel.packet)
                while tunnel.messages < awaited:
                    if tunnel.closed is not None:
                        raise Failure(f"the tunnel was closed: {tunnel.closed}")
                    _turn(line, tunnel)
                now = clock()
                counted.append(now - began)
            then()
        _close(line, tunnel)
    return {**latencies(counted), "messages": len(counted), "lost": 0, "cpu": window.cpu(len(counted))}


def drain(port: int, cluster: str, size: int, both: bool, board: int) -> dict[str, object]:
    """Accept a tunnel, and take in what comes until it's closed; in turn send as much as goes, if both ends shall."""
    counts = Board(board)
    with Line(port, cluster, room=1 << 19, patient=True) as line:
        print("ready", flush=True)
        tunnel = _accept(line, payload(size))
        while tunnel.closed is None:
            if both:
                _fill(line, tunnel)
            _turn(line, tunnel)
            counts[0] = tunnel.received
        return {"bytes": tunnel.received}


def pour(
    port: int, cluster: str, size: int, both: bool, board: int, warm_up: float, seconds: float, pids: dict[str, int]
) -> dict[str, object]:
    """Send as much as goes; take in what comes, if both ends send."""
    counts = Board(board)
    with Line(port, room=1 << 19) as line:
        tunnel = _build(line, cluster, payload(size))
        window = Window(warm_up, seconds, pids)
        sent, marks = 0, []
        for until, then in ((window.opens, window.begin), (window.closes, window.end)):
            while time.perf_counter_ns() < until:
                sent += _fill(line, tunnel)
                _turn(line, tunnel)
                if tunnel.closed is not None:
                    raise Failure(f"the tunnel was closed: {tunnel.closed}")
            then()
            marks.append((counts[0], tunnel.received))
        deadline = time.monotonic() + STALL
        while (line.unsent or counts[0] < sent * size) and time.monotonic() < deadline:
            line.flush()
            if select.select([line.sock], [], [], 0.005)[0]:
                _turn(line, tunnel)
        lost = sent * size - counts[0]
        _close(line, tunnel)
    out, back = (marks[1][way] - marks[0][way] for way in (0, 1))
    messages = (out + back) // size
    each = (out + back) / (2 if both else 1) / window.seconds / 1e6
    return {"mb_per_second": each, "messages": messages, "lost": -(-lost // size), "cpu": window.cpu(messages)}


def _fill(line: Line, tunnel: Tunnel) -> int:
    """Send messages as long as the socket takes them, and the allowance lasts. Returns: how many."""
    count = 0
    while not line.unsent and tunnel.spend():
        line.push(tunnel.packet)
        count += 1
    return count


def _close(line: Line, tunnel: Tunnel) -> None:
    """Close the tunnel, and see that it's confirmed. The connection is left without a word: a Go node may send chunks even after that."""
    line.push(b"\x0d" + tunnel.packet[1:2])
    while tunnel.closed is None:
        _turn(line, tunnel)
