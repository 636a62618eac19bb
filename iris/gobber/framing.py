"""Gob integers, and the frame of a gob message: size, signed type id, body. Core.

Counterpart of encodeUint, encodeInt, decodeUintReader and writeMessage of Go's encoding/gob. The
schemas (`GobUint`, `GobInt`, `MESSAGE`, `BYTES_MESSAGE`) declare what is on the wire; the functions
beside them do the same, fast, and tests/property/test_gobber_framing.py holds them together.

Stricter than Go, which accepts integers that are longer than necessary (it never writes any).
"""

from typing import Any

import construct
from construct import Const, FocusedSeq, GreedyBytes, IntegerError, Prefixed, Struct

from iris.errors import ProtocolError, StateError

Buffer = bytes | bytearray | memoryview

# type id 5 as a signed integer, and the zero before every top-level value that is no struct
BYTES_ID = b"\x0a\x00"

# the smallest value that may follow each first byte; none may follow a count over 8
LEAST = (*(0,) * 0x80, *(1 << 1024,) * 0x78, *(1 << 8 * width for width in range(7, 0, -1)), 0x80)
_SHORT = tuple(bytes((value,)) for value in range(0x80))
_COUNT = (b"", *(bytes((0x100 - width,)) for width in range(1, 9)))


class GobError(ProtocolError):
    """Malformed gob. The stream can't be read any further."""


def long_uint(data: Buffer, offset: int, first: int) -> tuple[int, int]:
    """Read the rest of an unsigned integer whose first byte, before `offset`, was `first` >= 0x80.

    Returns: value, offset behind it. Raises: GobError.
    """
    end = offset + 0x100 - first
    value = int.from_bytes(data[offset:end], "big")
    if value < LEAST[first]:  # also when bytes are missing
        raise GobError("bad integer")
    return value, end


def read_uint(data: Buffer, offset: int) -> tuple[int, int]:
    """Read an unsigned integer.

    Returns: value, offset behind it. Raises: GobError; IndexError when nothing is there.
    """
    first = data[offset]
    return (first, offset + 1) if first < 0x80 else long_uint(data, offset + 1, first)


def read_int(data: Buffer, offset: int) -> tuple[int, int]:
    """Read a signed integer, whose low bit says that the others are inverted: see `read_uint`."""
    value, offset = read_uint(data, offset)
    return (value >> 1) ^ -(value & 1), offset


def peek_uint(data: Buffer, offset: int = 0) -> tuple[int, int] | None:
    """Read the unsigned integer at `offset`, of which more bytes may still arrive.

    Shape: one byte below 0x80; else a negated count, 0xFF (1) .. 0xF8 (8), then that many
        big-endian bytes.
    Returns: value and width in bytes; None when `data` ends too early.
    Raises: GobError for a count over 8, and for a value that needs fewer bytes.
    Source: Go encoding/gob doc.go, "Encoding Details".
    """
    if len(data) <= offset:
        return None
    first = data[offset]
    if first < 0x80:
        return first, 1
    if first >= 0xF8 and len(data) - offset <= 0x100 - first:
        return None
    value, end = long_uint(data, offset + 1, first)
    return value, end - offset


def encode_uint(value: int) -> bytes:
    """Write an unsigned integer. Raises: StateError outside of 0 .. 2**64 - 1."""
    if 0 <= value < 0x80:
        return _SHORT[value]
    width = (value.bit_length() + 7) >> 3
    if value < 0 or width > 8:
        raise StateError(f"{value} is no 64-bit integer")
    return _COUNT[width] + value.to_bytes(width, "big")


def encode_int(value: int) -> bytes:
    """Write a signed integer. Raises: StateError outside of -2**63 .. 2**63 - 1."""
    return encode_uint((value << 1) ^ (value >> 63))  # beyond that range, this exceeds 64 bits


def bytes_prefix(size: int) -> bytes:
    """Write all of a top-level []byte's message but its bytes, of which there are `size`."""
    count = encode_uint(size)
    return encode_uint(len(BYTES_ID) + len(count) + size) + BYTES_ID + count


def peek_bytes(data: Buffer, offset: int = 0, *, max_size: int) -> tuple[int, int] | None:
    """Find the top-level []byte message at `offset`.

    Returns: where its bytes start and end, which may be beyond the end of `data`; None when its
        sizes aren't there yet.
    Raises: GobError for any other message, contradictory sizes, more than `max_size` bytes.
    """
    prefix = peek_uint(data, offset)
    if prefix is None:
        return None
    size, width = prefix
    start = offset + width
    end = start + size
    if size > max_size + len(BYTES_ID) + 9 or size < len(BYTES_ID) + 1:
        raise GobError(f"message of {size} bytes where []byte of at most {max_size} belongs")
    head = bytes(data[start : start + len(BYTES_ID)])
    if not BYTES_ID.startswith(head):
        raise GobError("another type where []byte belongs")
    start += len(BYTES_ID)
    count = peek_uint(data, start)
    if count is None:
        if end <= len(data):
            raise GobError("[]byte without its size")
        return None
    if count[0] > max_size or start + count[1] + count[0] != end:
        raise GobError(f"[]byte of {count[0]} bytes in a message of {size}, limit {max_size}")
    return start + count[1], end


class _GobUint(construct.Construct):  # type: ignore[misc]
    """An unsigned integer as a schema."""

    def _parse(self, stream: Any, context: Any, path: str) -> int:
        first: int = construct.stream_read(stream, 1, path)[0]
        if first < 0x80:
            return first
        if first < 0xF8:
            raise IntegerError(f"count of {0x100 - first} bytes", path=path)
        value = int.from_bytes(construct.stream_read(stream, 0x100 - first, path), "big")
        if value < 0x80 or value.bit_length() <= 8 * (0xFF - first):
            raise IntegerError("longer than necessary", path=path)
        return value

    def _build(self, obj: int, stream: Any, context: Any, path: str) -> int:
        if not 0 <= obj < 1 << 64:
            raise IntegerError(f"{obj} is no 64-bit unsigned integer", path=path)
        if obj < 0x80:
            construct.stream_write(stream, bytes((obj,)), 1, path)
        else:
            digits = obj.to_bytes(8, "big").lstrip(b"\0")
            data = bytes((0x100 - len(digits),)) + digits
            construct.stream_write(stream, data, len(data), path)
        return obj


class _GobInt(construct.Adapter):  # type: ignore[misc]
    """A signed integer as a schema."""

    def _decode(self, obj: int, context: Any, path: str) -> int:
        return ~(obj >> 1) if obj & 1 else obj >> 1

    def _encode(self, obj: int, context: Any, path: str) -> int:
        return ~obj << 1 | 1 if obj < 0 else obj << 1


GobUint = _GobUint()
GobInt = _GobInt(GobUint)
MESSAGE = Prefixed(GobUint, Struct("type_id" / GobInt, "body" / GreedyBytes))
BYTES_MESSAGE = Prefixed(
    GobUint,
    FocusedSeq(
        "data", Const(BYTES_ID), "data" / Prefixed(GobUint, GreedyBytes), construct.Terminated
    ),
)
