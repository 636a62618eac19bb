"""A tunnel's chunks and allowances alone."""

from io import BytesIO

import pytest

from iris.client.flow import Flow, Outgoing
from iris.errors import ProtocolError
from iris.relay_protocol.client_codec import MESSAGE_SIZE
from iris.relay_protocol.schema import DEFAULT, Op


def packets(buffers: list[bytes | memoryview]) -> list[tuple[int, bytes]]:
    """The (size, chunk) of what was cut."""
    data, found = b"".join(buffers), []
    stream = BytesIO(data)
    while stream.tell() < len(data):
        packet = DEFAULT.from_client.parse_stream(stream)
        assert (packet.op, packet.body.id) == (Op.TUNNEL_TRANSFER, 7)
        found.append((packet.body.size, packet.body.chunk))
    return found


def granted(packet: bytes) -> int:
    """How much a packet gives back; 0 for none."""
    return DEFAULT.from_client.parse(packet).body.space if packet else 0


def test_a_message_is_cut_within_the_allowance() -> None:
    flow, message = Flow(7, 10, 1000), Outgoing(b"0123456789abcdefghij!")
    assert flow.cut(message) == []
    flow.allow(15)
    assert packets(flow.cut(message)) == [(21, b"0123456789")]
    assert flow.cut(message) == []
    assert not message.whole
    flow.allow(6)
    assert packets(flow.cut(message)) == [(0, b"abcdefghij"), (0, b"!")]
    assert message.whole
    assert flow.cut(message) == []


def test_a_message_is_sent_from_where_it_is() -> None:
    flow, data = Flow(7, 10, 1000), b"x" * 20
    flow.allow(100)
    chunks = flow.cut(Outgoing(data))[1::2]
    assert all(isinstance(chunk, memoryview) and chunk.obj is data for chunk in chunks)


def test_what_can_change_is_copied() -> None:
    flow, data = Flow(7, 10, 1000), bytearray(b"before")
    flow.allow(100)
    cut = flow.cut(Outgoing(data))
    data[:] = b"after!"
    assert packets(cut) == [(6, b"before")]


def test_an_empty_or_too_long_message_cant_be_sent() -> None:
    with pytest.raises(ValueError, match="empty"):
        Outgoing(b"")
    with pytest.raises(ValueError, match=str(MESSAGE_SIZE)):
        Outgoing(bytes(MESSAGE_SIZE + 1))


def test_chunks_make_messages() -> None:
    flow = Flow(7, 10, 1000)
    assert not flow.ready
    assert flow.take(3, b"one")
    assert not flow.take(13, b"0123456789")
    assert flow.take(0, b"abc")
    assert [flow.next(), flow.next()] == [b"one", b"0123456789abc"]
    assert not flow.ready
    with pytest.raises(IndexError):
        flow.next()


def test_a_message_of_one_chunk_isnt_copied() -> None:
    flow, chunk = Flow(7, 10, 1000), b"whole"
    flow.take(5, chunk)
    assert flow.next() is chunk


def test_an_empty_chunk_changes_nothing() -> None:
    flow = Flow(7, 10, 1000)
    assert not flow.take(0, b"")
    assert not flow.take(5, b"")
    assert flow.take(0, b"12345")


@pytest.mark.parametrize(("size", "chunk"), [(0, b"x"), (2, b"xxx"), (MESSAGE_SIZE + 1, b"x")])
def test_a_chunk_that_cant_be_is_refused(size: int, chunk: bytes) -> None:
    with pytest.raises(ProtocolError):
        Flow(7, 10, 1000).take(size, chunk)


def test_space_is_given_back_in_lots_once_it_was_used() -> None:
    flow = Flow(7, 100, 1600)
    for _ in range(9):
        flow.take(10, bytes(10))
        flow.next()
        assert flow.settle() == b""
    flow.take(10, bytes(10))
    assert flow.settle() == b""  # not received yet
    flow.next()
    assert granted(flow.settle()) == 100
    assert flow.settle() == b""


def test_space_is_given_back_at_once_when_the_message_that_comes_needs_it() -> None:
    flow = Flow(7, 100, 1600)
    flow.take(50, bytes(50))
    flow.next()
    assert flow.settle() == b""
    flow.take(1600, bytes(100))
    assert granted(flow.settle()) == 50


def test_space_is_given_back_at_once_when_the_next_chunk_needs_it() -> None:
    flow = Flow(7, 100, 120)
    flow.take(30, bytes(30))
    flow.next()
    assert granted(flow.settle()) == 30


def test_the_space_of_a_message_that_was_given_up_is_given_back_with_the_next_one() -> None:
    flow = Flow(7, 100, 1600)
    flow.take(500, bytes(100))
    flow.take(0, bytes(100))
    assert flow.settle() == b""
    assert flow.take(3, b"new")
    assert granted(flow.settle()) == 200
    assert flow.next() == b"new"
    assert not flow.ready
