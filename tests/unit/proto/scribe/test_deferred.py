from iris.proto.scribe.deferred import Deferred, DeferredMessages
from iris.proto.wire.message import Payload
from iris.proto.wire.node_id import NodeId
from iris.proto.wire.trees import Header

A, B = NodeId(1), NodeId(2)


def message(data: bytes = b"", left: int = 3) -> Deferred:
    return Deferred(Header(), Payload.of(data), left)


def test_messages_are_taken_in_the_order_in_which_they_came() -> None:
    messages = DeferredMessages(messages=10, size=100)
    first, other, second = message(), message(), message()
    assert all([messages.add(A, first), messages.add(B, other), messages.add(A, second)])
    assert messages.take(A) == [first, second]
    assert messages.take(A) == []
    assert messages.topics() == [B]


def test_messages_are_bounded_by_number_over_all_topics() -> None:
    messages = DeferredMessages(messages=2, size=100)
    assert messages.add(A, message())
    assert messages.add(B, message())
    assert not messages.add(A, message())
    messages.take(B)
    assert messages.add(A, message())


def test_messages_are_bounded_by_bytes_over_all_topics() -> None:
    messages = DeferredMessages(messages=10, size=10)
    assert messages.add(A, message(b"1234567"))
    assert not messages.add(B, message(b"1234"))
    assert messages.add(B, message(b"123"))
    messages.take(A)
    assert messages.add(B, message(b"1234567"))


def test_a_message_is_forgotten_after_its_ticks_and_makes_room() -> None:
    messages = DeferredMessages(messages=2, size=4)
    messages.add(A, message(b"12", left=1))
    messages.add(A, stays := message(b"34", left=2))
    assert messages.tick() == 1
    assert messages.add(B, message(b"56", left=1))
    assert messages.take(A) == [stays]
    assert messages.tick() == 1
    assert not messages
    assert messages.tick() == 0


def test_a_message_without_payload_takes_no_bytes() -> None:
    messages = DeferredMessages(messages=1, size=0)
    assert messages.add(A, Deferred(Header(), None, 1))
    assert len(messages.take(A)) == 1
