"""The gob stream that handshakes of classic links are spoken on.

Shell; counterpart of the coding half of Go's proto/stream/stream.go.
"""

import contextlib
import socket
import time
from collections.abc import Callable
from typing import TypeVar

from iris.errors import LinkClosed
from iris.gobber import Decoder, Encoder
from iris.runtime.deadline import socket_timeout
from iris.runtime.tcp import handshake_errors

T = TypeVar("T")

_CHUNK = 16_384  # bytes of one read in a handshake


class GobStream:
    """A connection during its handshake, all of which must be over by a deadline. Not thread-safe."""

    def __init__(
        self,
        sock: socket.socket,
        deadline: float,
        *,
        max_size: int,
        max_types: int,
        encoder: Encoder | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wrap a connected socket. Deadline in seconds on the clock.

        Max_size in bytes of one message.
        """
        self._sock, self._deadline, self._clock = sock, deadline, clock
        self._encoder = encoder or Encoder()
        self._decoder = Decoder(max_size=max_size, max_types=max_types)

    def send(self, value: object) -> None:
        """Send a declared struct. Raises: HandshakeTimeout, LinkClosed."""
        with handshake_errors():
            self._sock.settimeout(socket_timeout(self._deadline, self._clock))
            self._sock.sendall(self._encoder.encode(value))

    def recv(self, cls: type[T]) -> T:
        """Wait for a declared struct. Raises: HandshakeTimeout, LinkClosed.

        ProtocolError for anything malformed.
        """
        while (value := self._decoder.next(cls)) is None:
            with handshake_errors():
                self._sock.settimeout(socket_timeout(self._deadline, self._clock))
                data = self._sock.recv(_CHUNK)
            if not data:
                raise LinkClosed("the other side hung up in the middle of the handshake")
            self._decoder.feed(data)
        return value

    def detach(self) -> tuple[socket.socket, bytes]:
        """Hand over the socket, blocking again, and the bytes that came after the last value."""
        self._sock.settimeout(None)
        return self._sock, self._decoder.take_rest()

    def interrupt(self) -> None:
        """Hang up from another thread.

        Whoever waits in `send` or `recv` gets LinkClosed, and closes.
        """
        with contextlib.suppress(OSError):  # the other side may have gone first
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up."""
        self.interrupt()
        self._sock.close()
