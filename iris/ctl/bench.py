"""`irisctl bench`: a small load, bounded in time and number, through the node on this host."""

import contextlib
import secrets
import threading
import time
from argparse import Namespace
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from iris.client import Connection, Handler, ServiceLimits, TopicLimits
from iris.ctl.node import attach, join
from iris.ctl.outcome import Exit
from iris.ctl.output import json_line, write_all
from iris.runtime.deadline import time_left

_TIMEOUT = 5.0  # seconds for a request


def run(args: Namespace) -> Exit:
    """Load a cluster, or an echo service of our own, with requests; then a topic with events."""
    message = bytes(args.size)
    with contextlib.ExitStack() as stack:
        if args.cluster is None:
            args.cluster = f"irisctl-bench-{secrets.token_hex(8)}"
            echo = Handler()
            echo.on_request(lambda request: request)
            stack.enter_context(join(args, echo, ServiceLimits(request_threads=0)))
        connection = stack.enter_context(attach(args))
        facts = {**_request(connection, args, message), **_publish(connection, args, message)}
    write_all(json_line(**facts) if args.json else table(facts).encode())
    return Exit.FAULT if facts["failures"] else Exit.OK


def _request(connection: Connection, args: Namespace, message: bytes) -> dict[str, object]:
    """Keep `args.jobs` requests in flight."""
    free, latencies, failed = threading.Semaphore(args.jobs), list[float](), list[None]()

    def done(issued: float, future: "Future[bytes]") -> None:
        if future.exception() is None:
            latencies.append(time.monotonic() - issued)
        else:
            failed.append(None)
        free.release()

    began, count = time.monotonic(), 0
    while count < args.count and time.monotonic() < began + args.duration:
        if not free.acquire(timeout=0.1):
            continue
        count += 1
        issued = time.monotonic()
        future = connection.submit(args.cluster, message, _TIMEOUT)
        future.add_done_callback(partial(done, issued))
    deadline = time.monotonic() + 2 * _TIMEOUT
    for _ in range(args.jobs):
        free.acquire(timeout=time_left(deadline))
    return requests(latencies, len(failed), time.monotonic() - began)


def _publish(connection: Connection, args: Namespace, message: bytes) -> dict[str, object]:
    """Publish at most `args.jobs` events ahead of what was received."""
    topic, received, arrivals = f"irisctl-bench-{secrets.token_hex(8)}", 0, threading.Semaphore(0)

    def count(event: bytes) -> None:
        nonlocal received
        received += 1
        arrivals.release()

    with connection.subscribe(topic, count, TopicLimits(event_threads=0)):
        time.sleep(0.2)  # until the subscription has spread
        began, sent = time.monotonic(), 0
        while sent < args.count and time.monotonic() < began + args.duration:
            if sent >= args.jobs and not arrivals.acquire(timeout=0.1):
                continue
            connection.publish(topic, message)
            sent += 1
        took = time.monotonic() - began
        deadline = time.monotonic() + 1.0
        while received < sent and time.monotonic() < deadline:
            time.sleep(0.01)
    return events(sent, received, took)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a share of the ascending values lies; 0 of none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def requests(latencies: Sequence[float], failures: int, seconds: float) -> dict[str, Any]:
    """Summarise requests; latencies in seconds, results in milliseconds."""
    ordered = sorted(latencies)
    done, points = len(ordered), {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "max_ms": 1.0}
    return {
        "requests": done,
        "failures": failures,
        "requests_per_second": round(done / seconds, 1),
        **{name: round(percentile(ordered, share) * 1_000, 3) for name, share in points.items()},
    }


def events(sent: int, came: int, seconds: float) -> dict[str, Any]:
    """Summarise events."""
    return {"published": sent, "received": came, "published_per_second": round(sent / seconds, 1)}


def table(facts: dict[str, Any]) -> str:
    """Format one fact per line."""
    return "".join(f"{name.replace('_', ' '):22}{value:>12,}\n" for name, value in facts.items())
