"""Random gob types, declared for Python and for Go alike, and random values of them and of all
packets.

The types are drawn from a seed: structs with fields of all kinds and of each other. In Go, some
have more fields than we declare, of kinds that we can only skip.
"""

import dataclasses
import random
import struct as packing
import sys
from typing import Any

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
    gob,
    struct,
    struct_info,
)
from iris.proto.wire import bootstrap as bootstrap
from iris.proto.wire import clusters as iris
from iris.proto.wire import link as wire
from iris.proto.wire import ring as pastry
from iris.proto.wire import session as session
from iris.proto.wire import trees as scribe

_SIMPLE = (BOOL, INT, UINT, FLOAT, BYTES, STRING, BIG_INT, INTERFACE)
_KEYS = (STRING, INT, UINT, BOOL)
_OTHER = (  # Go kinds that we have no declaration for
    "[3]int32",
    "complex128",
    "time.Time",
    "[]time.Time",
    "Node",
    "*Node",
    "map[string]*Node",
    "[][2]string",
    "map[int]map[string]complex128",
    "interface{}",
    "[]interface{}",
    "struct{}",
)
_GO = {"float": "float64", "bytes": "[]byte", "interface": "interface{}"}

# bits of fields that are narrower in Go than 64 bits: (class, attribute)
_widths: dict[tuple[type, str], int] = {}
for _header in (pastry.Header, scribe.Header, iris.Header):
    _widths[_header, "op"] = 8

PACKETS: list[type] = [  # in the order in which tests/interop/gob/src/*/types.go list them
    wire.Header,
    session.InitRequest,
    session.AuthRequest,
    session.AuthChallenge,
    session.AuthResponse,
    session.LinkRequest,
    pastry.InitPacket,
    pastry.Header,
    pastry.State,
    scribe.Header,
    scribe.Report,
    iris.Header,
    iris.InitPacket,
    iris.AuthPacket,
    iris.DataHeader,
    bootstrap.Message,
]
_CONTENTS: list[type] = [
    pastry.InitPacket,
    pastry.Header,
    scribe.Header,
    iris.Header,
    iris.InitPacket,
    iris.AuthPacket,
    iris.DataHeader,
]


def go_type(type_: GobType, bits: int = 64) -> str:
    """A type as source of the Go package."""
    match type_:
        case SliceOf(elem):
            return f"[]{go_type(elem)}"
        case MapOf(key, elem):
            return f"map[{go_type(key)}]{go_type(elem)}"
        case PointerTo(cls):
            return f"*{struct_info(cls).name}"
        case StructOf(cls):
            return struct_info(cls).name
    if type_ == BIG_INT:
        return "*big.Int"
    name: str = type_.name  # type: ignore[attr-defined]
    return _GO.get(name, name) if bits == 64 else f"{name}{bits}"


class Family:
    """One draw.

    `structs`, some of which interfaces may hold (`registered`), `singles` that stand at top level
    without a struct.
    """

    def __init__(self, seed: int, count: int, prefix: str, *, plain: bool = False) -> None:
        """Arguments: how the structs' names begin, which no other family's may.

        Plain, when Go is to have no other fields than we do.
        """
        rng = random.Random(seed)
        self._prefix, self._plain = prefix, plain
        self.structs: list[type] = []
        self.registered: list[type] = []
        self._source = [
            'package family\n\nimport (\n\t"encoding/gob"\n\t"math/big"\n\t"time"\n)\n',
            "var _ = time.Now",
            "var _ *big.Int",
            "type Node struct {\n\tValue int\n\tNext *Node\n\tMore []*Node\n\tAny interface{}\n}",
        ]
        for number in range(count):
            self._declare(rng, number)
        self.singles: list[GobType] = [
            *(BYTES, INT, UINT, BOOL, STRING, FLOAT, BIG_INT),
            *(
                SliceOf(STRING),
                SliceOf(BYTES),
                SliceOf(BIG_INT),
                MapOf(STRING, SliceOf(STRING)),
                MapOf(INT, FLOAT),
            ),
            *(SliceOf(self._draw(rng, 2)) for _ in range(6)),
            *(MapOf(rng.choice(_KEYS), self._draw(rng, 2)) for _ in range(6)),
        ]

    def go_source(self) -> str:
        """The Go package."""
        registered = ", ".join(f"new({struct_info(cls).name})" for cls in self.registered)
        every = [struct_info(cls).name for cls in self.structs] + [
            go_type(single) for single in self.singles
        ]
        listed = ", ".join(f"new({name})" for name in every)
        return "\n\n".join(
            [
                *self._source,
                "func init() {\n\tfor _, value := range Registered() {\n"
                "\t\tgob.Register(value)\n\t}\n}",
                f"func Registered() []interface{{}} {{ return []interface{{}}{{{registered}}} }}",
                f"func Types() []interface{{}} {{ return []interface{{}}{{{listed}}} }}\n",
            ]
        )

    def types(self) -> list[GobType]:
        """All that stand at top level, in the order in which the Go program lists them."""
        return [*(PointerTo(cls) for cls in PACKETS + self.structs), *self.singles]

    def _draw(self, rng: random.Random, depth: int) -> GobType:
        choice = rng.random()
        if depth and choice < 0.15:
            return SliceOf(self._draw(rng, depth - 1))
        if depth and choice < 0.3:
            return MapOf(rng.choice(_KEYS), self._draw(rng, depth - 1))
        if depth and choice < 0.5 and self.structs:
            return rng.choice((PointerTo, StructOf))(rng.choice(self.structs[-8:]))
        return rng.choice(_SIMPLE)

    def _declare(self, rng: random.Random, number: int) -> None:
        name = f"{self._prefix}{number}"
        fields: list[tuple[str, Any, Any]] = []
        source, widths = [], {}
        size = 0 if number == 7 else 140 if number == 11 else rng.randrange(1, 12)
        for at in range(size):
            if not self._plain and (rng.random() < 0.2 or number == 13):
                source.append(f'\tOther{at} {rng.choice(_OTHER)} `other:"-"`')
                if number != 13 or at:
                    continue
            type_ = rng.choice(_SIMPLE) if size > 100 else self._draw(rng, 3)
            bits = (
                rng.choice((8, 16, 32, 64))
                if type_ in (INT, UINT)
                else rng.choice((32, 64))
                if type_ == FLOAT
                else 64
            )
            fields.append((f"field{at}", Any, gob(f"Field{at}", type_)))
            widths[f"field{at}"] = bits
            source.append(f"\tField{at} {go_type(type_, bits)}")
        cls: type = dataclasses.make_dataclass(name, fields, slots=True)
        registered = self._plain or rng.random() < 0.4
        struct(name, registered=f"*family.{name}" if registered else None)(cls)
        _widths.update(((cls, attribute), bits) for attribute, bits in widths.items())
        self.structs.append(cls)
        if registered:
            self.registered.append(cls)
        self._source.append(f"type {name} struct {{\n" + "\n".join(source) + "\n}")


class Values:
    """Random values, with a family's structs in interfaces."""

    def __init__(self, rng: random.Random, family: Family) -> None:
        self._rng, self._contents = rng, _CONTENTS + family.registered

    def text(self) -> bytes:
        return self._rng.randbytes(
            self._rng.randrange(400) if self._rng.random() < 0.1 else self._rng.randrange(8)
        )

    def _count(self, depth: int) -> int:
        if depth <= 0:
            return 0
        return (
            self._rng.randrange(150) // (5 - depth)
            if self._rng.random() < 0.05
            else self._rng.randrange(4)
        )

    def make(self, type_: GobType, bits: int = 64, depth: int = 4) -> Any:
        """A value that isn't nil, unless it is an interface's."""
        rng = self._rng
        if type_ == BOOL:
            return rng.random() < 0.5
        if type_ == UINT:
            return rng.getrandbits(rng.randrange(bits + 1))
        if type_ == INT:
            value = rng.getrandbits(rng.randrange(bits))
            return ~value if rng.random() < 0.5 else value
        if type_ == FLOAT:
            if bits == 32:
                return packing.unpack("f", packing.pack("f", rng.gauss(0, 1)))[0]
            return rng.choice(
                (
                    rng.gauss(0, 1),
                    float(rng.randrange(100)),
                    float("inf"),
                    -0.0,
                    sys.float_info.max,
                    5e-324,
                )
            )
        if type_ == BYTES:
            return self.text()
        if type_ == STRING:
            return self.text().decode("utf-8", "surrogateescape")
        if type_ == BIG_INT:
            return int.from_bytes(self.text()) * rng.choice((1, 1, -1))
        if type_ == INTERFACE:
            return (
                self.fields(rng.choice(self._contents), depth - 1)
                if depth > 0 and rng.random() < 0.8
                else None
            )
        match type_:
            case SliceOf(elem):
                return [self.make(elem, depth=depth - 1) for _ in range(self._count(depth))]
            case MapOf(key, elem):
                return {
                    self.make(key, depth=depth - 1): self.make(elem, depth=depth - 1)
                    for _ in range(self._count(depth))
                }
            case PointerTo(cls) | StructOf(cls):
                return self.fields(cls, depth - 1)
        raise AssertionError(type_)

    def fields(self, cls: type, depth: int) -> Any:
        """A struct in which some fields are zero."""
        value = cls()
        for field in struct_info(cls).fields:
            if self._rng.random() < 0.75 and (
                depth > 0 or not isinstance(field.type, PointerTo | StructOf)
            ):
                setattr(
                    value,
                    field.attribute,
                    self.make(field.type, _widths.get((cls, field.attribute), 64), depth),
                )
        return value


def spell(type_: GobType, value: Any) -> str:
    """A value as a line of text, as the Go program writes it."""
    if type_ == BOOL:
        return str(value).lower()
    if type_ in (INT, UINT):
        return str(value)
    if type_ == FLOAT:
        return hex(int.from_bytes(packing.pack(">d", value))) if value else "0x0"
    if type_ == BYTES:
        return f"'{value.hex()}'"
    if type_ == STRING:
        return f"'{value.encode('utf-8', 'surrogateescape').hex()}'"
    if value is None:
        return "nil"
    if type_ == BIG_INT:
        return str(value)
    if type_ == INTERFACE:
        return f"{struct_info(type(value)).registered}{spell(PointerTo(type(value)), value)}"
    match type_:
        case SliceOf(elem):
            return f"[{' '.join(spell(elem, item) for item in value)}]"
        case MapOf(key, elem):
            return (
                "{"
                + " ".join(
                    sorted(
                        f"{spell(key, label)}:{spell(elem, item)}" for label, item in value.items()
                    )
                )
                + "}"
            )
        case PointerTo(cls) | StructOf(cls):
            spelled = (
                spell(field.type, getattr(value, field.attribute))
                for field in struct_info(cls).fields
            )
            return f"({' '.join(spelled)})"
    raise AssertionError(type_)
