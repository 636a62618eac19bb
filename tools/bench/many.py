"""Many clients, many topics, endless load: the roles of `--growth` and `--soak`. Shell."""

import contextlib
import itertools
import os
import select
import time

from tools.bench.asking import TIMEOUT, reach_service
from tools.bench.attaching import allow_many
from tools.bench.events import WINDOW, await_counts
from tools.bench.raw_connection import RawConnection, Window, idle
from tools.bench.shared_counters import SharedCounters
from tools.bench.tally import BLOCK, Progress, Topics
from tools.bench.wire import Asker, Failure, payload

_CONNECTIONS = 2  # that share the topics, as a client may have 8,192
_SETTLE = 1.0  # seconds after which the nodes have got used to what's new
_PATIENCE = 40.0  # seconds until all topics must be reached
_QUIET = 1.0  # seconds without an event: no more will come


def ask_in_turn(
    port: int,
    cluster: str,
    size: int,
    in_flight: int,
    clients: int,
    active: int,
    warm_up: float,
    seconds: float,
    idle_for: float,
    pids: dict[str, int],
) -> dict[str, object]:
    """Attach clients.

    The active ones ask in turn, so many requests at a time and the next when all are answered.
    """
    allow_many()
    asker = Asker(cluster, payload(size), in_flight, TIMEOUT)
    clock, whole, count, total = time.perf_counter_ns, in_flight * asker.stride, 0, 0
    with contextlib.ExitStack() as stack:
        lines = [
            stack.enter_context(RawConnection(port, room=whole + 1_024 if i < active else 256))
            for i in range(clients)
        ]
        reach_service(lines[0], cluster, payload(size))
        time.sleep(_SETTLE)
        idling = idle(pids, idle_for)
        window, turns = Window(warm_up, seconds, pids), itertools.cycle(lines[:active])
        for until, then in ((window.opens, window.begin), (window.closes, window.end)):
            count = 0
            while (now := clock()) < until:
                line = next(turns)
                line.push(asker.ask(now))
                while len(line.data) < whole:
                    line.pull()
                    asker.check(line.data[: asker.stride])
                asker.take(line.data[:whole], now)
                line.drop(whole)
                asker.check(line.data)
                count += in_flight
            then()
            total += count
            asker.latencies = []
    return {
        "per_second": count / window.seconds,
        "messages": count,
        "total": total,
        "lost": 0,
        "cpu": window.cpu(count),
        "idle": idling,
    }


def ask_on(
    port: int, cluster: str, size: int, in_flight: int, seconds: float, board: int
) -> dict[str, object]:
    """Keep so many requests in flight; how many were answered, is on the board."""
    data, clock, counts = payload(size), time.monotonic, SharedCounters(board)
    asker, count = Asker(cluster, data, in_flight, TIMEOUT), 0
    with RawConnection(port, room=(1 << 18) + 2 * asker.stride) as line:
        reach_service(line, cluster, data)
        until = clock() + seconds
        line.push(asker.ask(0))
        while asker.pending:
            line.pull()
            whole = len(line.data) // asker.stride * asker.stride
            asker.take(line.data[:whole], 0)
            asker.check(line.data[whole:])
            line.drop(whole)
            count += len(asker.latencies)
            counts[0] = count
            asker.latencies = []
            if whole and clock() < until:
                line.push(asker.ask(0))
        line.leave()
    return {"messages": count, "lost": 0}


def receive_topics(
    port: int, cluster: str, size: int, topics: int, board: int, ack: int
) -> dict[str, object]:
    """Subscribe to all topics, over a few connections, and receive; never returns."""
    several, counts = Topics(cluster, size, topics), SharedCounters(board)
    with contextlib.ExitStack() as stack:
        poll, lines = select.epoll(), dict[int, RawConnection]()
        for part in range(_CONNECTIONS):
            line = stack.enter_context(RawConnection(port, patient=True))
            line.sock.sendall(several.subscribe(part, _CONNECTIONS))
            lines[line.sock.fileno()] = line
            poll.register(line.sock, select.EPOLLIN)
        print("ready", flush=True)
        count = total = 0
        while True:
            before = count
            for number, _ in poll.poll():
                line = lines[number]
                line.pull()
                whole = len(line.data) // several.stride * several.stride
                came, numbers = several.take(line.data[:whole])
                line.drop(whole)
                count, total = count + came, total + numbers
            counts[0], counts[1] = count, total
            if count // BLOCK != before // BLOCK:
                os.write(ack, b"!")


def send_topics(
    port: int,
    cluster: str,
    size: int,
    topics: int,
    board: int,
    ack: int,
    warm_up: float,
    seconds: float,
    idle_for: float,
    pids: dict[str, int],
) -> dict[str, object]:
    """Send blocks of events to topics by chance, a window ahead of the receivers."""
    several, counts = Topics(cluster, size, topics), SharedCounters(board)
    os.set_blocking(ack, False)
    with RawConnection(port, room=1_024) as line:
        _reach_topics(line, several, counts, topics)
        time.sleep(_SETTLE)
        idling = idle(pids, idle_for)
        progress, sent, total, base = Progress(counts, 1), 0, 0, counts[1]
        window, marks, complete = Window(warm_up, seconds, pids), [0], True
        for until, then in ((window.opens, window.begin), (window.closes, window.end)):
            while complete and time.perf_counter_ns() < until:
                while sent - progress.counts()[0] < WINDOW:
                    packets, numbers = several.publish(BLOCK)
                    line.sock.sendall(packets)
                    sent, total = sent + BLOCK, total + numbers
                complete = await_counts(progress, sent - WINDOW + 1, ack)
            then()
            marks.append(progress.counts()[0])
        await_counts(progress, sent, ack)
        got = progress.counts()[0]
        if got > sent or (got == sent and counts[1] - base != total):
            raise Failure("other events came than were sent")
        line.leave()
    count = marks[2] - marks[1]
    return {
        "per_second": count / window.seconds,
        "messages": count,
        "lost": sent - got,
        "cpu": window.cpu(count),
        "idle": idling,
    }


def _reach_topics(line: RawConnection, several: Topics, board: SharedCounters, topics: int) -> None:
    """Send each topic an event until all come, twice in a row. Raises.

    Failure when that takes too long.
    """
    deadline, whole = time.monotonic() + _PATIENCE, 0
    while whole < 2:
        if time.monotonic() > deadline:
            raise Failure(f"{topics} topics can't be reached within {_PATIENCE} s")
        progress = Progress(board, 1)
        for block in several.publish_all(BLOCK):
            line.sock.sendall(block)
        seen, news = -1, time.monotonic()
        while seen < topics and time.monotonic() - news < _QUIET:
            time.sleep(0.01)
            if (now := progress.counts()[0]) != seen:
                seen, news = now, time.monotonic()
        whole = whole + 1 if seen == topics else 0
