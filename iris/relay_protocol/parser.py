"""The incremental parser of the relay protocol, for both directions. Core.

It follows the table of `schema.py`; tests/property/test_relay_parser.py
compares it with the construct schemas.
"""

from collections.abc import Iterator
from typing import Any, Final

from iris.config import Limits, RelayConfig
from iris.errors import MessageTooBig, ProtocolError
from iris.relay_protocol.schema import (
    BINARY,
    BOOL,
    CHUNK,
    MAGIC,
    MAGIC_STRING,
    NAME,
    NUMBER,
    OPENING,
    PACKETS,
    RESULT,
    TEXT,
    TIMED_OUT,
    Op,
    Side,
)
from iris.relay_protocol.varint import VARINT_SIZE, read_varint
from iris.runtime.compiling import mypyc_attr, with_cause

Fields = tuple[Any, ...]
Kinds = tuple[int, ...]
Buffer = bytes | bytearray | memoryview

_LONG: Final = 16_384  # bytes; a payload beyond it is gathered in pieces
_PIECE: Final = 4_096  # bytes; smaller pieces are copied together, as each costs memory itself

_INIT: Final = int(Op.INIT)


def _kinds(sender: Side, ops: set[Op]) -> tuple[Kinds | None, ...]:
    """Tabulate the kinds of fields by opcode; None for what isn't a packet of `ops`."""
    table: list[Kinds | None] = [None] * 256
    for op in ops:
        if (fields := PACKETS[op].get(sender)) is not None:
            table[op] = tuple(kind for _, kind in fields)
    return tuple(table)


_OPENING: Final = {side: _kinds(side, OPENING[side]) for side in Side}
_LATER: Final = {side: _kinds(side, set(Op) - OPENING[side]) for side in Side}


class _Short(Exception):
    """The data ends before a payload of `size` bytes, which begins `at`, does."""

    def __init__(self, at: int, size: int) -> None:
        self.at, self.size = at, size


def decode_utf8(data: bytes) -> str:
    """Decode a string's bytes. Raises: ProtocolError."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        # the original would show what was sent
        raise with_cause(ProtocolError("string is not valid UTF-8"), None) from None


@mypyc_attr(allow_interpreted_subclasses=True)
class Parser:
    """Cut what one side sends into packets: pairs of opcode and the tuple of fields of its row.

    The first packet must be an opening one, and no later one may. The front of a packet that isn't
    complete waits for the next feed().
    """

    def __init__(self, sender: Side, limits: Limits, relay: RelayConfig) -> None:
        self._magic = MAGIC[sender].encode()
        self._stranger = f"not an Iris {sender.value}"
        self._table, self._later = _OPENING[sender], _LATER[sender]
        message = limits.message_size
        by_kind = {NAME: limits.name_size, BINARY: message, TEXT: message, RESULT: message}
        by_kind |= {CHUNK: relay.chunk_limit, MAGIC_STRING: len(self._magic)}
        self._limits: tuple[int, ...] = tuple(by_kind.get(kind, 0) for kind in range(BOOL))
        self._rest = b""  # the front of a packet
        self._pieces: list[Buffer] = []  # of a long payload that comes right after `_rest`
        self._missing = 0  # bytes of it that are still to come
        self._payload: bytes | None = None  # the same payload, complete

    def feed(self, data: bytes) -> Iterator[tuple[int, Fields]]:
        """Yield the packets that end in `data`, and keep the rest.

        The caller exhausts the iterator, or drops this parser.

        Raises:
            ProtocolError: the next packet violates the protocol.
            MessageTooBig: the same; before anything of what is too long is kept.
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
                at, fields = self._parse(data[: len(front) + VARINT_SIZE], 0, len(front))
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
        end, start = len(data), at
        try:
            while at < end:
                start = at
                at, fields = self._parse(data, start, end)
                op = data[start]
                if op == _INIT:
                    self._table = self._later
                yield op, fields
        except IndexError:
            self._rest = data[start:]
        except _Short as short:
            self._keep(data, start, short)

    def _parse(self, data: bytes, at: int, end: int) -> tuple[int, Fields]:
        """Parse one packet; payloads lie before `end`.

        Returns: (offset behind it, its fields).
        Raises: IndexError or _Short when the data ends first; ProtocolError.
        """
        kinds = self._table[data[at]]
        if kinds is None:
            unknown = f"unknown opcode {data[at]}"
            raise ProtocolError(unknown if self._table is self._later else self._stranger)
        at += 1
        fields: list[Any] = []
        success = False
        for kind in kinds:
            value = data[at]
            at += 1
            if kind >= BOOL:
                if value > 1:
                    raise ProtocolError(f"invalid boolean {value}")
                success = value == 1
                fields.append(success)
                if success and kind == TIMED_OUT:
                    fields += [None] * (len(kinds) - len(fields))
                    break
                continue
            if value > 0x7F:
                high = data[at]
                if high < 0x80:
                    value += (high << 7) - 0x80
                    at += 1
                else:
                    value, at = read_varint(data, at - 1)
            if kind == NUMBER:
                fields.append(value)
                continue
            start = at
            at += value
            if at <= end and value <= self._limits[kind]:
                payload = data[start:at]
            else:
                payload, at = self._incomplete(data, start, kind, value), start
            if kind <= CHUNK or (kind == RESULT and success):
                fields.append(payload)
            elif kind != MAGIC_STRING:
                fields.append(decode_utf8(payload))
            elif payload != self._magic:
                raise ProtocolError(self._stranger)
        return at, tuple(fields)

    def _incomplete(self, data: bytes, start: int, kind: int, size: int) -> bytes:
        """Return the payload that was gathered, or raise: it isn't complete, or too long."""
        limit = self._limits[kind]
        if kind == MAGIC_STRING:
            if size != limit or not self._magic.startswith(data[start:]):
                raise ProtocolError(self._stranger)
            raise IndexError
        if kind == NAME:
            if size > limit:
                raise ProtocolError(f"name of {size} bytes, limit {limit}")
            raise IndexError
        if size > limit:
            raise MessageTooBig(size, limit)
        if self._payload is None:
            raise _Short(start, size)
        return self._payload

    def _keep(self, data: bytes, start: int, short: _Short) -> None:
        if short.size <= _LONG:
            self._rest = data[start:]
            return
        self._rest = data[start : short.at]
        self._missing = short.size - (len(data) - short.at)
        self._pieces = [memoryview(data)[short.at :]]

    def _gather(self, data: bytes) -> bytes:
        """Take what belongs to the long payload. Returns: the rest of `data`."""
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
