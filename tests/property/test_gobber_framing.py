"""Gob integers and messages: the fast code and the schemas accept and reject the same."""

import io
from typing import Any

from construct import ConstructError, StreamError
from hypothesis import given
from hypothesis import strategies as st

from iris.gobber import Decoder, Encoder, GobError, bytes_prefix, encode_uint, peek_bytes, peek_uint
from iris.gobber.framing import (
    BYTES_MESSAGE,
    MESSAGE,
    GobInt,
    GobUint,
    encode_int,
    read_int,
    read_uint,
)
from iris.gobber.types import BYTES, INT, UINT
from iris.proto.wire.clusters import Header

MAX_SIZE = 2_000

uints = st.one_of(
    st.integers(0, 300), st.integers(0, (1 << 64) - 1), st.integers(0, 63).map(lambda bit: 1 << bit)
)
ints = st.one_of(st.integers(-200, 200), st.integers(-(1 << 63), (1 << 63) - 1))


@st.composite
def scrambled(draw: st.DrawFn) -> bytes:
    """Parts of messages in odd places, with sizes that are right, nearly right or wrong."""
    body = draw(
        st.one_of(
            st.binary(max_size=6),
            st.binary(max_size=140).map(lambda data: b"\x0a\x00" + encode_uint(len(data)) + data),
            st.tuples(ints, st.binary(max_size=6)).map(lambda both: encode_int(both[0]) + both[1]),
            st.tuples(uints, st.binary(max_size=3)).map(
                lambda both: b"\x0a\x00" + encode_uint(both[0]) + both[1]
            ),
            st.just(b"\x0a\x00\xff\x05hello"),
            st.just(b"\xff\x0a\x00\x00"),
        )
    )
    size = draw(
        st.one_of(
            st.just(len(body)), st.integers(-1, 1).map(lambda by: max(0, len(body) + by)), uints
        )
    )
    prefix = draw(
        st.sampled_from(
            (
                encode_uint(size),
                b"\xff" + bytes((size % 256,)),
                b"\xfe" + (size % 65_536).to_bytes(2),
                b"",
            )
        )
    )
    return bytes(prefix + body)


def by_schema(schema: Any, data: bytes) -> tuple[Any, int] | type[Exception] | None:
    """(value, width), None when it ends too early, or GobError."""
    stream = io.BytesIO(data)
    try:
        return schema.parse_stream(stream), stream.tell()
    except StreamError:
        return None
    except ConstructError:
        return GobError


def by_code(read: Any, *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except GobError:
        return GobError


@given(uints)
def test_unsigned_integers_are_the_schemas(value: int) -> None:
    data = encode_uint(value)
    assert data == GobUint.build(value)
    assert (
        read_uint(data + b"x", 0)
        == peek_uint(b"y" + data, 1)
        == (value, len(data))
        == by_schema(GobUint, data + b"x")
    )


@given(ints)
def test_signed_integers_are_the_schemas(value: int) -> None:
    data = encode_int(value)
    assert data == GobInt.build(value)
    assert read_int(data, 0) == (value, len(data)) == by_schema(GobInt, data)


@given(
    st.one_of(
        st.binary(max_size=10),
        st.tuples(st.integers(0x70, 0xFF), st.binary(max_size=9)).map(
            lambda both: bytes((both[0],)) + both[1]
        ),
    )
)
def test_integers_are_rejected_as_the_schema_rejects_them(data: bytes) -> None:
    expected = by_schema(GobUint, data)
    assert by_code(peek_uint, data) == expected
    if expected is not None:
        assert by_code(read_uint, data, 0) == expected
    # the code generated for values of these types
    for kind, schema in ((UINT, GobUint), (INT, GobInt)):
        message = MESSAGE.build({"type_id": kind.id, "body": b"\0" + data})
        value = by_schema(schema, data)
        whole = value[0] if isinstance(value, tuple) and value[1] == len(data) else GobError
        assert by_code(Decoder(max_size=100).decode, message, kind) == whole


@given(st.binary(max_size=400))
def test_byte_messages_are_the_schemas(data: bytes) -> None:
    message = Encoder().encode(data, BYTES)
    assert message == BYTES_MESSAGE.build(data) == bytes_prefix(len(data)) + data
    assert message == MESSAGE.build(
        {"type_id": BYTES.id, "body": b"\0" + encode_uint(len(data)) + data}
    )
    assert peek_bytes(b"x" + message, 1, max_size=400) == (
        len(message) + 1 - len(data),
        len(message) + 1,
    )


@given(scrambled())
def test_byte_messages_are_rejected_as_the_schema_rejects_them(data: bytes) -> None:
    prefix = by_code(peek_uint, data)
    place = by_code(lambda: peek_bytes(data, max_size=MAX_SIZE))
    if prefix is None or prefix is GobError or sum(prefix) > len(data):  # no whole message
        assert (
            by_schema(BYTES_MESSAGE, data) is prefix
            if prefix is GobError
            else by_schema(BYTES_MESSAGE, data) is None
        )
        assert place in (None, GobError) or place[1] > len(data)
        return
    message = data[: sum(prefix)]
    value = by_schema(BYTES_MESSAGE, message)
    decoded = by_code(Decoder(max_size=MAX_SIZE).decode, message, BYTES)
    if isinstance(value, tuple):
        assert place == (len(message) - len(value[0]), len(message))
        assert decoded == value[0] == message[place[0] : place[1]]
    else:
        assert place is decoded is GobError


@given(scrambled(), st.integers(0, 200))
def test_a_byte_message_in_two_parts_is_the_same(data: bytes, cut: int) -> None:
    def read(parts: list[bytes]) -> Any:
        decoder = Decoder(max_size=MAX_SIZE)
        for part in parts:
            decoder.feed(part)
            value = by_code(decoder.next, BYTES)
            if value is not None:
                return value
        return None

    assert read([data]) == read([data[:cut], data[cut:]])


@given(
    st.integers(0, 255), st.integers(0, (1 << 64) - 1), st.lists(st.text(max_size=20), max_size=3)
)
def test_a_stream_is_a_sequence_of_schema_messages(
    op: int, number: int, addresses: list[str]
) -> None:
    stream = Encoder().encode(Header(op=op, src=number, tun_addrs=addresses))
    messages = MESSAGE[3].parse(stream)
    assert MESSAGE[3].build(messages) == stream
    assert [message.type_id for message in messages] == [-65, -66, 65]
