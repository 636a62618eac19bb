"""Generated encoders: one function per type, which appends a value to a bytearray. Core.

Counterpart of encode.go of Go's encoding/gob. The generated code is straight-line: a zero field
costs one test. For a struct with the fields `A uint` and `B []byte` it is (`last` is the number of
the last field sent, counted from 1):

    def write(v, out, outer, stream):
        last = 0
        x = v.a
        if x:
            out.append(1 - last); last = 1
            if 0 <= x < 128: out.append(x)
            else: out += encode_uint(x)
        x = v.b
        if x:
            out.append(2 - last); last = 2
            ...
        out.append(0)

`outer` is what `out` will be appended to, behind its size. An interface value whose type is new
appends `out` to it at once, followed by the definitions (`Encoder.introduce`).
"""

import functools
import struct as packing
from collections.abc import Callable
from typing import Any

from iris.errors import StateError
from iris.gobber.framing import encode_uint
from iris.gobber.types import (
    BOOL,
    BYTES,
    FLOAT,
    INT,
    INTERFACE,
    STRING,
    UINT,
    BigInt,
    GobType,
    MapOf,
    PointerTo,
    SliceOf,
    StructOf,
    struct_info,
)

Writer = Callable[[Any, bytearray, bytearray, Any], None]  # (value, out, outer, the Encoder)


def encode_big(value: int) -> bytes:
    """Write a *big.Int with its size: version 1 and the sign in one byte, then the magnitude."""
    magnitude = abs(value)
    data = magnitude.to_bytes((magnitude.bit_length() + 7) >> 3, "big")
    return encode_uint(len(data) + 1) + (b"\x03" if value < 0 else b"\x02") + data


# for node ids and topics, and nothing longer: peers choose what this node forwards
known_big = functools.lru_cache(maxsize=16_384)(encode_big)
_LONG = 1 << 64


def encode_float(value: float) -> bytes:
    """Write a float: its bits, with the bytes in reverse, as an unsigned integer."""
    return encode_uint(int.from_bytes(packing.pack("<d", value), "big"))


def indent(lines: list[str]) -> list[str]:
    """Indent generated code."""
    return ["    " + line for line in lines]


class _Source:
    """Generates one function, and names the objects that it uses."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {
            "encode_uint": encode_uint,
            "encode_big": encode_big,
            "known_big": known_big,
            "LONG": _LONG,
            "encode_float": encode_float,
        }
        self._count = 0

    def name(self, prefix: str, value: Any = None) -> str:
        """Make a unique name, for an object if there is one."""
        self._count += 1
        name = f"{prefix}{self._count}"
        if value is not None:
            self.names[name] = value
        return name

    def uint(self, x: str) -> list[str]:
        return [f"if 0 <= {x} < 128: out.append({x})", f"else: out += encode_uint({x})"]

    def put(self, type_: GobType, x: str) -> list[str]:
        """Generate code that appends the value `x`, which may be zero."""
        if type_ == BOOL:
            return [f"out.append(1 if {x} else 0)"]
        if type_ == UINT:
            return self.uint(x)
        if type_ == INT:
            return [
                f"if -64 <= {x} < 64: out.append(({x} << 1) ^ ({x} >> 63))",
                f"else: out += encode_uint(({x} << 1) ^ ({x} >> 63))",
            ]
        if type_ == FLOAT:
            return [f"out += encode_float({x})"]
        if type_ in (BYTES, STRING):
            data, size = self.name("data"), self.name("size")
            encode = '.encode("utf-8", "surrogateescape")' if type_ == STRING else ""
            begin = [f"{data} = {x}{encode}", f"{size} = len({data})"]
            return [*begin, *self.uint(size), f"out += {data}"]
        if type_ == INTERFACE:
            return self._interface(x)
        match type_:
            case BigInt():
                return [
                    f"if {x} is None: out.append(0)",
                    f"elif -LONG < {x} < LONG: out += known_big({x})",
                    f"else: out += encode_big({x})",
                ]
            case PointerTo(cls) | StructOf(cls):
                return [f"{self.name('write', struct_writer(cls))}({x}, out, outer, stream)"]
            case SliceOf(elem):
                size, item = self.name("size"), self.name("item")
                each = [f"for {item} in {x}:", *indent(self.put(elem, item))]
                return [f"{size} = len({x})", *self.uint(size), *each]
            case MapOf(key, elem):
                size, label, item = self.name("size"), self.name("label"), self.name("item")
                items = self.name("items")
                return [
                    f"{items} = {{}} if {x} is None else {x}",
                    f"{size} = len({items})",
                    *self.uint(size),
                    f"for {label}, {item} in {items}.items():",
                    *indent(self.put(key, label) + self.put(elem, item)),
                ]
        raise StateError(f"{type_} can't be sent")

    def _interface(self, x: str) -> list[str]:
        known, inner = self.name("known"), self.name("inner")
        size = self.name("size")
        return [
            f"if {x} is None: out.append(0)",
            "else:",
            f"    {known} = stream.known.get({x}.__class__)",
            f"    if {known} is None: {known} = stream.introduce({x}.__class__, out, outer)",
            f"    else: out += {known}[0]",
            f"    {inner} = bytearray()",
            f"    {known}[1]({x}, {inner}, out, stream)",
            f"    {size} = len({inner})",
            *indent(self.uint(size)),
            f"    out += {inner}",
        ]

    def compile(self, lines: list[str]) -> Writer:
        exec("\n".join(["def write(v, out, outer, stream):", *indent(lines)]), self.names)
        writer: Writer = self.names["write"]
        return writer


@functools.cache
def struct_writer(cls: type) -> Writer:
    """Generate a declared struct's encoder, which writes non-zero fields and the end mark."""
    fields = struct_info(cls).fields
    source = _Source()
    lines = ["last = 0"]
    for number, field in enumerate(fields, 1):
        delta = (
            [f"delta = {number} - last", *source.uint("delta")]
            if len(fields) > 127
            else [f"out.append({number} - last)"]
        )
        send = [*delta, f"last = {number}", *source.put(field.type, "x")]
        lines.append(f"x = v.{field.attribute}")
        if isinstance(field.type, StructOf):
            lines += send
        elif field.type == INTERFACE or isinstance(field.type, BigInt | MapOf | PointerTo):
            lines += ["if x is not None:", *indent(send)]
        else:
            lines += ["if x:", *indent(send)]
    return source.compile([*lines, "out.append(0)"])


@functools.cache
def value_writer(type_: GobType) -> Writer:
    """Generate a top-level value's encoder; one that is no struct has a zero in front."""
    if isinstance(type_, PointerTo | StructOf):
        return struct_writer(type_.struct)
    source = _Source()
    return source.compile(["out.append(0)", *source.put(type_, "v")])
