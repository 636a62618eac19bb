"""One end of a tunnel, with threads. Shell around `flow.py`.

Counterpart of iris-go's tunnel.go. Lock order: _sending -> _changed (held across no call but the
core's); see attachment.py for the rest.
"""

import contextlib
import io
import logging
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Literal, overload

from iris.client.errors import Closed, TimedOut
from iris.client.files import Stream, open_tunnel
from iris.client.flow import Flow, Outgoing
from iris.client.limits import PATIENCE
from iris.relay_protocol.client_codec import Buffer
from iris.runtime.batch import flush_batch

if TYPE_CHECKING:
    from iris.client.node_connection import NodeConnection

_log = logging.getLogger(__name__)


class Tunnel:
    """An ordered stream of messages, each way, to one other program.

    It is throttled by how fast the other one receives.

    Any number of threads may use it. Iterating gives messages until the other end closes. Times are
    in seconds, None waits for ever.
    """

    def __init__(self, attachment: "NodeConnection", number: int, chunk_limit: int) -> None:
        self._attachment, self._number = attachment, number
        self._flow = Flow(number, chunk_limit, attachment.core.tunnel_buffer)
        self._sending = threading.Lock()  # whose turn it is to send a message
        self._changed = threading.Condition(threading.Lock())  # guards all below, and _flow

    def __enter__(self) -> "Tunnel":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        """The messages, until the other end closes. Raises: Closed when the tunnel is dropped."""
        while True:
            try:
                message = self.recv()
            except Closed as exc:
                if exc.reason:
                    raise
                return
            yield message

    def send(self, message: Buffer, timeout: float | None = None) -> None:
        """Send a message, which mustn't be empty; returns when the node has it all.

        Raises: TimedOut when the other end didn't make room for it in time: it never gets that
        message then, whatever was sent of it. Closed. ValueError, TypeError.
        """
        self._attachment.may_wait()
        outgoing = Outgoing(message)
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._sending.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            raise TimedOut("others are still sending")
        try:
            while not outgoing.complete:
                with self._changed:
                    while not (packets := self._flow.cut(outgoing)):
                        if not self._wait(deadline):
                            raise TimedOut(outgoing.progress)
                self._attachment.write_soon(*packets)  # never more than the node allows
        finally:
            self._sending.release()

    def recv(self, timeout: float | None = None) -> bytes:
        """The next message. Raises: TimedOut; Closed when no more will come."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while (message := self._flow.receive()) is None:
                self._attachment.may_wait()
                if not self._wait(deadline):
                    raise TimedOut("no message came")
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
        """A file to read from ("rb"), write to ("wb") or both ("rwb"), which ends where the other
        end closes the tunnel.

        What is written is sent in messages of about `buffering` bytes. Closing the file sends what
        is left, and leaves the tunnel open. The timeout is for each message. Don't mix it with
        `send` or `recv` in the same direction.
        """
        return open_tunnel(self, mode, buffering, timeout)

    @property
    def closed(self) -> bool:
        """Whether it has ended; there may be messages to receive still."""
        return self._flow.error is not None

    def close(self, timeout: float = PATIENCE) -> None:
        """End it, once the node has confirmed that: the other end still gets what was sent.

        Idempotent, never raises.
        """
        with self._changed:
            first = self._flow.begin_close()
        if first:
            with contextlib.suppress(Closed):  # the other end was faster
                self._attachment.core.close_tunnel(self._number)
        if self._attachment.is_reader():
            return
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._flow.error is None and self._wait(deadline):
                pass
            if self._flow.error is None:
                _log.warning("tunnel %d: the node doesn't answer a close", self._number)

    def _wait(self, deadline: float | None) -> bool:
        """Wait for anything to change, `_changed` being held; False when it is too late."""
        flush_batch()  # what this thread has said may be what the other end waits for
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return False
        self._changed.wait(left)
        return True

    def _send_update(self, packet: bytes) -> None:
        if packet:
            with contextlib.suppress(Closed):  # what has arrived can still be received
                self._attachment.write_soon(packet)

    # See `protocol.TunnelEnd`

    def handle_allow(self, space: int) -> None:
        """So many bytes more may be sent."""
        with self._changed:
            self._flow.grant(space)
            self._changed.notify_all()

    def handle_chunk(self, size: int, chunk: bytes) -> None:
        """A part of a message came."""
        with self._changed:
            if self._flow.feed(size, chunk):
                self._changed.notify_all()
            update = self._flow.window_update()
        self._send_update(update)

    def handle_close(self, error: Closed) -> None:
        """It is over."""
        with self._changed:
            self._flow.error = error
            self._changed.notify_all()
