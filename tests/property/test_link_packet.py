"""The fast splitter of link packets and their schema: the same values and rejections."""

import random
from collections.abc import Iterator
from io import BytesIO

from construct import ConstructError
from hypothesis import given, settings
from hypothesis import strategies as st

from iris.errors import ProtocolError
from iris.gobber import bytes_prefix
from iris.proto.link.classic import Bounds, PacketSplitter, packet_schema

BOUNDS = Bounds(header=300, payload=1_000)
SCHEMA = packet_schema(BOUNDS)
PADDING = bytes(2 * (BOUNDS.header + BOUNDS.payload))

Packet = tuple[bytes, bytes, bytes]

EDGES = [0, 1, 123, 124, 125, 126, 127, 128, 130, 255, 256, 299, 300, 301, 999, 1_000, 1_001]
sizes = st.one_of(st.sampled_from(EDGES), st.integers(0, 300))
values = st.builds(
    lambda size, seed: random.Random(seed).randbytes(size), sizes, st.integers(0, 255)
)
macs = st.one_of(st.binary(min_size=16, max_size=16), st.binary(max_size=20))
packets = st.tuples(values, values, st.binary(min_size=16, max_size=16))
rngs = st.integers(0, 1 << 32).map(random.Random)  # how bytes are cut


def wire(packet: Packet) -> bytes:
    return b"".join(bytes_prefix(len(value)) + value for value in packet)


class Stream(BytesIO):
    """Remembers when it ran out of bytes."""

    short = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.short |= size is not None and len(data) < size
        return data


def oracle(data: bytes) -> tuple[list[Packet], str]:
    """What the schema reads of it: packets, and how it ends: "", "short" or "malformed"."""
    stream = Stream(data)
    found: list[Packet] = []
    while stream.tell() < len(data):
        try:
            packet = SCHEMA.parse_stream(stream)
        except ConstructError:
            return found, "short" if stream.short else "malformed"
        found.append((packet.header, packet.payload, packet.mac))
    return found, ""


def split(chunks: Iterator[bytes]) -> tuple[list[Packet], bool]:
    """What the splitter makes of it: packets, and whether it refused what came then."""
    splitter = PacketSplitter(BOUNDS)
    found: list[Packet] = []
    for chunk in chunks:
        splitter.feed(chunk)
        try:
            while (packet := splitter.next()) is not None:
                found.append(packet)
        except ProtocolError:
            return found, True
    return found, False


def cut(data: bytes, rng: random.Random) -> Iterator[bytes]:
    at = 0
    longest = rng.choice((1, 3, 40, 2_000))
    while at < len(data):
        size = rng.randint(1, longest)
        yield data[at : at + size]
        at += size


def check(data: bytes, rng: random.Random) -> None:
    found, end = oracle(data)
    whole = split(iter([data]))
    assert whole[0] == found
    if end == "short" and whole[1]:  # refused as soon as it showed: then no more bytes can help
        assert oracle(data + PADDING)[1] == "malformed"
    else:
        assert whole[1] == (end == "malformed")
    pieces = list(cut(data, rng))
    # it waits for a packet's rest before it looks again: then the rest is refused
    if whole[1] and not split(iter(pieces))[1]:
        pieces.append(PADDING)
    assert split(iter(pieces)) == whole


@settings(max_examples=200)
@given(sent=st.lists(packets, max_size=4), rng=rngs)
def test_packets_and_lengths_beyond_the_bounds_agree_with_the_schema(
    sent: list[Packet], rng: random.Random
) -> None:
    check(b"".join(map(wire, sent)), rng)


@settings(max_examples=60)
@given(
    packet=packets.filter(
        lambda packet: len(packet[0]) <= BOUNDS.header and len(packet[1]) <= BOUNDS.payload
    )
)
def test_a_packet_cut_anywhere_waits_for_its_rest(packet: Packet) -> None:
    data = wire(packet)
    for at in range(len(data)):
        assert split(iter([data[:at]])) == ([], False)
        assert split(iter([data[:at], data[at:]])) == ([packet], False)


@settings(max_examples=400)
@given(sent=st.lists(packets, min_size=1, max_size=3), rng=rngs)
def test_damaged_packets_agree_with_the_schema(sent: list[Packet], rng: random.Random) -> None:
    data = bytearray(b"".join(map(wire, sent)))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(len(data), 9))
        damage = rng.randrange(3)
        if damage == 0:
            data[at] = rng.choice((0, 3, 0x0A, 0x7F, 0x80, 0xF8, 0xFE, 0xFF, rng.randrange(256)))
        elif damage == 1:
            data.insert(at, rng.choice((0, 0xFF, rng.randrange(256))))
        elif len(data) > 1:
            del data[at]
    check(bytes(data), rng)


@settings(max_examples=100)
@given(header=values, payload=values, mac=macs, rng=rngs)
def test_macs_of_any_size_agree_with_the_schema(
    header: bytes, payload: bytes, mac: bytes, rng: random.Random
) -> None:
    check(wire((header, payload, mac)), rng)


@settings(max_examples=200)
@given(data=st.binary(max_size=60), rng=rngs)
def test_noise_agrees_with_the_schema(data: bytes, rng: random.Random) -> None:
    check(data, rng)
