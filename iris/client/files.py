"""A tunnel as a binary file, for code that reads and writes streams of bytes."""

import io
from typing import Any, Protocol

from iris.client.errors import Closed

_MESSAGE_SIZE = 1 << 20  # bytes of one message at most

Stream = io.BufferedReader | io.BufferedWriter | io.BufferedRWPair


class Messages(Protocol):
    """What a file needs of a tunnel."""

    def send(self, message: memoryview, timeout: float | None) -> None:
        """Send a message."""

    def recv(self, timeout: float | None) -> bytes:
        """Receive a message."""


class TunnelFile(io.RawIOBase):
    """An unbuffered file: each write is a message, a read returns what there is of the next one.

    It ends where the other end closes the tunnel. Closing the file leaves the tunnel open.
    Raises what `send` and `recv` raise.
    """

    def __init__(self, tunnel: Messages, timeout: float | None = None) -> None:
        """Wrap a tunnel. `timeout` in seconds, for each read and write."""
        super().__init__()
        self._tunnel, self._timeout = tunnel, timeout
        self._rest = memoryview(b"")  # of a message that is being read

    def readable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read what there is of the next message. Returns: bytes, 0 at the end."""
        target = memoryview(buffer).cast("B")
        if not self._rest:
            try:
                self._rest = memoryview(self._tunnel.recv(self._timeout))
            except Closed as exc:
                if exc.reason:
                    raise
                return 0
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def write(self, data: Any, /) -> int:
        """Send a message. Returns: how many bytes of the data are in it."""
        message = memoryview(data).cast("B")[:_MESSAGE_SIZE]
        if message:
            self._tunnel.send(message, self._timeout)
        return len(message)


def open_tunnel(tunnel: Messages, mode: str, buffering: int, timeout: float | None) -> Stream:
    """Make a buffered file, as described in `Tunnel.makefile`."""
    if mode == "rb":
        return io.BufferedReader(TunnelFile(tunnel, timeout), buffering)
    if mode == "wb":
        return io.BufferedWriter(TunnelFile(tunnel, timeout), buffering)
    if mode == "rwb":
        reader, writer = TunnelFile(tunnel, timeout), TunnelFile(tunnel, timeout)
        return io.BufferedRWPair(reader, writer, buffering)
    raise ValueError(f"mode '{mode}', expected 'rb', 'wb' or 'rwb'")
