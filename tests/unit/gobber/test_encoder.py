"""What an Encoder writes, and what it refuses."""

import tracemalloc
from dataclasses import dataclass

import pytest

from iris.errors import StateError
from iris.gobber import Datagrams, Decoder, Encoder, GobError, encode_uint
from iris.gobber.framing import encode_int
from iris.gobber.types import (
    BIG_INT,
    BYTES,
    INT,
    INTERFACE,
    STRING,
    UINT,
    GobType,
    MapOf,
    PointerTo,
    SliceOf,
    StructOf,
    gob,
    struct,
)


@struct("leaf", registered="*encoder.leaf")
@dataclass(slots=True)
class Leaf:
    number: int = gob("Number", UINT)
    text: str = gob("Text", STRING)


@struct("other", registered="*encoder.other")
@dataclass(slots=True)
class Other:
    leaf: Leaf | None = gob("Leaf", PointerTo(Leaf))


@struct("unregistered")
@dataclass(slots=True)
class Unregistered:
    number: int = gob("Number", INT)


@struct("tree", registered="*encoder.tree")
@dataclass(slots=True)
class Tree:
    first: object = gob("First", INTERFACE)
    second: object = gob("Second", INTERFACE)
    table: dict[str, int] | None = gob("Table", MapOf(STRING, INT))
    inside: Leaf = gob("Inside", StructOf(Leaf))


def test_zero_fields_are_left_out() -> None:
    encoder = Encoder()
    encoder.encode(Leaf(1, "a"))
    assert encoder.encode(Leaf()) == bytes.fromhex("03ff8200")


def test_an_empty_map_is_sent_and_a_missing_one_is_not() -> None:
    encoder, decoder = Encoder(), Decoder(max_size=1_000)
    for table in (None, {}, {"a": 1}):
        assert decoder.decode(encoder.encode(Tree(table=table)), Tree).table == table


def test_a_struct_by_value_is_always_sent() -> None:
    encoder = Encoder()
    encoder.encode(Tree())
    assert encoder.encode(Tree()) == bytes.fromhex("05ff82040000")


def test_a_definition_goes_out_once() -> None:
    encoder = Encoder()
    first, second = encoder.encode(Tree(first=Leaf(1))), encoder.encode(Tree(first=Leaf(1)))
    assert b"Number" in first
    assert b"Number" not in second
    assert second in first + second
    assert b"Number" not in encoder.encode(Leaf(1))


def test_definitions_inside_an_interface_stand_before_its_value() -> None:
    stream = Encoder().encode(Tree(first=Other(Leaf(3)), second=Leaf(4)))
    assert (
        stream.index(b"*encoder.other")
        < stream.index(b"other\x01")
        < stream.index(b"*encoder.leaf")
    )
    assert Decoder(max_size=1_000).decode(stream, Tree) == Tree(
        first=Other(Leaf(3)), second=Leaf(4)
    )


def test_a_type_is_numbered_before_its_fields_and_after_its_elements() -> None:
    @struct("numbered")
    @dataclass(slots=True)
    class Numbered:
        tables: list[dict[str, list[int]]] = gob("Tables", SliceOf(MapOf(STRING, SliceOf(INT))))
        leaf: Leaf | None = gob("Leaf", PointerTo(Leaf))

    stream = Encoder().encode(Numbered())
    decoder = Decoder(max_size=1_000)
    decoder.decode(stream, Numbered)
    kinds = {
        number: [part.__class__.__name__ for part in wire.parts()]
        for number, wire in decoder.types.items()
    }
    assert kinds == {
        65: ["StructDef"],
        66: ["SliceDef"],
        67: ["MapDef"],
        68: ["SliceDef"],
        69: ["StructDef"],
    }
    definition = decoder.types[65].struct
    assert definition is not None
    assert [(field.name, field.id) for field in definition.fields] == [("Tables", 68), ("Leaf", 69)]
    assert list(decoder.types) == [65, 68, 67, 66, 69]


@pytest.mark.parametrize("value", [0, 1, -1, 127, -128, 1 << 200, -(1 << 200)])
def test_big_integers_come_back(value: int) -> None:
    assert Decoder(max_size=1_000).decode(Encoder().encode(value, BIG_INT), BIG_INT) == value


UNFIT: list[tuple[object, GobType | None]] = [
    (Leaf(-1), None),
    (Leaf(1 << 64), None),
    (Leaf("x"), None),  # type: ignore[arg-type]
    (Leaf(1, "\ud800"), None),
    (Leaf(1, b"x"), None),  # type: ignore[arg-type]
    (Unregistered(1 << 63), None),
    (Unregistered(-(1 << 63) - 1), None),
    (Tree(first=Unregistered(1)), None),
    (Tree(first="text"), None),
    (object(), None),
    (None, PointerTo(Leaf)),
    ([None], SliceOf(PointerTo(Leaf))),
    (5, BYTES),
]


@pytest.mark.parametrize(("value", "type_"), UNFIT)
def test_what_was_not_declared_so_is_our_own_fault(value: object, type_: GobType | None) -> None:
    with pytest.raises(StateError):
        Encoder().encode(value, type_)


def test_nothing_counts_as_sent_when_a_value_does_not_fit() -> None:
    encoder = Encoder()
    encoder.encode(Leaf(1))
    for _ in range(2):
        with pytest.raises(StateError):
            encoder.encode(Tree(first=Other(), second=Leaf(-1)))
    fresh = Encoder()
    fresh.encode(Leaf(1))
    assert encoder.encode(Tree(first=Other(), second=Leaf(1))) == fresh.encode(
        Tree(first=Other(), second=Leaf(1))
    )


def test_great_numbers_are_not_kept_beyond_their_value() -> None:
    encoder = Encoder()
    tracemalloc.start()
    try:
        for number in range(20):
            encoder.encode((1 << 800_000) + number, BIG_INT)
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_unsigned_integers_have_64_bits(value: int) -> None:
    with pytest.raises(StateError):
        encode_uint(value)


@pytest.mark.parametrize(
    "value", [-(1 << 63) - 1, 1 << 63, -(1 << 64), 1 << 64, -(1 << 100), 1 << 100]
)
def test_signed_integers_have_64_bits(value: int) -> None:
    with pytest.raises(StateError):
        encode_int(value)


def test_datagrams_hold_no_definitions() -> None:
    datagrams = Datagrams(Leaf)
    assert datagrams.encode(Leaf(5, "a")) == bytes.fromhex("08ff8201050101" + "6100")
    assert datagrams.decode(bytes.fromhex("08ff8201050101" + "6100")) == Leaf(5, "a")


BAD_DATAGRAMS = {
    "nothing": "",
    "empty message": "00",
    "no end": "04ff820105",
    "size too small": "04ff82010500",
    "size too big": "06ff82010500",
    "bytes behind": "05ff8201050000",
    "bytes behind in the message": "06ff8201050000",
    "basic type": "030a0000",
    "type 63": "037e0000",
    "definition": "05ff81010500",
    "field number too high": "05ff82030500",
    "integer longer than necessary": "06ff8201ff0500",
}


@pytest.mark.parametrize("datagram", BAD_DATAGRAMS.values(), ids=BAD_DATAGRAMS.keys())
def test_bad_datagrams_are_refused(datagram: str) -> None:
    assert Datagrams(Leaf).decode(bytes.fromhex("05ff82010500")) == Leaf(5)
    with pytest.raises(GobError):
        Datagrams(Leaf).decode(bytes.fromhex(datagram))


def test_a_definition_in_a_datagram_is_refused() -> None:
    with pytest.raises(GobError):
        Datagrams(Leaf).decode(Datagrams(Leaf).definitions)


def test_datagrams_have_no_interfaces() -> None:
    with pytest.raises(StateError):
        Datagrams(Tree)
