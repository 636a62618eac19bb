"""The topic trees' packets. Counterpart of Go's proto/scribe/proto.go and heart.go."""

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
    """What a `Header` asks for; BALANCE is the papers' anycast, PUBLISH their multicast."""

    SUBSCRIBE = 0
    UNSUBSCRIBE = 1
    PUBLISH = 2
    BALANCE = 3
    REPORT = 4
    DIRECT = 5


@struct("report")
@dataclass(slots=True)
class Report:
    """Capacity reachable through the sender, for all topics shared with the receiver.

    Parallel lists.
    """

    tops: list[int] = gob("Tops", SliceOf(BIG_INT))
    caps: list[int] = gob("Caps", SliceOf(INT))


class Header(Record):
    """A tree packet's envelope.

    Sender is the origin node, prev the hop before inside the tree (None: not in it yet).
    """

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
        self.meta, self.op, self.sender, self.topic, self.prev, self.report = (
            meta,
            op,
            sender,
            topic,
            prev,
            report,
        )


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
