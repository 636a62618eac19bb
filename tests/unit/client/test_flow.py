"""A tunnel's chunks and credit alone."""

from io import BytesIO

import pytest

from iris.client.errors import Closed
from iris.client.flow import Flow, Outgoing
from iris.errors import ProtocolError
from iris.relay_protocol.schema import DEFAULT, MESSAGE_SIZE, Op


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


def test_a_message_is_cut_within_the_credit() -> None:
    flow, message = Flow(7, 10, 1000), Outgoing(b"0123456789abcdefghij!")
    assert flow.cut(message) == []
    flow.grant(15)
    assert packets(flow.cut(message)) == [(21, b"0123456789")]
    assert flow.cut(message) == []
    assert not message.complete
    flow.grant(6)
    assert packets(flow.cut(message)) == [(0, b"abcdefghij"), (0, b"!")]
    assert message.complete
    assert flow.cut(message) == []


def test_a_message_is_sent_without_copying() -> None:
    flow, data = Flow(7, 10, 1000), b"x" * 20
    flow.grant(100)
    chunks = flow.cut(Outgoing(data))[1::2]
    assert all(isinstance(chunk, memoryview) and chunk.obj is data for chunk in chunks)


def test_mutable_data_is_copied() -> None:
    flow, data = Flow(7, 10, 1000), bytearray(b"before")
    flow.grant(100)
    cut = flow.cut(Outgoing(data))
    data[:] = b"after!"
    assert packets(cut) == [(6, b"before")]


def test_an_empty_or_too_long_message_is_rejected() -> None:
    with pytest.raises(ValueError, match="empty"):
        Outgoing(b"")
    with pytest.raises(ValueError, match=str(MESSAGE_SIZE)):
        Outgoing(bytes(MESSAGE_SIZE + 1))


def test_chunks_make_messages() -> None:
    flow = Flow(7, 10, 1000)
    assert flow.receive() is None
    assert flow.feed(3, b"one")
    assert not flow.feed(13, b"0123456789")
    assert flow.feed(0, b"abc")
    assert [flow.receive(), flow.receive()] == [b"one", b"0123456789abc"]
    assert flow.receive() is None


def test_what_has_arrived_can_still_be_received_after_the_end() -> None:
    flow = Flow(7, 10, 1000)
    flow.grant(100)
    flow.feed(900, b"0123456789")
    flow.feed(3, b"one")
    flow.error = Closed("connection lost")
    assert flow.window_update() == b""
    assert flow.receive() == b"one"
    for _ in range(2):
        with pytest.raises(Closed, match="connection lost"):
            flow.receive()
    with pytest.raises(Closed, match="connection lost"):
        flow.cut(Outgoing(b"more"))


def test_a_close_packet_is_due_once_and_not_after_the_end() -> None:
    flow, ended = Flow(7, 10, 1000), Flow(8, 10, 1000)
    assert [flow.begin_close(), flow.begin_close()] == [True, False]
    ended.error = Closed()
    assert not ended.begin_close()


def test_a_message_of_one_chunk_isnt_copied() -> None:
    flow, chunk = Flow(7, 10, 1000), b"whole"
    flow.feed(5, chunk)
    assert flow.receive() is chunk


def test_an_empty_chunk_changes_nothing() -> None:
    flow = Flow(7, 10, 1000)
    assert not flow.feed(0, b"")
    assert not flow.feed(5, b"")
    assert flow.feed(0, b"12345")


@pytest.mark.parametrize(("size", "chunk"), [(0, b"x"), (2, b"xxx"), (MESSAGE_SIZE + 1, b"x")])
def test_an_impossible_chunk_is_a_protocol_error(size: int, chunk: bytes) -> None:
    with pytest.raises(ProtocolError):
        Flow(7, 10, 1000).feed(size, chunk)


def test_credit_is_granted_in_steps_once_it_was_used() -> None:
    flow = Flow(7, 100, 1600)
    for _ in range(9):
        flow.feed(10, bytes(10))
        flow.receive()
        assert flow.window_update() == b""
    flow.feed(10, bytes(10))
    assert flow.window_update() == b""  # not received yet
    flow.receive()
    assert granted(flow.window_update()) == 100
    assert flow.window_update() == b""


def test_credit_is_granted_at_once_when_the_begun_message_needs_it() -> None:
    flow = Flow(7, 100, 1600)
    flow.feed(50, bytes(50))
    flow.receive()
    assert flow.window_update() == b""
    flow.feed(1600, bytes(100))
    assert granted(flow.window_update()) == 50


def test_credit_is_granted_at_once_when_the_next_chunk_needs_it() -> None:
    flow = Flow(7, 100, 120)
    flow.feed(30, bytes(30))
    flow.receive()
    assert granted(flow.window_update()) == 30


def test_the_credit_of_an_abandoned_message_is_granted_with_the_next_one() -> None:
    flow = Flow(7, 100, 1600)
    flow.feed(500, bytes(100))
    flow.feed(0, bytes(100))
    assert flow.window_update() == b""
    assert flow.feed(3, b"new")
    assert granted(flow.window_update()) == 200
    assert flow.receive() == b"new"
    assert flow.receive() is None
