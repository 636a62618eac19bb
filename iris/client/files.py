"""A tunnel as a file: for what reads and writes streams of bytes and knows nothing of messages."""

import io
from typing import TYPE_CHECKING, Any

from iris.client.errors import Closed

if TYPE_CHECKING:
    from iris.client.tunnel import Tunnel

_PIECE = 1 << 20  # bytes of one message at most

Stream = io.BufferedReader | io.BufferedWriter | io.BufferedRWPair


class TunnelFile(io.RawIOBase):
    """Bytes through a tunnel, unbuffered.

    Each write is a message, and a read gives what there is of the next one.

    The file ends where the other end closes the tunnel; closing the file doesn't close the tunnel.
    Raises: what `send` and `recv` raise.
    """

    def __init__(self, tunnel: "Tunnel", timeout: float | None = None) -> None:
        """timeout in seconds, for each read and write."""
        super().__init__()
        self._tunnel, self._timeout = tunnel, timeout
        self._rest = memoryview(b"")  # of a message that is being read

    def readable(self) -> bool:
        """Yes."""
        return True

    def writable(self) -> bool:
        """Yes."""
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
        piece = memoryview(data).cast("B")[:_PIECE]
        if piece:
            self._tunnel.send(piece, self._timeout)
        return len(piece)


def open_tunnel(tunnel: "Tunnel", mode: str, buffering: int, timeout: float | None) -> Stream:
    """See `Tunnel.makefile`."""
    if mode == "rb":
        return io.BufferedReader(TunnelFile(tunnel, timeout), buffering)
    if mode == "wb":
        return io.BufferedWriter(TunnelFile(tunnel, timeout), buffering)
    if mode == "rwb":
        return io.BufferedRWPair(
            TunnelFile(tunnel, timeout), TunnelFile(tunnel, timeout), buffering
        )
    raise ValueError(f"mode '{mode}', want 'rb', 'wb' or 'rwb'")
