"""The sending half of a gob stream. Core: values in, bytes out.

Answers to encoder.go of Go's encoding/gob, down to the order of definitions. Not for several
threads at a time.
"""

import functools

from iris.errors import StateError
from iris.gobber.definitions import Numbering, WireType
from iris.gobber.framing import encode_int, encode_uint
from iris.gobber.types import GobType, PointerTo, struct_info
from iris.gobber.writers import Writer, struct_writer, value_writer


@functools.cache
def registered_name(cls: type) -> bytes:
    """What an interface value of this class begins with. Raises: StateError when it may not be one."""
    name = struct_info(cls).registered
    if name is None:
        raise StateError(f"{cls.__name__} isn't registered as an interface's content")
    return encode_uint(len(name.encode())) + name.encode()


class Encoder:
    """One per direction of a stream: each type's definition goes out once, before its first use."""

    def __init__(self) -> None:
        # contents of interfaces: name and type id; read by generated code
        self.known: dict[type, tuple[bytes, Writer]] = {}
        self._top: dict[type | GobType, tuple[bytes, Writer]] = {}  # top-level values: type id
        self._types = Numbering()
        # what was sent before the value under way, when that brings definitions
        self._before: Numbering | None = None

    def encode(self, value: object, type: GobType | None = None) -> bytes:
        """Write a whole top-level value, after the definitions that this stream hasn't seen.

        `value` is a declared struct, or of any `type` that is given. Raises: StateError for a value
        that isn't what was declared; then nothing counts as sent.
        """
        kind = value.__class__ if type is None else type
        entry = self._top.get(kind)
        sent = bytearray()
        try:
            if entry is None:
                entry = self._introduce_top(kind, sent)
            out = bytearray(entry[0])
            entry[1](value, out, sent, self)
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            StateError,
            TypeError,
            ValueError,
        ) as exc:
            self._take_back()
            raise StateError(f"{kind} can't be encoded: {exc}") from exc
        self._before = None
        sent += encode_uint(len(out))
        sent += out
        return bytes(sent)

    def introduce(self, cls: type, out: bytearray, outer: bytearray) -> tuple[bytes, Writer]:
        """Begin an interface value of a type that is new there.

        Append its name and type id to `out`. Called by generated code.

        WIRE: Go encode.go encodeInterface; a definition ends the message that is being gathered in
        `out`, and stands at its end. tests/golden/headers.json
        """
        name = registered_name(cls)
        out += name
        type_ = PointerTo(cls)
        self._send_definitions(type_, out, outer)
        number = encode_int(self._types.id(type_))
        out += number
        entry = self.known[cls] = name + number, struct_writer(cls)
        return entry

    def _introduce_top(self, kind: "type | GobType", sent: bytearray) -> tuple[bytes, Writer]:
        type_ = kind if isinstance(kind, GobType) else PointerTo(kind)
        writer = value_writer(type_)
        self._send_definitions(type_, bytearray(), sent)
        entry = self._top[kind] = encode_int(self._types.id(type_)), writer
        return entry

    def _send_definitions(self, type_: GobType, out: bytearray, outer: bytearray) -> None:
        self._before = self._before or self._types.copy()
        for number, definition in self._types.introduce(type_):
            out += encode_int(-number)
            struct_writer(WireType)(definition, out, outer, self)
            outer += encode_uint(len(out))
            outer += out
            out.clear()

    def _take_back(self) -> None:
        if self._before is not None:
            self._types, self._before = self._before, None
            self.known.clear()
            self._top.clear()
