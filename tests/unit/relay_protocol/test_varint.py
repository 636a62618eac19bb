"""The varint against arithmetic that is as plain as it gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iris.errors import ProtocolError
from iris.relay_protocol.varint import MAX_VARINT, read_varint, varint

numbers = st.integers(0, 64).flatmap(lambda bits: st.integers(0, (1 << bits) - 1))


def spell(value: int, size: int) -> bytes:
    """Write a number in so many bytes, however few would do."""
    digits = [value >> 7 * i & 0x7F for i in range(size)]
    return bytes([*(digit + 0x80 for digit in digits[:-1]), digits[-1]])


def shortest(value: int) -> int:
    return max(1, -(-value.bit_length() // 7))


@given(numbers)
def test_a_number_is_written_in_as_few_bytes_as_possible(value: int) -> None:
    assert varint(value) == spell(value, shortest(value))


@given(numbers, st.integers(1, 10), st.binary(max_size=3))
def test_a_number_is_read_in_every_spelling_of_up_to_ten_bytes(
    value: int, size: int, behind: bytes
) -> None:
    size = max(size, shortest(value))
    data = b"\xff" + spell(value, size)
    assert read_varint(data + behind, 1) == (value, len(data))
    for end in range(1, len(data)):
        with pytest.raises(IndexError):
            read_varint(data[:end], 1)


@pytest.mark.parametrize("data", [spell(MAX_VARINT + 1, 10), spell(0, 11), b"\x80" * 10])
def test_a_number_beyond_64_bits_or_ten_bytes_is_rejected(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="exceeds 64 bits"):
        read_varint(data, 0)
