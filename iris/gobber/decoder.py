"""The receiving half of a gob stream. Core: bytes in, values out.

Counterpart of decoder.go of Go's encoding/gob. Fields are matched by name, unknown ones are
skipped, missing ones stay zero; type ids are the sender's. Stricter than Go: sizes must be what
they announce, and nothing may follow a value in its message. Malformed input raises GobError and
nothing else, in time and memory that the limits bound; a Decoder can't be used after that. Not
thread-safe.

A value stands in one message, or in several: when an interface inside it holds a type that is new,
each definition ends a message (Go encode.go encodeInterface). The same happens inside of an
interface value, where the pieces have a size in front, but stand in one message. `_pieces` keeps
where the next piece ends, to compare the end of a value with its announced size.
"""

from typing import Any, TypeVar, overload

from iris.gobber.definitions import FIRST_ID, MAX_ID, StructDef, WireType
from iris.gobber.framing import Buffer, GobError, peek_uint, read_int, read_uint
from iris.gobber.readers import Reader, own_reader, single_maker, struct_maker
from iris.gobber.skipping import skip_value
from iris.gobber.types import (
    Basic,
    BigInt,
    GobType,
    MapOf,
    PointerTo,
    SliceOf,
    StructOf,
    registered_struct,
    struct_info,
)

T = TypeVar("T")

_DEFINITION_SIZE = 512  # bytes that a definition may have on average; Iris' largest one has 115


class _Incomplete(Exception):
    """The value continues in a message that hasn't arrived; another attempt needs `need` bytes."""

    def __init__(self, need: int) -> None:
        super().__init__(need)
        self.need = need  # an offset


class Decoder:
    """Decode one direction of a stream."""

    def __init__(self, *, max_size: int, max_types: int = 128, max_depth: int = 64) -> None:
        """Begin a stream.

        Args:
            max_size: bytes of one value with its definitions.
            max_types: definitions in the whole stream.
            max_depth: interface values inside each other.
        """
        self._max_size, self._max_types, self._max_depth = max_size, max_types, max_depth
        self._definition_bytes = max_types * _DEFINITION_SIZE  # that may still come
        self.types: dict[int, WireType] = {}
        self.field_types: dict[int, tuple[int, ...]] = {}  # type ids of a struct's fields
        # contents of interfaces, by name and type id as they are sent; used by generated code
        self.known: dict[bytes, Reader] = {}
        self._top: dict[tuple[object, bytes], Reader] = {}  # by requested kind, type id
        self._structs: dict[tuple[type, int], Reader] = {}
        self._fresh: list[tuple[int, int]] = []  # ids and sizes of the current value's definitions
        self._pieces: dict[int, int] = {}  # by the end of an interface value's piece: the next's
        self._start = self._end = 0  # of the current value, and of its last message so far
        self._tail = bytearray()
        self._data: bytes | None = None  # a copy of the tail, once something in it is decoded
        self._offset = self._need = 0  # consumed of the tail; needed behind it for an attempt

    @overload
    def decode(self, data: Buffer, kind: type[T]) -> T: ...

    @overload
    def decode(self, data: Buffer, kind: GobType) -> Any: ...

    def decode(self, data: Buffer, kind: Any) -> Any:
        """Read the one value that `data` holds, after any definitions. Raises: GobError."""
        if data.__class__ is not bytes:
            data = bytes(data)
        try:
            value, end = self._read(data, 0, kind)
        except _Incomplete:
            raise GobError("message cut short") from None
        if end != len(data):
            raise GobError(f"{len(data) - end} bytes after the value")
        return value

    def feed(self, data: Buffer) -> None:
        """Append received bytes; at most `max_size` are kept if `next` is called each time."""
        if self._offset:
            del self._tail[: self._offset]
            self._offset = 0
        self._tail += data
        self._data = None

    @overload
    def next(self, kind: type[T]) -> T | None: ...

    @overload
    def next(self, kind: GobType) -> Any: ...

    def next(self, kind: Any) -> Any:
        """Read the next value; None until it is complete.

        Raises: GobError, as soon as a size is known to be too big.
        """
        if len(self._tail) - self._offset < self._need:
            return None
        prefix = peek_uint(self._tail, self._offset)
        if prefix is None:
            return None
        self._need = sum(prefix)
        self._check_size(self._need)
        if len(self._tail) - self._offset < self._need:
            return None
        if self._data is None:
            self._data = bytes(self._tail)
        try:
            value, end = self._read(self._data, self._offset, kind)
        except _Incomplete as exc:  # the next attempt starts over; one per definition, at most
            self._need = exc.need - self._offset
            for number, size in self._fresh:
                del self.types[number]
                self._definition_bytes += size
            return None
        self._offset, self._need = end, 0
        return value

    def take_rest(self) -> bytes:
        """Return the bytes that no value has consumed, and forget them."""
        rest = bytes(self._tail[self._offset :])
        self._tail, self._data, self._offset, self._need = bytearray(), None, 0, 0
        return rest

    def _check_size(self, size: int) -> None:
        if size > self._max_size:
            raise GobError(f"message of {size} bytes, limit {self._max_size}")

    def _read(self, data: bytes, offset: int, kind: Any) -> tuple[Any, int]:
        self._start = offset
        self._fresh.clear()
        self._pieces.clear()
        try:
            size, offset = read_uint(data, offset)
            self._end = end = offset + size
            if end > len(data):
                raise GobError("message cut short")
            self._check_size(end - self._start)
            number = data[offset]
            end = offset + (1 if number < 128 else 257 - number)
            reader = self._top.get((kind, data[offset:end]))
            if reader is None:
                reader, end = self._read_top(data, offset, kind)
            value, end = reader(data, end, self, self._max_depth)
        except IndexError:
            raise GobError("value cut short") from None
        if end != self._end or self._pieces:
            raise GobError("value and its message end apart")
        return value, end

    def _open(self, data: bytes, offset: int) -> int:
        """Enter the message at `offset`. Returns: where its content starts.

        Raises: GobError for its size; _Incomplete.
        """
        prefix = peek_uint(data, offset)
        if prefix is None:
            raise _Incomplete(offset + 1 if offset >= len(data) else offset + 0x101 - data[offset])
        offset += prefix[1]
        self._end = offset + prefix[0]
        self._check_size(self._end - self._start)
        if self._end > len(data):
            raise _Incomplete(self._end)
        return offset

    def _read_top(self, data: bytes, offset: int, kind: Any) -> tuple[Reader, int]:
        start = offset
        number, offset = read_int(data, offset)
        while number < 0:
            offset = self._define(data, offset, -number)
            if offset != self._end:
                raise GobError("definition and its message end apart")
            start = self._open(data, offset)
            number, offset = read_int(data, start)
        reader = self._top[kind, data[start:offset]] = self._bind_top(kind, number)
        return reader, offset

    def _define(self, data: bytes, offset: int, number: int) -> int:
        """Read a definition. Returns: the offset behind it."""
        if number in self.types or not FIRST_ID <= number <= MAX_ID:
            raise GobError(f"definition of type {number}")
        if len(self.types) >= self._max_types:
            raise GobError(f"more than {self._max_types} definitions")
        bounded = data[offset : offset + self._definition_bytes]
        definition, size = own_reader(WireType)(bounded, 0, self, 0)
        if len(definition.parts()) != 1:
            raise GobError(f"type {number} of {len(definition.parts())} kinds")
        self.types[number] = definition
        if definition.struct is not None:
            self.field_types[number] = tuple(field.id for field in definition.struct.fields)
        self._definition_bytes -= size
        self._fresh.append((number, size))
        return offset + size

    def interface(self, data: bytes, offset: int, depth: int) -> tuple[Any, int]:
        """Read a non-nil interface value that isn't in `known`; called by generated code."""
        if not depth:
            raise GobError("nested too deep")
        start = offset
        size, offset = read_uint(data, offset)
        name = data[offset : offset + size]
        cls = registered_struct(name.decode("utf-8", "surrogateescape"))
        if cls is None:
            raise GobError("interface value of a type that isn't registered")
        head = data[start : offset + size]
        start = offset = offset + size
        number, start, offset = self.concrete_type(data, offset)
        reader = self.known[head + data[start:offset]] = self._struct(cls, number)
        size, offset = read_uint(data, offset)
        value, end = reader(data, offset, self, depth - 1)
        if end != offset + size:
            self.check_end(offset + size, end)
        return value, end

    def concrete_type(self, data: bytes, offset: int) -> tuple[int, int, int]:
        """Read the type id of an interface value, after any definitions.

        Returns: type id, where it starts, where it ends.
        """
        while True:
            start = offset
            number, offset = read_int(data, offset)
            if number >= 0:
                return number, start, offset
            end = offset = self._define(data, offset, -number)
            if end == self._end:
                offset = self._open(data, end)
            else:
                size, offset = read_uint(data, end)
                self._pieces[end] = offset + size

    def check_end(self, end: int, offset: int) -> None:
        """Check that an interface value ended at its announced `end`, behind its last piece.

        Raises: GobError.
        """
        while end != offset:
            following = self._pieces.pop(end, None)
            if following is None:
                raise GobError("value and its size end apart")
            end = following

    def skip(self, data: bytes, offset: int, number: int) -> int:
        """Skip a value of this type; called by generated code."""
        return skip_value(self, data, offset, number)

    def _bind_top(self, kind: Any, number: int) -> Reader:
        if not isinstance(kind, GobType):
            return self._struct(kind, number)
        if isinstance(kind, PointerTo | StructOf):
            return self._struct(kind.struct, number)
        return single_maker(kind)(None, (), *self._bind(kind, number))

    def _struct(self, cls: type, number: int) -> Reader:
        """Return the decoder of a sender's type as our class.

        Raises: GobError unless it is a struct whose fields are compatible with ours.
        """
        reader = self._structs.get((cls, number))
        if reader is not None:
            return reader
        definition = self.types.get(number)
        if definition is None or definition.struct is None:
            raise GobError(f"type {number} is no struct")
        fields = struct_info(cls).fields
        places = {field.name: at for at, field in enumerate(fields)}
        columns = _columns(definition.struct, places)
        if fields and columns and max(columns) < 0:
            raise GobError(f"type {number} and {cls.__name__} have no field in common")
        nested: list[Reader] = []
        for column, field in zip(columns, definition.struct.fields, strict=True):
            if column >= 0:
                nested += self._bind(fields[column].type, field.id)
        make = struct_maker(cls, columns)
        reader = self._structs[cls, number] = make(cls, self.field_types[number], *nested)
        return reader

    def _bind(self, type_: GobType, number: int) -> list[Reader]:
        """Check that a sender's type is compatible with ours.

        Returns: the decoders of the structs in it, in order of use.
        """
        if isinstance(type_, Basic):
            if type_.id == number:
                return []
        elif isinstance(type_, PointerTo | StructOf):
            return [self._struct(type_.struct, number)]
        elif (definition := self.types.get(number)) is not None:
            match type_:
                case BigInt() if definition.gob_encoder is not None:
                    return []
                case SliceOf(elem) if definition.slice is not None:
                    return self._bind(elem, definition.slice.elem)
                case MapOf(key, elem) if definition.map is not None:
                    keys = self._bind(key, definition.map.key)
                    return keys + self._bind(elem, definition.map.elem)
        raise GobError(f"type {number} where {type_} belongs")


def _columns(definition: StructDef, places: dict[str, int]) -> tuple[int, ...]:
    seen = set[str]()
    for field in definition.fields:
        if not field.name or field.name in seen:
            raise GobError("fields without a name, or with the same name")
        seen.add(field.name)
    return tuple(places.get(field.name, -1) for field in definition.fields)
