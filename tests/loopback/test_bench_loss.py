"""What `tools/bench` makes of a node that loses, doubles or withholds messages.

Never a figure that looks right.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from construct import ConstructError

from iris.relay_protocol.schema import DEFAULT, Op
from tools.bench import asking, events
from tools.bench.shared_counters import SharedCounters
from tools.bench.tally import BLOCK, Stream
from tools.bench.wire import CLOSE, CLOSED, WELCOME, Failure, init, payload

SUM = sum(range(BLOCK))
STREAM = Stream("publish", "news", 64)
TIMES = {"warm_up": 0.02, "seconds": 0.1, "pids": {}}


def accepting(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A node for one client, as far as it goes."""

    def run() -> None:
        sock, _ = server.accept()
        # the driver hangs up when it has seen enough
        with sock, contextlib.suppress(OSError, ConstructError):
            assert sock.recv(len(init("")), socket.MSG_WAITALL) == init("")
            sock.sendall(WELCOME)
            talk(sock)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5.0)


def send(
    deliver: Callable[[int], tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> dict[str, object]:
    """Send to a node that says of each block, by its number from 0 up, how many events of which sum
    it delivers.
    """
    monkeypatch.setattr(events, "_GIVE_UP", 0.3)
    fd, (ack, told) = SharedCounters.new(), os.pipe()
    board = SharedCounters(fd)

    def talk(sock: socket.socket) -> None:
        data, blocks = bytearray(), 0
        while not data.startswith(CLOSE):
            if not (more := sock.recv(65_536)):
                return
            data += more
            while len(data) >= len(STREAM.block):
                del data[: len(STREAM.block)]
                count, total = deliver(blocks)
                blocks += 1
                board[0], board[1] = board[0] + count, board[1] + total
                os.write(told, b"!")
        sock.sendall(CLOSED)

    nodes = accepting(talk)
    try:
        return events.send(next(nodes), "news", 64, "publish", 1, fd, ack, **TIMES)  # type: ignore[arg-type]
    finally:
        next(nodes, None)
        for each in (fd, ack, told):
            os.close(each)


def test_a_node_that_delivers_all_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = send(lambda block: (BLOCK, SUM), monkeypatch)
    assert facts["lost"] == 0
    assert facts["messages"] == pytest.approx(facts["delivered_per_second"] * 0.1, rel=0.5)  # type: ignore[operator]


def test_one_event_that_is_lost_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = send(lambda block: (BLOCK - 1, SUM - 5) if block == 4 else (BLOCK, SUM), monkeypatch)
    assert facts["lost"] == 1


def test_an_event_that_comes_twice_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure, match="twice"):
        send(lambda block: (BLOCK + 1, SUM + 5) if block == 4 else (BLOCK, SUM), monkeypatch)


def ask(answer: Callable[[int, int], bytes]) -> dict[str, object]:
    """Ask a node that answers the request of a number (from 0 up) and an id."""

    def talk(sock: socket.socket) -> None:
        count = 0
        with sock.makefile("rb") as stream:
            while (packet := DEFAULT.from_client.parse_stream(stream)).op == Op.REQUEST:
                sock.sendall(answer(count, packet.body.id))
                count += 1
        sock.sendall(CLOSED)

    nodes = accepting(talk)
    try:
        return asking.ask(next(nodes), "cluster", 64, 4, **TIMES)  # type: ignore[arg-type]
    finally:
        next(nodes, None)


def reply(number: int, **body: object) -> bytes:
    return DEFAULT.node(
        Op.REPLY, id=number, **{"timed_out": False, "success": True, "result": payload(64), **body}
    )


def test_a_node_that_answers_all_is_measured() -> None:
    facts = ask(lambda count, number: reply(number))
    assert facts["lost"] == 0
    assert facts["messages"] > 0  # type: ignore[operator]


@pytest.mark.parametrize(
    "wrong",
    [
        {"timed_out": True},
        {"success": False, "result": "no"},
        {"result": payload(64)[::-1]},
        {"result": b""},
    ],
    ids=["timeout", "fault", "payload", "empty"],
)
def test_one_wrong_answer_is_a_failure(wrong: dict[str, object]) -> None:
    with pytest.raises(Failure, match="answer"):
        ask(lambda count, number: reply(number, **wrong) if count == 30 else reply(number))


def test_an_answer_that_comes_twice_is_a_failure() -> None:
    with pytest.raises(Failure):
        ask(lambda count, number: reply(number) * (2 if count == 30 else 1))


def test_an_answer_that_never_comes_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.bench.raw_connection.STALL", 1.0)
    with pytest.raises(Failure, match="nothing came"):
        ask(lambda count, number: b"" if count >= 30 else reply(number))
