"""The relay protocol's varints: base 128, little-endian, with continuation bits. Pure."""

from typing import Final

from iris.errors import ProtocolError

MAX_VARINT: Final = (1 << 64) - 1
VARINT_SIZE: Final = 10  # bytes at most

_LAST: Final = tuple(bytes([value]) for value in range(0x80))
_CONTINUED: Final = tuple(bytes([value | 0x80]) for value in range(0x80))


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number; longer spellings than necessary are valid, within ten bytes.

    Returns: (value, offset behind it).
    Raises: IndexError when the data ends first; ProtocolError.
    """
    value = data[at]
    if value < 0x80:
        return value, at + 1
    byte = data[at + 1]
    if byte < 0x80:
        return value - 0x80 + (byte << 7), at + 2
    value += (byte << 7) - 0x4080  # less both continuation bits
    byte = data[at + 2]
    if byte < 0x80:
        return value + (byte << 14), at + 3
    value += (byte & 0x7F) << 14
    for i in range(3, VARINT_SIZE):
        byte = data[at + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if value > MAX_VARINT:
                break
            return value, at + i + 1
    raise ProtocolError("varint exceeds 64 bits")


def varint(value: int) -> bytes:
    """Write a number below 2**64."""
    if value < 0x80:
        return _LAST[value]
    if value < 0x4000:
        return _CONTINUED[value & 0x7F] + _LAST[value >> 7]
    if value < 0x20_0000:
        return _CONTINUED[value & 0x7F] + _CONTINUED[value >> 7 & 0x7F] + _LAST[value >> 14]
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def string(text: str) -> bytes:
    """Write a string in UTF-8 behind its length."""
    data = text.encode(errors="replace")
    return varint(len(data)) + data
