"""Link packets and their codec, without sockets."""

import hmac
import tracemalloc
from dataclasses import dataclass

import pytest

from iris.config import Limits
from iris.errors import AuthenticationError, ProtocolError
from iris.gobber import bytes_prefix
from iris.proto.link.classic import Bounds, ClassicCodec, LinkKeys, PacketSplitter, derive_links
from iris.proto.wire.link import ClosePacket
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.ring import Header
from iris.proto.wire.session import LinkRequest

SECRET = b"what both sides know"


def codec(keys: LinkKeys) -> ClassicCodec:
    codec = ClassicCodec(keys, Limits())
    codec.raise_bounds()
    return codec


@dataclass
class Ends:
    client: ClassicCodec
    server: ClassicCodec

    def pass_on(self, message: Message) -> Message:
        self.server.feed(b"".join(self.client.seal(message)))
        received = self.server.open()
        assert received is not None
        return received


@pytest.fixture
def ends() -> Ends:
    client, server = (next(derive_links(SECRET, server=server)) for server in (False, True))
    return Ends(codec(client), codec(server))


def test_a_message_arrives_as_it_was_sent(ends: Ends) -> None:
    for size in (0, 1, 200, 20_000):
        message = ends.pass_on(Message(Header(op=3, dest=size), Payload.of(bytes(size))))
        assert message.meta == Header(op=3, dest=size)
        assert message.payload is not None
        assert message.data() == bytes(size)


def test_a_packet_of_the_nodes_own_has_no_payload(ends: Ends) -> None:
    assert ends.pass_on(Message(LinkRequest(5))).payload is None
    assert ends.pass_on(Message(ClosePacket())).meta == ClosePacket()


def test_an_empty_payload_has_a_key(ends: Ends) -> None:
    payload = ends.pass_on(Message(LinkRequest(5), Payload.of(b""))).payload
    assert payload is not None
    assert [len(part) for part in payload.seal()] == [0, 16, 16]


def test_a_long_payload_is_sent_from_where_it_is(ends: Ends) -> None:
    payload = Payload.of(bytes(100_000))
    _, data, _ = ends.client.seal(Message(None, payload))
    assert data is payload.seal()[0]


def test_a_forwarded_payload_is_not_encrypted_again(ends: Ends) -> None:
    payload = ends.pass_on(Message(None, Payload.of(b"through"))).payload
    assert payload is not None
    again = ends.pass_on(Message(None, payload)).payload
    assert again is not None
    assert again.seal() == payload.seal()


def test_each_direction_has_keys_of_its_own(ends: Ends) -> None:
    packet = b"".join(ends.client.seal(Message(None)))
    ends.client.feed(packet)
    with pytest.raises(AuthenticationError):
        ends.client.open()


def test_a_session_has_different_keys_for_its_two_links() -> None:
    (control, data), (their_control, their_data) = (
        derive_links(SECRET, server=server) for server in (False, True)
    )
    assert control.outgoing == their_control.incoming
    assert data.incoming == their_data.outgoing
    keys = [half.mac_key for link in (control, data) for half in (link.incoming, link.outgoing)]
    assert len(set(keys)) == 4


@pytest.mark.parametrize("at", [6, -21, -1])  # in the head, the payload, the MAC
def test_a_changed_byte_breaks_the_mac(ends: Ends, at: int) -> None:
    packet = bytearray(b"".join(ends.client.seal(Message(LinkRequest(1), Payload.of(b"payload")))))
    packet[at] ^= 1
    ends.server.feed(bytes(packet))
    with pytest.raises(AuthenticationError):
        ends.server.open()


def test_a_repeated_packet_breaks_the_running_mac(ends: Ends) -> None:
    packet = b"".join(ends.client.seal(Message(LinkRequest(1))))
    ends.server.feed(packet + packet)
    assert ends.server.open() is not None
    with pytest.raises(AuthenticationError):
        ends.server.open()


def test_packets_before_a_bad_one_still_count(ends: Ends) -> None:
    good = b"".join(ends.client.seal(Message(LinkRequest(1))))
    ends.server.feed(
        good + bytes_prefix(3) + b"bad" + bytes_prefix(0) + bytes_prefix(16) + bytes(16)
    )
    message = ends.server.open()
    assert message is not None
    assert message.meta == LinkRequest(1)
    with pytest.raises(AuthenticationError):
        ends.server.open()


def test_macs_are_compared_in_constant_time(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(one: bytes, other: bytes) -> bool:
        return False

    monkeypatch.setattr(hmac, "compare_digest", refuse)
    with pytest.raises(AuthenticationError):
        ends.pass_on(Message(None))


def sealed_by_hand(keys: LinkKeys, head: bytes, data: bytes) -> bytes:
    """A packet with a good MAC around anything."""
    sender = codec(keys)
    sender._encode = lambda meta, key, iv: head
    payload = Payload.sealed(data, bytes(16), bytes(16))
    return b"".join(sender.seal(Message(None, payload)))


@pytest.mark.parametrize(
    ("head", "data"),
    [(b"", b""), (b"\x05noise", b""), (b"\x03\x0a\x00\x00", b"")],
    ids=["no head", "no gob", "another type"],
)
def test_a_malformed_header_is_a_protocol_violation(ends: Ends, head: bytes, data: bytes) -> None:
    ends.server.feed(sealed_by_hand(next(derive_links(SECRET, server=False)), head, data))
    with pytest.raises(ProtocolError):
        ends.server.open()


def test_data_without_a_key_is_a_protocol_violation(ends: Ends) -> None:
    payload = Payload(None, (b"data", b"", b""))
    with pytest.raises(ProtocolError, match="without a key"):
        ends.pass_on(Message(None, payload))


@pytest.mark.parametrize(
    ("key", "iv"), [(b"", bytes(16)), (bytes(16), b""), (bytes(15), bytes(16))]
)
def test_a_key_of_the_wrong_size_is_a_protocol_violation(ends: Ends, key: bytes, iv: bytes) -> None:
    payload = Payload(None, (b"data", key, iv))
    with pytest.raises(ProtocolError):
        ends.pass_on(Message(None, payload))


def test_a_length_beyond_the_bounds_is_refused_before_its_bytes_come() -> None:
    for bounds, first in (
        (Bounds(header=100, payload=1 << 30), b""),
        (Bounds(header=1 << 30, payload=100), bytes_prefix(1) + b"h"),
    ):
        splitter = PacketSplitter(bounds)
        splitter.feed(first + bytes_prefix(1 << 29)[:5])
        with pytest.raises(ProtocolError):
            splitter.next()


def test_many_small_reads_cost_no_more_memory_than_one() -> None:
    splitter = PacketSplitter(Bounds(header=100, payload=100_000))
    splitter.feed(bytes_prefix(1) + b"h" + bytes_prefix(100_000))
    tracemalloc.start()
    try:
        for number in range(40_000):
            splitter.feed(number.to_bytes(2, "big"))
            assert splitter.next() is None
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()


def test_raised_bounds_apply_to_bytes_fed_before() -> None:
    bounds = Bounds(header=10, payload=10)
    splitter = PacketSplitter(bounds)
    packet = b"".join(
        bytes_prefix(len(value)) + value for value in (b"h" * 9, b"p" * 500, b"m" * 16)
    )
    splitter.feed(packet)
    bounds.payload = 500
    assert splitter.next() == (b"h" * 9, b"p" * 500, b"m" * 16)


def test_no_key_shows_in_a_repr() -> None:
    keys = next(derive_links(SECRET, server=True))
    assert "key" not in repr(keys).replace("LinkKeys", "")
