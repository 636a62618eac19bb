"""Declarations of gob types: Go's names and kinds beside Python's dataclass fields.

Counterpart of the reflection half of Go's encoding/gob (type.go). A struct is declared once, as a
dataclass:

    @struct("report", registered="*scribe.report")
    @dataclass(slots=True)
    class Report:
        tops: list[int] = gob("Tops", SliceOf(BIG_INT))
        caps: list[int] = gob("Caps", SliceOf(INT))

Zero values are Go's: 0, False, "", b"", an empty list; None for a nil map, pointer, big.Int or
interface.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from iris.errors import StateError

T = TypeVar("T")


class GobType:
    """The type of a value on the wire."""


@dataclass(frozen=True)
class Basic(GobType):
    """A type that needs no definition, with a fixed id."""

    name: str
    id: int
    zero: Any = dataclasses.field(compare=False)


BOOL = Basic("bool", 1, False)
INT = Basic("int", 2, 0)  # int8 .. int64, time.Duration
UINT = Basic("uint", 3, 0)  # uint8 .. uint64, byte
FLOAT = Basic("float", 4, 0.0)
BYTES = Basic("bytes", 5, b"")  # []byte
STRING = Basic("string", 6, "")
INTERFACE = Basic("interface", 8, None)  # holds a pointer to a registered struct, or None


@dataclass(frozen=True)
class BigInt(GobType):
    """A *big.Int, which encodes itself (GobEncoder); None is a nil pointer."""


BIG_INT = BigInt()


@dataclass(frozen=True)
class SliceOf(GobType):
    """A slice: a list of values; nil and empty are the same on the wire."""

    elem: GobType


@dataclass(frozen=True)
class MapOf(GobType):
    """A map: a dict; None is a nil map, and an empty one is sent."""

    key: GobType
    elem: GobType


@dataclass(frozen=True)
class PointerTo(GobType):
    """A pointer to a declared struct; None is nil. On the wire it is the struct alone."""

    struct: type


@dataclass(frozen=True)
class StructOf(GobType):
    """A struct by value: never None, and sent even when all of its fields are zero."""

    struct: type


@dataclass(frozen=True)
class Field:
    """One field of a declared struct."""

    attribute: str
    name: str  # Go's, as in the type definition
    type: GobType


@dataclass(frozen=True)
class StructInfo:
    """A declared struct."""

    name: str  # Go's type name without its package, as in the type definition
    registered: str | None  # Go's name for it as an interface's content: "*package.name"
    fields: tuple[Field, ...]


_STRUCTS: dict[type, StructInfo] = {}
_REGISTERED: dict[str, type] = {}


def gob(name: str, type_: GobType) -> Any:
    """Declare a dataclass field by its Go name and gob type; its default is Go's zero value."""
    metadata = {"gob": (name, type_)}
    if isinstance(type_, SliceOf):
        return dataclasses.field(default_factory=list, metadata=metadata)
    if isinstance(type_, StructOf):
        return dataclasses.field(default_factory=type_.struct, metadata=metadata)
    zero = type_.zero if isinstance(type_, Basic) else None
    return dataclasses.field(default=zero, metadata=metadata)


def struct(name: str, *, registered: str | None = None) -> Callable[[type[T]], type[T]]:
    """Declare a dataclass as Go's struct `name`; interfaces hold pointers to registered ones."""

    def decorate(cls: type[T]) -> type[T]:
        fields = {field.name: field.metadata["gob"] for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        declare(cls, name, registered, **fields)
        return cls

    return decorate


def declare(cls: type, name: str, registered: str | None, /, **fields: tuple[str, GobType]) -> None:
    """Declare a class as Go's struct `name`: each attribute's Go name and type, in Go's order."""
    declared = tuple(Field(attribute, *field) for attribute, field in fields.items())
    _STRUCTS[cls] = StructInfo(name, registered, declared)
    if registered is not None:
        if registered in _REGISTERED:
            raise StateError(f"{registered} is declared twice")
        _REGISTERED[registered] = cls


def struct_info(cls: type) -> StructInfo:
    """Look up a declared struct. Raises: StateError when `cls` was never declared."""
    try:
        return _STRUCTS[cls]
    except KeyError:
        raise StateError(f"{cls.__name__} isn't declared as a gob struct") from None


def registered_struct(name: str) -> type | None:
    """Find the struct that an interface value of this registered name holds; None for no such."""
    return _REGISTERED.get(name)


def parts_of(type_: GobType) -> list[GobType]:
    """List the types that a type directly consists of."""
    match type_:
        case SliceOf(elem):
            return [elem]
        case MapOf(key, elem):
            return [key, elem]
        case PointerTo(cls) | StructOf(cls):
            return [field.type for field in struct_info(cls).fields]
    return []
