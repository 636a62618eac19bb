"""Generated decoders: one function per sender's order of fields and class of ours. Core.

Counterpart of decode.go of Go's encoding/gob. A function reads the value at `p` of the bytes `b`
and returns it with the offset behind it. It goes through the sender's fields in order; for the
fields `A uint` and `B []byte` it is:

    def read(b, p, stream, depth):
        v_a = 0; v_b = b""
        delta = b[p]; p += 1
        field = delta                      # the next field's number, from 1; no delta, no field
        if field == 1:
            v_a = b[p]; p += 1
            if v_a > 127: ...                  # the bytes that follow
            delta = b[p]; p += 1
            field += delta
        if field == 2:
            ...
        if delta: raise GobError('field number out of range')
        value = new(cls); value.a = v_a; value.b = v_b
        return value, p

Bounds: lengths of bytes and strings are not checked where they are read. A slice never yields more
than is there, `b[p]` beyond the end is an IndexError, and every element takes a byte; the Decoder
turns IndexError into GobError, and compares the end of each value with its announced size. So the
cost of a value is proportional to the bytes that are there.
"""

import functools
import struct as packing
from collections.abc import Callable
from typing import Any

from iris.errors import StateError
from iris.gobber.framing import LEAST, GobError, long_uint
from iris.gobber.types import (
    BOOL,
    BYTES,
    FLOAT,
    INT,
    INTERFACE,
    STRING,
    UINT,
    Basic,
    BigInt,
    GobType,
    MapOf,
    PointerTo,
    SliceOf,
    StructOf,
    parts_of,
    struct_info,
)
from iris.gobber.writers import indent

# (data, offset, the Decoder, nesting still allowed) -> (value, offset behind it)
Reader = Callable[[bytes, int, Any, int], tuple[Any, int]]


def big_int(data: bytes, offset: int, size: int) -> int:
    """Read a *big.Int of `size` bytes.

    Raises: GobError for another version, leading zeros, a negative zero; IndexError beyond the end.
    """
    if size == 0:  # a nil pointer where one must stand, as in a slice
        return 0
    head = data[offset]
    if head >> 1 != 1:
        raise GobError(f"big.Int of version {head >> 1}")
    if size == 1:
        if head & 1:
            raise GobError("negative zero")
        return 0
    if data[offset + 1] == 0:
        raise GobError("big.Int longer than necessary")
    magnitude = int.from_bytes(data[offset + 1 : offset + size], "big")
    return -magnitude if head & 1 else magnitude


def may_span(type_: GobType) -> bool:
    """Whether a value may continue in another message, since it holds an interface."""
    return type_ == INTERFACE or any(map(may_span, parts_of(type_)))


class _Source:
    """Generates one function, by a maker whose arguments are nested structs' decoders, in order."""

    def __init__(self) -> None:
        self.nested: list[str] = []
        self._count = 0

    def name(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def uint(self, x: str) -> list[str]:
        # as framing.long_uint, without the call
        return [
            f"{x} = b[p]; p += 1",
            f"if {x} > 127:",
            f"    stop = p + 256 - {x}; least = LEAST[{x}]; {x} = from_bytes(b[p:stop]); p = stop",
            f"    if {x} < least: raise GobError('bad integer')",
        ]

    def get(self, type_: GobType, x: str) -> list[str]:
        """Generate code that reads a value into `x`."""
        if type_ == UINT:
            return self.uint(x)
        if type_ == BOOL:
            return [*self.uint(x), f"{x} = {x} != 0"]
        if type_ == INT:
            return [*self.uint(x), f"{x} = ({x} >> 1) ^ -({x} & 1)"]
        if type_ == FLOAT:
            return [*self.uint(x), f"{x} = unpack('<d', {x}.to_bytes(8, 'big'))[0]"]
        if type_ in (BYTES, STRING):
            size = self.name("size")
            text = '.decode("utf-8", "surrogateescape")' if type_ == STRING else ""
            return [*self.uint(size), f"{x} = b[p : p + {size}]{text}", f"p += {size}"]
        if type_ == INTERFACE:
            return self._interface(x)
        match type_:
            case BigInt():
                size = self.name("size")
                return [
                    *self.uint(size),
                    f"if {size} > 1 and b[p] == 2 and b[p + 1]:",
                    f"    {x} = from_bytes(b[p + 1 : p + {size}])",
                    f"else: {x} = big_int(b, p, {size})",
                    f"p += {size}",
                ]
            case PointerTo() | StructOf():
                self.nested.append(self.name("read"))
                return [f"{x}, p = {self.nested[-1]}(b, p, stream, depth)"]
            case SliceOf(elem):
                item = self.name("item")
                body = [*self.get(elem, item), f"{x}.append({item})"]
                return [f"{x} = []", *self._loop_head(type_), *indent(body)]
            case MapOf(key, elem):
                label, item = self.name("label"), self.name("item")
                body = [*self.get(key, label), *self.get(elem, item), f"{x}[{label}] = {item}"]
                return [f"{x} = {{}}", *self._loop_head(type_), *indent(body)]
        raise StateError(f"{type_} can't be received")

    def _loop_head(self, type_: SliceOf | MapOf) -> list[str]:
        check = "if count > len(b) - p: raise GobError(f'{count} elements announced')"
        checks = [] if may_span(type_) else [check]  # every element takes a byte, if not here
        return [*self.uint("count"), *checks, "for _ in range(count):"]

    def _interface(self, x: str) -> list[str]:
        # the key of `known` is name and type id as sent; anything else is left to
        # Decoder.interface
        return [
            "name = b[p]",
            f"if name == 0: {x} = None; p += 1",
            "else:",
            "    known = None",
            "    if name < 128:",
            "        end = p + name + 1",
            "        number = b[end]",
            "        end += 1 if number < 128 else 257 - number",
            "        known = stream.known.get(b[p:end])",
            f"    if known is None: {x}, p = stream.interface(b, p, depth)",
            "    else:",
            "        if not depth: raise GobError('nested too deep')",
            "        p = end",
            *indent(indent(self.uint("size"))),
            "        end = p + size",
            f"        {x}, p = known(b, p, stream, depth - 1)",
            "        if p != end: stream.check_end(end, p)",
        ]

    def compile(self, lines: list[str]) -> Callable[..., Reader]:
        """Make the maker: of the nested decoders and skipped fields' type ids, the decoder."""
        names: dict[str, Any] = {
            "LEAST": LEAST,
            "GobError": GobError,
            "long_uint": long_uint,
            "big_int": big_int,
            "from_bytes": int.from_bytes,
            "unpack": packing.unpack,
        }
        head = f"def make(cls, skipped, {', '.join(self.nested)}):"
        body = "\n".join(indent(indent(lines)))
        exec(f"{head}\n    def read(b, p, stream, depth):\n{body}\n    return read", names)
        maker: Callable[..., Reader] = names["make"]
        return maker


def _zero(type_: GobType, x: str) -> str:
    if isinstance(type_, Basic):
        return f"{x} = {type_.zero!r}"
    if isinstance(type_, SliceOf):
        return f"{x} = []"
    return f"{x} = None"


@functools.lru_cache(maxsize=256)  # bounded: columns are what senders make them
def struct_maker(cls: type, columns: tuple[int, ...]) -> Callable[..., Reader]:
    """Generate the maker of decoders of a declared struct from a sender's fields.

    Args:
        columns: for each field of the sender, the number of ours that it fills, or -1.

    Returns: a function of the class, the sender's type id of every field (only those of skipped
        fields are used), and the decoders of nested structs in the sender's order.
    """
    fields = struct_info(cls).fields
    source = _Source()
    long_delta = ["if delta > 127: delta, p = long_uint(b, p, delta)"] if len(columns) > 127 else []
    advance = ["delta = b[p]; p += 1", *long_delta, "field += delta"]
    lines = ["field = 0", *advance]
    number = 0
    while number < len(columns):
        column = columns[number]
        number += 1
        if column >= 0:
            read = source.get(fields[column].type, f"v{column}")
            lines += [f"if field == {number}:", *indent(read + advance)]
            continue
        while number < len(columns) and columns[number] < 0:
            number += 1
        skip = "    p = stream.skip(b, p, skipped[field - 1])"
        lines += [f"while delta and field <= {number}:", skip, *indent(advance)]
    # a struct by value that wasn't sent is zero, made anew as no two values may share it
    by_value = [at for at, field in enumerate(fields) if isinstance(field.type, StructOf)]
    absent = [f"if v{at} is None: v{at} = zero{at}()" for at in by_value]
    zeros = [_zero(field.type, f"v{at}") for at, field in enumerate(fields)]
    lines = [*zeros, *lines, "if delta: raise GobError('field number out of range')", *absent]
    lines.append("value = cls.__new__(cls)")
    lines += [f"value.{field.attribute} = v{at}" for at, field in enumerate(fields)]
    maker = source.compile([*lines, "return value, p"])
    for at, field in enumerate(fields):
        if isinstance(field.type, StructOf):
            maker.__globals__[f"zero{at}"] = field.type.struct
    return maker


@functools.lru_cache(maxsize=256)
def single_maker(type_: GobType) -> Callable[..., Reader]:
    """Generate the maker of decoders of a top-level value that is no struct."""
    source = _Source()
    lines = ["if b[p]: raise GobError('no zero before a single value')", "p += 1"]
    return source.compile([*lines, *source.get(type_, "value"), "return value, p"])


@functools.cache
def own_reader(cls: type) -> Reader:
    """Generate the decoder of a declared struct without interfaces, its fields in our order."""
    fields = struct_info(cls).fields
    nested = [own_reader(inner) for field in fields for inner in structs_in(field.type)]
    return struct_maker(cls, tuple(range(len(fields))))(cls, (), *nested)


def structs_in(type_: GobType) -> list[type]:
    """List the declared structs in a type, in the order in which their decoders are used."""
    if isinstance(type_, PointerTo | StructOf):
        return [type_.struct]
    return [cls for part in parts_of(type_) for cls in structs_in(part)]
