"""Datagrams: gob without definitions, which both sides know beforehand. Core.

Counterpart of Go's gobber/gobber.go, for its one use: a single struct type, without interfaces.
"""

from typing import Generic, TypeVar

from iris.errors import StateError
from iris.gobber.definitions import FIRST_ID, MAX_ID
from iris.gobber.encoder import Encoder
from iris.gobber.framing import Buffer, GobError, read_int, read_uint
from iris.gobber.readers import may_span, own_reader
from iris.gobber.types import PointerTo

T = TypeVar("T")


class Datagrams(Generic[T]):
    """Encode and decode values of one struct, each in a datagram. Decoding is thread-safe."""

    def __init__(self, cls: type[T]) -> None:
        if may_span(PointerTo(cls)):
            raise StateError(f"{cls.__name__} has interfaces, whose types need definitions")
        self._encoder = Encoder()
        # what a Go node primes its decoder with: definitions, and the zero value
        self.definitions = self._encoder.encode(cls())
        self._reader = own_reader(cls)  # type: ignore[arg-type]

    def encode(self, value: T) -> bytes:
        """Write a datagram, with Go's type id, 65."""
        return self._encoder.encode(value)

    def decode(self, data: Buffer) -> T:
        """Read a datagram, whatever type id it has. Raises: GobError."""
        data = bytes(data)
        try:
            size, offset = read_uint(data, 0)
            if offset + size != len(data):
                raise GobError(f"message of {size} bytes in a datagram of {len(data)}")
            number, offset = read_int(data, offset)
            if not FIRST_ID <= number <= MAX_ID:
                raise GobError(f"type {number} in a datagram")
            value: T
            value, end = self._reader(data, offset, None, 0)
        except IndexError:
            raise GobError("value cut short") from None
        if end != len(data):
            raise GobError("value and its message end apart")
        return value
