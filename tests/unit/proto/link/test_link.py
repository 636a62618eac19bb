"""Links over loopback connections: order, ends, slow and broken peers."""

import contextlib
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from iris.config import Limits, SessionConfig
from iris.errors import (
    AuthenticationError,
    HandshakeTimeout,
    LimitReached,
    LinkClosed,
    ProtocolError,
    StateError,
)
from iris.gobber import bytes_prefix
from iris.proto.link.classic import ClassicCodec, derive_links
from iris.proto.link.link import STEPS, Link, State
from iris.proto.wire.link import ClosePacket
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.ring import Header
from iris.runtime.batch import BATCH, Batch
from tests.support.sockets import tcp_pair
from tests.support.suites import link_factory

CONFIG, LIMITS = SessionConfig(), Limits()
FOREVER = time.monotonic() + 3_600.0  # from when the tests are collected
PATIENCE = 10.0  # seconds after which a test gives up


class Receiver:
    """Keeps what a link delivers."""

    def __init__(
        self, link: Link, on_message: Callable[[Message], None] = lambda message: None
    ) -> None:
        self.messages: list[Message] = []
        self.ends: list[Exception | None] = []
        self._changed = threading.Condition()
        self._on_message = on_message
        link.start(self._take, self._end)

    def _take(self, message: Message) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()
        self._on_message(message)

    def _end(self, error: Exception | None) -> None:
        with self._changed:
            self.ends.append(error)
            self._changed.notify_all()

    def wait(self, count: int) -> list[int | None]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.messages) >= count, PATIENCE)
            return [
                message.meta.dest for message in self.messages if isinstance(message.meta, Header)
            ]

    def end(self) -> Exception | None:
        with self._changed:
            assert self._changed.wait_for(lambda: bool(self.ends), PATIENCE)
            return self.ends[0]


def number(count: int, payload: bytes | None = None) -> Message:
    return Message(Header(dest=count), None if payload is None else Payload.of(payload))


class Pair:
    """A link, and its peer: another link, or a bare socket with a codec."""

    def __init__(self) -> None:
        self.sock, self.other_sock = tcp_pair()
        self.made: list[Link] = []

    def link(
        self, *, config: SessionConfig = CONFIG, limits: Limits = LIMITS, leftover: bytes = b""
    ) -> Link:
        return self._make(self.sock, False, config, limits, leftover)

    def other(self) -> Link:
        return self._make(self.other_sock, True, CONFIG, LIMITS, b"")

    def _make(
        self,
        sock: socket.socket,
        server: bool,
        config: SessionConfig,
        limits: Limits,
        leftover: bytes,
    ) -> Link:
        codec = ClassicCodec(next(derive_links(b"secret", server=server)), limits)
        links = link_factory(config, limits)
        self.metrics = links.metrics  # of the link made last
        self.made.append(links.link(sock, codec, "data", leftover))
        return self.made[-1]

    def codec(self) -> ClassicCodec:
        """For a peer played by hand."""
        codec = ClassicCodec(next(derive_links(b"secret", server=True)), LIMITS)
        codec.raise_bounds()
        return codec

    def read(self, codec: ClassicCodec, count: int) -> list[Message]:
        messages: list[Message] = []
        self.other_sock.settimeout(PATIENCE)
        while len(messages) < count:
            data = self.other_sock.recv(65_536)
            assert data, "the link hung up"
            codec.feed(data)
            while (message := codec.open()) is not None:
                messages.append(message)
        return messages

    def write(self, codec: ClassicCodec, *messages: Message) -> None:
        self.other_sock.sendall(b"".join(b"".join(codec.seal(message)) for message in messages))

    def close(self) -> None:
        for link in self.made:
            link.abort()
        self.sock.close()
        self.other_sock.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


def test_messages_arrive_in_order_both_ways(pair: Pair) -> None:
    one, other = pair.link(), pair.other()
    at_one, at_other = Receiver(one), Receiver(other)
    with Batch():
        for count in range(500):
            one.send(number(count, bytes(count * 10)))
            other.send(number(count))
    assert at_one.wait(500) == at_other.wait(500) == list(range(500))
    assert [len(message.data()) for message in at_other.messages] == [
        count * 10 for count in range(500)
    ]


def test_threads_can_send_at_the_same_time(pair: Pair) -> None:
    one, other = pair.link(), pair.other()
    received = Receiver(other)

    def send(first: int) -> None:
        for count in range(100):
            one.send(number(first + count, bytes(100)))

    threads = [threading.Thread(target=send, args=(1_000 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    arrived = received.wait(400)
    for first in range(0, 4_000, 1_000):
        assert [
            dest for dest in arrived if dest is not None and first <= dest < first + 1_000
        ] == list(range(first, first + 100))


def test_answers_to_what_one_read_brought_leave_in_batches(pair: Pair) -> None:
    link = pair.link()
    codec = pair.codec()
    pair.write(codec, *(number(count) for count in range(2 * BATCH + 2)))
    sizes = []

    def answer(message: Message) -> None:
        link.send(message)
        sizes.append(link.send_buffer.size)

    Receiver(link, answer)
    assert len(pair.read(codec, 2 * BATCH + 2)) == 2 * BATCH + 2
    batches = [sizes[:BATCH], sizes[BATCH : 2 * BATCH], sizes[2 * BATCH :]]
    for batch in batches:
        assert batch == sorted(batch)  # nothing of it had left before its last was answered
        assert batch[-1] > batch[0] > 0
        assert batch[0] < batches[0][1]  # all before it had


def test_addresses_are_flat(pair: Pair) -> None:
    one, other = pair.link(), pair.other()
    assert one.local == other.remote == "{}:{}".format(*pair.sock.getsockname())


def test_direct_messages_come_one_at_a_time_and_the_rest_after_the_start(pair: Pair) -> None:
    codec = pair.codec()
    link = pair.link(leftover=b"".join(b"".join(codec.seal(number(count))) for count in range(3)))
    pair.write(codec, number(3))
    assert link.recv_direct(FOREVER).meta == Header(dest=0)
    link.send_direct(number(7), FOREVER)
    assert pair.read(codec, 1)[0].meta == Header(dest=7)
    assert Receiver(link).wait(3) == [1, 2, 3]


def test_only_a_started_link_takes_messages_of_full_size(pair: Pair) -> None:
    codec = pair.codec()
    link = pair.link()
    big = b"".join(codec.seal(number(1, bytes(LIMITS.unauthenticated_size + 1))))
    pair.other_sock.sendall(big)
    with pytest.raises(ProtocolError):
        link.recv_direct(FOREVER)


def test_a_started_link_takes_messages_of_full_size_and_no_greater_ones(pair: Pair) -> None:
    codec = pair.codec()
    received = Receiver(pair.link(limits=replace(LIMITS, message_size=100_000)))
    pair.write(codec, number(1, bytes(100_000)))
    assert received.wait(1) == [1]
    pair.other_sock.sendall(bytes_prefix(0) + bytes_prefix(1_000_000))
    assert isinstance(received.end(), ProtocolError)


def test_a_direct_receive_ends_at_its_deadline(pair: Pair) -> None:
    with pytest.raises(HandshakeTimeout):
        pair.link().recv_direct(0.0)


def test_both_sides_may_close_at_once_and_nothing_is_lost(pair: Pair) -> None:
    one, other = pair.link(), pair.other()
    at_one, at_other = Receiver(one), Receiver(other)
    with Batch():
        for count in range(300):
            one.send(number(count, bytes(1_000)))
            other.send(number(count, bytes(1_000)))
    closing = threading.Thread(target=one.close, args=(PATIENCE,))
    closing.start()
    other.close(PATIENCE)
    closing.join()
    assert at_one.ends == at_other.ends == [None]
    assert at_one.wait(300) == at_other.wait(300) == list(range(300))


def test_a_close_sends_what_is_queued_and_the_close_packet(pair: Pair) -> None:
    link, codec = pair.link(), pair.codec()
    Receiver(link)
    for count in range(40):
        link.send(number(count, bytes(200_000)))  # more than the kernel buffers
    assert link.send_buffer.size > 0
    closing = threading.Thread(target=link.close, args=(PATIENCE,))
    closing.start()
    messages = pair.read(codec, 41)
    assert closing.is_alive()  # it waits for our close packet
    assert [type(message.meta) for message in messages] == [Header] * 40 + [ClosePacket]
    pair.write(codec, Message(ClosePacket()))
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert pair.other_sock.recv(1) == b""


def test_messages_are_delivered_until_the_other_sides_close_packet(pair: Pair) -> None:
    link, codec = pair.link(), pair.codec()
    received = Receiver(link)
    closing = threading.Thread(target=link.close, args=(PATIENCE,))
    closing.start()
    assert isinstance(pair.read(codec, 1)[0].meta, ClosePacket)
    pair.write(codec, number(1), number(2), Message(ClosePacket()))
    closing.join(PATIENCE)
    assert received.wait(2) == [1, 2]
    assert received.ends == [None]


def test_a_close_packet_is_answered_behind_what_is_queued(pair: Pair) -> None:
    link, codec = pair.link(), pair.codec()
    received = Receiver(link)
    for count in range(40):
        link.send(number(count, bytes(200_000)))
    pair.write(codec, Message(ClosePacket()))
    assert received.end() is None
    with pytest.raises(LinkClosed):
        link.send(number(99))
    # the owner's part; it must not cut off what is owed
    closing = threading.Thread(target=link.close, args=(PATIENCE,))
    closing.start()
    assert isinstance(pair.read(codec, 41)[40].meta, ClosePacket)
    closing.join(PATIENCE)
    assert pair.other_sock.recv(1) == b""


def test_a_close_within_a_batch_sends_what_the_batch_holds(pair: Pair) -> None:
    link, codec = pair.link(), pair.codec()
    Receiver(link)
    got: list[Message] = []

    def answer() -> None:
        got.extend(pair.read(codec, 2))
        pair.write(codec, Message(ClosePacket()))

    answering = threading.Thread(target=answer)
    answering.start()
    with Batch():
        link.send(number(1))
        link.close(PATIENCE)
    answering.join(PATIENCE)
    assert [type(message.meta) for message in got] == [Header, ClosePacket]


def test_closing_against_a_silent_peer_takes_the_grace_time(pair: Pair) -> None:
    link = pair.link()
    received = Receiver(link)
    link.close(0.05)
    assert isinstance(received.end(), LinkClosed)
    link.close(0.05)
    assert len(received.ends) == 1


def test_a_link_that_never_started_sends_its_close_packet_and_closes(pair: Pair) -> None:
    link, codec = pair.link(), pair.codec()
    link.send(number(1))
    link.close(PATIENCE)
    assert [type(message.meta) for message in pair.read(codec, 2)] == [Header, ClosePacket]
    assert pair.other_sock.recv(1) == b""
    with pytest.raises(StateError):
        link.start(lambda message: None, lambda error: None)


def test_a_link_that_is_broken_off_sends_what_waits_and_no_close_packet(pair: Pair) -> None:
    link, codec = pair.link(), pair.codec()
    received = Receiver(link)
    with Batch():
        link.send(number(1))
        link.break_off()
        link.finish()  # too late
    with pytest.raises(LinkClosed):
        link.send(number(2))
    assert [type(message.meta) for message in pair.read(codec, 1)] == [Header]
    assert pair.other_sock.recv(1) == b""
    pair.write(pair.codec(), number(3))  # what still comes doesn't reset the connection
    assert received.wait(1) == [3]
    pair.other_sock.close()
    assert isinstance(received.end(), LinkClosed)


def test_a_close_packet_that_is_queued_is_sent_even_if_the_link_is_broken_off_then(
    pair: Pair,
) -> None:
    link, codec = pair.link(), pair.codec()
    link.finish()
    link.break_off()
    assert [type(message.meta) for message in pair.read(codec, 1)] == [ClosePacket]


def test_a_hang_up_without_a_close_packet_breaks_the_link(pair: Pair) -> None:
    received = Receiver(pair.link())
    pair.other_sock.close()
    assert isinstance(received.end(), LinkClosed)


def test_messages_before_a_bad_packet_are_delivered_and_the_link_ends(pair: Pair) -> None:
    codec = pair.codec()
    received = Receiver(pair.link())
    pair.other_sock.sendall(
        b"".join(codec.seal(number(1)))
        + bytes_prefix(2)
        + b"xx"
        + bytes_prefix(0)
        + bytes_prefix(16)
        + bytes(16)
    )
    assert isinstance(received.end(), AuthenticationError)
    assert received.wait(1) == [1]
    assert len(received.ends) == 1


def test_a_protocol_error_of_an_upper_layer_ends_the_link(pair: Pair) -> None:
    def refuse(message: Message) -> None:
        raise ProtocolError("nonsense")

    received = Receiver(pair.link(), refuse)
    pair.write(pair.codec(), number(1))
    assert isinstance(received.end(), ProtocolError)


def test_a_link_that_a_bad_packet_has_ended_still_sends_its_close_packet(pair: Pair) -> None:
    link, codec = pair.link(), pair.codec()
    received = Receiver(link)
    pair.other_sock.sendall(b"\xff" * 100)
    assert isinstance(received.end(), ProtocolError)
    link._runner.join(PATIENCE)
    link.close()
    assert [type(message.meta) for message in pair.read(codec, 1)] == [ClosePacket]
    assert pair.sock.fileno() == -1


def test_a_bug_of_ours_ends_its_link_and_is_logged(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(message: Message) -> None:
        raise ZeroDivisionError

    received = Receiver(pair.link(), fail)
    pair.write(pair.codec(), number(1))
    error = received.end()
    assert isinstance(error, LinkClosed)
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert caplog.records[0].levelno == logging.ERROR


def test_a_link_may_be_aborted_but_not_closed_by_its_own_thread(pair: Pair) -> None:
    link = pair.link()
    errors: list[Exception] = []

    def end(message: Message) -> None:
        try:
            link.close()
        except StateError as exc:
            errors.append(exc)
        link.abort()

    received = Receiver(link, end)
    pair.write(pair.codec(), number(1), number(2))
    assert isinstance(received.end(), LinkClosed)
    assert len(errors) == 1
    assert received.wait(1) == [1]  # nothing after the abort
    assert pair.other_sock.recv(1) == b""


def test_nothing_can_be_sent_after_a_close(pair: Pair) -> None:
    link = pair.link()
    link.finish()
    link.finish()
    with pytest.raises(LinkClosed):
        link.send(number(1))


def test_a_full_send_buffer_refuses_and_the_link_goes_on(pair: Pair) -> None:
    link, codec = pair.link(limits=replace(LIMITS, peer_send_buffer=1_000_000)), pair.codec()
    taken = 0
    with pytest.raises(LimitReached):  # noqa: PT012
        for count in range(1_000):
            link.send(number(count, bytes(100_000)))
            taken += 1
    assert link.send_buffer.size <= 1_000_000
    assert [message.meta for message in pair.read(codec, taken)] == [
        Header(dest=count) for count in range(taken)
    ]
    link.send(number(taken))
    assert pair.read(codec, 1)[0].meta == Header(dest=taken)


def test_a_peer_that_reads_nothing_for_the_send_timeout_is_dropped(pair: Pair) -> None:
    link = pair.link(config=replace(CONFIG, send_timeout=0.05))
    received = Receiver(link)
    with contextlib.suppress(LinkClosed), Batch():
        for count in range(100):
            link.send(number(count, bytes(200_000)))
    error = received.end()
    assert isinstance(error, LinkClosed)
    assert isinstance(error.__cause__, TimeoutError)
    with pytest.raises(LinkClosed):
        link.send(number(1))


def test_a_link_that_gets_no_thread_closes_its_socket_all_the_same(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    link = pair.link()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError):
        link.start(lambda message: None, lambda error: None)
    link.abort()
    assert pair.sock.fileno() == -1


def test_a_connection_that_broke_already_is_no_link(pair: Pair) -> None:
    pair.sock.close()
    with pytest.raises(LinkClosed):
        pair.link()


def test_links_are_counted_by_cause(pair: Pair) -> None:
    one = pair.link()
    received = Receiver(one)
    pair.other_sock.sendall(b"\xff" * 100)
    assert isinstance(received.end(), ProtocolError)
    assert pair.metrics.links_opened["data"].value == 1
    assert pair.metrics.links_closed["data", "protocol violation"].value == 1


@pytest.mark.parametrize("events", list(itertools.product(["start", "finish", "abort"], repeat=3)))
def test_a_link_goes_through_the_states_of_its_table(pair: Pair, events: tuple[str, ...]) -> None:
    link, state = pair.link(), State.CREATED
    for event in events:
        after = STEPS.get((state, event))
        if event != "start":
            getattr(link, event)()
        elif after is None:
            with pytest.raises(StateError):
                link.start(lambda message: None, lambda error: None)
        else:
            link.start(lambda message: None, lambda error: None)
        state = after or state
        if state is State.ABORTING:  # its thread ends by itself
            link._runner.join(PATIENCE)
            state = State.CLOSED
        assert link._state is state
