"""Gob messages put together by hand, to say what no encoder of ours would."""

from iris.gobber import encode_uint
from iris.gobber.definitions import (
    ArrayDef,
    CommonType,
    FieldDef,
    MapDef,
    OpaqueDef,
    SliceDef,
    StructDef,
    WireType,
)
from iris.gobber.framing import encode_int
from iris.gobber.writers import struct_writer

NOBODY = CommonType()  # names and numbers in definitions don't matter to readers


def sized(data: bytes) -> bytes:
    """Bytes with their number in front."""
    return encode_uint(len(data)) + data


def value(number: int, body: bytes) -> bytes:
    """The message of a value of this type."""
    return sized(encode_int(number) + body)


def definition(number: int, wire: WireType) -> bytes:
    """The message of a definition, without its size."""
    out = bytearray(encode_int(-number))
    struct_writer(WireType)(wire, out, bytearray(), None)
    return bytes(out)


def define(number: int, wire: WireType) -> bytes:
    """The message of a definition."""
    return sized(definition(number, wire))


def a_struct(*fields: tuple[str, int]) -> WireType:
    return WireType(struct=StructDef(NOBODY, [FieldDef(*field) for field in fields]))


def a_slice(elem: int) -> WireType:
    return WireType(slice=SliceDef(NOBODY, elem))


def a_map(key: int, elem: int) -> WireType:
    return WireType(map=MapDef(NOBODY, key, elem))


def an_array(elem: int, length: int) -> WireType:
    return WireType(array=ArrayDef(NOBODY, elem, length))


def opaque(kind: str) -> WireType:
    """A type that encodes itself: gob_encoder, binary_marshaler or text_marshaler."""
    return WireType(**{kind: OpaqueDef(NOBODY)})  # type: ignore[arg-type]
