"""Streams of all packets and of random types, in pieces of any size: good ones round-trip,
corrupted ones end in GobError.
"""

import json
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from iris.gobber import Datagrams, Decoder, Encoder, GobError
from iris.gobber.types import GobType, PointerTo
from iris.proto.wire.bootstrap import Message
from iris.proto.wire.link import Header
from tests.support.gob_family import Family, Values, spell

GOLDEN = Path(__file__).parent.parent / "golden"
FAMILY = Family(7, 30, "S")
TYPES = FAMILY.types()


def kind_of(type_: GobType) -> Any:
    return type_.struct if isinstance(type_, PointerTo) else type_


def spoil(rng: random.Random, data: bytes) -> bytes:
    """A few random mistakes: bytes changed, left out, doubled, moved, cut off."""
    spoilt = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(spoilt) + 1)
        piece = spoilt[at : at + rng.randrange(1, 9)]
        match rng.randrange(7):
            case 0 | 1 if at < len(spoilt):
                spoilt[at] = rng.choice(
                    (rng.randrange(256), spoilt[at] ^ (1 << rng.randrange(8)), 0, 0xFF, 0xF8, 0x7F)
                )
            case 2:
                del spoilt[at : at + len(piece)]
            case 3:
                spoilt[at:at] = piece
            case 4:
                spoilt[at:at] = rng.randbytes(rng.randrange(1, 4))
            case 5:
                spoilt[at:at] = b"\xf8" + rng.randbytes(8)
            case 6:
                del spoilt[at:]
        spoilt = spoilt or bytearray(b"\0")
    return bytes(spoilt)


def read_all(decoder: Decoder, pieces: list[bytes], kinds: list[Any]) -> list[Any]:
    """Values until the stream ends or breaks. Anything but GobError comes through."""
    values: list[Any] = []
    for piece in pieces:
        decoder.feed(piece)
        try:
            while (
                len(values) < len(kinds) and (value := decoder.next(kinds[len(values)])) is not None
            ):
                values.append(value)
        except GobError:
            values.append(GobError)
            break
    return values


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    pieces = []
    while data:
        size = rng.choice((1, 2, 10, 100, 1_000))
        pieces.append(data[:size])
        data = data[size:]
    return pieces


@pytest.mark.parametrize("seed", range(6))
def test_values_of_any_type_round_trip(seed: int) -> None:
    rng = random.Random(seed)
    values = Values(rng, FAMILY)
    encoder, decoder, whole = (
        Encoder(),
        Decoder(max_size=1 << 20, max_types=1_000),
        Decoder(max_size=1 << 20, max_types=1_000),
    )
    types = [rng.choice(TYPES) for _ in range(200)]
    made = [values.make(type_) for type_ in types]
    packets = [encoder.encode(value, type_) for type_, value in zip(types, made, strict=True)]
    kinds = [kind_of(type_) for type_ in types]
    read = read_all(decoder, cut(rng, b"".join(packets)), kinds)
    for type_, went, came, packet in zip(types, made, read, packets, strict=True):
        assert spell(type_, came) == spell(type_, went)
        assert spell(type_, whole.decode(packet, kind_of(type_))) == spell(type_, went)


@pytest.mark.parametrize("seed", range(4))
def test_corrupted_streams_raise_nothing_but_gob_errors(seed: int) -> None:
    rng = random.Random(seed)
    values = Values(rng, FAMILY)
    started, broken = time.process_time(), 0
    for _ in range(60):
        types = [rng.choice(TYPES) for _ in range(3)]
        encoder = Encoder()
        stream = b"".join(encoder.encode(values.make(type_), type_) for type_ in types)
        kinds = [kind_of(type_) for type_ in types]
        for _ in range(10):
            spoilt = spoil(rng, stream)
            at_once = read_all(Decoder(max_size=1 << 18, max_types=1_000), [spoilt], kinds)
            in_pieces = read_all(
                Decoder(max_size=1 << 18, max_types=1_000), cut(rng, spoilt), kinds
            )
            assert repr(at_once) == repr(in_pieces)
            broken += GobError in at_once
    assert broken > 100
    assert time.process_time() - started < 30


@pytest.mark.parametrize("seed", range(4))
def test_corrupted_headers_raise_nothing_but_gob_errors(seed: int) -> None:
    rng = random.Random(seed)
    packets = [
        bytes.fromhex(case["gob"])
        for case in json.loads((GOLDEN / "headers.json").read_text())["cases"]
    ]
    refused = 0
    for _ in range(150):
        decoder = Decoder(max_size=4_096)
        at = rng.randrange(len(packets))
        for packet in packets[:at]:
            decoder.decode(packet, Header)
        refused += refuses(partial(decoder.decode, kind=Header), spoil(rng, packets[at]))
    assert 20 < refused < 150


def test_corrupted_datagrams_raise_nothing_but_gob_errors() -> None:
    rng, spoilt, noise = random.Random(1), 0, 0
    datagrams = Datagrams(Message)
    cases = [
        bytes.fromhex(case["datagram"])
        for case in json.loads((GOLDEN / "bootstrap.json").read_text())["cases"]
    ]
    for _ in range(3_000):
        spoilt += refuses(datagrams.decode, spoil(rng, rng.choice(cases)))
        noise += refuses(datagrams.decode, rng.randbytes(rng.randrange(30)))
    assert 500 < spoilt < 3_000
    assert noise > 2_900


def refuses(read: Callable[[bytes], object], data: bytes) -> bool:
    """Read: False when that works, True on a GobError. Raises: any other error."""
    try:
        read(data)
    except GobError:
        return True
    return False
