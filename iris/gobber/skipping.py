"""Skipping values of any gob type that no field of ours is for. Core.

Counterpart of the ignore* half of decode.go of Go's encoding/gob. Types may be recursive, as a Go
list or tree is: open values are kept on an explicit stack, so depth costs memory in proportion to
the bytes that are there, and no recursion.
"""

from typing import Protocol

from iris.gobber.definitions import WireType
from iris.gobber.framing import GobError, read_uint
from iris.gobber.types import BOOL, BYTES, FLOAT, INT, INTERFACE, STRING, UINT

_NUMBERS = (BOOL.id, INT.id, UINT.id, FLOAT.id)
_COMPLEX = 7
_STRINGS = (BYTES.id, STRING.id)


class Stream(Protocol):
    """What is used of `iris.gobber.decoder.Decoder`: the types that its sender has defined."""

    types: dict[int, WireType]
    field_types: dict[int, tuple[int, ...]]

    def concrete_type(self, data: bytes, offset: int) -> tuple[int, int, int]:
        """Read an interface value's type id. Returns: it, where the value starts, where it ends."""

    def check_end(self, end: int, offset: int) -> None:
        """Raise GobError unless an interface value ended at `end`."""


class _Open:
    """A composite value with parts left."""

    __slots__ = ("end", "is_struct", "left", "types")

    def __init__(
        self, types: tuple[int, ...], *, left: int | None = None, end: int | None = None
    ) -> None:
        self.types = types  # of a struct's fields; of elements, taken in turn
        self.is_struct = left is None
        self.left = left or 0  # elements to come; the struct's last field, counted from 1
        self.end = end  # of the content of an interface: where it should end


def skip_value(stream: Stream, data: bytes, offset: int, number: int) -> int:
    """Find the end of the value of type `number` at `offset`.

    Raises: GobError; IndexError beyond the end of `data`.
    """
    unfinished: list[_Open] = []
    while True:
        offset, opened = _skip_one(stream, data, offset, number)
        if opened is not None:
            unfinished.append(opened)
        while unfinished:
            following, offset = _next(stream, unfinished[-1], data, offset)
            if following is not None:
                number = following
                break
            unfinished.pop()
        else:
            return offset


def _skip_one(stream: Stream, data: bytes, offset: int, number: int) -> tuple[int, _Open | None]:
    """Skip a simple value, or the beginning of a composite one."""
    if number in _NUMBERS:
        return read_uint(data, offset)[1], None
    if number in _STRINGS:
        return _skip_bytes(data, offset), None
    if number == _COMPLEX:
        return read_uint(data, read_uint(data, offset)[1])[1], None
    if number == INTERFACE.id:
        return _skip_interface_type(stream, data, offset)
    definition = stream.types.get(number)
    if definition is None:
        raise GobError(f"type {number} isn't defined")
    if definition.struct is not None:
        return offset, _Open(stream.field_types[number])
    if definition.slice is not None or definition.array is not None or definition.map is not None:
        count, offset = read_uint(data, offset)
        if definition.map is not None:
            return offset, _Open((definition.map.elem, definition.map.key), left=2 * count)
        if definition.array is not None:
            if count != definition.array.length:
                raise GobError(f"array of {count} elements, {definition.array.length} defined")
            return offset, _Open((definition.array.elem,), left=count)
        assert definition.slice is not None
        return offset, _Open((definition.slice.elem,), left=count)
    return _skip_bytes(data, offset), None  # a type that encodes itself


def _skip_bytes(data: bytes, offset: int) -> int:
    size, offset = read_uint(data, offset)
    if size > len(data) - offset:
        raise GobError(f"{size} bytes announced")
    return offset + size


def _skip_interface_type(stream: Stream, data: bytes, offset: int) -> tuple[int, _Open | None]:
    size, offset = read_uint(data, offset)
    if size == 0:
        return offset, None
    number, _, offset = stream.concrete_type(data, offset + size)
    size, offset = read_uint(data, offset)
    end = offset + size
    definition = stream.types.get(number)
    # WIRE: as at top level, a zero before a value that is no struct
    if definition is None or definition.struct is None:
        if data[offset]:
            raise GobError("no zero before a single value")
        offset += 1
    return offset, _Open((number,), left=1, end=end)


def _next(stream: Stream, value: _Open, data: bytes, offset: int) -> tuple[int | None, int]:
    """Return the type of an open value's next part, None at its end; and the offset."""
    if value.is_struct:
        delta, offset = read_uint(data, offset)
        value.left += delta
        if value.left > len(value.types):
            raise GobError("field number out of range")
        return (value.types[value.left - 1] if delta else None), offset
    if value.left:
        value.left -= 1
        return value.types[value.left % len(value.types)], offset
    if value.end is not None and value.end != offset:
        stream.check_end(value.end, offset)
    return None, offset
