"""What a reading thread does while there's nothing to read.

It looks again for a moment, one thread at a time, and sleeps.
"""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from iris.runtime import reader as module
from iris.runtime.reader import SocketReader


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def chat(box: SocketReader, theirs: socket.socket) -> None:
    """Exchange something quickly, however slow this machine is right now."""
    while not box._spin_next:
        theirs.send(b"x")
        assert box.recv() == b"x"


def looks(box: SocketReader) -> list[int]:
    """What it saw when it looked, from now on."""
    poll, seen = box._poll, []

    def counting(timeout):
        found = poll(timeout)
        seen.append(len(found))
        return found

    box._poll = counting
    return seen


def late(theirs: socket.socket, seconds: float) -> threading.Timer:
    """Say something then."""
    timer = threading.Timer(seconds, theirs.send, [b"late"])
    timer.start()
    return timer


def test_bytes_come_as_they_were_sent_until_the_other_side_hangs_up(pair):
    ours, theirs = pair
    box = SocketReader(ours)
    sent = bytes(range(256)) * 1_024
    writer = threading.Thread(
        target=lambda: (theirs.sendall(sent), theirs.shutdown(socket.SHUT_WR))
    )
    writer.start()
    received = b""
    while data := box.recv():
        received += data
    writer.join()
    assert received == sent
    assert box.recv() == b""


def test_who_says_a_lot_is_read_in_greater_pieces_until_it_says_less(pair):
    box = SocketReader(pair[0])
    said, asked = [4_096, 65_536, 100_000, 262_144, 10_000, 5], []

    def recv(size):
        asked.append(size)
        return bytes(said[len(asked) - 1])

    waits: list[float | None] = []
    box._recv, box._poll = recv, waits.append
    assert [len(box.recv()) for _ in said] == said
    assert asked == [4_096, 65_536, 262_144, 262_144, 262_144, 65_536]
    assert waits == [None] * 5  # each great buffer was only made when there was something
    assert box._size == 4_096


def test_a_broken_connection_raises_also_while_it_is_looked_at(pair):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    with ours:
        box = SocketReader(ours)
        chat(box, theirs)
        # a reset instead of an end
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        with pytest.raises(ConnectionResetError):
            box.recv()
    assert module._spin_token == [None]


def test_a_conversation_is_looked_at_again_then_the_thread_sleeps(pair):
    ours, theirs = pair
    box = SocketReader(ours)
    chat(box, theirs)
    seen, timer = looks(box), late(theirs, 0.2)
    started = time.thread_time()
    assert box.recv() == b"late"
    assert time.thread_time() - started < 0.1
    timer.join()
    assert seen
    assert not any(seen)
    assert module._spin_token == [None]


def test_what_comes_while_it_is_looked_at_is_taken_at_once(pair):
    ours, theirs = pair
    box = SocketReader(ours)
    chat(box, theirs)
    seen = looks(box)
    theirs.send(b"x")
    assert box.recv() == b"x"
    assert seen == [1]


@pytest.mark.parametrize("flood", [True, False])
def test_a_flood_or_a_silence_is_the_end_of_a_conversation(pair, flood):
    ours, theirs = pair
    box = SocketReader(ours)
    chat(box, theirs)
    if flood:
        theirs.send(bytes(3_000))
        box.recv()
    else:
        timer = late(theirs, 0.02)
        box.recv()
        timer.join()
    seen, timer = looks(box), late(theirs, 0.02)
    box.recv()
    timer.join()
    assert seen == []


def test_one_thread_looks_at_a_time(pair):
    ours, theirs = pair
    box = SocketReader(ours)
    chat(box, theirs)
    seen, timer = looks(box), late(theirs, 0.02)
    turn = module._spin_token.pop()  # of another thread
    try:
        assert box.recv() == b"late"
        assert module._spin_token == []
    finally:
        module._spin_token.append(turn)
    timer.join()
    assert seen == []
