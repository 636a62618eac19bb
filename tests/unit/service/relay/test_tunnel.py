"""The core of a client's tunnel: allowances both ways, and its end."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest

from iris.config import Config
from iris.errors import LimitReached, MessageTooBig, ProtocolError
from iris.proto.iris.tunnel import TunnelConsumer
from iris.relay_protocol.schema import DEFAULT, Op
from iris.service.relay.tunnel import STEPS, RelayTunnel, State
from iris.service.relay.writer import ClientWriter

CONFIG = replace(
    Config(),
    relay=replace(Config().relay, tunnel_buffer=100, chunk_limit=60),
    limits=replace(Config().limits, message_size=1_000),
)


class FakeTunnel:
    """The Iris layer's half: takes notes, gives no credit by itself."""

    def __init__(self) -> None:
        self.consumer: TunnelConsumer | None = None
        self.sent: list[tuple[int, bytes]] = []
        self.consumed_bytes, self.closed, self.broken_off, self.refuses = 0, False, False, False
        self.at_start: list[Callable[[TunnelConsumer], None]] = []

    def start(self, consumer: TunnelConsumer) -> None:
        self.consumer = consumer
        for action in self.at_start:
            action(consumer)

    def send(self, size: int, chunk: bytes) -> None:
        assert not self.closed
        if self.refuses:
            raise LimitReached("too much waits")
        self.sent.append((size, chunk))

    def consumed(self, count: int) -> None:
        self.consumed_bytes += count

    def close(self) -> None:
        self.closed = True

    def break_off(self) -> None:
        self.broken_off = True


class FakeWriter(ClientWriter):
    """The client's half: takes notes of packets."""

    def __init__(self) -> None:
        self.packets: list[tuple[Any, ...]] = []
        self.forgotten: list[int] = []
        self.blocked = False
        self.takes: int | None = None  # packets that it takes until it isn't writable any more
        self.callbacks: list[Callable[[], None]] = []

    @property
    def writable(self) -> bool:
        return not self.blocked

    def send(self, *buffers: bytes) -> None:
        packet = DEFAULT.from_node.parse_stream(BytesIO(b"".join(buffers)))
        self.packets.append(
            (packet.op, *(value for key, value in packet.body.items() if key != "_io"))
        )
        if self.takes is not None:
            self.takes -= 1
            self.blocked = self.takes <= 0

    def on_writable(self, callback: Callable[[], None]) -> None:
        if self.writable:
            callback()
        else:
            self.callbacks.append(callback)

    def got(self) -> list[tuple[Any, ...]]:
        packets, self.packets = self.packets, []
        return packets


class Ends:
    """A relay tunnel between the two."""

    def __init__(self, *, accepted: bool = False, built: bool = True) -> None:
        self.client, self.iris = FakeWriter(), FakeTunnel()
        self.tunnel = RelayTunnel(
            3, self.client, self.client.forgotten.append, CONFIG, accepted=accepted
        )
        if built:
            self.tunnel.built(self.iris)
            self.client.got()


@pytest.fixture
def ends() -> Ends:
    return Ends()


# Building


def test_the_caller_gets_the_tunnel_and_then_the_allowance() -> None:
    ends = Ends(built=False)
    ends.tunnel.built(ends.iris)
    assert ends.client.got() == [(Op.TUNNEL_CONFIRM, 3, False, 60), (Op.TUNNEL_ALLOW, 3, 100)]


def test_the_service_gets_the_allowance_alone() -> None:
    ends = Ends(accepted=True, built=False)
    ends.tunnel.built(ends.iris)
    assert ends.client.got() == [(Op.TUNNEL_ALLOW, 3, 100)]


@pytest.mark.parametrize(
    ("accepted", "packet"),
    [
        (False, (Op.TUNNEL_CONFIRM, 3, True, None)),
        (True, (Op.TUNNEL_CLOSE, 3, "tunnel could not be built")),
    ],
)
def test_a_tunnel_that_cannot_be_built_is_reported_to_the_end_that_waits_for_it(
    accepted: bool, packet: tuple[Any, ...]
) -> None:
    ends = Ends(accepted=accepted, built=False)
    ends.tunnel.built(None)
    assert (ends.client.got(), ends.client.forgotten) == ([packet], [3])


def test_what_comes_before_the_client_knows_of_the_tunnel_follows() -> None:
    ends = Ends(built=False)
    ends.iris.at_start = [
        lambda consumer: consumer.handle_chunk(5, b"hello"),
        lambda consumer: consumer.handle_close(""),
    ]
    ends.tunnel.allow(10)
    ends.tunnel.built(ends.iris)
    assert ends.client.got() == [
        (Op.TUNNEL_CONFIRM, 3, False, 60),
        (Op.TUNNEL_ALLOW, 3, 100),
        (Op.TUNNEL_TRANSFER, 3, 5, b"hello"),
        (Op.TUNNEL_CLOSE, 3, ""),
    ]


def test_an_accepted_tunnel_closed_before_it_is_built_is_closed_once_it_is() -> None:
    ends = Ends(accepted=True, built=False)
    ends.tunnel.close()
    assert ends.client.got() == [(Op.TUNNEL_CLOSE, 3, "")]
    ends.tunnel.built(ends.iris)
    assert ends.iris.closed
    assert ends.client.got() == []


def test_an_asked_for_tunnel_cannot_be_closed_before_it_is_there() -> None:
    ends = Ends(built=False)
    ends.tunnel.close()
    assert ends.client.got() == []
    ends.tunnel.built(ends.iris)
    assert ends.client.got()[0] == (Op.TUNNEL_CONFIRM, 3, False, 60)


def test_a_tunnel_whose_client_has_gone_is_closed_once_it_is_built() -> None:
    ends = Ends(built=False)
    ends.tunnel.abandon()
    ends.tunnel.built(ends.iris)
    assert ends.iris.closed
    assert ends.client.got() == []


# From the client


def test_chunks_pass_with_the_size_of_their_message_in_the_first(ends: Ends) -> None:
    ends.tunnel.transfer(70, b"a" * 60)
    ends.tunnel.transfer(0, b"b" * 10)
    ends.tunnel.transfer(1, b"c")
    assert ends.iris.sent == [(70, b"a" * 60), (0, b"b" * 10), (1, b"c")]


def test_credit_goes_back_to_the_client(ends: Ends) -> None:
    ends.tunnel.transfer(60, b"a" * 60)
    ends.tunnel.handle_credit(60)
    assert ends.client.got() == [(Op.TUNNEL_ALLOW, 3, 60)]
    ends.tunnel.transfer(60, b"a" * 60)
    ends.tunnel.transfer(40, b"a" * 40)


def test_a_message_begun_beyond_the_allowance_breaks_the_rules(ends: Ends) -> None:
    ends.tunnel.transfer(60, b"a" * 60)
    with pytest.raises(ProtocolError, match="beyond the allowance"):
        ends.tunnel.transfer(41, b"b" * 41)


def test_nothing_may_be_sent_before_the_tunnel_is_built() -> None:
    with pytest.raises(ProtocolError, match="beyond the allowance"):
        Ends(accepted=True, built=False).tunnel.transfer(1, b"a")


def test_a_begun_message_may_be_finished_beyond_the_allowance(ends: Ends) -> None:
    ends.tunnel.transfer(240, b"a" * 60)
    for _ in range(3):
        ends.tunnel.transfer(0, b"a" * 60)
    assert len(ends.iris.sent) == 4
    with pytest.raises(ProtocolError, match="beyond the allowance"):
        ends.tunnel.transfer(1, b"b")


def test_a_half_sent_message_may_be_abandoned(ends: Ends) -> None:
    ends.tunnel.transfer(1_000, b"a" * 60)
    ends.tunnel.handle_credit(60)
    ends.tunnel.transfer(2, b"bb")
    assert ends.iris.sent == [(1_000, b"a" * 60), (2, b"bb")]


@pytest.mark.parametrize("before", [[], [(2, b"aa")], [(3, b"aa"), (0, b"a")]])
def test_a_chunk_beyond_its_message_breaks_the_rules(
    ends: Ends, before: list[tuple[int, bytes]]
) -> None:
    for size, chunk in before:
        ends.tunnel.transfer(size, chunk)
    with pytest.raises(ProtocolError, match="exceeds its message"):
        ends.tunnel.transfer(0, b"x")


def test_a_message_announced_with_more_than_the_limit_is_refused(ends: Ends) -> None:
    ends.tunnel.transfer(1_000, b"a")
    with pytest.raises(MessageTooBig):
        ends.tunnel.transfer(1_001, b"a")


def test_an_empty_chunk_is_credited_and_not_delivered(ends: Ends) -> None:
    ends.tunnel.transfer(0, b"")
    ends.tunnel.transfer(5, b"")
    ends.tunnel.transfer(0, b"hello")
    assert ends.iris.sent == [(5, b"hello")]
    assert ends.client.got() == [(Op.TUNNEL_ALLOW, 3, 0), (Op.TUNNEL_ALLOW, 3, 0)]


def test_a_tunnel_that_is_too_much_for_its_way_is_closed_with_a_reason(ends: Ends) -> None:
    ends.iris.refuses = True
    ends.tunnel.transfer(1, b"x")
    assert ends.client.got() == [(Op.TUNNEL_CLOSE, 3, "too much waits")]
    assert ends.iris.broken_off  # the other end must not take what it got for all there is


# To the client


def transfers(ends: Ends) -> list[tuple[int, bytes]]:
    return [(size, chunk) for op, _, size, chunk in ends.client.got() if op == Op.TUNNEL_TRANSFER]


def test_chunks_wait_for_the_allowance_in_order(ends: Ends) -> None:
    ends.tunnel.handle_chunk(3, b"one")
    ends.tunnel.handle_chunk(3, b"two")
    assert (transfers(ends), ends.iris.consumed_bytes) == ([], 0)
    ends.tunnel.allow(2)
    assert transfers(ends) == []
    ends.tunnel.allow(1)
    assert transfers(ends) == [(3, b"one")]
    ends.tunnel.allow(9)
    ends.tunnel.handle_chunk(5, b"three")
    assert transfers(ends) == [(3, b"two"), (5, b"three")]
    assert ends.iris.consumed_bytes == 11


def test_a_begun_message_is_always_finished(ends: Ends) -> None:
    ends.tunnel.allow(60)
    ends.tunnel.handle_chunk(150, b"a" * 60)
    ends.tunnel.handle_chunk(0, b"b" * 60)
    ends.tunnel.handle_chunk(0, b"c" * 30)
    ends.tunnel.handle_chunk(1, b"d")
    assert transfers(ends) == [(150, b"a" * 60), (0, b"b" * 60), (0, b"c" * 30)]
    ends.tunnel.allow(90)
    assert transfers(ends) == []
    ends.tunnel.allow(1)
    assert transfers(ends) == [(1, b"d")]


def test_the_message_after_an_abandoned_one_is_sent_for_only_then_the_client_gives_back(
    ends: Ends,
) -> None:
    ends.tunnel.allow(60)
    ends.tunnel.handle_chunk(1_000, b"a" * 60)
    ends.tunnel.handle_chunk(2, b"bb")
    assert transfers(ends) == [(1_000, b"a" * 60), (2, b"bb")]
    ends.tunnel.handle_chunk(2, b"cc")
    assert transfers(ends) == []


def test_a_client_that_takes_little_lets_no_more_come(ends: Ends) -> None:
    ends.client.blocked = True
    ends.tunnel.allow(1_000)
    ends.tunnel.handle_chunk(60, b"a" * 60)
    ends.tunnel.handle_chunk(40, b"a" * 40)
    ends.tunnel.handle_close("")
    assert (ends.client.got(), ends.iris.consumed_bytes, len(ends.client.callbacks)) == ([], 0, 1)
    ends.client.blocked = False
    ends.client.callbacks.pop()()
    assert ends.client.got() == [
        (Op.TUNNEL_TRANSFER, 3, 60, b"a" * 60),
        (Op.TUNNEL_TRANSFER, 3, 40, b"a" * 40),
        (Op.TUNNEL_CLOSE, 3, ""),
    ]
    assert ends.iris.consumed_bytes == 100


def test_what_was_sent_counts_as_consumed_once_the_client_has_taken_it(ends: Ends) -> None:
    ends.tunnel.allow(1_000)
    ends.client.takes = 1
    ends.tunnel.handle_chunk(60, b"a" * 60)
    assert (len(transfers(ends)), ends.iris.consumed_bytes, len(ends.client.callbacks)) == (1, 0, 1)
    ends.tunnel.handle_chunk(40, b"a" * 40)
    assert (transfers(ends), len(ends.client.callbacks)) == ([], 1)
    ends.tunnel.handle_chunk(1, b"a")
    assert len(ends.client.callbacks) == 1


# The end


def test_a_close_by_the_client_is_confirmed_and_nothing_follows(ends: Ends) -> None:
    ends.tunnel.handle_chunk(3, b"one")
    ends.tunnel.close()
    assert ends.client.got() == [(Op.TUNNEL_CLOSE, 3, "")]
    assert ends.iris.closed
    assert ends.client.forgotten == [3]
    ends.tunnel.handle_credit(5)
    ends.tunnel.handle_chunk(1, b"x")
    ends.tunnel.allow(100)
    ends.tunnel.handle_close("broke")
    ends.tunnel.close()
    ends.tunnel.transfer(1, b"x")
    assert ends.client.got() == []


def test_a_close_by_the_other_end_comes_after_all_data(ends: Ends) -> None:
    ends.tunnel.handle_chunk(3, b"one")
    ends.tunnel.handle_close("")
    assert ends.client.got() == []
    ends.tunnel.allow(3)
    assert ends.client.got() == [(Op.TUNNEL_TRANSFER, 3, 3, b"one"), (Op.TUNNEL_CLOSE, 3, "")]
    assert ends.client.forgotten == [3]


def test_a_broken_tunnel_is_closed_after_what_came(ends: Ends) -> None:
    ends.tunnel.handle_chunk(3, b"one")
    ends.tunnel.handle_close("its host is gone")
    ends.tunnel.allow(3)
    assert ends.client.got() == [
        (Op.TUNNEL_TRANSFER, 3, 3, b"one"),
        (Op.TUNNEL_CLOSE, 3, "its host is gone"),
    ]


def test_what_is_sent_to_a_closed_end_is_lost_but_credited(ends: Ends) -> None:
    ends.tunnel.handle_chunk(3, b"one")
    ends.tunnel.handle_close("")
    ends.tunnel.transfer(5, b"hello")
    assert ends.iris.sent == []
    assert ends.client.got() == [(Op.TUNNEL_ALLOW, 3, 5)]
    ends.tunnel.close()
    assert ends.client.got() == [(Op.TUNNEL_CLOSE, 3, "")]


def test_what_brings_the_next_chunk_at_once_is_taken_for_as_long_as_it_comes(ends: Ends) -> None:
    left = 5_000  # more than a stack is deep

    def consumed(count: int) -> None:
        nonlocal left
        ends.iris.consumed_bytes += count
        if left:
            left -= 1
            ends.tunnel.handle_chunk(1, b"x")

    ends.iris.consumed = consumed  # type: ignore[method-assign]
    ends.tunnel.allow(5_001)
    ends.tunnel.handle_chunk(1, b"x")
    assert ends.iris.consumed_bytes == 5_001
    assert len(ends.client.got()) == 5_001


@pytest.mark.parametrize("end", [RelayTunnel.abandon, RelayTunnel.close])
def test_a_tunnel_that_ends_while_it_is_held_up_waits_for_nothing_more(
    ends: Ends, end: Callable[[RelayTunnel], None]
) -> None:
    ends.client.takes = 1
    ends.tunnel.allow(100)
    for _ in range(3):
        ends.tunnel.handle_chunk(1, b"x")
    end(ends.tunnel)
    ends.client.blocked, ends.client.takes = False, None
    (callback,) = ends.client.callbacks
    callback()
    ends.tunnel.handle_credit(1)
    assert not ends.tunnel._blocked
    assert not ends.tunnel._awaiting_writer


def test_a_closed_tunnel_stays_closed() -> None:
    assert not [step for step in STEPS if step[0] is State.CLOSED]
