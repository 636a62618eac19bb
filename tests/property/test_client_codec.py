"""The binding's codec against the schemas.

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
from iris.relay_protocol import client_packets as codec
from iris.relay_protocol.parser import Parser
from iris.relay_protocol.schema import VERSION, Op, Side, protocol
from iris.relay_protocol.varint import MAX_VARINT, varint

LIMITS = replace(Limits(), message_size=70_000, name_size=300)
RELAY = replace(RelayConfig(), chunk_limit=40_000)
PROTOCOL = protocol(LIMITS, RELAY)
INIT = PROTOCOL.node(Op.INIT, version=VERSION)

Packet = tuple[int, tuple[Any, ...]]

numbers = st.one_of(st.integers(0, 300), st.integers(0, MAX_VARINT))
names = st.text(max_size=60)
texts = st.one_of(names, st.integers(0, 60_000).map(lambda size: "t" * size))
rngs = st.integers(0, 1 << 32).map(random.Random)  # how bytes are cut
payloads = st.one_of(
    st.binary(max_size=50),
    st.integers(0, 40_000).map(lambda size: bytes(range(256)) * (size // 256) + bytes(size % 256)),
)


def body(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(fields)


NODE_BODIES = {
    Op.CLOSE: body(reason=texts),
    Op.BROADCAST: body(message=payloads),
    Op.REQUEST: body(id=numbers, request=payloads, timeout=numbers),
    Op.REPLY: st.one_of(
        body(id=numbers, timed_out=st.just(True), success=st.none(), result=st.none()),
        body(id=numbers, timed_out=st.just(False), success=st.just(True), result=payloads),
        body(id=numbers, timed_out=st.just(False), success=st.just(False), result=texts),
    ),
    Op.PUBLISH: body(topic=names, event=payloads),
    Op.TUNNEL_INIT: body(build_id=numbers, chunk_limit=numbers),
    Op.TUNNEL_CONFIRM: st.one_of(
        body(id=numbers, timed_out=st.just(True), chunk_limit=st.none()),
        body(id=numbers, timed_out=st.just(False), chunk_limit=numbers),
    ),
    Op.TUNNEL_ALLOW: body(id=numbers, space=numbers),
    Op.TUNNEL_TRANSFER: body(id=numbers, size=numbers, chunk=payloads),
    Op.TUNNEL_CLOSE: body(id=numbers, reason=texts),
}
FIELDS = {
    Op.CLOSE: "reason", Op.BROADCAST: "message", Op.REQUEST: "id request timeout", Op.REPLY: "id timed_out success result",
    Op.PUBLISH: "topic event", Op.TUNNEL_INIT: "build_id chunk_limit", Op.TUNNEL_CONFIRM: "id timed_out chunk_limit",
    Op.TUNNEL_ALLOW: "id space", Op.TUNNEL_TRANSFER: "id size chunk", Op.TUNNEL_CLOSE: "id reason",
}  # fmt: skip
node_packets = st.one_of(
    *(st.tuples(st.just(op), strategy) for op, strategy in NODE_BODIES.items())
)


def oracle(data: bytes, *, attached: bool = True) -> tuple[list[Packet], bool]:
    """What the schema reads: the packets, and whether what is left over breaks the rules.

    It has no memory: the first is checked here.
    """
    stream, start = BytesIO(data), 0
    packets: list[Packet] = []
    while start < len(data):
        if (data[start] <= Op.DENY) == attached:
            return packets, True
        try:
            packet = PROTOCOL.from_node.parse_stream(stream)
        except StreamError:
            return packets, False
        except ConstructError:
            return packets, True
        packets.append((int(packet.op), values(packet.body)))
        start, attached = stream.tell(), packet.op != Op.DENY
    return packets, False


def values(fields: Container) -> tuple[Any, ...]:
    return tuple(value for key, value in fields.items() if key not in ("_io", "magic"))


def read(pieces: list[bytes], *, attached: bool = True) -> tuple[list[Packet], bool]:
    """What the parser reads, and whether it rejects the rest."""
    parser, packets = Parser(Side.NODE, LIMITS, RELAY), []
    if attached:
        assert list(parser.feed(INIT)) == [(Op.INIT, (VERSION,))]
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


def check_against_oracle(data: bytes, rng: random.Random, *, attached: bool = True) -> None:
    want = oracle(data, attached=attached)
    assert read([data], attached=attached) == want
    assert read(cut(data, rng), attached=attached) == want


@given(st.lists(node_packets, max_size=6), rngs)
@settings(max_examples=150)
def test_any_packets_in_any_pieces_read_as_the_schema_reads_them(
    packets: list[tuple[Op, dict[str, Any]]], rng: random.Random
) -> None:
    data = b"".join(PROTOCOL.node(op, **fields) for op, fields in packets)
    want = [(int(op), tuple(fields[name] for name in FIELDS[op].split())) for op, fields in packets]
    assert oracle(data) == (want, False)
    assert read([data]) == (want, False)
    assert read(cut(data, rng)) == (want, False)


@given(st.lists(node_packets, min_size=1, max_size=3), rngs)
@settings(max_examples=400)
def test_damaged_packets_are_rejected_where_the_schema_rejects_them(
    packets: list[tuple[Op, dict[str, Any]]], rng: random.Random
) -> None:
    data = bytearray(b"".join(PROTOCOL.node(op, **fields) for op, fields in packets))
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(min(len(data), 60))] = rng.choice(
            [0, 1, 2, 0x7F, 0x80, 0xFF, rng.randrange(256)]
        )
    check_against_oracle(bytes(data), rng)


@given(st.binary(max_size=40), rngs)
@settings(max_examples=400)
def test_garbage_is_rejected_where_the_schema_rejects_it(data: bytes, rng: random.Random) -> None:
    check_against_oracle(data, rng)


@given(
    st.sampled_from([(Op.INIT, "version"), (Op.DENY, "reason")]),
    names,
    st.binary(max_size=4),
    st.integers(0, 60),
    rngs,
)
@settings(max_examples=300)
def test_the_first_packet_reads_as_the_schema_reads_it(
    kind: tuple[Op, str], text: str, noise: bytes, at: int, rng: random.Random
) -> None:
    damaged = bytearray(PROTOCOL.node(kind[0], **{kind[1]: text}))
    damaged[at : at + len(noise)] = noise
    check_against_oracle(bytes(damaged), rng, attached=False)


@pytest.mark.parametrize("op", NODE_BODIES)
def test_a_packet_may_be_cut_at_every_byte(op: Op) -> None:
    examples: dict[Op, dict[str, Any]] = {
        Op.CLOSE: {"reason": "grüße"},
        Op.BROADCAST: {"message": b"m" * 9},
        Op.REQUEST: {"id": 300, "request": b"", "timeout": MAX_VARINT},
        Op.REPLY: {"id": 1 << 40, "timed_out": False, "success": False, "result": "warum"},
        Op.PUBLISH: {"topic": "", "event": b"e" * 200},
        Op.TUNNEL_INIT: {"build_id": 127, "chunk_limit": 65_536},
        Op.TUNNEL_CONFIRM: {"id": 128, "timed_out": False, "chunk_limit": 1},
        Op.TUNNEL_ALLOW: {"id": 0, "space": 1 << 20},
        Op.TUNNEL_TRANSFER: {"id": 5, "size": 127, "chunk": b"c" * 130},
        Op.TUNNEL_CLOSE: {"id": 5, "reason": ""},
    }
    fields = examples[op]
    data, want = PROTOCOL.node(op, **fields), (int(op), tuple(fields.values()))
    for i in range(len(data) + 1):
        assert read([data[:i], data[i:] + data]) == ([want, want], False)
    assert read([data[i : i + 1] for i in range(len(data))]) == ([want], False)


@given(st.data())
@settings(max_examples=300)
def test_what_an_application_writes_is_what_the_schema_writes(data: st.DataObject) -> None:
    number, other, payload = data.draw(numbers), data.draw(numbers), data.draw(payloads)
    text, name = data.draw(names), data.draw(st.text(min_size=1, max_size=60))
    pairs: dict[Any, tuple[Op, dict[str, Any]]] = {
        codec.broadcast(name, payload): (Op.BROADCAST, {"cluster": name, "message": payload}),
        codec.request(number, name, payload, varint(other)): (
            Op.REQUEST,
            {"id": number, "cluster": name, "request": payload, "timeout": other},
        ),
        codec.reply(number, payload): (
            Op.REPLY,
            {"id": number, "success": True, "result": payload},
        ),
        codec.publish(name, payload): (Op.PUBLISH, {"topic": name, "event": payload}),
        (codec.fault(number, text),): (Op.REPLY, {"id": number, "success": False, "result": text}),
        (codec.subscribe(name),): (Op.SUBSCRIBE, {"topic": name}),
        (codec.unsubscribe(name),): (Op.UNSUBSCRIBE, {"topic": name}),
        (codec.tunnel_init(number, name, varint(other)),): (
            Op.TUNNEL_INIT,
            {"id": number, "cluster": name, "timeout": other},
        ),
        (codec.tunnel_confirm(number, other),): (
            Op.TUNNEL_CONFIRM,
            {"build_id": number, "id": other},
        ),
        (codec.tunnel_allow(number, other),): (Op.TUNNEL_ALLOW, {"id": number, "space": other}),
        (codec.tunnel_transfer(number, other, len(payload)), payload): (
            Op.TUNNEL_TRANSFER,
            {"id": number, "size": other, "chunk": payload},
        ),
        (codec.tunnel_close(number),): (Op.TUNNEL_CLOSE, {"id": number}),
        (codec.init(name),): (Op.INIT, {"version": VERSION, "cluster": name}),
        (codec.CLOSE,): (Op.CLOSE, {}),
    }
    for written, (op, fields) in pairs.items():
        assert b"".join(written) == PROTOCOL.client(op, **fields)
