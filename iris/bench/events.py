"""Publish and broadcast: one sender, any number of receivers. Core (`Stream`, `Tally`) and the shell around it.

Nothing may be lost, so at most a window of events is under way. How many came, the receivers write on a board, which is memory that both
drivers share; a byte through a pipe wakes the sender.
"""

import contextlib
import os
import select
import time

from iris.bench.board import Board
from iris.bench.line import Line, Window
from iris.bench.wire import Buffer, Failure, binary, payload

BLOCK = 128  # events that are sent at once, each with another number in its first byte
_WINDOW = 8 * BLOCK  # events under way
_PATIENCE = 20.0  # seconds until the receivers must be reached
_PROBE = 0.5  # seconds that a block may take while they aren't
_GIVE_UP = 3.0  # seconds without an event while some are missing


class Stream:
    """The packets of one kind of event, as they're sent and as they come."""

    def __init__(self, kind: str, name: str, size: int) -> None:
        """kind: "publish" to a topic of this name, or "broadcast" to a cluster."""
        body = payload(size - 1)
        address = binary(name.encode())
        sent, came = (b"\x08" + address, b"\x08" + address) if kind == "publish" else (b"\x03" + address, b"\x03")
        whole = [binary(bytes([number]) + body) for number in range(BLOCK)]
        self.block = b"".join(sent + each for each in whole)
        self.subscribe = b"\x06" + address if kind == "publish" else b""
        self.unsubscribe = b"\x07" + address if kind == "publish" else b""
        self.cluster = "" if kind == "publish" else name  # of the receivers
        self.head, self.body = came + whole[0][:-size], body  # around the number


class Tally:
    """Counts one receiver's events, and checks every byte of them."""

    def __init__(self, stream: Stream) -> None:
        self._head, self._body = stream.head, stream.body
        self._between = stream.body + stream.head
        self.stride = len(self._between) + 1
        self.count = 0
        self.sum = 0  # of their numbers: with the count it tells whether some came twice and others never

    def take(self, whole: Buffer) -> None:
        """Whole events came. Raises: Failure."""
        data = bytes(whole)
        count = len(data) // self.stride
        numbers = data[len(self._head) :: self.stride]
        if count and not (
            data.startswith(self._head)
            and data.endswith(self._body)
            and data.count(self._between, len(self._head)) == count - 1
            and max(numbers) < BLOCK
            and len(numbers) == count
        ):
            raise Failure(f"a receiver got something else than its events: {data[:32].hex(' ')}")
        self.count += count
        self.sum += sum(numbers)


def receive(port: int, cluster: str, size: int, kind: str, receivers: int, board: int, ack: int) -> dict[str, object]:
    """Receive events, several connections at once; never returns."""
    stream, counts = Stream(kind, cluster, size), Board(board)
    with contextlib.ExitStack() as stack:
        poll = select.epoll()
        lines: dict[int, tuple[int, Line, Tally]] = {}
        for i in range(receivers):
            line = stack.enter_context(Line(port, stream.cluster, patient=True))
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


class Progress:
    """What the receivers have, from when it was made."""

    def __init__(self, board: Board, receivers: int) -> None:
        self._board, self._receivers = board, range(receivers)
        self._base = self._read()

    def _read(self) -> list[tuple[int, int]]:
        return [(self._board[2 * i], self._board[2 * i + 1]) for i in self._receivers]

    def counts(self) -> list[int]:
        """Events of each receiver."""
        return [self._board[2 * i] - self._base[i][0] for i in self._receivers]

    def wrong(self, sent: int) -> tuple[int, int]:
        """How many events are missing, and how many came that weren't sent, of whole blocks."""
        lost = extra = 0
        numbers = sum(range(BLOCK)) * (sent // BLOCK)
        for (count, total), (count_before, sum_before) in zip(self._read(), self._base, strict=True):
            got = count - count_before
            lost += max(0, sent - got)
            extra += max(0, got - sent)
            if got == sent and total - sum_before != numbers:  # some twice, and as many never
                lost, extra = lost + 1, extra + 1
        return lost, extra


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
    stream, counts = Stream(kind, cluster, size), Board(board)
    os.set_blocking(ack, False)
    with Line(port, room=1_024) as line:
        _reach(line, stream, counts, receivers)
        progress, sent = Progress(counts, receivers), 0
        window = Window(warm_up, seconds, pids)
        marks, complete = [0], True
        for until, then in ((window.opens, window.begin), (window.closes, window.end)):
            while complete and time.perf_counter_ns() < until:
                while sent - min(progress.counts()) < _WINDOW:
                    line.sock.sendall(stream.block)
                    sent += BLOCK
                complete = _wait(progress, sent - _WINDOW + 1, ack)
            then()
            marks.append(sum(progress.counts()))
        complete = complete and _wait(progress, sent, ack)
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


def _wait(progress: Progress, count: int, ack: int) -> bool:
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


def _reach(line: Line, stream: Stream, board: Board, receivers: int) -> None:
    """Send blocks until two in a row have come to everybody, and nothing else: subscriptions may lag. Raises: Failure."""
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
