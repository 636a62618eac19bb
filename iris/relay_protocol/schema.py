"""The packets of the relay protocol `v1.0-draft2`, each declared once for both directions. Pure.

Counterpart of Go's service/relay/proto.go. To add a packet, add its opcode to `Op` and its fields
to `PACKETS`: the incremental parser (`parser.py`) and the construct schemas (`protocol`) follow the
table. `Protocol` writes any packet; `node_packets.py` and `client_packets.py` are faster writers of
the frequent ones, which the property tests compare with the schemas.
tests/golden/relay_transcript.json has both directions in bytes.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from io import BytesIO
from typing import Any, Final

from construct import (
    Const,
    Construct,
    Default,
    If,
    IfThenElse,
    Int8ub,
    Mapping,
    StringEncoded,
    Struct,
    Switch,
    ValidationError,
    stream_read,
    stream_write,
    this,
)

from iris.config import Limits, RelayConfig
from iris.errors import ProtocolError
from iris.relay_protocol.varint import MAX_VARINT, VARINT_SIZE, read_varint, varint

VERSION = "v1.0-draft2"

MESSAGE_SIZE = Limits().message_size  # bytes of one message of any kind
NAME_SIZE = Limits().name_size  # bytes of a cluster's or topic's name in UTF-8


class Side(Enum):
    """The two ends of a connection."""

    CLIENT = "client"
    NODE = "node"

    @property
    def other(self) -> "Side":
        """The one at the other end."""
        return Side.NODE if self is Side.CLIENT else Side.CLIENT


MAGIC = {Side.CLIENT: "iris-client-magic", Side.NODE: "iris-relay-magic"}


class Op(IntEnum):
    """The first byte of a packet."""

    INIT = 0x00
    DENY = 0x01
    CLOSE = 0x02
    BROADCAST = 0x03
    REQUEST = 0x04
    REPLY = 0x05
    SUBSCRIBE = 0x06
    UNSUBSCRIBE = 0x07
    PUBLISH = 0x08
    TUNNEL_INIT = 0x09
    TUNNEL_CONFIRM = 0x0A
    TUNNEL_ALLOW = 0x0B
    TUNNEL_TRANSFER = 0x0C
    TUNNEL_CLOSE = 0x0D


# Kinds of fields: plain integers, in the order in which the parser tells them apart
NUMBER: Final = 0  # unsigned, 64 bits
BINARY: Final = 1  # at most Limits.message_size bytes
CHUNK: Final = 2  # the same, at most RelayConfig.chunk_limit bytes
RESULT: Final = 3  # BINARY after a true BOOL, TEXT after a false one
TEXT: Final = 4  # UTF-8, at most Limits.message_size bytes
NAME: Final = 5  # UTF-8, at most Limits.name_size bytes
MAGIC_STRING: Final = 6  # the sender's MAGIC, which isn't a field of a parsed packet
BOOL: Final = 7
TIMED_OUT: Final = 8  # a boolean; if true, the packet ends here, and its other fields are None


Packet = dict[Side, tuple[tuple[str, int], ...]]  # by sender: its fields (name, kind), in order


def _packet(*only: Side, **fields: int | tuple[Side, int]) -> Packet:
    """Declare a packet, of one side `only` or both; a field is a kind, or (the only side, kind)."""
    return {
        side: tuple(
            (name, kind if isinstance(kind, int) else kind[1])
            for name, kind in fields.items()
            if isinstance(kind, int) or kind[0] is side
        )
        for side in only or Side
    }


CLIENT, NODE = Side.CLIENT, Side.NODE
OPENING = {CLIENT: {Op.INIT}, NODE: {Op.INIT, Op.DENY}}  # the first packet is one, no later one is
PACKETS: dict[Op, Packet] = {
    Op.INIT: _packet(magic=MAGIC_STRING, version=NAME, cluster=(CLIENT, NAME)),
    Op.DENY: _packet(NODE, magic=MAGIC_STRING, reason=TEXT),
    Op.CLOSE: _packet(reason=(NODE, TEXT)),
    Op.BROADCAST: _packet(cluster=(CLIENT, NAME), message=BINARY),
    Op.REQUEST: _packet(id=NUMBER, cluster=(CLIENT, NAME), request=BINARY, timeout=NUMBER),
    Op.REPLY: _packet(id=NUMBER, timed_out=(NODE, TIMED_OUT), success=BOOL, result=RESULT),
    Op.SUBSCRIBE: _packet(CLIENT, topic=NAME),
    Op.UNSUBSCRIBE: _packet(CLIENT, topic=NAME),
    Op.PUBLISH: _packet(topic=NAME, event=BINARY),
    Op.TUNNEL_INIT: _packet(
        id=(CLIENT, NUMBER),
        cluster=(CLIENT, NAME),
        timeout=(CLIENT, NUMBER),
        build_id=(NODE, NUMBER),
        chunk_limit=(NODE, NUMBER),
    ),
    Op.TUNNEL_CONFIRM: _packet(
        build_id=(CLIENT, NUMBER),
        id=NUMBER,
        timed_out=(NODE, TIMED_OUT),
        chunk_limit=(NODE, NUMBER),
    ),
    Op.TUNNEL_ALLOW: _packet(id=NUMBER, space=NUMBER),
    Op.TUNNEL_TRANSFER: _packet(id=NUMBER, size=NUMBER, chunk=CHUNK),
    Op.TUNNEL_CLOSE: _packet(id=NUMBER, reason=(NODE, TEXT)),
}


class _Varint(Construct):  # type: ignore[misc]  # construct has no types
    def _parse(self, stream: BytesIO, context: object, path: str) -> int:
        data = bytes(stream_read(stream, 1, path))
        while data[-1] > 0x7F and len(data) < VARINT_SIZE:
            data += stream_read(stream, 1, path)
        try:
            return read_varint(data, 0)[0]
        except ProtocolError as exc:
            raise ValidationError(str(exc), path=path) from exc

    def _build(self, value: int, stream: BytesIO, context: object, path: str) -> int:
        if not 0 <= value <= MAX_VARINT:
            raise ValidationError(f"{value} is not an unsigned 64-bit integer", path=path)
        data = varint(value)
        stream_write(stream, data, len(data), path)
        return value


_VARINT, _BOOL = _Varint(), Mapping(Int8ub, {False: 0, True: 1})


class _Binary(Construct):  # type: ignore[misc]
    """Bytes behind their length, which is checked before anything is read for it.

    Not construct's Prefixed, which wants to seek.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def _parse(self, stream: BytesIO, context: object, path: str) -> bytes:
        size = _VARINT._parse(stream, context, path)
        self._check(size, path)
        data: bytes = stream_read(stream, size, path)
        return data

    def _build(self, value: bytes, stream: BytesIO, context: object, path: str) -> bytes:
        self._check(len(value), path)
        _VARINT._build(len(value), stream, context, path)
        stream_write(stream, value, len(value), path)
        return value

    def _check(self, size: int, path: str) -> None:
        if size > self._limit:
            raise ValidationError(f"{size} bytes, limit {self._limit}", path=path)


def _string(limit: int) -> Construct:
    return StringEncoded(_Binary(limit), "utf8")


@dataclass(frozen=True)
class Protocol:
    """The construct schemas of both directions; a packet is a container of `op` and `body`.

    What violates the protocol or exceeds the limits raises `construct.ConstructError`.
    """

    from_client: Construct
    from_node: Construct

    def client(self, op: Op, **body: Any) -> bytes:
        """Build a packet as a client sends it."""
        return bytes(self.from_client.build({"op": op, "body": body}))

    def node(self, op: Op, **body: Any) -> bytes:
        """Build a packet as the node sends it."""
        return bytes(self.from_node.build({"op": op, "body": body}))


def protocol(limits: Limits, relay: RelayConfig) -> Protocol:
    """Derive the schemas of `PACKETS`, within these limits."""
    data, text = _Binary(limits.message_size), _string(limits.message_size)
    kinds: dict[int, Construct] = {
        BOOL: _BOOL,
        TIMED_OUT: _BOOL,
        NUMBER: _VARINT,
        NAME: _string(limits.name_size),
        BINARY: data,
        CHUNK: _Binary(relay.chunk_limit),
        TEXT: text,
        RESULT: IfThenElse(this.success, data, text),
    }
    return Protocol(*(_schema(side, kinds) for side in Side))


def _schema(side: Side, kinds: dict[int, Construct]) -> Construct:
    kinds = {**kinds, MAGIC_STRING: Const(MAGIC[side], _string(len(MAGIC[side])))}
    in_time = this.timed_out == False  # noqa: E712  # an expression that construct evaluates
    bodies = {}
    for op, packet in PACKETS.items():
        if side in packet:
            fields, late = [], False
            for name, kind in packet[side]:
                schema = kinds[kind]
                fields.append(name / (Default(If(in_time, schema), None) if late else schema))
                late = late or kind == TIMED_OUT
            bodies[op] = Struct(*fields)
    opcode = Mapping(Int8ub, {op: int(op) for op in bodies})
    return Struct("op" / opcode, "body" / Switch(this.op, bodies))


DEFAULT = protocol(Limits(), RelayConfig())
