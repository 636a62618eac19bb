"""One end of a tunnel, with threads.

Counterpart of iris-go's tunnel.go. Lock order: _sending -> _changed, which is held across no call
but the flow's; see node_connection.py for the rest.
"""

import contextlib
import io
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any, Literal, Protocol, overload

from iris.client.closing import Closing
from iris.client.errors import Closed, TimedOut
from iris.client.flow import Flow, Outgoing
from iris.client.limits import CLOSE_GRACE, TUNNEL_BUFFER
from iris.client.protocol import ClientProtocol, Frontend
from iris.relay_protocol.client_packets import Buffer
from iris.runtime.batch import flush_batch

Stream = io.BufferedReader | io.BufferedWriter | io.BufferedRWPair
_FILE_MESSAGE_SIZE = 1 << 20  # bytes of one message at most

_log = logging.getLogger(__name__)


class Node(Frontend[Any], Protocol):
    """What is used of `iris.client.node_connection.NodeConnection`."""

    @property
    def protocol(self) -> ClientProtocol[Any]:
        """The connection's core."""

    def check_may_wait(self) -> None:
        """Raise StateError in the thread that reads from the node."""

    def is_reader(self) -> bool:
        """Whether the calling thread is the one that reads from the node."""


class Tunnel(Closing):
    """An ordered stream of messages, in each direction, to one other program.

    With backpressure: it is as fast as the other end receives. Any number of threads may share one.
    Iterating yields messages until the other end closes. Timeouts are in seconds, None waits
    without limit.
    """

    def __init__(self, node: Node, number: int, chunk_limit: int) -> None:
        self._node, self._number = node, number
        self._flow = Flow(number, chunk_limit, TUNNEL_BUFFER)
        self._sending = threading.Lock()  # held by the thread that is sending a message
        self._changed = threading.Condition(threading.Lock())  # guards _flow

    def __iter__(self) -> Iterator[bytes]:
        """Yield messages until the other end closes. Raises: Closed when the tunnel broke."""
        while True:
            try:
                message = self.recv()
            except Closed as exc:
                if exc.reason:
                    raise
                return
            yield message

    def send(self, message: Buffer, timeout: float | None = None) -> None:
        """Send a message, which must not be empty; return when the node has all of it.

        Raises:
            TimedOut: the other end was too slow; it discards what was sent of the message.
            Closed, ValueError, TypeError.
        """
        self._node.check_may_wait()
        outgoing = Outgoing(message)
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._sending.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            raise TimedOut("other threads are sending")
        try:
            while not outgoing.complete:
                with self._changed:
                    while not (packets := self._flow.cut(outgoing)):
                        if not self._wait(deadline):
                            raise TimedOut(outgoing.progress)
                self._node.write_soon(tuple(packets))  # bounded by the credit
        finally:
            self._sending.release()

    def recv(self, timeout: float | None = None) -> bytes:
        """Return the next message. Raises: TimedOut; Closed when no more will arrive."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while (message := self._flow.receive()) is None:
                self._node.check_may_wait()
                if not self._wait(deadline):
                    raise TimedOut("no message arrived")
            update = self._flow.window_update()
        self._send_update(update)
        return message

    @overload
    def makefile(
        self, mode: Literal["rb"] = "rb", buffering: int = 65_536, timeout: float | None = None
    ) -> io.BufferedReader: ...
    @overload
    def makefile(
        self, mode: Literal["wb"], buffering: int = 65_536, timeout: float | None = None
    ) -> io.BufferedWriter: ...
    @overload
    def makefile(
        self, mode: Literal["rwb"], buffering: int = 65_536, timeout: float | None = None
    ) -> io.BufferedRWPair: ...
    def makefile(
        self, mode: str = "rb", buffering: int = 65_536, timeout: float | None = None
    ) -> Stream:
        """Wrap the tunnel in a binary file, which ends where the other end closes the tunnel.

        Closing the file sends what is buffered, and leaves the tunnel open. Don't use `send` or
        `recv` in the same direction at the same time.

        Args:
            mode: "rb", "wb" or "rwb".
            buffering: bytes; about the size of the messages that are sent.
            timeout: seconds for each message.
        Raises: ValueError for another mode.
        """
        if mode not in ("rb", "wb", "rwb"):
            raise ValueError(f"mode '{mode}', expected 'rb', 'wb' or 'rwb'")
        raw = _TunnelFile(self, timeout)
        if mode == "rb":
            return io.BufferedReader(raw, buffering)
        if mode == "wb":
            return io.BufferedWriter(raw, buffering)
        return io.BufferedRWPair(raw, _TunnelFile(self, timeout), buffering)

    @property
    def closed(self) -> bool:
        """Whether it has ended; messages may still wait to be received."""
        return self._flow.error is not None

    def close(self, timeout: float = CLOSE_GRACE) -> None:
        """Close it, and wait for the node to confirm; the other end still gets all that was sent.

        Idempotent, never raises. Gives up after `timeout` seconds.
        """
        with self._changed:
            first = self._flow.begin_close()
        if first:
            with contextlib.suppress(Closed):  # the other end closed first
                self._node.protocol.close_tunnel(self._number)
        if self._node.is_reader():
            return
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self.closed and self._wait(deadline):
                pass
            if not self.closed:
                _log.warning("tunnel %d: close timed out", self._number)

    def _wait(self, deadline: float | None) -> bool:
        """Wait for a change, with `_changed` held. Returns: False after the deadline."""
        flush_batch()  # the other end may wait for what this thread has written
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return False
        self._changed.wait(left)
        return True

    def _send_update(self, packet: bytes) -> None:
        if packet:
            with contextlib.suppress(Closed):  # what has arrived can still be received
                self._node.write_soon((packet,))

    # See `protocol.TunnelEnd`

    def handle_allow(self, space: int) -> None:
        """Add credit for sending."""
        with self._changed:
            self._flow.grant(space)
            self._changed.notify_all()

    def handle_chunk(self, size: int, chunk: bytes) -> None:
        """Take a chunk of a message."""
        with self._changed:
            if self._flow.feed(size, chunk):
                self._changed.notify_all()
            update = self._flow.window_update()
        self._send_update(update)

    def handle_close(self, error: Closed) -> None:
        """End it."""
        with self._changed:
            self._flow.error = error
            self._changed.notify_all()


class _TunnelFile(io.RawIOBase):
    """An unbuffered file: each write is a message, a read returns what there is of the next one.

    It ends where the other end closes the tunnel. Closing the file leaves the tunnel open.
    Raises what `send` and `recv` raise.
    """

    def __init__(self, tunnel: Tunnel, timeout: float | None) -> None:
        super().__init__()
        self._tunnel, self._timeout = tunnel, timeout
        self._rest = memoryview(b"")  # of a message that is being read

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
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
        message = memoryview(data).cast("B")[:_FILE_MESSAGE_SIZE]
        if message:
            self._tunnel.send(message, self._timeout)
        return len(message)
