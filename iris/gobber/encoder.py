"""The sending half of a gob stream. Core: values in, bytes out.

Counterpart of encoder.go of Go's encoding/gob, down to the order of definitions. Not thread-safe.
"""

import functools

from iris.errors import StateError
from iris.gobber.definitions import Numbering, WireType
from iris.gobber.framing import encode_int, encode_uint
from iris.gobber.types import GobType, PointerTo, struct_info
from iris.gobber.writers import Writer, struct_writer, value_writer

# raised by generated code for a value that isn't as declared
_MISFITS = ArithmeticError, AttributeError, LookupError, StateError, TypeError, ValueError


@functools.cache
def registered_name(cls: type) -> bytes:
    """Encode the name that an interface value of this class begins with.

    Raises: StateError when the class isn't registered.
    """
    name = struct_info(cls).registered
    if name is None:
        raise StateError(f"{cls.__name__} isn't registered as an interface's content")
    return encode_uint(len(name.encode())) + name.encode()


class Encoder:
    """Encode one direction of a stream: each definition is sent once, before its first use."""

    def __init__(self) -> None:
        # contents of interfaces: name and type id; used by generated code
        self.known: dict[type, tuple[bytes, Writer]] = {}
        self._top: dict[type | GobType, tuple[bytes, Writer]] = {}  # top-level values: type id
        self._types = Numbering()
        self._before: Numbering | None = None  # before the current value's definitions, if any

    def encode(self, value: object, type: GobType | None = None) -> bytes:
        """Write a top-level value, after the definitions that this stream hasn't seen.

        Args:
            value: a declared struct, or of the given type.

        Raises: StateError for a value that isn't as declared; then nothing counts as sent.
        """
        kind = value.__class__ if type is None else type
        entry = self._top.get(kind)
        sent = bytearray()
        try:
            if entry is None:
                entry = self._introduce_top(kind, sent)
            out = bytearray(entry[0])
            entry[1](value, out, sent, self)
        except _MISFITS as exc:
            self._take_back()
            raise StateError(f"{kind} can't be encoded: {exc}") from exc
        self._before = None
        sent += encode_uint(len(out))
        sent += out
        return bytes(sent)

    def introduce(self, cls: type, out: bytearray, outer: bytearray) -> tuple[bytes, Writer]:
        """Append name and type id of an interface's content whose type is new to the stream.

        Called by generated code.

        WIRE: Go encode.go encodeInterface; a definition ends the message gathered in `out`, and
        stands at its end. tests/golden/headers.json
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
