"""Packets of the ring. Counterpart of Go's proto/pastry/proto.go and handshake.go's init packet."""

from dataclasses import dataclass
from enum import IntEnum

from iris.gobber.record import Record
from iris.gobber.types import (
    BIG_INT,
    INTERFACE,
    STRING,
    UINT,
    MapOf,
    PointerTo,
    SliceOf,
    declare,
    gob,
    struct,
)


class Op(IntEnum):
    """The kind of a packet; NOP carries the layer above."""

    NOP = 0
    JOIN = 1
    REPAIR = 2
    ACTIVE = 3
    PASSIVE = 4
    EXCHANGE = 5
    CLOSE = 6


@struct("initPacket", registered="*pastry.initPacket")
@dataclass(slots=True)
class InitPacket:
    """A peer's id, and where it listens: "ip:port" strings."""

    id: int | None = gob("Id", BIG_INT)
    addrs: list[str] = gob("Addrs", SliceOf(STRING))


@struct("state")
@dataclass(slots=True)
class State:
    """Known nodes: "ip:port" listener addresses by decimal id; version counts table changes."""

    addrs: dict[str, list[str]] | None = gob("Addrs", MapOf(STRING, SliceOf(STRING)))
    version: int = gob("Version", UINT)


class Header(Record):
    """A routed packet's envelope."""

    __slots__ = ("dest", "meta", "op", "state")

    def __init__(
        self, meta: object = None, op: int = 0, dest: int | None = None, state: State | None = None
    ) -> None:
        self.meta, self.op, self.dest, self.state = meta, op, dest, state


declare(
    Header,
    "header",
    "*pastry.header",
    meta=("Meta", INTERFACE),
    op=("Op", UINT),
    dest=("Dest", BIG_INT),
    state=("State", PointerTo(State)),
)
