"""Type definitions: Go's wireType and its parts, and how an encoder numbers types. Core.

Counterpart of type.go of Go's encoding/gob. Go numbers types once per process, an encoder here once
per stream, as a fresh process would.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from iris.gobber.types import (
    INT,
    STRING,
    Basic,
    GobType,
    MapOf,
    PointerTo,
    SliceOf,
    StructOf,
    gob,
    parts_of,
    struct,
    struct_info,
)

FIRST_ID = 64  # smaller ones need no definition; a Go encoder's first own one is the next
MAX_ID = (1 << 31) - 1


@struct("CommonType")
@dataclass(slots=True)
class CommonType:
    """The beginning of all definitions."""

    name: str = gob("Name", STRING)
    id: int = gob("Id", INT)


@struct("arrayType")
@dataclass(slots=True)
class ArrayDef:
    """[length]elem."""

    common: CommonType = gob("CommonType", StructOf(CommonType))
    elem: int = gob("Elem", INT)
    length: int = gob("Len", INT)


@struct("sliceType")
@dataclass(slots=True)
class SliceDef:
    """[]elem."""

    common: CommonType = gob("CommonType", StructOf(CommonType))
    elem: int = gob("Elem", INT)


@struct("fieldType")
@dataclass(slots=True)
class FieldDef:
    """One field of a struct."""

    name: str = gob("Name", STRING)
    id: int = gob("Id", INT)


@struct("structType")
@dataclass(slots=True)
class StructDef:
    """A struct, with its fields in order."""

    common: CommonType = gob("CommonType", StructOf(CommonType))
    fields: list[FieldDef] = gob("Field", SliceOf(PointerTo(FieldDef)))


@struct("mapType")
@dataclass(slots=True)
class MapDef:
    """map[key]elem."""

    common: CommonType = gob("CommonType", StructOf(CommonType))
    key: int = gob("Key", INT)
    elem: int = gob("Elem", INT)


@struct("gobEncoderType")
@dataclass(slots=True)
class OpaqueDef:
    """A type that encodes itself, into bytes."""

    common: CommonType = gob("CommonType", StructOf(CommonType))


@struct("wireType")
@dataclass(slots=True)
class WireType:
    """One definition: exactly one of these is set."""

    array: ArrayDef | None = gob("ArrayT", PointerTo(ArrayDef))
    slice: SliceDef | None = gob("SliceT", PointerTo(SliceDef))
    struct: StructDef | None = gob("StructT", PointerTo(StructDef))
    map: MapDef | None = gob("MapT", PointerTo(MapDef))
    gob_encoder: OpaqueDef | None = gob("GobEncoderT", PointerTo(OpaqueDef))
    binary_marshaler: OpaqueDef | None = gob("BinaryMarshalerT", PointerTo(OpaqueDef))
    text_marshaler: OpaqueDef | None = gob("TextMarshalerT", PointerTo(OpaqueDef))

    def parts(self) -> list[ArrayDef | SliceDef | StructDef | MapDef | OpaqueDef]:
        """Return those that are set."""
        defined = self.array, self.slice, self.struct, self.map, self.gob_encoder
        every = *defined, self.binary_marshaler, self.text_marshaler
        return [part for part in every if part is not None]


def _named(type_: GobType) -> str:
    """Go's name of a type that isn't a pointer; empty when Go has none, as for slices and maps."""
    return struct_info(type_.struct).name if isinstance(type_, PointerTo | StructOf) else ""


_GO = {"bytes": "[]uint8", "float": "float64", "interface": "interface {}"}


def _spelled(type_: GobType) -> str:
    """Go's spelling of a type, but for integer widths and packages of unregistered types."""
    match type_:
        case Basic(name):
            return _GO.get(name, name)
        case SliceOf(elem):
            return f"[]{_spelled(elem)}"
        case MapOf(key, elem):
            return f"map[{_spelled(key)}]{_spelled(elem)}"
        case PointerTo(cls):
            return struct_info(cls).registered or f"*{struct_info(cls).name}"
        case StructOf(cls):
            return _spelled(PointerTo(cls))[1:]
    return "*big.Int"


def _key(type_: GobType) -> object:
    return type_.struct if isinstance(type_, PointerTo | StructOf) else type_


class Numbering:
    """The number of each type on one stream, and the definitions sent."""

    def __init__(self) -> None:
        self._ids: dict[object, tuple[int, str]] = {}  # number, name in the definition
        self._sent: set[object] = set()
        self._last = FIRST_ID

    def copy(self) -> "Numbering":
        """Copy, to restore when a value turns out not to be encodable."""
        other = Numbering()
        other._ids, other._sent, other._last = dict(self._ids), set(self._sent), self._last
        return other

    def id(self, type_: GobType) -> int:
        """Return the number of a basic type, or of one that was introduced."""
        return type_.id if isinstance(type_, Basic) else self._ids[_key(type_)][0]

    def introduce(self, type_: GobType) -> Iterator[tuple[int, WireType]]:
        """Yield (number, definition) of all to send before a value of this type, in Go's order."""
        key = _key(type_)
        if isinstance(type_, Basic) or key in self._sent:
            return
        self._assign(type_, _named(type_))
        self._sent.add(key)
        yield self.id(type_), self._define(type_)
        for inner in parts_of(type_):
            yield from self.introduce(inner)

    def _next(self) -> int:
        self._last += 1
        return self._last

    def _assign(self, type_: GobType, name: str) -> None:
        # WIRE: Go type.go newTypeObject; a struct has a lower number than its fields, a slice or
        # map a higher one than its elements, and the name in a definition depends on where a type
        # was met first. tests/golden/headers.json
        key = _key(type_)
        if isinstance(type_, Basic) or key in self._ids:
            return
        match type_:
            case PointerTo(cls) | StructOf(cls):
                self._ids[key] = self._next(), name
                for field in struct_info(cls).fields:
                    self._assign(field.type, _named(field.type) or _spelled(field.type))
                return
            case SliceOf(elem):
                of = _named(elem) if isinstance(elem, StructOf) else ""  # a pointer has no name
                self._assign(elem, of)
            case MapOf(map_key, elem):
                self._assign(map_key, "")
                self._assign(elem, "")
        self._ids[key] = self._next(), name

    def _define(self, type_: GobType) -> WireType:
        number, name = self._ids[_key(type_)]
        common = CommonType(name, number)
        match type_:
            case SliceOf(elem):
                return WireType(slice=SliceDef(common, self.id(elem)))
            case MapOf(key, elem):
                return WireType(map=MapDef(common, self.id(key), self.id(elem)))
            case PointerTo(cls) | StructOf(cls):
                fields = [FieldDef(it.name, self.id(it.type)) for it in struct_info(cls).fields]
                return WireType(struct=StructDef(common, fields))
        # WIRE: Go type.go buildTypeInfo; the pointer type *big.Int takes a number of its own, which
        # stands in the definition, while values refer to the number of big.Int.
        # tests/golden/bootstrap.json
        return WireType(gob_encoder=OpaqueDef(CommonType("", self._next())))
