"""The header templates and the gob codec: the same bytes, values and rejections."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iris.gobber import Decoder, Encoder, GobError
from iris.gobber.framing import encode_uint, read_uint
from iris.gobber.types import BIG_INT, INTERFACE, UINT, gob, struct
from iris.proto.link.header_templates import HeaderDecoder, HeaderEncoder, _write_tree
from iris.proto.wire import clusters as iris
from iris.proto.wire import ring as pastry
from iris.proto.wire import trees as scribe
from iris.proto.wire.link import ClosePacket, Header
from tests.property.test_gobber_streams import spoil

Head = tuple[object, bytes, bytes]

uints = st.one_of(st.just(0), st.integers(0, 0x90), st.integers(0, (1 << 64) - 1))
times = st.one_of(st.just(0), st.integers(-(1 << 63), (1 << 63) - 1), st.just(5_000_000_000))
ids = st.one_of(
    st.none(), st.integers(0, (1 << 40) - 1), st.integers(0, 300), st.integers(-(1 << 70), 1 << 70)
)
node_ids = st.integers(1, (1 << 40) - 1)
secrets = st.one_of(st.just(b""), st.binary(min_size=16, max_size=16), st.binary(max_size=20))
clusters = st.builds(iris.Header, st.integers(0, 4), uints, uints, uints, st.booleans(), times)
tunnels = st.builds(
    iris.Header,
    st.just(4),
    uints,
    tun_id=uints,
    tun_key=secrets,
    tun_addrs=st.lists(st.just("10.0.0.1:80")),
    tun_time=times,
)
reports = st.builds(scribe.Report, st.lists(node_ids), st.lists(st.integers(0, 99)))
trees = st.builds(
    scribe.Header,
    st.one_of(clusters, clusters, tunnels, st.none()),
    st.integers(0, 5),
    ids,
    ids,
    ids,
    st.one_of(st.none(), reports),
)
usual = st.builds(
    pastry.Header,
    st.builds(
        scribe.Header,
        clusters,
        st.integers(2, 5),
        node_ids,
        st.one_of(st.none(), node_ids),
        st.one_of(st.none(), node_ids),
    ),
    st.just(0),
    node_ids,
)
states = st.builds(
    pastry.State,
    st.one_of(st.none(), st.dictionaries(st.text(max_size=3), st.lists(st.text(max_size=3)))),
    uints,
)
others = st.one_of(
    st.builds(
        pastry.Header,
        st.one_of(trees, st.none()),
        st.integers(0, 6),
        ids,
        st.one_of(st.none(), states),
    ),
    st.builds(iris.DataHeader, st.integers(0, 1 << 20)),
    st.just(ClosePacket()),
    clusters,
)
keys = st.binary(min_size=16, max_size=16)
heads = st.one_of(
    st.tuples(usual, keys, keys),
    st.tuples(usual, secrets, secrets),
    st.tuples(others, secrets, secrets),
)
streams = st.lists(heads, max_size=12)
tunnel_heads = st.tuples(
    st.builds(
        iris.DataHeader, st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, 300))
    ),
    keys,
    keys,
)
TUNNEL: Head = (iris.DataHeader(70_000), b"k" * 16, b"i" * 16)
USUAL: Head = (
    pastry.Header(
        scribe.Header(iris.Header(1, 3, 0, 77, False, 5_000_000_000), 3, 1 << 39, 99), 0, 99
    ),
    b"k" * 16,
    b"i" * 16,
)


def gob_heads(stream: list[Head], encoder: Encoder | None = None) -> list[bytes]:
    encoder = encoder or Encoder()
    return [encoder.encode(Header(*head)) for head in stream]


def outcome(decode: Callable[[bytes], Head], data: bytes) -> object:
    try:
        return decode(data)
    except GobError:
        return GobError


class Plain:
    """The gob codec alone."""

    def __init__(self) -> None:
        self._decoder = Decoder(max_size=1 << 20, max_types=64)

    def decode(self, data: bytes) -> Head:
        header = self._decoder.decode(data, Header)
        return header.meta, header.key, header.iv


def taught(example: Head = USUAL) -> HeaderDecoder:
    decoder = HeaderDecoder(max_size=1 << 20, max_types=64)
    for data in gob_heads([example, example]):
        decoder.decode(data)
    return decoder


examples = st.sampled_from([USUAL, TUNNEL])


@given(examples, st.lists(st.one_of(heads, tunnel_heads), max_size=12))
def test_a_stream_of_headers_is_the_gob_stream_to_the_byte(
    example: Head, stream: list[Head]
) -> None:
    encoder = HeaderEncoder()
    assert [encoder.encode(*head) for head in [example, *stream, example]] == gob_heads(
        [example, *stream, example]
    )


@given(examples, st.lists(st.one_of(heads, tunnel_heads), max_size=12), st.integers(0, 40))
def test_headers_round_trip_with_any_type_numbers_of_the_sender(
    example: Head, stream: list[Head], before: int
) -> None:
    encoder = Encoder()
    for number in range(before):  # types of another stream, which this one never sees
        made = type("T", (), {"__annotations__": {"a": int}, "a": gob("A", UINT)})
        foreign: Callable[[int], object] = struct(f"T{number}")(dataclass(slots=True)(made))
        encoder.encode(foreign(1))
    stream = [example, *stream, example]
    decoder, plain = HeaderDecoder(max_size=1 << 20, max_types=128), Plain()
    data = [encoder.encode(Header(*head)) for head in stream]
    assert [decoder.decode(head) for head in data] == [plain.decode(head) for head in data]


@settings(max_examples=300)
@given(examples, st.one_of(heads, tunnel_heads), st.integers(0, 1 << 32).map(random.Random))
def test_corrupted_headers_have_the_outcome_of_gob(
    example: Head, head: Head, rng: random.Random
) -> None:
    *good, data = gob_heads([example, example, head])
    data = spoil(rng, data)
    plain = Plain()
    for one in good:
        plain.decode(one)
    assert outcome(taught(example).decode, data) == outcome(plain.decode, data)


@pytest.mark.parametrize("example", [USUAL, TUNNEL], ids=["cluster", "tunnel"])
def test_every_change_of_a_byte_has_the_outcome_of_gob(example: Head) -> None:
    good = gob_heads([example, example])
    for at in range(len(good[1])):
        for value in {
            0,
            1,
            2,
            5,
            6,
            7,
            127,
            128,
            254,
            255,
            good[1][at] ^ 1,
            good[1][at] + 1 & 0xFF,
        }:
            data = good[1][:at] + bytes((value,)) + good[1][at + 1 :]
            plain = Plain()
            plain.decode(good[0])
            assert outcome(taught(example).decode, data) == outcome(plain.decode, data), (at, value)
    for size in range(len(good[1])):
        assert outcome(taught(example).decode, good[1][:size]) is GobError


@pytest.mark.parametrize(
    ("example", "some"),
    [(USUAL, st.tuples(usual, keys, keys)), (TUNNEL, tunnel_heads)],
    ids=["cluster", "tunnel"],
)
def test_common_headers_take_a_template_both_ways(
    example: Head, some: st.SearchStrategy[Head]
) -> None:
    encoder, decoder = HeaderEncoder(), taught(example)
    encoder.encode(*example)
    encoder._encoder = decoder._decoder = None  # type: ignore[assignment]

    @given(some)
    def check(head: Head) -> None:
        assert decoder.decode(encoder.encode(*head)) == head

    check()


@struct("header", registered="*pastry.headex")
@dataclass(slots=True)
class Reordered:
    """The ring's header by a sender who declares it in another order."""

    dest: int | None = gob("Dest", BIG_INT)
    meta: object = gob("Meta", INTERFACE)


def test_a_sender_with_its_fields_in_another_order_is_read_by_gob_alone() -> None:
    encoder, decoder = Encoder(), HeaderDecoder(max_size=1 << 20, max_types=64)
    for _ in range(4):
        data = encoder.encode(Header(Reordered(99, USUAL[0].meta), *USUAL[1:]))  # type: ignore[attr-defined]
        assert decoder.decode(data.replace(b"*pastry.headex", b"*pastry.header")) == USUAL
    assert decoder._prefixes is None


@pytest.mark.parametrize("change", [{"op": 1}, {"dest": None}, {"state": pastry.State({}, 1)}])
def test_the_rings_own_packets_take_gob(change: dict[str, Any]) -> None:
    encoder, plain = HeaderEncoder(), Encoder()
    ring = pastry.Header(USUAL[0].meta, 0, 99)  # type: ignore[attr-defined]
    for name, value in change.items():
        setattr(ring, name, value)
    for head in (USUAL, (ring, b"", b"")):
        assert encoder.encode(*head) == plain.encode(Header(*head))


@pytest.mark.parametrize("size", [(1 << 64) - 1, 1 << 63, 1 << 62, 1 << 31, 200])
def test_sizes_beyond_the_end_are_malformed_wherever_they_stand(size: int) -> None:
    """Also where nothing else follows: compiled, an index beyond 63 bits is no IndexError."""
    good = gob_heads([USUAL, USUAL])
    data, at = good[1], read_uint(good[1], 0)[1]
    places = [
        data.index(name) + len(name) + 2
        for name in (b"*pastry.header", b"*scribe.header", b"*iris.header")
    ]
    for place in places:
        for end in (*places[1:], *range(place + 1, len(data) + 1)):
            body = data[at:place] + encode_uint(size) + data[place + 1 : end]
            spoilt = encode_uint(len(body)) + body
            assert outcome(taught().decode, spoilt) is GobError


def test_long_numbers_of_peers_are_not_cached() -> None:
    encoder = HeaderEncoder()
    encoder.encode(*USUAL)
    before = _write_tree.cache_info().currsize
    for tree in (
        scribe.Header(iris.Header(), 2, 1 << 70, 1, 1),
        scribe.Header(iris.Header(), 2, 1, 1 << 64, 1),
        scribe.Header(iris.Header(), 2, 1, 1, -1),
    ):
        head = pastry.Header(tree, 0, 1), b"k" * 16, b"i" * 16
        assert encoder.encode(*head) == gob_heads([USUAL, head])[1]
    assert _write_tree.cache_info().currsize == before
