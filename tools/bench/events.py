"""Publish and broadcast: one sender, any number of receivers. Shell around `tally.py`.

Nothing may be lost, so at most a window of events is under way. How many came, the receivers write
on a board, which is memory that both drivers share; a byte through a pipe wakes the sender.
"""

import contextlib
import os
import select
import time

from tools.bench.raw_connection import RawConnection, Window
from tools.bench.shared_counters import SharedCounters
from tools.bench.tally import BLOCK, Progress, Stream, Tally
from tools.bench.wire import Failure

WINDOW = 8 * BLOCK  # events under way
_PATIENCE = 20.0  # seconds until the receivers must be reached
_PROBE = 0.5  # seconds that a block may take while they aren't
_GIVE_UP = 3.0  # seconds without an event while some are missing


def receive(
    port: int, cluster: str, size: int, kind: str, receivers: int, board: int, ack: int
) -> dict[str, object]:
    """Receive events, several connections at once; never returns."""
    stream, counts = Stream(kind, cluster, size), SharedCounters(board)
    with contextlib.ExitStack() as stack:
        poll = select.epoll()
        lines: dict[int, tuple[int, RawConnection, Tally]] = {}
        for i in range(receivers):
            line = stack.enter_context(RawConnection(port, stream.cluster, patient=True))
            line.push(stream.subscribe)
            lines[line.sock.fileno()] = (i, line, Tally(stream))
            poll.register(line.sock, select.EPOLLIN)
        print("ready", flush=True)
        while True:
            news = False
            for number, _ in poll.poll():
                i, line, tally = lines[number]
                before = tally.count // BLOCK
                line.pull()
                whole = len(line.data) // tally.stride * tally.stride
                tally.take(line.data[:whole])
                line.drop(whole)
                counts[2 * i], counts[2 * i + 1] = tally.count, tally.sum
                news |= tally.count // BLOCK != before
            if news:
                os.write(ack, b"!")


def send(
    port: int,
    cluster: str,
    size: int,
    kind: str,
    receivers: int,
    board: int,
    ack: int,
    warm_up: float,
    seconds: float,
    pids: dict[str, int],
) -> dict[str, object]:
    """Send blocks of events, a window ahead of the slowest receiver."""
    stream, counts = Stream(kind, cluster, size), SharedCounters(board)
    os.set_blocking(ack, False)
    with RawConnection(port, room=1_024) as line:
        _reach(line, stream, counts, receivers)
        progress, sent = Progress(counts, receivers), 0
        window = Window(warm_up, seconds, pids)
        marks, complete = [0], True
        for until, then in ((window.opens, window.begin), (window.closes, window.end)):
            while complete and time.perf_counter_ns() < until:
                while sent - min(progress.counts()) < WINDOW:
                    line.sock.sendall(stream.block)
                    sent += BLOCK
                complete = await_counts(progress, sent - WINDOW + 1, ack)
            then()
            marks.append(sum(progress.counts()))
        complete = complete and await_counts(progress, sent, ack)
        lost, extra = progress.wrong(sent)
        if extra:
            raise Failure(f"{extra} events came twice")
        line.leave()
    delivered = marks[2] - marks[1]
    return {
        "delivered_per_second": delivered / window.seconds,
        "messages": delivered,
        "lost": lost,
        "cpu": window.cpu(delivered),
    }


def await_counts(progress: Progress, count: int, ack: int) -> bool:
    """Wait until every receiver has so many. Returns: False when nothing comes any more."""
    news = time.monotonic()
    seen = progress.counts()
    while min(now := progress.counts()) < count:
        if now != seen:
            seen, news = now, time.monotonic()
        elif time.monotonic() - news > _GIVE_UP:
            return False
        if select.select([ack], [], [], 0.02)[0]:
            os.read(ack, 4_096)
    return True


def _reach(line: RawConnection, stream: Stream, board: SharedCounters, receivers: int) -> None:
    """Send blocks until two in a row have come to everybody, and nothing else.

    Subscriptions may lag. Raises: Failure.
    """
    deadline, whole = time.monotonic() + _PATIENCE, 0
    while whole < 2:
        if time.monotonic() > deadline:
            raise Failure(f"the receivers can't be reached within {_PATIENCE} s")
        progress = Progress(board, receivers)
        line.sock.sendall(stream.block)
        patience = time.monotonic() + _PROBE
        while progress.counts() != [BLOCK] * receivers and time.monotonic() < patience:
            time.sleep(0.002)
        whole = whole + 1 if progress.counts() == [BLOCK] * receivers else 0
