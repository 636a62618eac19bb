"""A tunnel between an application and the Iris layer: flow control both ways, and its end. Core.

Counterpart of Go's service/relay/tunnel.go, without its queues: what the application sends goes to
the Iris layer at once, bounded by the credit it was granted; what comes for the application is
queued here only while its credit doesn't cover it, bounded by the Iris layer's window.

Lock order: tunnel -> send buffer, inside of a batch, so that nothing is sent (and nothing called
back) with the lock held.
"""

import threading
from collections import deque
from collections.abc import Callable
from enum import Enum, auto

from iris.config import Config
from iris.errors import LimitReached, MessageTooBig, ProtocolError, StateError
from iris.proto.iris.tunnel import Tunnel
from iris.relay_protocol import node_packets as packets
from iris.runtime.batch import Batch
from iris.runtime.credit_window import CreditWindow
from iris.service.relay.writer import ClientWriter

NOT_BUILT = "tunnel could not be built"


class State(Enum):
    """Of one end of a tunnel, as its application sees it."""

    BUILDING = auto()
    OPEN = auto()
    CLOSED = auto()


STEPS = {
    (State.BUILDING, "open"): State.OPEN,
    (State.BUILDING, "close"): State.CLOSED,
    (State.OPEN, "close"): State.CLOSED,
}


class RelayTunnel:
    """One end of a tunnel; the Iris layer's `TunnelConsumer`.

    `transfer`, `allow` and `close` are the application's packets.
    """

    def __init__(
        self,
        number: int,
        writer: ClientWriter,
        forget: Callable[[int], None],
        config: Config,
        *,
        accepted: bool,
    ) -> None:
        """Begin to build.

        Args:
            forget: called when the application may use the number again.
            accepted: the application confirmed an offer, so it knows of the tunnel already.
        """
        self._number, self._writer, self._forget = number, writer, forget
        self._accepted = accepted
        self._chunk_limit, self._buffer = config.relay.chunk_limit, config.relay.tunnel_buffer
        self._message_size = config.limits.message_size
        self._lock = threading.Lock()  # guards all below
        self._state = State.BUILDING
        self._tunnel: Tunnel | None = None
        # from the application
        self._incoming = CreditWindow()
        self._missing = 0  # bytes of the begun message that are still to come
        self._size = 0  # the begun message's, until a chunk took it along
        # to the application
        self._outgoing = CreditWindow()
        self._queue: deque[tuple[int, bytes]] = deque()
        self._blocked = False  # the queue waits for the writer
        self._unfinished = 0  # bytes of the begun message that are still to be written
        self._end: str | None = None  # the reason, once no more will come
        self._pending_credit = 0  # bytes written, to be credited once the writer is writable
        self._awaiting_writer = False  # `_on_writable` will be called
        # a thread is in `_on_writable`, and another call came meanwhile
        self._in_callback = self._called_again = False

    def _step(self, event: str) -> None:
        state = STEPS.get((self._state, event))
        if state is None:
            raise StateError(f"cannot {event} a tunnel that is {self._state.name}")
        self._state = state

    # The Iris layer's side

    def built(self, tunnel: Tunnel | None) -> None:
        """Take the requested tunnel, or None when it could not be built."""
        number, send = self._number, self._writer.send
        with Batch():
            with self._lock:
                wanted = self._state is State.BUILDING
                if wanted and tunnel is None:
                    self._step("close")
                    self._forget(number)
                    send(
                        packets.tunnel_close(number, NOT_BUILT)
                        if self._accepted
                        else packets.tunnel_timed_out(number)
                    )
                self._tunnel = tunnel
            if tunnel is None:
                return
            if wanted:
                tunnel.start(self)  # what comes right away is queued until the client knows of it
            written = 0
            with self._lock:
                wanted = self._state is State.BUILDING
                if wanted:
                    self._step("open")
                    if not self._accepted:
                        send(packets.tunnel_built(number, self._chunk_limit))
                    self._incoming.grant(self._buffer)
                    send(packets.tunnel_allow(number, self._buffer))
                    written = self._write_queue()
            if wanted:
                self._credit(written)
            else:
                tunnel.close()  # the application closed it meanwhile

    def handle_chunk(self, size: int, chunk: bytes) -> None:
        """Take data for the application; it is queued until credit covers it."""
        with Batch():
            with self._lock:
                if self._state is State.CLOSED:
                    return
                self._queue.append((size, chunk))
                written = self._write_queue()
            self._credit(written)

    def handle_credit(self, count: int) -> None:
        """Grant the application `count` bytes more."""
        with Batch(), self._lock:
            self._incoming.grant(count)
            if self._state is State.OPEN:
                self._writer.send(packets.tunnel_allow(self._number, count))

    def handle_close(self, reason: str) -> None:
        """Close for the application, after all data that came."""
        with Batch():
            with self._lock:
                if self._state is State.CLOSED:
                    return
                self._end = reason
                written = self._write_queue()
            self._credit(written)

    def _write_queue(self) -> int:
        """Write what may be written, and the close after the last. Returns: bytes of data."""
        assert self._lock.locked()
        self._blocked = False
        if self._state is not State.OPEN:
            return 0
        number, queue, writer, credit = self._number, self._queue, self._writer, self._outgoing
        written = 0
        while queue:
            size, chunk = queue[0]
            length = len(chunk)
            # A begun message is always finished. One that was abandoned halfway is credited by
            # the application only when the next begins.
            if length > credit.available and not self._unfinished:
                break
            # many tunnels together may exceed what the application's send buffer should hold
            if not writer.writable:
                self._blocked = True
                break
            queue.popleft()
            credit.consume(length)
            self._unfinished = max(0, (size or self._unfinished) - length)
            written += length
            writer.send(packets.tunnel_transfer(number, size, length), chunk)
        if self._end is not None and not queue:
            self._step("close")
            self._forget(number)
            writer.send(packets.tunnel_close(number, self._end))
        return written

    def _credit(self, count: int) -> None:
        """Credit `count` bytes to the sender, and write what is blocked, once it is writable."""
        with self._lock:
            self._pending_credit += count
            if self._awaiting_writer or not (self._pending_credit or self._blocked):
                return
            self._awaiting_writer = True
        self._writer.on_writable(self._on_writable)

    def _on_writable(self) -> None:
        """Credit and write, for as long as it is writable.

        A loop, since a credit may bring the next chunk at once, and that the next one.
        """
        with self._lock:
            if self._in_callback:
                self._called_again = True
                return
            self._in_callback = True
        while True:
            with Batch():
                with self._lock:
                    count, self._pending_credit = self._pending_credit, 0
                    self._called_again = False
                    tunnel = self._tunnel
                    written = self._write_queue()
                if tunnel is not None and count:
                    tunnel.consumed(count)
            with self._lock:
                self._pending_credit += written
                if not (self._pending_credit or self._blocked):
                    self._awaiting_writer = self._in_callback = False
                    return
            self._writer.on_writable(self._on_writable)
            with self._lock:
                if not self._called_again:  # but later
                    self._in_callback = False
                    return

    # The application's side

    def transfer(self, size: int, chunk: bytes) -> None:
        """Send a chunk.

        Raises: ProtocolError for one that exceeds the credit, or its message.
        """
        length = len(chunk)
        with self._lock:
            if self._state is State.CLOSED:
                return
            if size:
                if size > self._message_size:
                    raise MessageTooBig(size, self._message_size)
                if length > self._incoming.available:
                    raise ProtocolError("a tunnel's message begins beyond the allowance")
                self._missing = self._size = size
            if length > self._missing:
                raise ProtocolError("a tunnel's chunk exceeds its message")
            self._missing -= length
            self._incoming.consume(length)
            tunnel = self._tunnel
            if length:
                size, self._size = self._size, 0
        if tunnel is None or not length or self._end is not None:
            # lost; an empty chunk carries nothing, but is credited as well
            self.handle_credit(length)
            return
        try:
            tunnel.send(size, chunk)
        # countless tiny chunks cost more than their credit; this one is lost
        except LimitReached as exc:
            self._close(str(exc))

    def allow(self, space: int) -> None:
        """Take credit for `space` bytes more."""
        with Batch():
            with self._lock:
                self._outgoing.grant(space)
                written = self._write_queue()
            self._credit(written)

    def close(self) -> None:
        """Close; ignored while the application doesn't know of the tunnel, and after the end."""
        self._close("")

    def _close(self, reason: str) -> None:
        with Batch():
            with self._lock:
                if self._state is State.CLOSED or (
                    self._state is State.BUILDING and not self._accepted
                ):
                    return
                tunnel = self._leave()
                self._writer.send(packets.tunnel_close(self._number, reason))
            if tunnel is not None:
                if reason:
                    tunnel.break_off()
                else:
                    tunnel.close()

    def abandon(self) -> None:
        """Close without a packet: the application is gone, and its connection closes the tunnel."""
        with self._lock:
            if self._state is not State.CLOSED:
                self._leave()

    def _leave(self) -> Tunnel | None:
        assert self._lock.locked()
        self._step("close")
        self._queue.clear()
        self._forget(self._number)
        return self._tunnel
