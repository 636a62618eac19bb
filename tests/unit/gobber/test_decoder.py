"""What a Decoder takes, skips and refuses."""

import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from iris.gobber import Decoder, Encoder, GobError, encode_uint
from iris.gobber.definitions import CommonType, WireType
from iris.gobber.framing import encode_int
from iris.gobber.types import (
    BIG_INT,
    BOOL,
    BYTES,
    FLOAT,
    INT,
    INTERFACE,
    STRING,
    UINT,
    GobType,
    MapOf,
    PointerTo,
    SliceOf,
    StructOf,
    declare,
    gob,
    struct,
)
from tests.support.gob_messages import (
    a_map,
    a_slice,
    a_struct,
    an_array,
    define,
    definition,
    opaque,
    sized,
    value,
)


@struct("empty", registered="*test.empty")
@dataclass(slots=True)
class Empty:
    pass


@struct("point", registered="*test.point")
@dataclass(slots=True)
class Point:
    x: int = gob("X", INT)
    y: int = gob("Y", UINT)


@struct("all", registered="*test.all")
@dataclass(slots=True)
class All:
    flag: bool = gob("Flag", BOOL)
    real: float = gob("Real", FLOAT)
    text: str = gob("Text", STRING)
    data: bytes = gob("Data", BYTES)
    big: int | None = gob("Big", BIG_INT)
    points: list[Point] = gob("Points", SliceOf(PointerTo(Point)))
    table: dict[str, list[int]] | None = gob("Table", MapOf(STRING, SliceOf(INT)))
    point: Point | None = gob("Point", PointerTo(Point))
    inside: Point = gob("Inside", StructOf(Point))
    any: object = gob("Any", INTERFACE)


@struct("wrap", registered="*test.wrap")
@dataclass(slots=True)
class Wrap:
    any: object = gob("Any", INTERFACE)
    tail: int = gob("Tail", INT)


@struct("empties")
@dataclass(slots=True)
class Empties:
    items: list[Empty] = gob("Items", SliceOf(PointerTo(Empty)))
    things: list[object] = gob("Things", SliceOf(INTERFACE))


def decoder(**limits: int) -> Decoder:
    return Decoder(**{"max_size": 4_096, **limits})


def read(stream: bytes, kind: Any, **limits: int) -> Any:
    return decoder(**limits).decode(stream, kind)


def refused(stream: bytes, kind: Any, **limits: int) -> None:
    with pytest.raises(GobError):
        read(stream, kind, **limits)


@contextmanager
def cheap() -> Iterator[None]:
    """Less than a second and 20 MB."""
    started = time.process_time()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 1


POINT = define(65, a_struct(("X", INT.id), ("Y", UINT.id)))


def test_fields_are_matched_by_name() -> None:
    stream = define(80, a_struct(("Y", UINT.id), ("X", INT.id))) + value(
        80, b"\x01\x07\x01\x03\x00"
    )
    assert read(stream, Point) == Point(-2, 7)


def test_missing_fields_stay_zero() -> None:
    assert read(define(65, a_struct(("X", INT.id))) + value(65, b"\x01\x04\x00"), Point) == Point(
        2, 0
    )
    assert read(POINT + value(65, b"\x00"), Point) == Point(0, 0)
    assert read(define(65, a_struct(("Flag", BOOL.id))) + value(65, b"\x01\x01\x00"), All) == All(
        flag=True
    )


def test_zero_values_are_not_shared() -> None:
    incoming = decoder()
    stream = define(65, a_struct(("Flag", BOOL.id)))
    one, other = (
        incoming.decode(stream + value(65, b"\x00"), All),
        incoming.decode(value(65, b"\x00"), All),
    )
    one.inside.x = 1
    one.points.append(one.inside)
    assert other == All()


SKIPPED: list[tuple[str, list[bytes], int, bytes]] = [
    ("bool", [], BOOL.id, b"\x01"),
    ("float", [], FLOAT.id, b"\xfe\xf0\x3f"),
    ("bytes", [], BYTES.id, b"\x02ab"),
    ("string", [], STRING.id, b"\x02ab"),
    ("complex", [], 7, b"\xfe\xf0\x3f\x00"),
    ("nil interface", [], INTERFACE.id, b"\x00"),
    ("array", [define(70, an_array(INT.id, 3))], 70, b"\x03\x02\x04\x06"),
    (
        "slice of slices",
        [define(70, a_slice(71)), define(71, a_slice(STRING.id))],
        70,
        b"\x02\x01\x01a\x00",
    ),
    (
        "map",
        [define(70, a_map(STRING.id, 71)), define(71, a_slice(INT.id))],
        70,
        b"\x02\x01a\x01\x02\x01b\x00",
    ),
    ("struct", [define(70, a_struct(("A", INT.id), ("B", STRING.id)))], 70, b"\x02\x01b\x00"),
    ("empty structs", [define(70, a_slice(71)), define(71, a_struct())], 70, b"\x03\x00\x00\x00"),
    ("gob encoder", [define(70, opaque("gob_encoder"))], 70, b"\x03abc"),
    ("binary marshaler", [define(70, opaque("binary_marshaler"))], 70, b"\x03abc"),
    ("text marshaler", [define(70, opaque("text_marshaler"))], 70, b"\x03abc"),
    (
        "interface of a basic type",
        [],
        INTERFACE.id,
        b"\x03int" + encode_int(INT.id) + b"\x02\x00\x04",
    ),
    (
        "interface of a struct",
        [define(70, a_struct(("A", INT.id)))],
        INTERFACE.id,
        b"\x01T" + encode_int(70) + b"\x03\x01\x04\x00",
    ),
    (
        "recursive list",
        [define(70, a_struct(("Next", 70), ("Value", INT.id)))],
        70,
        b"\x01\x01\x02\x02\x00\x01\x02\x00\x00",
    ),
]


@pytest.mark.parametrize(
    ("definitions", "number", "data"),
    [case[1:] for case in SKIPPED],
    ids=[case[0] for case in SKIPPED],
)
def test_unknown_fields_of_any_type_are_skipped(
    definitions: list[bytes], number: int, data: bytes
) -> None:
    head = define(
        65, a_struct(("Odd", number), ("X", INT.id), ("More", number), ("Even", INT.id))
    ) + b"".join(definitions)
    body = b"\x01" + data + b"\x01\x04\x01" + data + b"\x01\x02\x00"
    assert read(head + value(65, body), Point) == Point(2, 0)
    for size in range(len(body)):
        refused(head + value(65, body[:size]), Point)
    assert read(head + value(65, b"\x02\x06\x00"), Point) == Point(3, 0)


def test_definitions_inside_a_skipped_interface_are_kept() -> None:
    message = encode_int(65) + b"\x01\x01T" + definition(70, a_struct(("A", INT.id)))
    rest = encode_int(70) + b"\x03\x01\x04\x00" + b"\x01\x06\x00"
    incoming = decoder()
    stream = (
        define(65, a_struct(("Odd", INTERFACE.id), ("X", INT.id))) + sized(message) + sized(rest)
    )
    assert incoming.decode(stream, Point) == Point(3, 0)
    assert incoming.decode(
        value(65, b"\x01\x01T" + encode_int(70) + b"\x03\x01\x04\x00" + b"\x01\x06\x00"), Point
    ) == Point(3, 0)


def test_skipping_recursive_types_does_not_recurse() -> None:
    depth = 100_000
    head = define(65, a_struct(("Odd", 70), ("X", INT.id))) + define(70, a_struct(("Next", 70)))
    body = b"\x01" * (depth + 1) + b"\x00" * (depth + 1) + b"\x01\x04\x00"
    assert read(head + value(65, body), Point, max_size=1 << 20) == Point(2, 0)


def test_skipping_costs_no_more_than_the_bytes_there() -> None:
    wide = define(71, a_struct(*((f"F{at}", INT.id) for at in range(1_500))))
    head = define(65, a_struct(("Odd", 70), ("X", INT.id))) + define(70, a_slice(71)) + wide
    with cheap():
        assert (
            read(
                head + value(65, b"\x01" + encode_uint(20_000) + bytes(20_000) + b"\x00"),
                Point,
                max_size=1 << 17,
            )
            == Point()
        )


@pytest.mark.parametrize("count", [1 << 16, 1 << 31, 1 << 60, (1 << 64) - 1])
def test_counts_beyond_the_data_cost_nothing(count: int) -> None:
    announced = encode_uint(count)
    with cheap():
        for number, wire in (
            (70, a_slice(71)),
            (70, a_map(71, 71)),
            (70, an_array(71, count if count < 1 << 63 else -1)),
        ):
            head = (
                define(65, a_struct(("Odd", 70), ("X", INT.id)))
                + define(number, wire)
                + define(71, a_struct())
            )
            refused(head + value(65, b"\x01" + announced + bytes(50)), Point)
        head = (
            define(65, a_struct(("Items", 70), ("Things", 72)))
            + define(70, a_slice(71))
            + define(71, a_struct())
        )
        head += define(72, a_slice(INTERFACE.id))
        refused(head + value(65, b"\x01" + announced + bytes(50)), Empties)
        refused(head + value(65, b"\x02" + announced + bytes(50)), Empties)
        for kind in (BYTES, STRING):
            refused(value(kind.id, b"\x00" + announced + bytes(50)), kind)
        refused(
            define(65, a_slice(INT.id)) + value(65, b"\x00" + announced + bytes(50)), SliceOf(INT)
        )
        refused(
            define(65, a_map(INT.id, INT.id)) + value(65, b"\x00" + announced + bytes(50)),
            MapOf(INT, INT),
        )
        refused(encode_uint(count) + bytes(50), Point)


def test_a_size_is_refused_before_its_bytes_are_there() -> None:
    incoming = decoder(max_size=1_000)
    incoming.feed(encode_uint(997))  # and 3 bytes of its own
    assert incoming.next(Point) is None
    incoming = decoder(max_size=1_000)
    incoming.feed(encode_uint(998))
    with pytest.raises(GobError):
        incoming.next(Point)


def test_the_limit_counts_all_messages_of_a_value() -> None:
    def drip(incoming: Decoder) -> object:
        for byte in stream:
            incoming.feed(bytes((byte,)))
            if (came := incoming.next(Wrap)) is not None:
                return came
        return None

    stream = Encoder().encode(Wrap(Point(1, 1)))
    assert (
        read(stream, Wrap, max_size=len(stream))
        == drip(decoder(max_size=len(stream)))
        == Wrap(Point(1, 1))
    )
    refused(stream, Wrap, max_size=len(stream) - 1)
    with pytest.raises(GobError):
        drip(decoder(max_size=len(stream) - 1))


def test_definitions_are_counted() -> None:
    stream = (
        b"".join(define(number, a_slice(INT.id)) for number in range(66, 70))
        + POINT
        + value(65, b"\x00")
    )
    assert read(stream, Point, max_types=5) == Point()
    refused(stream, Point, max_types=4)


def test_definitions_of_a_stream_have_a_size_limit() -> None:
    wide = [
        define(number, a_struct(*((f"F{at}", INT.id) for at in range(90))))
        for number in range(70, 90)
    ]
    incoming = Decoder(max_size=1 << 20, max_types=22)
    assert incoming.decode(b"".join(wide[:10]) + POINT + value(65, b"\x00"), Point) == Point()
    with pytest.raises(GobError):
        incoming.decode(b"".join(wide[10:]) + value(65, b"\x00"), Point)


BAD_DEFINITIONS = {
    "twice": POINT + POINT,
    "basic type": define(INT.id, a_slice(INT.id)) + POINT,
    "reserved number": define(63, a_slice(INT.id)) + POINT,
    "number of more than 31 bits": define(1 << 31, a_slice(INT.id)) + POINT,
    "no kind": define(70, WireType()) + POINT,
    "two kinds": define(70, WireType(slice=a_slice(INT.id).slice, map=a_map(INT.id, INT.id).map))
    + POINT,
    "bytes behind": sized(definition(70, a_slice(INT.id)) + b"\x00") + POINT,
    "cut short": sized(definition(70, a_slice(INT.id))[:-1]) + POINT,
    "field without a name": define(65, a_struct(("", INT.id))),
    "field twice": define(65, a_struct(("X", INT.id), ("X", INT.id))),
}


@pytest.mark.parametrize("definitions", BAD_DEFINITIONS.values(), ids=BAD_DEFINITIONS.keys())
def test_bad_definitions_are_refused(definitions: bytes) -> None:
    refused(definitions + value(65, b"\x00"), Point)


MISMATCHES: list[tuple[list[bytes], Any]] = [
    ([define(65, a_struct(("X", UINT.id)))], Point),
    ([define(65, a_struct(("X", STRING.id)))], Point),
    ([define(65, a_struct(("X", 70)))], Point),
    ([define(65, a_struct(("Z", INT.id)))], Point),
    ([define(65, a_slice(INT.id))], Point),
    ([], Point),
    ([define(65, a_struct(("Big", INT.id)))], All),
    ([define(65, a_struct(("Big", 70))), define(70, a_slice(INT.id))], All),
    ([define(65, a_struct(("Points", 70))), define(70, a_slice(INT.id))], All),
    ([define(65, a_struct(("Points", 70))), define(70, a_map(INT.id, INT.id))], All),
    (
        [
            define(65, a_struct(("Table", 70))),
            define(70, a_map(INT.id, 71)),
            define(71, a_slice(INT.id)),
        ],
        All,
    ),
    ([define(65, a_struct(("Table", 70))), define(70, a_map(STRING.id, INT.id))], All),
    ([define(65, a_struct(("Point", INT.id)))], All),
    ([define(65, a_struct(("Any", 70))), define(70, a_struct(("X", INT.id)))], All),
    ([define(65, a_struct(("Data", STRING.id)))], All),
    ([define(65, a_slice(INT.id))], SliceOf(UINT)),
    ([POINT], BYTES),
]


@pytest.mark.parametrize(("definitions", "kind"), MISMATCHES)
def test_incompatible_types_are_refused(definitions: list[bytes], kind: Any) -> None:
    refused(b"".join(definitions) + value(65, b"\x00\x00"), kind)
    refused(b"".join(definitions) + value(65, b"\x00"), kind)


def test_an_undefined_type_of_a_skipped_field_is_refused_when_it_comes() -> None:
    head = define(65, a_struct(("Odd", 99), ("X", INT.id)))
    assert read(head + value(65, b"\x02\x04\x00"), Point) == Point(2, 0)
    refused(head + value(65, b"\x01\x00\x00"), Point)


BAD_VALUES = {
    "nothing": b"",
    "bytes behind": POINT + value(65, b"\x00") + b"\x00",
    "bytes behind in the message": POINT + value(65, b"\x00\x00"),
    "no end": POINT + value(65, b"\x01\x02"),
    "only definitions": POINT,
    "field number too high": POINT + value(65, b"\x03\x02\x00"),
    "field number of 64 bits": POINT + value(65, b"\xf8" + b"\xff" * 8 + b"\x00"),
    "field number going back": POINT + value(65, b"\x02\x02\xf8" + b"\xff" * 8 + b"\x02\x00"),
    "integer longer than necessary": POINT + value(65, b"\x01\xff\x02\x00"),
    "wide integer longer than necessary": POINT + value(65, b"\x01\xfe\x00\xff\x00"),
    "integer of nine bytes": POINT + value(65, b"\x01\xf7" + b"\x01" * 9 + b"\x00"),
    "message size longer than necessary": POINT + b"\xff\x03" + value(65, b"\x00")[1:],
    "type id longer than necessary": sized(encode_int(5)[:0] + b"\xff\x0a\x00\x00"),
    "other type": define(70, a_struct(("X", INT.id))) + value(65, b"\x00"),
    "type 0": value(0, b"\x00"),
}


@pytest.mark.parametrize("stream", BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_bad_values_are_refused(stream: bytes) -> None:
    refused(stream, Point)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x00", 0),
        (b"\x01\x02", 0),
        (b"\x02\x02\x05", 5),
        (b"\x02\x03\x05", -5),
        (b"\x06\x02\xff\xff\xff\xff\xff", (1 << 40) - 1),
    ],
)
def test_big_integers(data: bytes, expected: int) -> None:
    assert read(define(65, opaque("gob_encoder")) + value(65, b"\x00" + data), BIG_INT) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"\x01\x03",
        b"\x02\x04\x05",
        b"\x02\x00\x05",
        b"\x02\x02\x00",
        b"\x03\x02\x00\x05",
        b"\x03\x02\x05",
        b"\x01",
    ],
)
def test_bad_big_integers_are_refused(data: bytes) -> None:
    refused(define(65, opaque("gob_encoder")) + value(65, b"\x00" + data), BIG_INT)


def test_a_value_that_is_no_struct_has_a_zero_in_front() -> None:
    assert read(value(INT.id, b"\x00\x06"), INT) == 3
    refused(value(INT.id, b"\x01\x06"), INT)


def test_strings_keep_bytes_that_are_no_text() -> None:
    text = read(value(STRING.id, b"\x00\x04a\xff\xc3\x28"), STRING)
    assert Encoder().encode(text, STRING) == value(STRING.id, b"\x00\x04a\xff\xc3\x28")


def interface(
    number: int, body: bytes, *, name: bytes = b"*test.point", size: int | None = None
) -> bytes:
    return (
        sized(name) + encode_int(number) + encode_uint(len(body) if size is None else size) + body
    )


WRAP = define(66, a_struct(("Any", INTERFACE.id), ("Tail", INT.id))) + POINT


def test_interfaces_hold_registered_structs() -> None:
    incoming = decoder()
    stream = WRAP
    for _ in range(2):  # the second time by what is known
        assert incoming.decode(
            stream + value(66, b"\x01" + interface(65, b"\x01\x02\x00") + b"\x01\x04\x00"), Wrap
        ) == Wrap(Point(1, 0), 2)
        stream = b""
    assert incoming.decode(value(66, b"\x01\x00\x01\x04\x00"), Wrap) == Wrap(None, 2)


BAD_INTERFACES = {
    "not registered": interface(65, b"\x00", name=b"*test.nobody"),
    "name cut short": b"\x7f*test.point",
    "undefined type": interface(99, b"\x00"),
    "basic type": interface(INT.id, b"\x00\x02"),
    "size too small": interface(65, b"\x01\x02\x00", size=2),
    "size too big": interface(65, b"\x01\x02\x00", size=4),
    "size of 64 bits": interface(65, b"\x01\x02\x00", size=(1 << 64) - 1),
    "other kind of struct": interface(66, b"\x00"),
}


@pytest.mark.parametrize("content", BAD_INTERFACES.values(), ids=BAD_INTERFACES.keys())
def test_bad_interfaces_are_refused(content: bytes) -> None:
    refused(WRAP + value(66, b"\x01" + content + b"\x00"), Wrap)
    incoming = decoder()
    incoming.decode(WRAP + value(66, b"\x01" + interface(65, b"\x00") + b"\x00"), Wrap)
    with pytest.raises(GobError):
        incoming.decode(value(66, b"\x01" + content + b"\x00"), Wrap)


def test_sizes_of_pieces_must_be_right() -> None:
    # a value whose type is new, inside of another one: Wrap{Wrap{Point}}
    stream = Encoder().encode(Wrap(Wrap(Point(1, 2), 3), 4))
    assert read(stream, Wrap) == Wrap(Wrap(Point(1, 2), 3), 4)
    outcomes = set[object]()
    for at in range(len(stream)):
        for by in (1, 255):
            spoilt = stream[:at] + bytes(((stream[at] + by) % 256,)) + stream[at + 1 :]
            try:
                outcomes.add(repr(read(spoilt, Wrap)))
            except GobError:
                outcomes.add(GobError)
    assert GobError in outcomes


def test_interfaces_in_interfaces_have_a_depth_limit() -> None:
    def nested(depth: int) -> Wrap:
        wrap = Wrap(tail=1)
        for _ in range(depth):
            wrap = Wrap(wrap)
        return wrap

    assert read(Encoder().encode(nested(64)), Wrap) == nested(64)
    refused(Encoder().encode(nested(65)), Wrap)
    outgoing, incoming = Encoder(), decoder(max_depth=3)
    assert incoming.decode(outgoing.encode(nested(3)), Wrap) == nested(3)
    with pytest.raises(GobError):
        incoming.decode(outgoing.encode(nested(4)), Wrap)


def test_nothing_but_whole_values_is_consumed() -> None:
    incoming = decoder()
    stream = POINT + value(65, b"\x01\x02\x00")
    incoming.feed(stream + stream[-3:])
    assert incoming.next(Point) == Point(1, 0)
    assert incoming.take_rest() == stream[-3:]
    assert incoming.next(Point) is None


def test_a_value_in_many_messages_is_read_when_the_last_byte_is_there() -> None:
    stream = Encoder().encode(All(any=Wrap(Point(5, 6), 7), points=[Point(1, 1)], table={"a": [1]}))
    incoming = decoder()
    for byte in stream[:-1]:
        incoming.feed(bytes((byte,)))
        assert incoming.next(All) is None
    incoming.feed(stream[-1:])
    assert incoming.next(All) == All(
        any=Wrap(Point(5, 6), 7), points=[Point(1, 1)], table={"a": [1]}
    )


def test_buffers_of_any_kind_are_taken() -> None:
    stream = POINT + value(65, b"\x01\x02\x00")
    for data in (stream, bytearray(stream), memoryview(stream)):
        assert decoder().decode(data, Point) == Point(1, 0)


def test_a_struct_may_be_named_by_its_type() -> None:
    kinds: list[GobType] = [PointerTo(Point), StructOf(Point)]
    for kind in kinds:
        assert read(POINT + value(65, b"\x01\x02\x00"), kind) == Point(1, 0)


def test_names_in_definitions_do_not_matter() -> None:
    wire = a_struct(("X", INT.id), ("Y", UINT.id))
    assert wire.struct is not None
    wire.struct.common = CommonType("another", 7)
    assert read(define(65, wire) + value(65, b"\x01\x02\x00"), Point) == Point(1, 0)


class Wide:
    """A struct whose last field is more than 127 behind its first."""


WIDE = {f"f{number}": (f"F{number}", UINT) for number in range(1, 131)}
declare(Wide, "wide", None, **WIDE)


def test_a_field_far_behind_the_one_before_it_is_read() -> None:
    sent = Wide()
    sent.__dict__.update(dict.fromkeys(WIDE, 0) | {"f1": 1, "f130": 300})
    data = Encoder().encode(sent)
    assert Decoder(max_size=1 << 16, max_types=200).decode(data, Wide).__dict__ == sent.__dict__
