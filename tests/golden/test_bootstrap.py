"""Datagrams of the Go node: read to the same values, and written to the same bytes."""

import json
from pathlib import Path
from typing import Any

import pytest

from iris.gobber import Datagrams, Decoder
from iris.proto.wire.bootstrap import Message

VECTORS = json.loads((Path(__file__).parent / "bootstrap.json").read_text())


def message(case: dict[str, Any]) -> Message:
    magic = bytes.fromhex(case["magic"])
    return Message(
        case["version"], magic, int(case["node_id"]), case["overlay_port"], case["request"]
    )


@pytest.mark.parametrize("case", VECTORS["cases"])
def test_datagram_is_read_to_the_recorded_values(case: dict[str, Any]) -> None:
    assert Datagrams(Message).decode(bytes.fromhex(case["datagram"])) == message(case)


@pytest.mark.parametrize("case", VECTORS["cases"])
def test_datagram_is_written_as_go_writes_it(case: dict[str, Any]) -> None:
    assert Datagrams(Message).encode(message(case)).hex() == case["datagram"]


@pytest.mark.parametrize("number", [64, 70, 127, 128, 40_000, (1 << 31) - 1])
def test_datagram_of_any_type_id_is_read(number: int) -> None:
    case = VECTORS["cases"][0]
    body = bytes.fromhex(case["datagram"])[3:]
    number *= 2
    width = (number.bit_length() + 7) // 8
    datagram = bytes((len(body) + 1 + width, 256 - width)) + number.to_bytes(width, "big") + body
    assert Datagrams(Message).decode(datagram) == message(case)


def test_definitions_exchanged_beforehand_are_gos() -> None:
    recorded = bytes.fromhex(VECTORS["init_stream"])
    assert Datagrams(Message).definitions == recorded
    assert Decoder(max_size=1_024).decode(recorded, Message) == Message()
