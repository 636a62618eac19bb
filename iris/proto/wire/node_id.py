"""The ring of ids: distances, digits and names.

Counterpart of Go's proto/pastry/space.go. Ids are plain ints below 2**40; digits have 4 bits, the
most significant first.
"""

import hashlib
from collections.abc import Callable
from typing import NewType, TypeGuard

NodeId = NewType("NodeId", int)

BITS = 40
DIGIT_BITS = 4
ROWS = BITS // DIGIT_BITS  # digits of an id
COLUMNS = 1 << DIGIT_BITS

MODULO = 1 << BITS
HALF = MODULO >> 1


def delta(a: NodeId, b: NodeId) -> int:
    """Return the signed shortest way from `a` to `b`; of two, the one that doesn't pass zero."""
    way = b - a
    if way > HALF:
        return way - MODULO
    if way < -HALF:
        return way + MODULO
    return way


def distance(a: NodeId, b: NodeId) -> int:
    """Return the length of the shortest way between two ids."""
    return abs(delta(a, b))


def prefix(a: NodeId, b: NodeId) -> tuple[int, int]:
    """Compare two ids digit by digit.

    Returns: row and column: the number of digits they share, and the first digit of `b` that
        differs; (ROWS, 0) for the same id.
    """
    row = (BITS - (a ^ b).bit_length()) // DIGIT_BITS
    if row == ROWS:
        return ROWS, 0
    return row, b >> (BITS - DIGIT_BITS - row * DIGIT_BITS) & (COLUMNS - 1)


def resolve(name: str | bytes) -> NodeId:
    """Hash a name to an id: the first 40 bits of its MD5 digest."""
    data = name.encode() if isinstance(name, str) else name
    return NodeId(
        int.from_bytes(hashlib.md5(data, usedforsecurity=False).digest()[: BITS // 8], "big")
    )


def random_id(entropy: Callable[[int], bytes]) -> NodeId:
    """Draw an id at random."""
    return NodeId(int.from_bytes(entropy(BITS // 8), "big"))


def valid_id(value: object) -> TypeGuard[NodeId]:
    """Whether a received value is an id."""
    return isinstance(value, int) and 0 <= value < MODULO


def parse_id(text: str) -> NodeId | None:
    """Parse a decimal id; None when it isn't one."""
    if len(text) > 13 or not (text.isascii() and text.isdigit()):
        return None
    value = int(text)
    return NodeId(value) if value < MODULO else None
