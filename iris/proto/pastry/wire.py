"""The ring's packets. Answers to Go's proto/pastry/proto.go and the init packet of handshake.go."""

from dataclasses import dataclass
from enum import IntEnum

from iris.gobber.types import BIG_INT, INTERFACE, STRING, UINT, MapOf, PointerTo, SliceOf, gob, struct


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
    """Known nodes: decimal ids to "ip:port" listener addresses; version counts the sender's table changes."""

    addrs: dict[str, list[str]] | None = gob("Addrs", MapOf(STRING, SliceOf(STRING)))
    version: int = gob("Version", UINT)


@struct("header", registered="*pastry.header")
@dataclass(slots=True)
class Header:
    """A routed packet's envelope."""

    meta: object = gob("Meta", INTERFACE)
    op: int = gob("Op", UINT)
    dest: int | None = gob("Dest", BIG_INT)
    state: State | None = gob("State", PointerTo(State))
