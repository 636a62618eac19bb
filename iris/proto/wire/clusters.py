"""Packets between clusters, and of tunnels.

Counterpart of Go's proto/iris/proto.go and the packets of tunnel.go.
"""

from dataclasses import dataclass
from enum import IntEnum

from iris.gobber.record import Record
from iris.gobber.types import BOOL, BYTES, INT, STRING, UINT, SliceOf, declare, gob, struct


class Op(IntEnum):
    """What a `Header` carries."""

    BROADCAST = 0
    REQUEST = 1
    REPLY = 2
    PUBLISH = 3
    TUNNEL = 4


class Header(Record):
    """src and dest are connection ids on their nodes; times are nanoseconds."""

    __slots__ = (
        "dest",
        "op",
        "req_fail",
        "req_id",
        "req_time",
        "src",
        "tun_addrs",
        "tun_id",
        "tun_key",
        "tun_time",
    )

    def __init__(
        self,
        op: int = 0,
        src: int = 0,
        dest: int = 0,
        req_id: int = 0,
        req_fail: bool = False,
        req_time: int = 0,
        tun_id: int = 0,
        tun_key: bytes = b"",
        tun_addrs: list[str] | None = None,
        tun_time: int = 0,
    ) -> None:
        self.op, self.src, self.dest = op, src, dest
        self.req_id, self.req_fail, self.req_time = req_id, req_fail, req_time
        self.tun_id, self.tun_key, self.tun_time = tun_id, tun_key, tun_time
        self.tun_addrs = [] if tun_addrs is None else tun_addrs


declare(
    Header,
    "header",
    "*iris.header",
    op=("Op", UINT),
    src=("Src", UINT),
    dest=("Dest", UINT),
    req_id=("ReqId", UINT),
    req_fail=("ReqFail", BOOL),
    req_time=("ReqTime", INT),
    tun_id=("TunId", UINT),
    tun_key=("TunKey", BYTES),
    tun_addrs=("TunAddrs", SliceOf(STRING)),
    tun_time=("TunTime", INT),
)


@struct("initPacket", registered="*iris.initPacket")
@dataclass(slots=True)
class InitPacket:
    """The tunnel that a new connection is for, in plain gob."""

    conn_id: int = gob("ConnId", UINT)
    tun_id: int = gob("TunId", UINT)


@struct("authPacket", registered="*iris.authPacket")
@dataclass(slots=True)
class AuthPacket:
    """The first message of a tunnel's link, which proves its key."""

    id: int = gob("Id", UINT)


class DataHeader(Record):
    """A tunnel's chunk: the whole message's size in its first chunk, 0 in the following ones."""

    __slots__ = ("size_or_cont",)

    def __init__(self, size_or_cont: int = 0) -> None:
        self.size_or_cont = size_or_cont


declare(DataHeader, "dataHeader", "*iris.dataHeader", size_or_cont=("SizeOrCont", INT))
