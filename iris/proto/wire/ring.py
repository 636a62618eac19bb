"""The ring's packets. Counterpart of Go's proto/pastry/proto.go and the init packet of handshake.go."""

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
    """What a `Header` asks for; NOP carries the layer above."""

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
    """Who a peer is, and where it listens: "ip:port" strings."""

    id: int | None = gob("Id", BIG_INT)
    addrs: list[str] = gob("Addrs", SliceOf(STRING))


@struct("state")
@dataclass(slots=True)
class State:
    """Known nodes: decimal ids to "ip:port" listener addresses.

    Version counts the sender's table changes.
    """

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
