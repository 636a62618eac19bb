"""The gob stream that the classic suite's handshakes use.

Shell; counterpart of the coding half of Go's proto/stream/stream.go.
"""

import socket
import time
from collections.abc import Callable
from typing import TypeVar

from iris.config import Limits
from iris.errors import LinkClosed
from iris.gobber import Decoder, Encoder
from iris.runtime.deadline import socket_timeout
from iris.runtime.tcp import handshake_errors, hang_up

T = TypeVar("T")

_READ_SIZE = 16_384  # bytes


class GobStream:
    """A connection during its handshake, which must be over by a deadline. Not thread-safe."""

    def __init__(
        self,
        sock: socket.socket,
        deadline: float,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wrap a connected socket; the deadline is in seconds on the clock."""
        self._sock, self._deadline, self._clock = sock, deadline, clock
        self._encoder = Encoder()
        self._decoder = Decoder(max_size=limits.unauthenticated_size, max_types=limits.gob_types)

    def send(self, value: object) -> None:
        """Send a declared struct. Raises: HandshakeTimeout, LinkClosed."""
        with handshake_errors():
            self._sock.settimeout(socket_timeout(self._deadline, self._clock))
            self._sock.sendall(self._encoder.encode(value))

    def recv(self, cls: type[T]) -> T:
        """Wait for a declared struct.

        Raises: HandshakeTimeout, LinkClosed; ProtocolError for anything malformed.
        """
        while (value := self._decoder.next(cls)) is None:
            with handshake_errors():
                self._sock.settimeout(socket_timeout(self._deadline, self._clock))
                data = self._sock.recv(_READ_SIZE)
            if not data:
                raise LinkClosed("connection closed during the handshake")
            self._decoder.feed(data)
        return value

    def detach(self) -> tuple[socket.socket, bytes]:
        """Return the socket, blocking again, and the bytes received after the last value."""
        self._sock.settimeout(None)
        return self._sock, self._decoder.take_rest()

    def close(self) -> None:
        """Close the connection."""
        hang_up(self._sock)
