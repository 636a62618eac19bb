from iris.proto.scribe.deferred import Deferred, DeferredMessages
from iris.proto.wire.message import Payload
from iris.proto.wire.node_id import NodeId
from iris.proto.wire.trees import Header

A, B = NodeId(1), NodeId(2)


def parked(data: bytes = b"", left: int = 3) -> Deferred:
    return Deferred(Header(), Payload.of(data), left)


def test_messages_are_taken_in_the_order_in_which_they_came() -> None:
    parking = DeferredMessages(messages=10, size=100)
    first, other, second = parked(), parked(), parked()
    assert all([parking.add(A, first), parking.add(B, other), parking.add(A, second)])
    assert parking.take(A) == [first, second]
    assert parking.take(A) == []
    assert parking.topics() == [B]


def test_messages_are_bounded_by_number_over_all_topics() -> None:
    parking = DeferredMessages(messages=2, size=100)
    assert parking.add(A, parked())
    assert parking.add(B, parked())
    assert not parking.add(A, parked())
    parking.take(B)
    assert parking.add(A, parked())


def test_messages_are_bounded_by_bytes_over_all_topics() -> None:
    parking = DeferredMessages(messages=10, size=10)
    assert parking.add(A, parked(b"1234567"))
    assert not parking.add(B, parked(b"1234"))
    assert parking.add(B, parked(b"123"))
    parking.take(A)
    assert parking.add(B, parked(b"1234567"))


def test_a_message_is_forgotten_after_its_ticks_and_makes_room() -> None:
    parking = DeferredMessages(messages=2, size=4)
    parking.add(A, parked(b"12", left=1))
    parking.add(A, stays := parked(b"34", left=2))
    assert parking.tick() == 1
    assert parking.add(B, parked(b"56", left=1))
    assert parking.take(A) == [stays]
    assert parking.tick() == 1
    assert not parking
    assert parking.tick() == 0


def test_what_is_out_of_time_is_not_parked() -> None:
    assert not DeferredMessages(messages=2, size=4).add(A, parked(left=0))


def test_a_message_without_payload_takes_no_bytes() -> None:
    parking = DeferredMessages(messages=1, size=0)
    assert parking.add(A, Deferred(Header(), None, 1))
    assert len(parking.take(A)) == 1
