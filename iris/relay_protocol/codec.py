"""The hot half of the relay protocol.

Reading what clients send piece by piece, writing what they get. Core.

Counterpart of Go's service/relay/proto.go. `schema.py` is the reference;
tests/property/test_relay_codec.py holds this to it. Packets that are read are pairs of `Op` and the
tuple of the body's fields, in the schema's order and without the magic.

Not here: init, deny and close towards the client, which the schema builds.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

from iris.config import Limits, RelayConfig
from iris.errors import MessageTooBig, ProtocolError
from iris.relay_protocol.schema import CLIENT_MAGIC, MAX_VARINT, VARINT_SIZE, Op
from iris.runtime.compiling import mypyc_attr, with_cause

Fields = tuple[Any, ...]
Buffer = bytes | bytearray | memoryview

# characters; longer names aren't remembered, for applications choose them and the memory is
# everybody's
_SHORT: Final = 128
# bytes; a payload beyond it is gathered in pieces, and looked at again when it is whole
_LONG: Final = 16_384
# bytes; smaller pieces are copied together, so that the list of them costs less than what they hold
_PIECE: Final = 4_096


class _Short(Exception):
    """The data ends before a payload of `size` bytes, which begins `at`, does."""

    def __init__(self, at: int, size: int) -> None:
        self.at, self.size = at, size


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number. Returns: (value, offset behind it). Raises.

    IndexError when the data ends first; ProtocolError.
    """
    value = data[at]
    if value < 0x80:
        return value, at + 1
    byte = data[at + 1]
    if byte < 0x80:
        return value - 0x80 + (byte << 7), at + 2
    value += (byte << 7) - 0x4080  # less both continuation bits
    for i in range(2, VARINT_SIZE):
        byte = data[at + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            if value > MAX_VARINT:
                break
            return value, at + i + 1
    raise ProtocolError("a number is beyond 64 bits")


def read_bool(data: bytes, at: int) -> tuple[bool, int]:
    """Read a boolean. Returns: (value, offset behind it). Raises.

    IndexError when the data ends first; ProtocolError.
    """
    value = data[at]
    if value > 1:
        raise ProtocolError(f"{value} is no boolean")
    return value == 1, at + 1


def decode_utf8(data: bytes) -> str:
    """Decode a string's bytes. Raises: ProtocolError."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        # the original would show what was sent
        raise with_cause(ProtocolError("a string isn't UTF-8"), None) from None


# (data, offset behind the op) -> (offset behind the packet, fields)
Reader = Callable[[bytes, int], tuple[int, Fields]]


@mypyc_attr(allow_interpreted_subclasses=True)
class Parser:
    """Cut what a client sends into packets.

    The front of one that isn't whole waits for the next feed().

    The first packet must be an init, and no later one may.
    """

    def __init__(self, limits: Limits, relay: RelayConfig) -> None:
        self._rest = b""  # the front of a packet
        self._pieces: list[Buffer] = []  # of a long payload that comes right after `_rest`
        self._missing = 0  # bytes of it that are still to come
        self._payload: bytes | None = None  # the same payload, whole
        later = self._readers(limits, relay)
        self._later: tuple[Reader, ...] = (
            *[later.get(op, _UNKNOWN[op]) for op in range(len(Op))],
            *_UNKNOWN[len(Op) :],
        )
        self._table: tuple[Reader, ...] = (self._init_reader(limits), *_NOT_INIT)

    def feed(self, data: bytes) -> Iterator[tuple[int, Fields]]:
        """Yield the packets that end in `data`, and keep the rest.

        To be exhausted, or this parser dropped.

        Raises: ProtocolError when the next packet breaks the rules. MessageTooBig before anything
        is kept of what is too long.
        """
        if self._missing:
            data = self._gather(data)
            if self._missing:
                return
        if self._payload is not None:
            # all but the payload is short; only so much is shown that the payload can't be mistaken
            # for being in there
            front = self._rest
            data = front + data
            try:
                at, fields = self._table[front[0]](data[: len(front) + VARINT_SIZE], 1)
            except IndexError:
                self._rest = data
                return
            self._payload, self._rest = None, b""
            yield front[0], fields
        else:
            at = 0
            if self._rest:
                data = self._rest + data
                self._rest = b""
        end, table, start = len(data), self._table, at
        try:
            while at < end:
                start, op = at, data[at]
                at, fields = table[op](data, at + 1)
                if op == 0:  # the init
                    self._table = table = self._later
                yield op, fields
        except IndexError:
            self._rest = data[start:]
        except _Short as short:
            self._keep(data, start, short)

    def release(self) -> None:
        """Read no more, and leave no work to the garbage collector.

        The readers refer to the parser.
        """
        self._table = self._later = ()

    def _keep(self, data: bytes, start: int, short: _Short) -> None:
        if short.size <= _LONG:
            self._rest = data[start:]
            return
        self._rest = data[start : short.at]
        self._missing = short.size - (len(data) - short.at)
        self._pieces = [memoryview(data)[short.at :]]

    def _gather(self, data: bytes) -> bytes:
        """Take what belongs to the long payload. Returns: what doesn't."""
        piece = memoryview(data)[: self._missing]
        self._missing -= len(piece)
        if len(piece) >= _PIECE:
            self._pieces.append(piece)
        elif isinstance(last := self._pieces[-1], bytearray):
            last += piece
        else:
            self._pieces.append(bytearray(piece))
        if not self._missing:
            self._payload = b"".join(self._pieces)
            self._pieces = []
        return data[len(piece) :]

    def _binary(self, limit: int) -> Callable[[bytes, int], tuple[bytes, int]]:
        def read(data: bytes, at: int) -> tuple[bytes, int]:
            size, at = read_varint(data, at)
            if size > limit:
                raise MessageTooBig(size, limit)
            stop = at + size
            if stop > len(data):
                if self._payload is not None:
                    return self._payload, at
                raise _Short(at, size)
            return data[at:stop], stop

        return read

    @staticmethod
    def _name(limit: int) -> Callable[[bytes, int], tuple[str, int]]:
        def read(data: bytes, at: int) -> tuple[str, int]:
            size, at = read_varint(data, at)
            if size > limit:
                raise ProtocolError(f"name of {size} bytes, limit {limit}")
            stop = at + size
            if stop > len(data):
                raise IndexError
            return decode_utf8(data[at:stop]), stop

        return read

    def _init_reader(self, limits: Limits) -> Reader:
        name, magic = self._name(limits.name_size), CLIENT_MAGIC.encode()

        def init(data: bytes, at: int) -> tuple[int, Fields]:
            size, at = read_varint(data, at)
            stop = at + len(magic)
            if size != len(magic) or not magic.startswith(data[at:stop]):
                raise ProtocolError("not a client of Iris")
            version, at = name(data, stop)
            cluster, at = name(data, at)
            return at, (version, cluster)

        return init

    def _readers(self, limits: Limits, relay: RelayConfig) -> dict[int, Reader]:
        name, binary, chunk = (
            self._name(limits.name_size),
            self._binary(limits.message_size),
            self._binary(relay.chunk_limit),
        )

        def close(data: bytes, at: int) -> tuple[int, Fields]:
            return at, ()

        def named(data: bytes, at: int) -> tuple[int, Fields]:
            text, at = name(data, at)
            return at, (text,)

        def named_payload(data: bytes, at: int) -> tuple[int, Fields]:
            text, at = name(data, at)
            payload, at = binary(data, at)
            return at, (text, payload)

        def request(data: bytes, at: int) -> tuple[int, Fields]:
            number, at = read_varint(data, at)
            cluster, at = name(data, at)
            payload, at = binary(data, at)
            timeout, at = read_varint(data, at)
            return at, (number, cluster, payload, timeout)

        def reply(data: bytes, at: int) -> tuple[int, Fields]:
            number, at = read_varint(data, at)
            success, at = read_bool(data, at)
            payload, at = binary(data, at)
            return at, (number, success, payload if success else decode_utf8(payload))

        def tunnel_init(data: bytes, at: int) -> tuple[int, Fields]:
            number, at = read_varint(data, at)
            cluster, at = name(data, at)
            timeout, at = read_varint(data, at)
            return at, (number, cluster, timeout)

        def numbers(data: bytes, at: int) -> tuple[int, Fields]:
            first, at = read_varint(data, at)
            second, at = read_varint(data, at)
            return at, (first, second)

        def tunnel_transfer(data: bytes, at: int) -> tuple[int, Fields]:
            number, at = read_varint(data, at)
            size, at = read_varint(data, at)
            payload, at = chunk(data, at)
            return at, (number, size, payload)

        def tunnel_close(data: bytes, at: int) -> tuple[int, Fields]:
            number, at = read_varint(data, at)
            return at, (number,)

        return {
            Op.CLOSE: close,
            Op.BROADCAST: named_payload,
            Op.REQUEST: request,
            Op.REPLY: reply,
            Op.SUBSCRIBE: named,
            Op.UNSUBSCRIBE: named,
            Op.PUBLISH: named_payload,
            Op.TUNNEL_INIT: tunnel_init,
            Op.TUNNEL_CONFIRM: numbers,
            Op.TUNNEL_ALLOW: numbers,
            Op.TUNNEL_TRANSFER: tunnel_transfer,
            Op.TUNNEL_CLOSE: tunnel_close,
        }


def _unknown(op: int) -> Reader:
    def read(data: bytes, at: int) -> tuple[int, Fields]:
        raise ProtocolError(f"unknown opcode {op}")

    return read


def _not_init(data: bytes, at: int) -> tuple[int, Fields]:
    raise ProtocolError("not a client of Iris")


_UNKNOWN: Final = tuple(_unknown(op) for op in range(256))
_NOT_INIT: Final = (_not_init,) * 255

_VARINTS: Final = tuple(bytes([value]) for value in range(0x80))
# what more of a number follows
_MORE: Final = tuple(bytes([value | 0x80]) for value in range(0x80))


def varint(value: int) -> bytes:
    """Write a number below 2**64."""
    if value < 0x80:
        return _VARINTS[value]
    if value < 0x4000:
        return _MORE[value & 0x7F] + _VARINTS[value >> 7]
    if value < 0x20_0000:
        return _MORE[value & 0x7F] + _MORE[value >> 7 & 0x7F] + _VARINTS[value >> 14]
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def string(text: str) -> bytes:
    """Write a string, with its length in front."""
    data = text.encode(errors="replace")
    return varint(len(data)) + data


# What clients get. Broadcasts and events, which go to many, are tuples of buffers to write, in one
# piece when they are short.


def broadcast(data: bytes) -> tuple[bytes, ...]:
    """A message to all of the cluster."""
    return _for_many(b"\x03", data)


def publish(topic: str, data: bytes) -> tuple[bytes, ...]:
    """An event."""
    return _for_many(_topic(topic) if len(topic) <= _SHORT else b"\x08" + string(topic), data)


def _for_many(head: bytes, data: bytes) -> tuple[bytes, ...]:
    head += varint(len(data))
    return (head, data) if len(data) > _LONG else (head + data,)


@lru_cache(maxsize=16_384)
def _topic(name: str) -> bytes:
    return b"\x08" + string(name)


# These end in the length of a payload, which the caller sends right behind, uncopied.


def request(number: int, size: int) -> bytes:
    """A request, `size` bytes of which follow, and then the timeout in milliseconds as a varint."""
    return b"\x04" + varint(number) + varint(size)


def reply(number: int, size: int) -> bytes:
    """An answer, `size` bytes of which follow."""
    return b"\x05" + varint(number) + b"\x00\x01" + varint(size)


def tunnel_transfer(number: int, size: int, chunk_size: int) -> bytes:
    """A chunk, `chunk_size` bytes of which follow. `size` is the whole message's, or 0."""
    return b"\x0c" + varint(number) + varint(size) + varint(chunk_size)


# And these are whole packets.


def fault(number: int, text: str) -> bytes:
    """A failed request."""
    return b"\x05" + varint(number) + b"\x00\x00" + string(text)


def timed_out(number: int) -> bytes:
    """A request that nobody answered in time."""
    return b"\x05" + varint(number) + b"\x01"


def tunnel_init(build_id: int, chunk_limit: int) -> bytes:
    """Somebody offers a tunnel."""
    return b"\x09" + varint(build_id) + varint(chunk_limit)


def tunnel_built(number: int, chunk_limit: int) -> bytes:
    """A tunnel that was asked for is there."""
    return b"\x0a" + varint(number) + b"\x00" + varint(chunk_limit)


def tunnel_timed_out(number: int) -> bytes:
    """A tunnel that was asked for isn't."""
    return b"\x0a" + varint(number) + b"\x01"


def tunnel_allow(number: int, space: int) -> bytes:
    """So many bytes more may be sent."""
    return b"\x0b" + varint(number) + varint(space)


def tunnel_close(number: int, reason: str) -> bytes:
    """A tunnel is no more; reason "" is graceful."""
    return b"\x0d" + varint(number) + string(reason)
