"""Packets of the topic trees. Counterpart of Go's proto/scribe/proto.go and heart.go."""

from dataclasses import dataclass
from enum import IntEnum

from iris.gobber.record import Record
from iris.gobber.types import (
    BIG_INT,
    INT,
    INTERFACE,
    UINT,
    PointerTo,
    SliceOf,
    declare,
    gob,
    struct,
)


class Op(IntEnum):
    """The kind of a packet; BALANCE is the papers' anycast, PUBLISH their multicast."""

    SUBSCRIBE = 0
    UNSUBSCRIBE = 1
    PUBLISH = 2
    BALANCE = 3
    REPORT = 4
    DIRECT = 5


@struct("report")
@dataclass(slots=True)
class Report:
    """Capacity reachable through the sender, by topic shared with the receiver: parallel lists."""

    tops: list[int] = gob("Tops", SliceOf(BIG_INT))
    caps: list[int] = gob("Caps", SliceOf(INT))


class Header(Record):
    """A tree packet's envelope; prev is the previous hop in the tree, None outside of it."""

    __slots__ = ("meta", "op", "prev", "report", "sender", "topic")

    def __init__(
        self,
        meta: object = None,
        op: int = 0,
        sender: int | None = None,
        topic: int | None = None,
        prev: int | None = None,
        report: Report | None = None,
    ) -> None:
        self.meta, self.op, self.sender = meta, op, sender
        self.topic, self.prev, self.report = topic, prev, report


declare(
    Header,
    "header",
    "*scribe.header",
    meta=("Meta", INTERFACE),
    op=("Op", UINT),
    sender=("Sender", BIG_INT),
    topic=("Topic", BIG_INT),
    prev=("Prev", BIG_INT),
    report=("Report", PointerTo(Report)),
)
