"""Batches of requests and replies as the drivers handle them, against the schemas, packet by
packet.
"""

import itertools
import random
from collections.abc import Callable, Iterator

import pytest

from iris.relay_protocol.schema import DEFAULT, Op
from tools.bench import wire
from tools.bench.wire import Asker, Echo, Failure

HOSTILE = [
    b"",
    b"\x04",
    b"\x04\x80\x01\x00\x01" * 13,  # requests in a request
    b"\x05\x80\x01\x00\x01\x40" * 11,
    b"\xff" * 64,
    wire.payload(64),
    wire.payload(1_024),
    wire.payload(65_536),
]


def pieces(data: bytes, chance: random.Random, longest: int) -> Iterator[bytes]:
    """The same bytes in pieces of any sizes."""
    at = 0
    while at < len(data):
        size = chance.choice((1, 2, 5, longest // 3 + 1, longest))
        yield data[at : at + size]
        at += size


def feed(data: bytes, chance: random.Random, take: Callable[[bytes], int]) -> None:
    """As a driver does: what wasn't used stays in front of what comes next."""
    rest = b""
    for piece in pieces(data, chance, 3 * len(data) // 10 + 1):
        rest += piece
        rest = rest[take(rest) :]
    assert rest == b""


@pytest.mark.parametrize("payload", HOSTILE, ids=len)
@pytest.mark.parametrize("seed", range(8))
def test_echo_answers_each_request_however_the_bytes_are_split(payload: bytes, seed: int) -> None:
    chance = random.Random(seed)
    ids = [
        chance.choice((0, 4, 127, 128, 0x3FFF, 0x4000, chance.getrandbits(64))) for _ in range(30)
    ]
    came = [
        DEFAULT.node(
            Op.REQUEST, id=number, request=payload, timeout=chance.choice((0, 4, 5_000, 1 << 40))
        )
        for number in ids
    ]
    echo, answers = Echo(payload), bytearray()

    def take(data: bytes) -> int:
        found, used = echo.take(data)
        answers.extend(found)
        return used

    feed(b"".join(came), chance, take)
    assert bytes(answers) == b"".join(
        DEFAULT.client(Op.REPLY, id=number, success=True, result=payload) for number in ids
    )


REQUEST = DEFAULT.node(Op.REQUEST, id=1, request=b"abc", timeout=9)


@pytest.mark.parametrize(
    "wrong",
    [
        DEFAULT.node(Op.REQUEST, id=1, request=b"abd", timeout=9),
        DEFAULT.node(Op.REQUEST, id=1, request=b"abcd" * 9, timeout=9),
        DEFAULT.node(Op.REQUEST, id=1, request=b"a" * 99, timeout=9),
        DEFAULT.node(Op.BROADCAST, message=b"abc"),
        DEFAULT.node(Op.CLOSE, reason=""),
        b"\x04" + b"\xff" * 11 + b"\x03abc\x09",
    ],
    ids=["payload", "longer", "much longer", "broadcast", "close", "id"],
)
@pytest.mark.parametrize("before", [0, 3])
def test_echo_refuses_whatever_else_comes(wrong: bytes, before: int) -> None:
    with pytest.raises(Failure):
        Echo(b"abc").take(REQUEST * before + wrong)


@pytest.mark.parametrize("payload", HOSTILE, ids=len)
@pytest.mark.parametrize("seed", range(4))
def test_asker_keeps_so_many_in_flight_however_the_bytes_are_split(
    payload: bytes, seed: int
) -> None:
    chance, clock = random.Random(seed), itertools.count(step=1_000)
    asker = Asker("cluster", payload, 20, 8_000)
    asked = parse_requests(asker.ask(next(clock)), payload)
    assert len(set(asked)) == 20
    rounds = 0
    pending = asked
    while rounds < 10:
        rounds += 1
        chance.shuffle(pending)
        replies, again = (
            b"".join(
                DEFAULT.node(Op.REPLY, id=n, timed_out=False, success=True, result=payload)
                for n in pending
            ),
            list[int](),
        )

        def take(data: bytes, again: list[int] = again) -> int:
            whole = len(data) // asker.stride * asker.stride
            asker.take(data[:whole], next(clock))
            asker.check(data[whole:])
            again.extend(parse_requests(asker.ask(next(clock)), payload))
            return whole

        feed(replies, chance, take)
        assert sorted(again) == sorted(asked)
        assert asker.pending == 20
        pending = again
    assert len(asker.latencies) == 200
    assert min(asker.latencies) > 0


def parse_requests(data: bytes, payload: bytes) -> list[int]:
    """The ids of requests, which must be right in everything else."""
    ids = []
    while data:
        packet = DEFAULT.from_client.parse(data)
        assert packet.op == Op.REQUEST
        assert (packet.body.cluster, packet.body.request, packet.body.timeout) == (
            "cluster",
            payload,
            8_000,
        )
        ids.append(packet.body.id)
        data = data[len(DEFAULT.from_client.build(packet)) :]
    return ids


def asking() -> Asker:
    asker = Asker("cluster", b"abc", 2, 8_000)
    asker.ask(0)
    return asker


def reply(number: int, result: bytes = b"abc") -> bytes:
    return DEFAULT.node(Op.REPLY, id=number, timed_out=False, success=True, result=result)


@pytest.mark.parametrize(
    "wrong",
    [
        reply(0x82),
        reply(0x80, b"abd"),
        reply(0x80) * 2,
        b"\x03" + reply(0x80)[1:],
        reply(0x81) + reply(0x3000),
    ],
    ids=["another id", "another payload", "twice", "another packet", "behind a right one"],
)
def test_asker_refuses_what_answers_nothing(wrong: bytes) -> None:
    with pytest.raises(Failure):
        asking().take(wrong, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        DEFAULT.node(Op.REPLY, id=0x80, timed_out=True),
        DEFAULT.node(Op.REPLY, id=0x80, timed_out=False, success=False, result=""),
        DEFAULT.node(Op.CLOSE, reason=""),
        reply(0x80, b"ab"),
    ],
    ids=["timeout", "fault", "close", "shorter"],
)
def test_asker_sees_a_wrong_answer_that_is_shorter_than_a_right_one(wrong: bytes) -> None:
    assert len(wrong) < asking().stride
    with pytest.raises(Failure):
        asking().check(wrong)


def test_asker_lets_any_front_of_an_answer_wait() -> None:
    for size in range(asking().stride):
        asker = asking()
        asker.check(reply(0x81)[:size])
        asker.take(reply(0x81), 1)
        with pytest.raises(Failure):  # now it isn't waited for any more
            asker.take(reply(0x81), 1)


def test_how_drivers_attach_and_leave() -> None:
    assert wire.init("demo") == DEFAULT.client(Op.INIT, version=wire.VERSION, cluster="demo")
    assert DEFAULT.node(Op.INIT, version=wire.VERSION) == wire.WELCOME
    assert (DEFAULT.client(Op.CLOSE), DEFAULT.node(Op.CLOSE, reason="")) == (
        wire.CLOSE,
        wire.CLOSED,
    )


def test_more_requests_than_ids_of_two_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="no ids"):
        Asker("cluster", b"", 0x4000, 1)
