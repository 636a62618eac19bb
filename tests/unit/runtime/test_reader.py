"""The reading thread: polls for a moment after a few bytes that came soon, one thread at a time."""

import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from iris.runtime import reader as module
from iris.runtime.reader import SocketReader

Pair = tuple[socket.socket, socket.socket]

make_poll = select.poll
polls: list[tuple[float | None, int]] = []  # timeouts, and the number of events that were there


class RecordingPoll:
    """A `select.poll` that takes notes."""

    def __init__(self) -> None:
        self._poll = make_poll()

    def register(self, sock: socket.socket, mask: int) -> None:
        self._poll.register(sock, mask)

    def poll(self, timeout: float | None) -> list[tuple[int, int]]:
        found = self._poll.poll(timeout)
        polls.append((timeout, len(found)))
        return found


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setattr(select, "poll", RecordingPoll)
    polls.clear()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def chat(reader: SocketReader, theirs: socket.socket) -> None:
    """Exchange something quickly, however slow this machine is right now."""
    while not reader._spin_next:
        theirs.send(b"x")
        assert reader.recv() == b"x"
    polls.clear()


def nobody_spins() -> bool:
    return module._spin_token == [None]


def late(theirs: socket.socket, seconds: float) -> threading.Timer:
    """Send something then."""
    timer = threading.Timer(seconds, theirs.send, [b"late"])
    timer.start()
    return timer


def test_bytes_come_as_they_were_sent_until_the_other_side_hangs_up(pair: Pair) -> None:
    ours, theirs = pair
    reader = SocketReader(ours)
    sent = bytes(range(256)) * 1_024

    def write() -> None:
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)

    writer = threading.Thread(target=write)
    writer.start()
    received = b""
    while data := reader.recv():
        received += data
    writer.join()
    assert received == sent
    assert reader.recv() == b""


class FakeSocket(socket.socket):
    """Brings reads of given sizes, and notes how much was asked for."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.sizes, self.asked = sizes, list[int]()

    def recv(self, size: int, flags: int = 0) -> bytes:
        self.asked.append(size)
        return bytes(self.sizes[len(self.asked) - 1])


def test_buffers_grow_with_what_comes_and_shrink_again(pair: Pair) -> None:
    sizes = [4_096, 65_536, 100_000, 262_144, 10_000, 3_000, 2_000]
    with FakeSocket(sizes) as sock:
        reader = SocketReader(sock)
        assert [len(reader.recv()) for _ in sizes] == sizes
        assert sock.asked == [4_096, 65_536, 262_144, 262_144, 262_144, 65_536, 4_096]
    # each large buffer was only made when there was something
    assert [timeout for timeout, _ in polls] == [None] * 5


def test_a_broken_connection_raises_also_while_it_is_polled(pair: Pair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours:
        reader = SocketReader(ours)
        chat(reader, theirs)
        # a reset instead of an end
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        with pytest.raises(ConnectionResetError):
            reader.recv()
    assert nobody_spins()


def test_after_a_conversation_the_thread_polls_then_sleeps(pair: Pair) -> None:
    ours, theirs = pair
    reader = SocketReader(ours)
    chat(reader, theirs)
    timer, started = late(theirs, 0.2), time.thread_time()
    assert reader.recv() == b"late"
    assert time.thread_time() - started < 0.1
    timer.join()
    assert set(polls) == {(0, 0)}
    assert nobody_spins()


def test_what_comes_while_it_is_polled_is_taken_at_once(pair: Pair) -> None:
    ours, theirs = pair
    reader = SocketReader(ours)
    chat(reader, theirs)
    theirs.send(b"x")
    assert reader.recv() == b"x"
    assert polls == [(0, 1)]


@pytest.mark.parametrize("flood", [True, False])
def test_a_flood_or_a_silence_ends_a_conversation(pair: Pair, flood: bool) -> None:
    ours, theirs = pair
    reader = SocketReader(ours)
    chat(reader, theirs)
    if flood:
        theirs.send(bytes(3_000))
        reader.recv()
    else:
        timer = late(theirs, 0.02)
        reader.recv()
        timer.join()
    assert polls
    polls.clear()
    timer = late(theirs, 0.02)
    reader.recv()
    timer.join()
    assert polls == []


def test_one_thread_polls_at_a_time(pair: Pair) -> None:
    ours, theirs = pair
    reader = SocketReader(ours)
    chat(reader, theirs)
    token = module._spin_token
    turn, timer = token.pop(), late(theirs, 0.02)  # as another thread does
    try:
        assert reader.recv() == b"late"
        assert token == []
    finally:
        token.append(turn)
    timer.join()
    assert polls == []
