"""The hot half of the relay protocol as an application speaks it.

Reading what the node sends, writing what it gets. Core.

Counterpart of iris-go's proto.go. `iris/relay_protocol/schema.py` is the reference, which
tests/property/test_client_codec.py holds this to. The way in which a stream is cut, and the bits of
which packets are made, are the node's own (`iris/relay_protocol/codec.py`).
"""

from functools import lru_cache

from iris.config import Limits, RelayConfig
from iris.errors import ProtocolError
from iris.relay_protocol.codec import (
    Fields,
    Parser,
    Reader,
    decode_utf8,
    read_bool,
    read_varint,
    string,
    tunnel_allow,
    tunnel_transfer,
    varint,
)
from iris.relay_protocol.schema import DEFAULT, MESSAGE_SIZE, NAME_SIZE, RELAY_MAGIC, VERSION, Op

__all__ = ["CLOSE", "NodeParser", "tunnel_allow", "tunnel_transfer"]

Buffer = bytes | bytearray | memoryview
ImmutableBytes = bytes | memoryview  # nobody can change it any more


class NodeParser(Parser):
    """Cut what the node sends into packets, pairs of opcode and fields.

    The first one must be an init or a deny, and no later one may.
    """

    def __init__(self, limits: Limits | None = None, relay: RelayConfig | None = None) -> None:
        limits = limits or Limits()
        super().__init__(limits, relay or RelayConfig())
        self._table = (self._init_reader(limits), self._deny_reader(limits), *_NOT_A_NODE)

    def _init_reader(self, limits: Limits) -> Reader:
        name = self._name(limits.name_size)

        def init(data: bytes, at: int) -> tuple[int, Fields]:
            version, at = name(data, _magic(data, at))
            return at, (version,)

        return init

    def _deny_reader(self, limits: Limits) -> Reader:
        binary = self._binary(limits.message_size)

        def deny(data: bytes, at: int) -> tuple[int, Fields]:
            reason, at = binary(data, _magic(data, at))
            return at, (decode_utf8(reason),)

        return deny

    def _readers(self, limits: Limits, relay: RelayConfig) -> dict[int, Reader]:
        name, binary, chunk = (
            self._name(limits.name_size),
            self._binary(limits.message_size),
            self._binary(relay.chunk_limit),
        )

        def close(data: bytes, at: int) -> tuple[int, Fields]:
            reason, at = binary(data, at)
            return at, (decode_utf8(reason),)

        def broadcast(data: bytes, at: int) -> tuple[int, Fields]:
            message, at = binary(data, at)
            return at, (message,)

        def request(data: bytes, at: int) -> tuple[int, Fields]:
            number, at = read_varint(data, at)
            payload, at = binary(data, at)
            timeout, at = read_varint(data, at)
            return at, (number, payload, timeout)

        def reply(data: bytes, at: int) -> tuple[int, Fields]:
            number, at = read_varint(data, at)
            timed_out, at = read_bool(data, at)
            if timed_out:
                return at, (number, True, None, None)
            success, at = read_bool(data, at)
            payload, at = binary(data, at)
            return at, (number, False, success, payload if success else decode_utf8(payload))

        def publish(data: bytes, at: int) -> tuple[int, Fields]:
            topic, at = name(data, at)
            event, at = binary(data, at)
            return at, (topic, event)

        def numbers(data: bytes, at: int) -> tuple[int, Fields]:
            first, at = read_varint(data, at)
            second, at = read_varint(data, at)
            return at, (first, second)

        def tunnel_confirm(data: bytes, at: int) -> tuple[int, Fields]:
            number, at = read_varint(data, at)
            timed_out, at = read_bool(data, at)
            if timed_out:
                return at, (number, True, None)
            chunk_limit, at = read_varint(data, at)
            return at, (number, False, chunk_limit)

        def tunnel_transfer(data: bytes, at: int) -> tuple[int, Fields]:
            number, at = read_varint(data, at)
            size, at = read_varint(data, at)
            payload, at = chunk(data, at)
            return at, (number, size, payload)

        def tunnel_close(data: bytes, at: int) -> tuple[int, Fields]:
            number, at = read_varint(data, at)
            reason, at = binary(data, at)
            return at, (number, decode_utf8(reason))

        return {
            Op.CLOSE: close,
            Op.BROADCAST: broadcast,
            Op.REQUEST: request,
            Op.REPLY: reply,
            Op.PUBLISH: publish,
            Op.TUNNEL_INIT: numbers,
            Op.TUNNEL_CONFIRM: tunnel_confirm,
            Op.TUNNEL_ALLOW: numbers,
            Op.TUNNEL_TRANSFER: tunnel_transfer,
            Op.TUNNEL_CLOSE: tunnel_close,
        }


def _magic(data: bytes, at: int) -> int:
    size, at = read_varint(data, at)
    stop = at + len(_MAGIC)
    if size != len(_MAGIC) or not _MAGIC.startswith(data[at:stop]):
        raise ProtocolError("not a node of Iris")
    return stop


def _not_a_node(data: bytes, at: int) -> tuple[int, Fields]:
    raise ProtocolError("not a node of Iris")


_MAGIC = RELAY_MAGIC.encode()
_NOT_A_NODE = (_not_a_node,) * 254


_SHORT = 4_096  # bytes

# What applications say. Arguments of theirs are looked at first, so that the node has nothing to
# object to.


def payload(data: Buffer) -> ImmutableBytes:
    """What is sent for `data`.

    Bytes (or a view of bytes) as they are, a copy of anything that could still change.

    Raises: TypeError when it isn't bytes-like; ValueError when it is too long.
    """
    if type(data) is bytes:
        steady: ImmutableBytes = data
    else:
        view = memoryview(data)
        steady = view.cast("B") if isinstance(view.obj, bytes) and view.contiguous else bytes(view)
    if len(steady) > MESSAGE_SIZE:
        raise ValueError(f"a message of {len(steady)} bytes, {MESSAGE_SIZE} are possible")
    return steady


@lru_cache(maxsize=1024)
def name(text: str) -> bytes:
    """A cluster's or topic's name, with its length in front. Raises.

    ValueError when there can't be one of that name.
    """
    data = text.encode()
    if not 0 < len(data) <= NAME_SIZE:
        raise ValueError(f"a name of {len(data)} bytes, 1 to {NAME_SIZE} are possible")
    return varint(len(data)) + data


@lru_cache(maxsize=1024)
def milliseconds(timeout: float) -> bytes:
    """What a timeout in seconds is in a packet. Raises: ValueError below 1 ms, or beyond any sense."""
    if not 0.001 <= timeout < 1e9:
        raise ValueError(f"a timeout of {timeout} s")
    return varint(round(timeout * 1_000))


def init(cluster: str) -> bytes:
    """The first packet; a cluster "" is none."""
    if cluster:
        name(cluster)
    return DEFAULT.client(Op.INIT, version=VERSION, cluster=cluster)


CLOSE = DEFAULT.client(Op.CLOSE)


def _packet(
    op: bytes, number: bytes, more: bytes, data: ImmutableBytes, tail: bytes = b""
) -> tuple[ImmutableBytes, ...]:
    """Long data stays where it is.

    To send short data apart from the rest costs more than to copy it.
    """
    size = len(data)
    if size <= _SHORT:
        return (b"".join((op, number, more, varint(size), data, tail)),)
    return b"".join((op, number, more, varint(size))), data, tail


def broadcast(cluster: str, data: ImmutableBytes) -> tuple[ImmutableBytes, ...]:
    """A message to all of a cluster."""
    return _packet(b"\x03", b"", name(cluster), data)


def request(
    number: int, cluster: str, data: ImmutableBytes, timeout: bytes
) -> tuple[ImmutableBytes, ...]:
    """A request, with its timeout as `milliseconds` gives it."""
    return _packet(b"\x04", varint(number), name(cluster), data, timeout)


def reply(number: int, data: ImmutableBytes) -> tuple[ImmutableBytes, ...]:
    """The answer to a request."""
    return _packet(b"\x05", varint(number), b"\x01", data)


def fault(number: int, text: str) -> bytes:
    """The failure of a request."""
    return b"\x05" + varint(number) + b"\x00" + string(text)


def subscribe(topic: str) -> bytes:
    """From now on, events of that topic come."""
    return b"\x06" + name(topic)


def unsubscribe(topic: str) -> bytes:
    """From now on, they don't."""
    return b"\x07" + name(topic)


def publish(topic: str, data: ImmutableBytes) -> tuple[ImmutableBytes, ...]:
    """An event to all subscribers of a topic."""
    return _packet(b"\x08", b"", name(topic), data)


def tunnel_init(number: int, cluster: str, timeout: bytes) -> bytes:
    """A tunnel is wanted, within a timeout as `milliseconds` gives it."""
    return b"\x09" + varint(number) + name(cluster) + timeout


def tunnel_confirm(build_id: int, number: int) -> bytes:
    """A tunnel is accepted, and gets that number."""
    return b"\x0a" + varint(build_id) + varint(number)


def tunnel_close(number: int) -> bytes:
    """A tunnel isn't wanted any more."""
    return b"\x0d" + varint(number)
