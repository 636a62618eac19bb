"""Integers, and the head of a byte message, one by one."""

import pytest
from construct import IntegerError

from iris.gobber import GobError, bytes_prefix, encode_uint, peek_bytes, peek_uint
from iris.gobber.framing import GobUint, encode_int, read_int, read_uint

# Go encoding/gob doc.go, "Encoding Details", and the ends of each width
UINTS = {
    0: "00",
    7: "07",
    0x7F: "7f",
    0x80: "ff80",
    0xFF: "ffff",
    0x100: "fe0100",
    0xFFFF_FFFF: "fcffffffff",
    (1 << 64) - 1: "f8" + "ff" * 8,
}
INTS = {
    0: "00",
    1: "02",
    -1: "01",
    63: "7e",
    -64: "7f",
    64: "ff80",
    -65: "ff81",
    -129: "fe0101",
    (1 << 63) - 1: "f8" + "ff" * 7 + "fe",
    -(1 << 63): "f8" + "ff" * 8,
}


@pytest.mark.parametrize(("value", "data"), UINTS.items())
def test_unsigned_integers(value: int, data: str) -> None:
    assert encode_uint(value).hex() == data
    assert read_uint(bytes.fromhex(data), 0) == (value, len(data) // 2)


@pytest.mark.parametrize(("value", "data"), INTS.items())
def test_signed_integers(value: int, data: str) -> None:
    assert encode_int(value).hex() == data
    assert read_int(bytes.fromhex(data), 0) == (value, len(data) // 2)


@pytest.mark.parametrize(
    "data", ["ff00", "ff7f", "fe00ff", "f800ffffffffffffff", "f7ffffffffffffffffff", "80", "8000"]
)
def test_bad_integers_are_refused(data: str) -> None:
    with pytest.raises(GobError):
        peek_uint(bytes.fromhex(data))
    with pytest.raises(GobError):
        read_uint(bytes.fromhex(data), 0)


@pytest.mark.parametrize("data", ["", "ff", "fe01", "f8" + "01" * 7])
def test_an_incomplete_integer_may_still_arrive(data: str) -> None:
    assert peek_uint(bytes.fromhex(data)) is None
    assert peek_uint(b"xyz" + bytes.fromhex(data), 3) is None


def test_the_schema_writes_64_bits() -> None:
    with pytest.raises(IntegerError):
        GobUint.build(1 << 64)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 65_536])
def test_a_byte_message_is_found(size: int) -> None:
    head = bytes_prefix(size)
    assert peek_bytes(b"xx" + head + bytes(size), 2, max_size=size) == (
        2 + len(head),
        2 + len(head) + size,
    )
    assert peek_bytes(head, max_size=size) == (len(head), len(head) + size)
    for cut in range(len(head)):
        assert peek_bytes(head[:cut], max_size=size) is None


@pytest.mark.parametrize(
    "data",
    [
        "00",
        "020a00",
        "030a01",
        "030c0000",
        "030a0001",
        "040a0000",
        "030a00f8",
        "03ff0a00",
        "090a0005",
        "fa7fffffffffff",
    ],
)
def test_other_messages_are_no_byte_messages(data: str) -> None:
    with pytest.raises(GobError):
        peek_bytes(bytes.fromhex(data), max_size=1_000)


def test_a_byte_message_beyond_the_limit_is_refused_at_its_head() -> None:
    assert peek_bytes(bytes_prefix(1_000), max_size=1_000) is not None
    for cut in (len(bytes_prefix(1_001)), 3):
        data = bytes_prefix(1_001 if cut > 3 else 1_100)[:cut]
        with pytest.raises(GobError):
            peek_bytes(data, max_size=1_000)
