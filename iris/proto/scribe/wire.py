"""The topic trees' packets. Answers to Go's proto/scribe/proto.go and heart.go."""

from dataclasses import dataclass
from enum import IntEnum

from iris.gobber.types import BIG_INT, INT, INTERFACE, UINT, PointerTo, SliceOf, gob, struct


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
    """Capacity reachable through the sender, for all topics shared with the receiver; parallel lists."""

    tops: list[int] = gob("Tops", SliceOf(BIG_INT))
    caps: list[int] = gob("Caps", SliceOf(INT))


@struct("header", registered="*scribe.header")
@dataclass(slots=True)
class Header:
    """A tree packet's envelope: sender is the origin node, prev the hop before inside the tree (None: not in it yet)."""

    meta: object = gob("Meta", INTERFACE)
    op: int = gob("Op", UINT)
    sender: int | None = gob("Sender", BIG_INT)
    topic: int | None = gob("Topic", BIG_INT)
    prev: int | None = gob("Prev", BIG_INT)
    report: Report | None = gob("Report", PointerTo(Report))
