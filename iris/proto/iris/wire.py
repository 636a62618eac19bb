"""Packets between clusters, and of tunnels. Answers to Go's proto/iris/proto.go and the packets of tunnel.go."""

from dataclasses import dataclass
from enum import IntEnum

from iris.gobber.types import BOOL, BYTES, INT, STRING, UINT, SliceOf, gob, struct


class Op(IntEnum):
    """What a `Header` carries."""

    BROADCAST = 0
    REQUEST = 1
    REPLY = 2
    PUBLISH = 3
    TUNNEL = 4


@struct("header", registered="*iris.header")
@dataclass(slots=True)
class Header:
    """src and dest are connection ids on their nodes; times are nanoseconds."""

    op: int = gob("Op", UINT)
    src: int = gob("Src", UINT)
    dest: int = gob("Dest", UINT)
    req_id: int = gob("ReqId", UINT)
    req_fail: bool = gob("ReqFail", BOOL)
    req_time: int = gob("ReqTime", INT)
    tun_id: int = gob("TunId", UINT)
    tun_key: bytes = gob("TunKey", BYTES)
    tun_addrs: list[str] = gob("TunAddrs", SliceOf(STRING))
    tun_time: int = gob("TunTime", INT)


@struct("initPacket", registered="*iris.initPacket")
@dataclass(slots=True)
class InitPacket:
    """Whose tunnel a fresh stream is, in plain gob."""

    conn_id: int = gob("ConnId", UINT)
    tun_id: int = gob("TunId", UINT)


@struct("authPacket", registered="*iris.authPacket")
@dataclass(slots=True)
class AuthPacket:
    """Proves that a tunnel's end holds its key."""

    id: int = gob("Id", UINT)


@struct("dataHeader", registered="*iris.dataHeader")
@dataclass(slots=True)
class DataHeader:
    """A tunnel chunk: the size of the whole message in its first chunk, 0 in the following ones."""

    size_or_cont: int = gob("SizeOrCont", INT)
