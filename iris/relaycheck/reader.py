"""Cut one direction of a connection into packets, with their offsets. Core.

It follows the construct schemas, with generous sizes: which ones a node accepts is its own concern.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from construct import ConstructError, MappingError, StreamError, StringError

from iris.config import MIB, Limits, RelayConfig
from iris.relay_protocol.schema import PACKETS, Op, Side, protocol

GENEROUS = protocol(
    Limits(message_size=256 * MIB, name_size=1 * MIB), RelayConfig(chunk_limit=256 * MIB)
)

_SCHEMAS = {Side.CLIENT: GENEROUS.from_client, Side.NODE: GENEROUS.from_node}
_OPS = {side: {op for op in Op if side in PACKETS[op]} for side in Side}
_SHOWN = 48  # bytes of a packet that a report shows


@dataclass(frozen=True)
class Packet:
    """A packet of one side; `data` is its beginning."""

    side: Side
    offset: int
    op: Op
    body: Any
    data: bytes


class Malformed(Exception):
    """The bytes at `offset` are no packet."""

    def __init__(self, rule: str, text: str, offset: int, data: bytes) -> None:
        super().__init__(text)
        self.rule, self.text, self.offset, self.data = rule, text, offset, data


class _Stream:
    """What construct reads from: it records the offset up to which a failed read needs data."""

    def __init__(self, data: bytearray, at: int) -> None:
        self._data, self.at, self.wanted = data, at, 0

    def read(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self._data):
            self.wanted = end
            return b""
        data = bytes(self._data[self.at : end])
        self.at = end
        return data


class Reader:
    """One direction of one connection. After a malformed packet nothing more can be read."""

    def __init__(self, side: Side) -> None:
        self._side, self._schema, self._ops = side, _SCHEMAS[side], _OPS[side]
        self._buffer = bytearray()
        self._wanted = 0  # bytes in the buffer that the next packet needs at least
        self.offset = 0  # of the next packet

    @property
    def rest(self) -> bytes:
        """The beginning of an incomplete packet."""
        return bytes(self._buffer[:_SHOWN])

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield the packets that end in `data`; to be exhausted. Raises: Malformed."""
        buffer = self._buffer
        buffer += data
        if len(buffer) < self._wanted:
            return
        self._wanted, at = 0, 0
        try:
            while at < len(buffer):
                packet, end = self._read(at)
                if packet is None:
                    self._wanted = end - at
                    break
                at = end
                yield packet
        finally:
            del buffer[:at]
            self.offset += at

    def _read(self, at: int) -> tuple[Packet | None, int]:
        offset, first = self.offset + at, self._buffer[at]
        if first not in self._ops:
            raise Malformed("value.opcode", f"opcode {first:#04x}", offset, self._shown(at))
        stream = _Stream(self._buffer, at)
        try:
            packet = self._schema.parse_stream(stream)
        except StreamError:
            return None, stream.wanted
        except (ConstructError, UnicodeDecodeError) as exc:
            raise Malformed(_rule(exc), str(exc).splitlines()[0], offset, self._shown(at)) from None
        shown = self._shown(at, stream.at)
        return Packet(self._side, offset, packet.op, packet.body, shown), stream.at

    def _shown(self, at: int, end: int | None = None) -> bytes:
        return bytes(self._buffer[at : min(at + _SHOWN, len(self._buffer) if end is None else end)])


def _rule(error: Exception) -> str:
    text = str(error)
    if "magic" in text:
        return "open.magic"
    if isinstance(error, MappingError):
        return "value.bool"
    if isinstance(error, UnicodeDecodeError | StringError) or "codec" in text:
        return "value.utf8"
    return "value.length" if "limit" in text else "value.varint"
