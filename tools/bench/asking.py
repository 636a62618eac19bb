"""Request and reply: who asks, and who answers. Shell around `wire.Asker` and `wire.Echo`."""

import time

from iris.relay_protocol.varint import varint
from tools.bench.raw_connection import RawConnection, Window
from tools.bench.stats import latencies
from tools.bench.wire import FIRST_ID, Asker, Echo, Failure, payload, request

# ms for a request; below a RawConnection's own timeout, so that the node's answer comes first
TIMEOUT = 8_000
_PROBE = 200  # ms for one that finds out whether the service can be reached yet
_PATIENCE = 20.0  # seconds until it must


def serve(port: int, cluster: str, size: int) -> dict[str, object]:
    """Answer all requests; never returns."""
    data = payload(size)
    echo = Echo(data)
    with RawConnection(port, cluster, room=(1 << 18) + 2 * size, patient=True) as line:
        print("ready", flush=True)
        while True:
            line.pull()
            answers, used = echo.take(line.data)
            if used:
                line.push(answers)
                line.drop(used)


def reach(port: int, cluster: str, size: int) -> dict[str, object]:
    """Ask until the service answers. Returns: when that was, on the machine's monotonic clock."""
    with RawConnection(port, room=2 * size + 1_024) as line:
        reach_service(line, cluster, payload(size), probe=50, in_a_row=1)
        return {"at": time.monotonic()}


def ask(
    port: int,
    cluster: str,
    size: int,
    in_flight: int,
    warm_up: float,
    seconds: float,
    pids: dict[str, int],
) -> dict[str, object]:
    """Keep so many requests in flight, over one connection."""
    data = payload(size)
    asker = Asker(cluster, data, in_flight, TIMEOUT)
    stride, clock = asker.stride, time.perf_counter_ns
    with RawConnection(port, room=(1 << 18) + 2 * stride) as line:
        reach_service(line, cluster, data)
        window = Window(warm_up, seconds, pids)
        line.push(asker.ask(clock()))
        for until, then in ((window.opens, window.begin), (window.closes, window.end)):
            asker.latencies = []
            now = 0
            while now < until:
                line.pull()
                now = clock()
                whole = len(line.data) // stride * stride
                asker.take(line.data[:whole], now)
                if whole:
                    line.drop(whole)
                    line.push(asker.ask(clock()))
                else:
                    asker.check(line.data)
            then()
        counted = asker.latencies
        asker.latencies = []
        while asker.pending:
            line.pull()
            whole = len(line.data) // stride * stride
            asker.take(line.data[:whole], clock())
            asker.check(line.data[whole:])
            line.drop(whole)
        line.leave()
    return {
        "per_second": len(counted) / window.seconds,
        "messages": len(counted),
        **latencies(counted),
        "lost": 0,
        "cpu": window.cpu(len(counted)),
    }


def reach_service(
    line: RawConnection, cluster: str, data: bytes, probe: int = _PROBE, in_a_row: int = 20
) -> None:
    """Ask one by one until so many are answered in a row.

    A cluster is five topics, and a Go node may know some of them sooner.

    Raises: Failure when that takes too long.
    """
    timed_out, asker = b"\x05" + varint(FIRST_ID) + b"\x01", Asker(cluster, data, 1, probe)
    deadline, answered = time.monotonic() + _PATIENCE, 0
    while answered < in_a_row:
        if time.monotonic() > deadline:
            raise Failure(f"the service can't be reached within {_PATIENCE} s")
        line.push(request(FIRST_ID, cluster, data, probe))
        while len(line.data) < len(timed_out):
            line.pull()
        if line.data == timed_out:
            line.drop(len(timed_out))
            answered = 0
            time.sleep(0.01)
            continue
        asker.check(line.data)
        while len(line.data) < asker.stride:
            line.pull()
        asker.check(line.data[asker.stride :])
        asker.ask(0)
        asker.take(line.data[: asker.stride], 0)
        line.drop(asker.stride)
        answered += 1
