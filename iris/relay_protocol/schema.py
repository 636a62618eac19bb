"""The relay protocol `v1.0-draft2`, every packet of both directions declared once. Pure.

Counterpart of Go's service/relay/proto.go. These declarations are the reference: cold paths use them as
they are, `codec.py` is a faster reading of the same, held to it by
tests/property/test_relay_codec.py. A packet is a container of `op` and `body`; what breaks the
rules or goes beyond the limits raises `construct.ConstructError`.
tests/golden/relay_transcript.json has both directions in bytes.
"""

from dataclasses import dataclass
from enum import IntEnum
from io import BytesIO
from typing import Any

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

VERSION = "v1.0-draft2"
CLIENT_MAGIC, RELAY_MAGIC = "iris-client-magic", "iris-relay-magic"

MESSAGE_SIZE = Limits().message_size  # bytes of one message of any kind
NAME_SIZE = Limits().name_size  # bytes of a cluster's or topic's name in UTF-8

MAX_VARINT = (1 << 64) - 1
VARINT_SIZE = 10  # bytes at most


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


class _Varint(Construct):  # type: ignore[misc]  # construct has no types
    """Base 128, little-endian, with continuation bit.

    Longer spellings of a number are accepted, within ten bytes.
    """

    def _parse(self, stream: BytesIO, context: object, path: str) -> int:
        value = 0
        for i in range(VARINT_SIZE):
            byte: int = stream_read(stream, 1, path)[0]
            value |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                if value > MAX_VARINT:
                    raise ValidationError("a number is beyond 64 bits", path=path)
                return value
        raise ValidationError("a number is longer than ten bytes", path=path)

    def _build(self, value: int, stream: BytesIO, context: object, path: str) -> int:
        if not 0 <= value <= MAX_VARINT:
            raise ValidationError(f"{value} is no unsigned number of 64 bits", path=path)
        data, rest = bytearray(), value
        while rest > 0x7F:
            data.append(rest & 0x7F | 0x80)
            rest >>= 7
        data.append(rest)
        stream_write(stream, bytes(data), len(data), path)
        return value


VARINT = _Varint()
BOOL = Mapping(Int8ub, {False: 0, True: 1})


class _Binary(Construct):  # type: ignore[misc]
    """Bytes behind their length, which is checked before anything is read for it.

    Not construct's Prefixed, which wants to seek.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def _parse(self, stream: BytesIO, context: object, path: str) -> bytes:
        size = VARINT._parse(stream, context, path)
        self._check(size, path)
        data: bytes = stream_read(stream, size, path)
        return data

    def _build(self, value: bytes, stream: BytesIO, context: object, path: str) -> bytes:
        self._check(len(value), path)
        VARINT._build(len(value), stream, context, path)
        stream_write(stream, value, len(value), path)
        return value

    def _check(self, size: int, path: str) -> None:
        if size > self._limit:
            raise ValidationError(f"{size} bytes, limit {self._limit}", path=path)


def binary(limit: int) -> Construct:
    """At most `limit` bytes behind their length."""
    return _Binary(limit)


def string(limit: int) -> Construct:
    """At most `limit` bytes of UTF-8 behind their length."""
    return StringEncoded(binary(limit), "utf8")


def magic(text: str) -> Construct:
    """A string that is always the same."""
    return Const(text, string(len(text)))


@dataclass(frozen=True)
class Protocol:
    """The packets of both directions, within some limits."""

    from_client: Construct
    from_node: Construct

    def client(self, op: Op, **body: Any) -> bytes:
        """Build a packet as a client sends it."""
        return bytes(self.from_client.build({"op": op, "body": body}))

    def node(self, op: Op, **body: Any) -> bytes:
        """Build a packet as the node sends it."""
        return bytes(self.from_node.build({"op": op, "body": body}))


def protocol(limits: Limits, relay: RelayConfig) -> Protocol:
    """Declare the packets, with the sizes that are allowed."""
    name, data, text = (
        string(limits.name_size),
        binary(limits.message_size),
        string(limits.message_size),
    )
    chunk = binary(relay.chunk_limit)
    result = IfThenElse(this.success, data, text)  # a reply's bytes, or a fault's text
    from_client = {
        Op.INIT: Struct("magic" / magic(CLIENT_MAGIC), "version" / name, "cluster" / name),
        Op.CLOSE: Struct(),
        Op.BROADCAST: Struct("cluster" / name, "message" / data),
        Op.REQUEST: Struct("id" / VARINT, "cluster" / name, "request" / data, "timeout" / VARINT),
        Op.REPLY: Struct("id" / VARINT, "success" / BOOL, "result" / result),
        Op.SUBSCRIBE: Struct("topic" / name),
        Op.UNSUBSCRIBE: Struct("topic" / name),
        Op.PUBLISH: Struct("topic" / name, "event" / data),
        Op.TUNNEL_INIT: Struct("id" / VARINT, "cluster" / name, "timeout" / VARINT),
        Op.TUNNEL_CONFIRM: Struct("build_id" / VARINT, "id" / VARINT),
        Op.TUNNEL_ALLOW: Struct("id" / VARINT, "space" / VARINT),
        Op.TUNNEL_TRANSFER: Struct("id" / VARINT, "size" / VARINT, "chunk" / chunk),
        Op.TUNNEL_CLOSE: Struct("id" / VARINT),
    }
    in_time = this.timed_out == False  # noqa: E712  # an expression that construct evaluates
    from_node = {
        Op.INIT: Struct("magic" / magic(RELAY_MAGIC), "version" / name),
        Op.DENY: Struct("magic" / magic(RELAY_MAGIC), "reason" / text),
        Op.CLOSE: Struct("reason" / text),
        Op.BROADCAST: Struct("message" / data),
        Op.REQUEST: Struct("id" / VARINT, "request" / data, "timeout" / VARINT),
        Op.REPLY: Struct(
            "id" / VARINT,
            "timed_out" / BOOL,
            "success" / Default(If(in_time, BOOL), None),
            "result" / Default(If(in_time, result), None),
        ),
        Op.PUBLISH: Struct("topic" / name, "event" / data),
        Op.TUNNEL_INIT: Struct("build_id" / VARINT, "chunk_limit" / VARINT),
        Op.TUNNEL_CONFIRM: Struct(
            "id" / VARINT, "timed_out" / BOOL, "chunk_limit" / Default(If(in_time, VARINT), None)
        ),
        Op.TUNNEL_ALLOW: Struct("id" / VARINT, "space" / VARINT),
        Op.TUNNEL_TRANSFER: Struct("id" / VARINT, "size" / VARINT, "chunk" / chunk),
        Op.TUNNEL_CLOSE: Struct("id" / VARINT, "reason" / text),
    }
    return Protocol(_packet(from_client), _packet(from_node))


def _packet(bodies: dict[Op, Construct]) -> Construct:
    return Struct(
        "op" / Mapping(Int8ub, {op: int(op) for op in bodies}), "body" / Switch(this.op, bodies)
    )


DEFAULT = protocol(Limits(), RelayConfig())
