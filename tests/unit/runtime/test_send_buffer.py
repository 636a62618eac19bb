"""Everything here goes through socket pairs.

A stalled peer is one at whose end nobody reads.
"""

import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from iris.errors import LinkClosed, StateError
from iris.runtime.batch import BATCH, LONG_BATCH, Batch, flush_batch
from iris.runtime.send_buffer import SendBuffer

MUCH = 4_000_000  # bytes; more than a socket takes
PATIENCE = 20.0  # seconds until a test that hangs fails


class Pair:
    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.theirs.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(PATIENCE), 0)
        )
        self.errors: list[Exception] = []
        self.broke = threading.Event()

    def buffer(
        self, *, limit: int = 1 << 30, stall_timeout: float | None = None, corked: bool = False
    ) -> SendBuffer:
        return SendBuffer(
            self.ours,
            name="test",
            limit=limit,
            stall_timeout=stall_timeout,
            on_broken=self._broken,
            corked=corked,
        )

    def _broken(self, error: Exception) -> None:
        self.errors.append(error)
        self.broke.set()

    def read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            more = self.theirs.recv(size - len(data))
            if not more:
                break
            data += more
        return bytes(data)

    def waiting(self) -> bytes:
        """What has arrived already."""
        try:
            return self.theirs.recv(1 << 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""

    def ended(self) -> bool:
        return self.theirs.recv(1) == b""


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.ours.close()
    pair.theirs.close()


def flusher(name: str = "test-tx") -> threading.Thread | None:
    return next((thread for thread in threading.enumerate() if thread.name == name), None)


def ends(thread: threading.Thread | None) -> bool:
    if thread is not None:
        thread.join(PATIENCE)
    return thread is None or not thread.is_alive()


def test_write_is_sent_at_once_without_a_batch(pair: Pair) -> None:
    buffer = pair.buffer()
    buffer.write(b"a", bytearray(b"b"), memoryview(b"cd"))
    assert pair.waiting() == b"abcd"
    assert buffer.size == 0


def test_batch_sends_when_the_outermost_one_ends(pair: Pair) -> None:
    buffer = pair.buffer()
    with Batch():
        with Batch():
            buffer.write(b"a")
        buffer.write(b"b")
        assert pair.waiting() == b""
        assert buffer.size == 2
    assert pair.waiting() == b"ab"


def test_batch_that_fails_still_sends_everything(pair: Pair) -> None:
    other = Pair()

    def fail() -> None:
        with Batch():
            pair.buffer().write(b"a")
            other.buffer().write(b"b")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (pair.waiting(), other.waiting()) == (b"a", b"b")
    pair.buffer().write(b"c")
    assert pair.waiting() == b"c"  # the batch is over for this thread
    other.ours.close()
    other.theirs.close()


def test_batch_belongs_to_its_thread(pair: Pair) -> None:
    buffer = pair.buffer()
    with Batch():
        thread = threading.Thread(target=buffer.write, args=(b"theirs",))
        thread.start()
        assert ends(thread)
        assert pair.waiting() == b"theirs"


def test_batch_can_be_sent_before_it_ends(pair: Pair) -> None:
    buffer = pair.buffer()
    flush_batch()  # outside of one: nothing to do
    with Batch():
        buffer.write(b"a")
        flush_batch()
        assert pair.waiting() == b"a"
        buffer.write(b"b")
    assert pair.waiting() == b"b"


def test_batch_to_many_is_longer(pair: Pair) -> None:
    buffers = [pair.buffer() for _ in range(3)]
    with Batch() as batch:
        for count, expected in enumerate([BATCH, BATCH, LONG_BATCH]):
            buffers[count].write(b"x")
            assert not batch.full(expected - 1)
            assert batch.full(expected)


def test_batch_lists_the_buffers_that_stay_congested(pair: Pair) -> None:
    other = Pair()
    slow, quick = pair.buffer(), other.buffer()
    with Batch() as batch:
        slow.write(bytes(MUCH))
        quick.write(bytes(2_000))
        assert batch.congested(1_000) == [slow]
    slow.close()
    other.ours.close()
    other.theirs.close()


@pytest.mark.parametrize(
    "sizes", [[0], [0, 0], [0, 5], [5, 0], [20_000, 0], [0, 20_000, 0], [5, 0, 20_000]]
)
def test_empty_buffers_are_no_trouble(pair: Pair, sizes: list[int]) -> None:
    buffer = pair.buffer()
    buffer.write(*[b"x" * size for size in sizes])
    buffer.write()
    assert pair.read(sum(sizes)) == b"x" * sum(sizes)
    assert buffer.size == 0


def test_small_and_large_buffers_keep_their_order(pair: Pair) -> None:
    rng = random.Random(1)
    buffer = pair.buffer()
    parts = [rng.randbytes(rng.choice([1, 50, 16_383, 16_384, 70_000])) for _ in range(200)]
    with Batch():
        for part in parts:
            buffer.write(part)
    everything = b"".join(parts)
    assert pair.read(len(everything)) == everything


def test_more_buffers_than_one_system_call_takes_are_sent(pair: Pair) -> None:
    buffer = pair.buffer()
    parts = [bytes([i % 256]) * 16_384 for i in range(1_200)]
    with Batch():
        buffer.write(*parts)
    assert pair.read(1_200 * 16_384) == b"".join(parts)


def test_write_never_waits_for_the_other_side(pair: Pair) -> None:
    buffer = pair.buffer()
    buffer.write(bytes(MUCH))
    thread = flusher()
    assert thread is not None
    buffer.write(b"end")
    assert len(pair.read(MUCH)) == MUCH
    assert pair.read(3) == b"end"
    assert ends(thread)  # it lives only as long as there is something to send
    buffer.write(b"direct")
    assert pair.waiting() == b"direct"
    buffer.close()


def test_bytes_of_one_writer_arrive_in_order_whoever_sends_them(pair: Pair) -> None:
    """Batches, direct writes and the flusher thread take turns, with a reader that is now quicker,
    now slower.
    """
    buffer = pair.buffer()
    writers, count = 4, 1_500

    def write(writer: int) -> None:
        rng = random.Random(writer)
        sent = 0
        while sent < count:
            with Batch():
                for _ in range(rng.randrange(1, 20)):
                    if sent < count:
                        fill = rng.choice([0, 100, 2_000, 20_000])
                        buffer.write(
                            bytes([writer]) + sent.to_bytes(4) + fill.to_bytes(4), bytes(fill)
                        )
                        sent += 1

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    expected = [0] * writers
    for _ in range(writers * count):
        head = pair.read(9)
        writer, number, fill = head[0], int.from_bytes(head[1:5]), int.from_bytes(head[5:])
        assert number == expected[writer]
        expected[writer] += 1
        assert pair.read(fill) == bytes(fill)  # a write of several buffers stays in one piece
    assert all(ends(thread) for thread in threads)
    assert buffer.wait_below(0, 5.0)  # what was read may not be counted yet
    assert buffer.size == 0


def test_full_counts_what_waits_and_an_empty_one_takes_anything(pair: Pair) -> None:
    buffer = pair.buffer(limit=100, corked=True)
    assert not buffer.full(1_000)
    buffer.write(bytes(60))
    assert not buffer.full(40)
    assert buffer.full(41)


# Breaking


def test_broken_is_told_once_and_later_writes_are_refused(pair: Pair) -> None:
    buffer = pair.buffer()
    pair.theirs.close()
    buffer.write(b"a")
    assert [type(error) for error in pair.errors] == [BrokenPipeError]
    buffer.flush()
    with pytest.raises(LinkClosed) as refusal:
        buffer.write(b"b")
    assert refusal.value.__cause__ is pair.errors[0]
    assert buffer.close() is False
    assert len(pair.errors) == 1
    assert buffer.size == 0


def test_broken_is_told_once_by_the_flusher(pair: Pair) -> None:
    buffer = pair.buffer()
    buffer.write(bytes(MUCH))
    thread = flusher()
    pair.theirs.close()
    assert pair.broke.wait(PATIENCE)
    assert ends(thread)
    assert buffer.size == 0
    assert len(pair.errors) == 1
    with pytest.raises(LinkClosed):
        buffer.write(b"b")


def test_reader_that_takes_nothing_is_reported_as_a_stall(pair: Pair) -> None:
    buffer = pair.buffer(stall_timeout=0.01)
    buffer.write(bytes(MUCH))
    assert pair.broke.wait(PATIENCE)
    assert [type(error) for error in pair.errors] == [TimeoutError]
    buffer.close()


def test_callback_of_a_break_may_close(pair: Pair) -> None:
    closed = threading.Event()

    def close(_: Exception) -> None:
        buffer.close()
        closed.set()

    buffer = SendBuffer(pair.ours, name="test", limit=1, on_broken=close)
    buffer.write(bytes(MUCH))
    pair.theirs.close()
    assert closed.wait(PATIENCE)


def test_writer_waiting_in_a_batch_is_not_hurt_by_the_break(pair: Pair) -> None:
    buffer = pair.buffer()
    with Batch():
        buffer.write(b"a")
        pair.theirs.close()
    assert len(pair.errors) == 1


def test_no_thread_left_for_the_flusher_breaks_this_connection_only(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    buffer = pair.buffer()
    monkeypatch.setattr(threading, "Thread", NoThread)
    buffer.write(bytes(MUCH))
    assert [type(error) for error in pair.errors] == [RuntimeError]
    with pytest.raises(LinkClosed):
        buffer.write(b"a")


# Levels


def test_on_drained_to_calls_back_once_when_the_level_is_reached(pair: Pair) -> None:
    buffer = pair.buffer()
    buffer.write(bytes(MUCH))
    reached, calls = threading.Event(), list[str]()

    def callback() -> None:
        calls.append(threading.current_thread().name)
        reached.set()

    buffer.on_drained_to(0, callback)
    assert not calls
    thread = flusher()
    pair.read(MUCH)
    assert reached.wait(PATIENCE)
    assert ends(thread)
    buffer.write(b"more")
    assert calls == ["test-tx"]


def test_on_drained_to_calls_back_at_once_when_it_is_so_already(pair: Pair) -> None:
    calls: list[int] = []
    pair.buffer().on_drained_to(0, lambda: calls.append(1))
    assert calls == [1]


@pytest.mark.parametrize("end", ["close", "hang up"])
def test_those_who_wait_for_a_level_wake_when_nothing_will_be_sent_any_more(
    pair: Pair, end: str
) -> None:
    buffer = pair.buffer()
    buffer.write(bytes(MUCH))
    results: list[bool] = []
    waiters = [
        threading.Thread(target=lambda: results.append(buffer.wait_below(0, PATIENCE)))
        for _ in range(3)
    ]
    for waiter in waiters:
        waiter.start()
    (buffer.close if end == "close" else pair.theirs.close)()
    assert all(ends(waiter) for waiter in waiters)
    assert results == [True] * 3


def test_wait_below_gives_up_in_time(pair: Pair) -> None:
    buffer = pair.buffer(corked=True)
    buffer.write(b"abc")
    assert buffer.wait_below(3, 0)
    assert not buffer.wait_below(2, 0)


def test_callback_may_write(pair: Pair) -> None:
    buffer = pair.buffer(corked=True)
    buffer.write(b"b")
    buffer.on_drained_to(0, lambda: buffer.write(b"c"))
    buffer.uncork(b"a")
    assert pair.read(3) == b"abc"


def test_callback_that_fails_keeps_nobody_else_from_being_told(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    buffer = pair.buffer()
    buffer.write(bytes(MUCH))
    told = threading.Event()

    def fail() -> None:
        raise ZeroDivisionError

    buffer.on_drained_to(0, fail)
    buffer.on_drained_to(0, told.set)
    thread = flusher()
    pair.read(MUCH)
    assert told.wait(PATIENCE)
    assert ends(thread)
    buffer.write(b"go on")
    assert pair.waiting() == b"go on"
    assert [record.levelname for record in caplog.records] == ["ERROR"]


# Holding back, and the end


def test_corked_buffer_sends_nothing_before_its_uncorking_and_then_in_order(pair: Pair) -> None:
    buffer = pair.buffer(corked=True)
    buffer.write(b"b")
    with Batch():
        buffer.write(b"c")
    assert pair.waiting() == b""
    buffer.uncork(b"a")
    buffer.write(b"d")
    assert pair.waiting() == b"abcd"


def test_uncorking_a_closed_buffer_sends_nothing(pair: Pair) -> None:
    buffer = pair.buffer(corked=True)
    buffer.write(b"b")
    assert buffer.close() is False
    buffer.uncork(b"a")
    assert pair.ended()
    assert buffer.size == 0


def test_a_buffer_that_isnt_corked_cant_be_uncorked(pair: Pair) -> None:
    buffer = pair.buffer(corked=True)
    buffer.uncork(b"a")
    with pytest.raises(StateError):
        buffer.uncork(b"b")
    assert pair.waiting() == b"a"


def test_last_write_is_sent_and_refuses_later_ones(pair: Pair) -> None:
    buffer = pair.buffer()
    with Batch():
        buffer.write(b"a")
        buffer.finish(b"b", b"c")
        with pytest.raises(LinkClosed):
            buffer.write(b"d")
        with pytest.raises(LinkClosed):
            buffer.finish(b"e")
    assert pair.waiting() == b"abc"
    assert buffer.close() is True


def test_close_sends_what_a_batch_still_holds_and_ends_the_stream(pair: Pair) -> None:
    buffer = pair.buffer()
    with Batch():
        buffer.write(b"a")
        assert buffer.close()
    assert pair.read(1) == b"a"
    assert pair.ended()
    assert not pair.errors


def test_close_waits_for_a_slow_reader(pair: Pair) -> None:
    buffer = pair.buffer()
    buffer.write(bytes(MUCH))
    results: list[bool] = []
    closer = threading.Thread(target=lambda: results.append(buffer.close(PATIENCE)))
    closer.start()
    assert len(pair.read(MUCH)) == MUCH
    assert ends(closer)
    assert results == [True]
    assert pair.ended()


def test_close_with_a_stalled_reader_gives_up_and_ends_the_flusher_without_a_word(
    pair: Pair,
) -> None:
    buffer = pair.buffer()
    buffer.write(bytes(MUCH))
    thread = flusher()
    assert thread is not None
    assert buffer.close(0.01) is False
    pair.ours.close()
    assert ends(thread)
    assert pair.errors == []  # what we ended ourselves isn't broken
    with pytest.raises(LinkClosed):
        buffer.write(b"a")


def test_close_of_a_dead_socket_is_no_error(pair: Pair) -> None:
    buffer = pair.buffer()
    pair.ours.close()
    assert buffer.close()  # nothing was left to send
    with pytest.raises(LinkClosed):
        buffer.write(b"a")
    assert buffer.close() is False


def test_flusher_is_out_of_the_socket_when_close_returns() -> None:
    """Else its next system call could hit a descriptor that has become another connection's."""

    class Slow:
        def __init__(self) -> None:
            self.entered, self.down, self.never, self.left = (
                threading.Event(),
                threading.Event(),
                threading.Event(),
                False,
            )

        def sendmsg(self, _buffers: list[bytes], _extra: tuple[()] = (), flags: int = 0) -> int:
            if flags == socket.MSG_DONTWAIT:
                raise BlockingIOError
            self.entered.set()
            self.down.wait(PATIENCE)
            self.never.wait(0.05)  # it takes a moment to come back
            self.left = True
            raise BrokenPipeError

        def shutdown(self, _how: int) -> None:
            self.down.set()

    sock = Slow()
    buffer = SendBuffer(sock, name="test", limit=1)  # type: ignore[arg-type]
    buffer.write(b"a")
    assert sock.entered.wait(PATIENCE)
    assert buffer.close() is False
    assert sock.left


def script(*results: int | OSError) -> Callable[..., int]:
    """A system call with these results, one after the other."""
    left = list(results)

    def sendmsg(_buffers: list[bytes], *_: object) -> int:
        result = left.pop(0)
        if isinstance(result, OSError):
            raise result
        return result

    return sendmsg


def test_every_way_to_take_a_part_leaves_the_rest_in_order() -> None:
    """A fake socket takes any number of bytes of any split."""

    class Taker:
        def __init__(self, seed: int) -> None:
            self.taken, self._rng = bytearray(), random.Random(seed)

        def sendmsg(self, buffers: list[bytes], *_: object) -> int:
            data = b"".join(buffers)
            count = self._rng.randrange(1, len(data) + 1)
            self.taken += data[:count]
            return count

    for seed in range(100):
        rng, taker = random.Random(seed), Taker(seed)
        buffer = SendBuffer(taker, name="test", limit=1)  # type: ignore[arg-type]
        parts = [
            rng.randbytes(rng.choice([0, 1, 3, 16_384, 17_000]))
            for _ in range(rng.randrange(1, 10))
        ]
        with Batch():
            for part in parts:
                buffer.write(part)
        assert taker.taken == b"".join(parts)
        assert buffer.size == 0


def test_error_after_a_part_was_taken_clears_the_rest() -> None:
    class Failing:
        sendmsg = staticmethod(script(3, ConnectionResetError()))

    errors: list[Exception] = []
    buffer = SendBuffer(Failing(), name="test", limit=1, on_broken=errors.append)  # type: ignore[arg-type]
    buffer.write(b"abcdef")
    assert [type(error) for error in errors] == [ConnectionResetError]
    assert buffer.size == 0
