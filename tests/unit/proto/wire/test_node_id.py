import pytest

from iris.proto.wire.node_id import (
    HALF,
    MODULO,
    ROWS,
    NodeId,
    delta,
    distance,
    parse_id,
    prefix,
    random_id,
    resolve,
    valid_id,
)


def test_the_shortest_way_wraps_zero() -> None:
    last, first = NodeId(MODULO - 1), NodeId(1)
    assert (delta(last, first), delta(first, last)) == (2, -2)
    assert distance(first, last) == 2


def test_an_id_has_no_distance_and_no_differing_digit_to_itself() -> None:
    node = NodeId(HALF + 5)
    assert delta(node, node) == 0
    assert prefix(node, node) == (ROWS, 0)


def test_digits_are_counted_from_the_most_significant() -> None:
    assert prefix(NodeId(0x12345_00000), NodeId(0x12A45_00000)) == (2, 0xA)
    assert prefix(NodeId(0), NodeId(1)) == (ROWS - 1, 1)


def test_names_may_be_text_or_bytes() -> None:
    assert resolve("ä") == resolve("ä".encode())


def test_random_ids_take_five_bytes() -> None:
    assert random_id(lambda size: bytes(range(1, size + 1))) == 0x0102030405


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1", "1_0", "0x1", "٣", "1.0", str(MODULO), "1" * 14, "1" * 10_000]
)
def test_only_decimal_ids_are_read(text: str) -> None:
    assert parse_id(text) is None


def test_ids_are_read_up_to_the_last() -> None:
    assert parse_id(str(MODULO - 1)) == MODULO - 1
    assert parse_id("0") == 0


@pytest.mark.parametrize(
    ("value", "valid"),
    [(0, True), (MODULO - 1, True), (MODULO, False), (-1, False), (None, False), ("1", False)],
)
def test_ids_from_outside_are_checked(value: object, valid: bool) -> None:
    assert valid_id(value) is valid
