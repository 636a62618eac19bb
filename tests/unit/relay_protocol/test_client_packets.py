"""What is made of an application's arguments."""

import array
import sys

import pytest

from iris.relay_protocol import client_packets as codec
from iris.relay_protocol.varint import varint


def test_bytes_and_views_of_them_are_sent_as_they_are() -> None:
    data = b"data" * 10
    assert codec.payload(data) is data
    view = codec.payload(memoryview(data)[4:8])
    assert isinstance(view, memoryview)
    assert (view.obj, bytes(view)) == (data, b"data")


@pytest.mark.parametrize(
    "data",
    [
        bytearray(b"data"),
        memoryview(bytearray(b"data")),
        array.array("B", b"data"),
        memoryview(b"d.a.t.a.")[::2],
    ],
)
def test_what_can_change_or_has_gaps_is_copied(data: bytearray) -> None:
    assert codec.payload(data) == b"data"
    assert type(codec.payload(data)) is bytes


def test_wide_items_count_in_bytes() -> None:
    numbers = array.array("I", [1, 2, 3])
    assert codec.payload(memoryview(numbers)) == numbers.tobytes()
    assert len(codec.payload(memoryview(numbers.tobytes()).cast("I"))) == 12


def test_timeouts_are_in_milliseconds() -> None:
    assert [codec.milliseconds(seconds) for seconds in (0.001, 1, 2.5)] == [
        varint(n) for n in (1, 1000, 2500)
    ]
    for seconds in (0.0, -1.0, float("nan"), float("inf"), sys.float_info.max):
        with pytest.raises(ValueError, match="timeout"):
            codec.milliseconds(seconds)
