"""Tunnels: echo, and bulk one way and both ways. Shell around `tunnel.py`."""

import re
import select
import time

from iris.relay_protocol.varint import varint
from tools.bench.raw_connection import STALL, RawConnection, Window
from tools.bench.shared_counters import SharedCounters
from tools.bench.stats import latencies
from tools.bench.tunnel import GRANT, Tunnel
from tools.bench.wire import VARINT, Failure, binary, payload

_TIMEOUT = 2_000  # ms for a tunnel to be built
_ATTEMPTS = 5
_OFFER = re.compile(rb"\x09(%b)(%b)" % (VARINT, VARINT))
_BUILT = re.compile(rb"\x0a(%b)(?:(\x01)|\x00(%b))" % (VARINT, VARINT))


def _build(line: RawConnection, cluster: str, data: bytes) -> Tunnel:
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


def _accept(line: RawConnection, data: bytes) -> Tunnel:
    """Wait for a tunnel. Raises: Failure."""
    while not (offer := _OFFER.match(line.data)):
        line.pull()
    build_id = offer[1]
    line.drop(offer.end())
    line.push(b"\x0a" + build_id + varint(0) + b"\x0b" + varint(0) + varint(GRANT))
    return _started(line, 0, data)


def _started(line: RawConnection, number: int, data: bytes) -> Tunnel:
    tunnel = Tunnel(number, data)
    line.drop(tunnel.take(line.data))  # what came right behind
    return tunnel


def _turn(line: RawConnection, tunnel: Tunnel) -> None:
    """Wait for something, and take it in."""
    line.pull()
    line.drop(tunnel.take(line.data))
    if more := tunnel.grant():
        line.push(more)


def answer(port: int, cluster: str, size: int) -> dict[str, object]:
    """Accept a tunnel, and send back each message, until it's closed."""
    with RawConnection(port, cluster, room=1 << 18, patient=True) as line:
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


def echo(
    port: int, cluster: str, size: int, warm_up: float, seconds: float, pids: dict[str, int]
) -> dict[str, object]:
    """Send a message, wait for it to come back, and so on."""
    clock = time.perf_counter_ns
    with RawConnection(port, room=1 << 18) as line:
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
    return {
        **latencies(counted),
        "messages": len(counted),
        "lost": 0,
        "cpu": window.cpu(len(counted)),
    }


def drain(port: int, cluster: str, size: int, both: bool, board: int) -> dict[str, object]:
    """Accept a tunnel, and take in what comes until it's closed.

    In turn send as much as goes, if both ends shall.
    """
    counts = SharedCounters(board)
    with RawConnection(port, cluster, room=1 << 19, patient=True) as line:
        print("ready", flush=True)
        tunnel = _accept(line, payload(size))
        while tunnel.closed is None:
            if both:
                _fill(line, tunnel)
            _turn(line, tunnel)
            counts[0] = tunnel.received
        return {"bytes": tunnel.received}


def pour(
    port: int,
    cluster: str,
    size: int,
    both: bool,
    board: int,
    warm_up: float,
    seconds: float,
    pids: dict[str, int],
) -> dict[str, object]:
    """Send as much as goes; take in what comes, if both ends send."""
    counts = SharedCounters(board)
    with RawConnection(port, room=1 << 19) as line:
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
    return {
        "mb_per_second": each,
        "messages": messages,
        "lost": -(-lost // size),
        "cpu": window.cpu(messages),
    }


def _fill(line: RawConnection, tunnel: Tunnel) -> int:
    """Send messages while the socket takes them and credit is left. Returns: how many."""
    count = 0
    while not line.unsent and tunnel.spend():
        line.push(tunnel.packet)
        count += 1
    return count


def _close(line: RawConnection, tunnel: Tunnel) -> None:
    """Close the tunnel, and see that it's confirmed. The connection is left without a word.

    A Go node may send chunks even after that.
    """
    line.push(b"\x0d" + tunnel.packet[1:2])
    while tunnel.closed is None:
        _turn(line, tunnel)
