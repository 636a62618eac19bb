"""The incremental parser against the construct schemas, for every packet of both directions.

The same values, the same rejections, however the bytes are cut. The packets are drawn from the
table of fields, so that a new packet is tested as soon as it is declared.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from construct import ConstructError, Container, StreamError
from hypothesis import given, settings
from hypothesis import strategies as st

from iris.config import Limits, RelayConfig
from iris.errors import ProtocolError
from iris.relay_protocol import schema
from iris.relay_protocol.parser import Parser
from iris.relay_protocol.schema import MAGIC, OPENING, PACKETS, VERSION, Op, Side, protocol
from iris.relay_protocol.varint import MAX_VARINT, varint

LIMITS = replace(Limits(), message_size=70_000, name_size=300)
RELAY = replace(RelayConfig(), chunk_limit=40_000)
PROTOCOL = protocol(LIMITS, RELAY)
SCHEMAS = {Side.CLIENT: PROTOCOL.from_client, Side.NODE: PROTOCOL.from_node}
BUILD: dict[Side, Callable[..., bytes]] = {
    Side.CLIENT: PROTOCOL.client,
    Side.NODE: PROTOCOL.node,
}
INIT = {
    Side.CLIENT: PROTOCOL.client(Op.INIT, version=VERSION, cluster=""),
    Side.NODE: PROTOCOL.node(Op.INIT, version=VERSION),
}
LATER = [
    (side, op)
    for op, packet in PACKETS.items()
    for side in sorted(packet, key=str)
    if op not in OPENING[side]
]

Packet = tuple[int, tuple[Any, ...]]
Read = tuple[list[Packet], bool]

rngs = st.integers(0, 1 << 32).map(random.Random)  # how bytes are cut
numbers = st.one_of(st.integers(0, 300), st.integers(0, MAX_VARINT))
names = st.text(max_size=60)
texts = st.one_of(names, st.integers(0, 60_000).map(lambda size: "t" * size))
payloads = st.one_of(
    st.binary(max_size=50),
    st.integers(0, 40_000).map(lambda size: bytes(range(256)) * (size // 256) + bytes(size % 256)),
)
VALUES: dict[int, st.SearchStrategy[Any]] = {
    schema.NUMBER: numbers,
    schema.NAME: names,
    schema.BINARY: payloads,
    schema.CHUNK: payloads,
    schema.TEXT: texts,
    schema.BOOL: st.booleans(),
    schema.TIMED_OUT: st.booleans(),
}


@st.composite
def bodies(draw: st.DrawFn, side: Side, op: Op) -> dict[str, Any]:
    """The fields of a packet but the magic, as the parser yields them."""
    body: dict[str, Any] = {}
    late = False
    for name, kind in PACKETS[op][side]:
        if late:
            body[name] = None
        elif kind == schema.RESULT:
            body[name] = draw(payloads if body["success"] else texts)
        elif kind != schema.MAGIC_STRING:
            body[name] = draw(VALUES[kind])
            late = kind == schema.TIMED_OUT and body[name]
    return body


@st.composite
def streams(draw: st.DrawFn, side: Side, most: int, least: int = 0) -> tuple[list[Packet], bytes]:
    """Some packets, and their bytes."""
    packets: list[Packet] = []
    data = b""
    ops = st.sampled_from([op for each, op in LATER if each is side])
    for op in draw(st.lists(ops, min_size=least, max_size=most)):
        body = draw(bodies(side, op))
        packets.append((int(op), tuple(body.values())))
        data += BUILD[side](op, **body)
    return packets, data


def oracle(side: Side, data: bytes, *, attached: bool = True) -> Read:
    """What the schema reads: the packets, and whether what is left over is a violation.

    It has no memory: the opening packets are checked here.
    """
    packets: list[Packet] = []
    stream, start = BytesIO(data), 0
    while start < len(data):
        if (data[start] in OPENING[side]) == attached:
            return packets, True
        try:
            packet = SCHEMAS[side].parse_stream(stream)
        except StreamError:
            return packets, False
        except ConstructError:
            return packets, True
        packets.append((int(packet.op), values(packet.body)))
        start, attached = stream.tell(), packet.op != Op.DENY
    return packets, False


def values(fields: Container) -> tuple[Any, ...]:
    return tuple(value for key, value in fields.items() if key not in ("_io", "magic"))


def read(side: Side, pieces: list[bytes], *, attached: bool = True) -> Read:
    """What the parser reads, and whether it rejects the rest."""
    parser, packets = Parser(side, LIMITS, RELAY), []
    if attached:
        assert [op for op, _ in parser.feed(INIT[side])] == [Op.INIT]
    try:
        for piece in pieces:
            for packet in parser.feed(piece):
                packets.append(packet)  # those before a violation count
    except ProtocolError:
        return packets, True
    return packets, False


def cut(data: bytes, rng: random.Random) -> list[bytes]:
    """The same bytes in pieces of any length, also long and empty ones."""
    pieces = []
    while data:
        size = rng.choice(
            [0, 1, 2, rng.randrange(1, 50), rng.randrange(1, 5_000), rng.randrange(1, 70_000)]
        )
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def check_against_oracle(
    side: Side, data: bytes, rng: random.Random, *, attached: bool = True
) -> None:
    want = oracle(side, data, attached=attached)
    assert read(side, [data], attached=attached) == want
    assert read(side, cut(data, rng), attached=attached) == want


both = pytest.mark.parametrize("side", Side)


@both
@given(st.data(), rngs)
@settings(max_examples=150)
def test_any_packets_in_any_pieces_read_as_the_schema_reads_them(
    side: Side, drawn: st.DataObject, rng: random.Random
) -> None:
    packets, data = drawn.draw(streams(side, 6))
    assert oracle(side, data) == (packets, False)
    assert read(side, [data]) == (packets, False)
    assert read(side, cut(data, rng)) == (packets, False)


@pytest.mark.parametrize(("side", "op"), LATER)
@given(st.data())
@settings(max_examples=5)
def test_a_packet_may_be_cut_at_every_byte(side: Side, op: Op, drawn: st.DataObject) -> None:
    body = drawn.draw(bodies(side, op))
    # in a payload all places are alike
    short = {
        name: value[:200] if isinstance(value, bytes | str) else value
        for name, value in body.items()
    }
    data, want = BUILD[side](op, **short), (int(op), tuple(short.values()))
    for i in range(len(data) + 1):
        assert read(side, [data[:i], data[i:] + data]) == ([want, want], False)
    assert read(side, [data[i : i + 1] for i in range(len(data))]) == ([want], False)


def test_a_long_request_may_be_cut_anywhere_around_its_payload() -> None:
    payload = bytes(range(256)) * 100
    data = PROTOCOL.client(
        Op.REQUEST, id=1, cluster="c", request=payload, timeout=70_000
    ) + PROTOCOL.client(Op.CLOSE)
    want = [(Op.REQUEST, (1, "c", payload, 70_000)), (Op.CLOSE, ())]
    edges = [*range(12), *range(len(data) - 8, len(data) + 1)]
    for i in edges:
        for j in edges:
            if i <= j:
                assert read(Side.CLIENT, [data[:i], data[i:j], data[j:]]) == (want, False)


@both
@given(st.data(), rngs)
@settings(max_examples=400)
def test_damaged_packets_are_rejected_where_the_schema_rejects_them(
    side: Side, drawn: st.DataObject, rng: random.Random
) -> None:
    data = bytearray(drawn.draw(streams(side, 3, least=1))[1])
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(min(len(data), 60))] = rng.choice(
            [0, 1, 2, 0x7F, 0x80, 0xFF, rng.randrange(256)]
        )
    check_against_oracle(side, bytes(data), rng)


@both
@given(st.binary(max_size=40), rngs)
@settings(max_examples=400)
def test_garbage_is_rejected_where_the_schema_rejects_it(
    side: Side, data: bytes, rng: random.Random
) -> None:
    check_against_oracle(side, data, rng)


@pytest.mark.parametrize(
    ("side", "op"), [(side, op) for side, ops in OPENING.items() for op in sorted(ops)]
)
@given(st.data(), st.binary(max_size=4), st.integers(0, 60), rngs)
@settings(max_examples=200)
def test_the_first_packet_reads_as_the_schema_reads_it(
    side: Side, op: Op, drawn: st.DataObject, noise: bytes, at: int, rng: random.Random
) -> None:
    damaged = bytearray(BUILD[side](op, **drawn.draw(bodies(side, op))))
    damaged[at : at + len(noise)] = noise
    check_against_oracle(side, bytes(damaged), rng, attached=False)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x03" + varint(301), id="name"),
        pytest.param(b"\x03\x00" + varint(70_001), id="message"),
        pytest.param(b"\x05\x00\x00" + varint(70_001), id="fault"),
        pytest.param(b"\x0c\x00\x00" + varint(40_001), id="chunk"),
        pytest.param(b"\x08\x00" + varint(MAX_VARINT), id="greatest"),
    ],
)
def test_a_length_beyond_its_limit_is_rejected_before_its_first_byte(data: bytes) -> None:
    assert read(Side.CLIENT, [data]) == ([], True)
    assert oracle(Side.CLIENT, data) == ([], True)


@both
def test_a_magic_of_another_length_is_rejected_before_it_is_complete(side: Side) -> None:
    magic = MAGIC[side].encode()
    for size in (len(magic) - 1, len(magic) + 1):
        with pytest.raises(ProtocolError, match="not an Iris"):
            list(Parser(side, Limits(), RELAY).feed(b"\x00" + varint(size) + magic[:3]))


def test_a_parser_holds_on_to_nothing_once_a_long_message_is_read() -> None:
    parser = Parser(Side.CLIENT, Limits(), RELAY)
    list(parser.feed(INIT[Side.CLIENT]))
    data = PROTOCOL.client(Op.BROADCAST, cluster="c", message=bytes(70_000))
    for i in range(0, len(data), 1_000):
        packets = list(parser.feed(data[i : i + 1_000]))
    assert packets == [(Op.BROADCAST, ("c", bytes(70_000)))]
    assert (parser._rest, parser._pieces, parser._payload, parser._missing) == (b"", [], None, 0)


def test_a_message_dripping_in_bytes_costs_little_more_than_its_size() -> None:
    parser = Parser(Side.CLIENT, Limits(), RELAY)
    list(parser.feed(INIT[Side.CLIENT]))
    list(parser.feed(b"\x03\x00" + varint(60_000)))
    for _ in range(59_999):
        assert not list(parser.feed(b"x"))
    assert len(parser._pieces) <= 60_000 // 4_096 + 2
    assert list(parser.feed(b"x")) == [(Op.BROADCAST, ("", b"x" * 60_000))]
