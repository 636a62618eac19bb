"""Attaching: over and over again, and many at once. Shell."""

import resource
import time

from tools.bench.raw_connection import RawConnection, Window

_ROOM = 256  # bytes: these hear hardly anything


def attach(
    port: int, cluster: str, warm_up: float, seconds: float, pids: dict[str, int]
) -> dict[str, object]:
    """Attach and detach in order, one after the other."""
    window = Window(warm_up, seconds, pids)
    for until, then in ((window.opens, window.begin), (window.closes, window.end)):
        count = 0
        while time.perf_counter_ns() < until:
            with RawConnection(port, room=_ROOM) as line:
                line.leave()
            count += 1
        then()
    return {
        "per_second": count / window.seconds,
        "messages": count,
        "lost": 0,
        "cpu": window.cpu(count),
    }


def allow_many() -> None:
    """Have as many connections as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def crowd(port: int, clients: int) -> dict[str, object]:
    """Attach so many, and stay; never returns."""
    allow_many()
    lines = [RawConnection(port, room=_ROOM, patient=True) for _ in range(clients)]
    print("ready", flush=True)
    lines[0].pull()
    raise RuntimeError("something came for a client that asked for nothing")
