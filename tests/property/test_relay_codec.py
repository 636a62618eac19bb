"""The fast relay codec against the schemas.

The same values, the same rejections, however the bytes are cut.
"""

import random
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from construct import ConstructError, Container, StreamError
from hypothesis import given, settings
from hypothesis import strategies as st

from iris.config import Limits, RelayConfig
from iris.errors import ProtocolError
from iris.relay_protocol import node_packets as codec
from iris.relay_protocol.parser import Parser
from iris.relay_protocol.schema import VERSION, Op, Side, protocol
from iris.relay_protocol.varint import MAX_VARINT, varint

LIMITS = replace(Limits(), message_size=70_000, name_size=300)
RELAY = replace(RelayConfig(), chunk_limit=40_000)
PROTOCOL = protocol(LIMITS, RELAY)
INIT = PROTOCOL.client(Op.INIT, version=VERSION, cluster="")

Packet = tuple[int, tuple[Any, ...]]

numbers = st.one_of(st.integers(0, 300), st.integers(0, MAX_VARINT))
names = st.text(max_size=60)
rngs = st.integers(0, 1 << 32).map(random.Random)  # how bytes are cut
payloads = st.one_of(
    st.binary(max_size=50),
    st.integers(0, 40_000).map(lambda size: bytes(range(256)) * (size // 256) + bytes(size % 256)),
)


def body(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(fields)


CLIENT_BODIES = {
    Op.CLOSE: body(),
    Op.BROADCAST: body(cluster=names, message=payloads),
    Op.REQUEST: body(id=numbers, cluster=names, request=payloads, timeout=numbers),
    Op.REPLY: st.one_of(
        body(id=numbers, success=st.just(True), result=payloads),
        body(id=numbers, success=st.just(False), result=st.text(max_size=9_000)),
    ),
    Op.SUBSCRIBE: body(topic=names),
    Op.UNSUBSCRIBE: body(topic=names),
    Op.PUBLISH: body(topic=names, event=payloads),
    Op.TUNNEL_INIT: body(id=numbers, cluster=names, timeout=numbers),
    Op.TUNNEL_CONFIRM: body(build_id=numbers, id=numbers),
    Op.TUNNEL_ALLOW: body(id=numbers, space=numbers),
    Op.TUNNEL_TRANSFER: body(id=numbers, size=numbers, chunk=payloads),
    Op.TUNNEL_CLOSE: body(id=numbers),
}
client_packets = st.one_of(
    *(st.tuples(st.just(op), strategy) for op, strategy in CLIENT_BODIES.items())
)


def oracle(data: bytes, *, attached: bool = True) -> tuple[list[Packet], bool]:
    """What the schema reads: the packets, and whether what is left over breaks the rules.

    It has no memory: inits are looked for here.
    """
    stream, start = BytesIO(data), 0
    packets: list[Packet] = []
    while start < len(data):
        if (data[start] == Op.INIT) == attached:
            return packets, True
        try:
            packet = PROTOCOL.from_client.parse_stream(stream)
        except StreamError:
            return packets, False
        except ConstructError:
            return packets, True
        packets.append((int(packet.op), values(packet.body)))
        start, attached = stream.tell(), True
    return packets, False


def values(fields: Container) -> tuple[Any, ...]:
    return tuple(value for key, value in fields.items() if key not in ("_io", "magic"))


def read(pieces: list[bytes], *, attached: bool = True) -> tuple[list[Packet], bool]:
    """What the parser reads, and whether it rejects the rest."""
    parser, packets = Parser(Side.CLIENT, LIMITS, RELAY), []
    if attached:
        assert list(parser.feed(INIT)) == [(Op.INIT, (VERSION, ""))]
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


@given(st.lists(client_packets, max_size=6), rngs)
@settings(max_examples=150)
def test_any_packets_in_any_pieces_read_as_the_schema_reads_them(
    packets: list[tuple[Op, dict[str, Any]]], rng: random.Random
) -> None:
    data = b"".join(PROTOCOL.client(op, **fields) for op, fields in packets)
    want = [(int(op), tuple(fields[name] for name in schema_fields(op))) for op, fields in packets]
    assert oracle(data) == (want, False)
    assert read([data]) == (want, False)
    assert read(cut(data, rng)) == (want, False)


@pytest.mark.parametrize("op", CLIENT_BODIES)
def test_a_packet_may_be_cut_at_every_byte(op: Op) -> None:
    examples = {
        "id": 300, "build_id": 1 << 40, "cluster": "grüße", "topic": "", "message": b"m" * 9, "request": b"", "event": b"e" * 200,
        "timeout": MAX_VARINT, "success": False, "result": "warum", "space": 128, "size": 127, "chunk": b"c" * 130,
    }  # fmt: skip
    fields = {name: examples[name] for name in schema_fields(op)}
    data, want = PROTOCOL.client(op, **fields), (int(op), tuple(fields.values()))
    for i in range(len(data) + 1):
        assert read([data[:i], data[i:] + data]) == ([want, want], False)
    assert read([data[i : i + 1] for i in range(len(data))]) == ([want], False)


def schema_fields(op: Op) -> list[str]:
    names = {
        Op.CLOSE: "", Op.BROADCAST: "cluster message", Op.REQUEST: "id cluster request timeout", Op.REPLY: "id success result",
        Op.SUBSCRIBE: "topic", Op.UNSUBSCRIBE: "topic", Op.PUBLISH: "topic event", Op.TUNNEL_INIT: "id cluster timeout",
        Op.TUNNEL_CONFIRM: "build_id id", Op.TUNNEL_ALLOW: "id space", Op.TUNNEL_TRANSFER: "id size chunk", Op.TUNNEL_CLOSE: "id",
    }  # fmt: skip
    return names[op].split()


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
                assert read([data[:i], data[i:j], data[j:]]) == (want, False)


@given(st.lists(client_packets, min_size=1, max_size=3), rngs)
@settings(max_examples=400)
def test_damaged_packets_are_rejected_where_the_schema_rejects_them(
    packets: list[tuple[Op, dict[str, Any]]], rng: random.Random
) -> None:
    data = bytearray(b"".join(PROTOCOL.client(op, **fields) for op, fields in packets))
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(min(len(data), 60))] = rng.choice(
            [0, 1, 2, 0x7F, 0x80, 0xFF, rng.randrange(256)]
        )
    check_against_oracle(bytes(data), rng)


@given(st.binary(max_size=40), rngs)
@settings(max_examples=400)
def test_garbage_is_rejected_where_the_schema_rejects_it(data: bytes, rng: random.Random) -> None:
    check_against_oracle(data, rng)


def check_against_oracle(data: bytes, rng: random.Random) -> None:
    want = oracle(data)
    assert read([data]) == want
    assert read(cut(data, rng)) == want


@given(names, names, st.binary(max_size=4), st.integers(0, 60), rngs)
@settings(max_examples=200)
def test_the_first_packet_reads_as_the_schema_reads_an_init(
    version: str, cluster: str, noise: bytes, at: int, rng: random.Random
) -> None:
    damaged = bytearray(PROTOCOL.client(Op.INIT, version=version, cluster=cluster))
    damaged[at : at + len(noise)] = noise
    data = bytes(damaged)
    assert read(cut(data, rng), attached=False) == oracle(data, attached=False)


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
    assert read([data]) == ([], True)
    assert oracle(data) == ([], True)


@given(st.data())
@settings(max_examples=300)
def test_what_the_node_writes_is_what_the_schema_writes(data: st.DataObject) -> None:
    number, other, payload, text = (
        data.draw(numbers),
        data.draw(numbers),
        data.draw(payloads),
        data.draw(names),
    )
    size = len(payload)
    pairs: dict[Any, tuple[Op, dict[str, Any]]] = {
        b"".join(codec.broadcast(payload)): (Op.BROADCAST, {"message": payload}),
        codec.request(number, size) + payload + varint(other): (
            Op.REQUEST,
            {"id": number, "request": payload, "timeout": other},
        ),
        codec.reply(number, size) + payload: (
            Op.REPLY,
            {"id": number, "timed_out": False, "success": True, "result": payload},
        ),
        codec.fault(number, text): (
            Op.REPLY,
            {"id": number, "timed_out": False, "success": False, "result": text},
        ),
        codec.timed_out(number): (Op.REPLY, {"id": number, "timed_out": True}),
        b"".join(codec.publish(text, payload)): (Op.PUBLISH, {"topic": text, "event": payload}),
        b"".join(codec.publish(text + "x", payload)): (
            Op.PUBLISH,
            {"topic": text + "x", "event": payload},
        ),
        codec.tunnel_init(number, other): (
            Op.TUNNEL_INIT,
            {"build_id": number, "chunk_limit": other},
        ),
        codec.tunnel_built(number, other): (
            Op.TUNNEL_CONFIRM,
            {"id": number, "timed_out": False, "chunk_limit": other},
        ),
        codec.tunnel_timed_out(number): (Op.TUNNEL_CONFIRM, {"id": number, "timed_out": True}),
        codec.tunnel_allow(number, other): (Op.TUNNEL_ALLOW, {"id": number, "space": other}),
        codec.tunnel_transfer(number, other, size) + payload: (
            Op.TUNNEL_TRANSFER,
            {"id": number, "size": other, "chunk": payload},
        ),
        codec.tunnel_close(number, text): (Op.TUNNEL_CLOSE, {"id": number, "reason": text}),
    }
    for written, (op, fields) in pairs.items():
        assert written == PROTOCOL.node(op, **fields)


def test_a_parser_holds_on_to_nothing_once_a_long_message_is_read() -> None:
    parser = Parser(Side.CLIENT, Limits(), RELAY)
    list(parser.feed(INIT))
    data = PROTOCOL.client(Op.BROADCAST, cluster="c", message=bytes(70_000))
    for i in range(0, len(data), 1_000):
        packets = list(parser.feed(data[i : i + 1_000]))
    assert packets == [(Op.BROADCAST, ("c", bytes(70_000)))]
    assert (parser._rest, parser._pieces, parser._payload, parser._missing) == (b"", [], None, 0)


def test_a_message_dripping_in_bytes_costs_little_more_than_its_size() -> None:
    parser = Parser(Side.CLIENT, Limits(), RELAY)
    list(parser.feed(INIT))
    list(parser.feed(b"\x03\x00" + varint(60_000)))
    for _ in range(59_999):
        assert not list(parser.feed(b"x"))
    assert len(parser._pieces) <= 60_000 // 4_096 + 2
    assert list(parser.feed(b"x")) == [(Op.BROADCAST, ("", b"x" * 60_000))]
