"""One end of a tunnel.

What it takes in, against the schemas, and the allowances of both directions.
"""

import random

import pytest

from iris.relay_protocol.schema import DEFAULT, Op
from tests.unit.tools_bench.test_wire import feed
from tools.bench.tunnel import GRANT, Tunnel
from tools.bench.wire import Failure, payload


def allow(space: int, number: int = 3) -> bytes:
    return DEFAULT.node(Op.TUNNEL_ALLOW, id=number, space=space)


def chunk(size: int, data: bytes, number: int = 3) -> bytes:
    return DEFAULT.node(Op.TUNNEL_TRANSFER, id=number, size=size, chunk=data)


def close(reason: str = "", number: int = 3) -> bytes:
    return DEFAULT.node(Op.TUNNEL_CLOSE, id=number, reason=reason)


@pytest.mark.parametrize("size", [1, 64, 1_000, 65_536])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("number", [3, 300])
def test_messages_are_counted_however_chunks_and_bytes_are_split(
    size: int, seed: int, number: int
) -> None:
    chance, data = random.Random(seed), payload(size)
    tunnel, packets, space = Tunnel(number, data), list[bytes](), 0
    for _ in range(12):
        cut = chance.randint(1, size)
        packets.append(chunk(size, data[:cut], number))
        if cut < size:
            packets.append(allow(given := chance.getrandbits(chance.choice((3, 20))), number))
            space += given
            packets.append(chunk(0, data[cut:], number))
    packets.append(close("over", number))
    feed(b"".join(packets), chance, tunnel.take)
    assert (tunnel.messages, tunnel.received, tunnel.closed) == (12, 12 * size, "over")
    spent = 0
    while tunnel.spend():
        spent += 1
    assert spent == space // size


def test_what_is_sent_is_a_message_in_one_chunk() -> None:
    packet = DEFAULT.from_client.parse(Tunnel(300, payload(65_536)).packet)
    assert packet.op == Op.TUNNEL_TRANSFER
    assert (packet.body.id, packet.body.size, packet.body.chunk) == (300, 65_536, payload(65_536))


@pytest.mark.parametrize(
    "wrong",
    [
        chunk(64, payload(64)[:-1] + b"!"),
        chunk(63, payload(63)),
        chunk(0, payload(64)),
        chunk(64, payload(64), number=4),
        chunk(64, payload(10)) + chunk(64, payload(64)[10:]),
        chunk(64, b""),
        chunk(64, payload(64) + b"!"),
        allow(5, number=4),
        close(number=4),
        DEFAULT.node(Op.TUNNEL_INIT, build_id=3, chunk_limit=9),
        DEFAULT.node(Op.CLOSE, reason=""),
        b"\x0b\x03" + b"\xff" * 11,
    ],
    ids=[
        "payload",
        "size",
        "goes on",
        "number",
        "begins anew",
        "empty",
        "too much",
        "allow",
        "close",
        "offer",
        "end",
        "varint",
    ],
)
def test_anything_else_is_refused(wrong: bytes) -> None:
    with pytest.raises(Failure):
        Tunnel(3, payload(64)).take(wrong)


def test_nothing_is_sent_beyond_the_allowance() -> None:
    tunnel = Tunnel(3, payload(64))
    assert not tunnel.spend()
    tunnel.take(allow(100) + allow(28))
    assert [tunnel.spend() for _ in range(3)] == [True, True, False]


def test_what_came_is_granted_again_by_the_mebibyte() -> None:
    data = payload(65_536)
    tunnel, message = Tunnel(3, data), chunk(len(data), data)
    for _ in range(15):
        tunnel.take(message)
        assert tunnel.grant() == b""
    tunnel.take(message)
    assert tunnel.grant() == DEFAULT.client(Op.TUNNEL_ALLOW, id=3, space=1 << 20)
    assert tunnel.grant() == b""


def test_more_than_was_granted_is_refused() -> None:
    data = payload(65_536)
    tunnel, message = Tunnel(3, data), chunk(len(data), data)
    for _ in range(GRANT // len(data)):
        tunnel.take(message)
    with pytest.raises(Failure, match="granted"):
        tunnel.take(message)


def test_nothing_behind_a_close_is_taken() -> None:
    tunnel = Tunnel(3, payload(64))
    assert tunnel.take(close() + close()) == len(close())
    assert tunnel.closed == ""
