"""Links: one TCP connection each, over which any codec carries messages.

Shell; counterpart of Go's proto/link/link.go. What is computed is the codec's (`base.py`). Direct
sends and receives are for handshakes; `start` then hands the receiving half to the thread
`link-rx-…`, which carries every message to where it leaves the node.

Lock order: link -> send buffer. Nothing is called back with the link's lock held.
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import Final

from iris.config import Limits, SessionConfig
from iris.errors import IrisError, LimitReached, LinkClosed, ProtocolError, StateError
from iris.metrics import Metrics
from iris.proto.link.base import LinkCodec
from iris.proto.wire.link import ClosePacket
from iris.proto.wire.message import Message
from iris.runtime.batch import BATCH, Batch, flush_batch
from iris.runtime.compiling import with_cause
from iris.runtime.deadline import socket_timeout, time_left
from iris.runtime.reader import SocketReader
from iris.runtime.send_buffer import SendBuffer
from iris.runtime.tcp import format_address, handshake_errors, shut_down

_READ_SIZE: Final = 65_536  # bytes of one read during a handshake
# bytes that a message counts beside its payload, against the send buffer's limit
_HEAD_ESTIMATE: Final = 512

_log = logging.getLogger(__name__)


class State(Enum):
    """Of a link."""

    CREATED = auto()  # for direct messages
    FINISHED = auto()  # the same, but the last message is queued
    OPEN = auto()  # its thread receives
    CLOSING = auto()  # the same, but the last message is queued
    DEAF = auto()  # its thread has reported the end; a close packet may still be sent
    ENDED = auto()  # the same, but the last message is queued
    ABORTING = auto()  # its thread is to end, and closes the socket
    CLOSED = auto()  # the socket is closed


STEPS: Final = {
    (State.CREATED, "start"): State.OPEN,
    (State.CREATED, "finish"): State.FINISHED,
    (State.CREATED, "abort"): State.CLOSED,
    (State.FINISHED, "start"): State.CLOSING,
    (State.FINISHED, "abort"): State.CLOSED,
    (State.OPEN, "finish"): State.CLOSING,
    (State.OPEN, "end"): State.DEAF,
    (State.OPEN, "abort"): State.ABORTING,
    (State.CLOSING, "end"): State.ENDED,
    (State.CLOSING, "abort"): State.ABORTING,
    (State.DEAF, "finish"): State.ENDED,
    (State.DEAF, "abort"): State.CLOSED,
    (State.ENDED, "abort"): State.CLOSED,
    (State.ABORTING, "end"): State.CLOSED,
}
# compiled, an enum's member is looked up at each use, a constant isn't
_OPEN: Final = State.OPEN
_ABORTING: Final = State.ABORTING


class Link:
    """Owns one connected socket, its send buffer, and its thread `link-rx-{kind}-ip:port`.

    Its maker closes or aborts it.
    """

    def __init__(
        self,
        sock: socket.socket,
        codec: LinkCodec,
        *,
        kind: str,
        config: SessionConfig,
        limits: Limits,
        metrics: Metrics,
        leftover: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over a blocking socket.

        Args:
            kind: control, data, session or tunnel; names the threads, and is counted.
            leftover: what was received beyond the handshake.

        Raises: LinkClosed when the connection broke already.
        """
        with handshake_errors():
            local, remote = sock.getsockname(), sock.getpeername()
        self.local, self.remote = format_address(local), format_address(remote)
        self._sock, self._codec, self._config, self._clock = sock, codec, config, clock
        self.kind, self._metrics = kind, metrics
        codec.feed(leftover)
        self._lock = threading.Lock()
        self._state = State.CREATED
        self._failure: Exception | None = None  # why sending ended
        self._on_message: Callable[[Message], None] | None = None
        self._on_end: Callable[[Exception | None], None] | None = None
        self._runner = threading.Thread(
            target=self._receive, name=f"link-rx-{kind}-{self.remote}", daemon=True
        )
        self.send_buffer = SendBuffer(
            sock,
            name=f"link-{kind}-{self.remote}",
            limit=limits.peer_send_buffer,
            stall_timeout=config.send_timeout,
            on_broken=self._broken,
        )

    def _step(self, event: str) -> bool:
        """Take a step of the table, under the lock; False when there is none from this state."""
        state = STEPS.get((self._state, event))
        if state is not None:
            self._state = state
        return state is not None

    # Sending

    def send(self, message: Message) -> None:
        """Queue a message, from any thread; sent at the end of the thread's batch.

        Raises: LinkClosed when the link is closing or closed; LimitReached when the send buffer is
            full. Then nothing was queued.
        """
        payload, buffer = message.payload, self.send_buffer
        size = _HEAD_ESTIMATE
        if payload is not None:
            self._codec.prepare(payload)  # outside of the lock
            size += len(payload)
        if buffer.full(size):
            raise LimitReached(f"{buffer.size} bytes wait for {self.remote}")
        with self._lock:
            self._put(message)
        buffer.schedule_flush()

    def _put(self, message: Message) -> None:
        """Seal and append, under the lock: what is sealed first must be sent first.

        Flushing doesn't wait for a long payload's MAC.
        """
        if self._state is not _OPEN and (self._state, "finish") not in STEPS:
            raise with_cause(LinkClosed(f"the link to {self.remote} is closed"), self._failure)
        self.send_buffer.append(self._codec.seal(message))

    def finish(self) -> None:
        """Queue the close packet behind what waits already; nothing can be sent after it.

        Never waits; idempotent.
        """
        with contextlib.suppress(LinkClosed):  # finished before, or broken
            with self._lock:
                try:
                    self._put(Message(ClosePacket()))
                finally:
                    self._step("finish")
            self.send_buffer.schedule_flush()

    def break_off(self) -> None:
        """Like `finish`, but without a close packet: the peer takes the link for broken."""
        with self._lock:
            if not self._step("finish"):
                return
        with contextlib.suppress(LinkClosed):  # broken
            self.send_buffer.finish()
        self.send_buffer.on_drained_to(0, partial(shut_down, self._sock, socket.SHUT_WR))

    def _broken(self, error: Exception) -> None:
        self._failure = error
        shut_down(self._sock)  # the reading thread reports it

    # Handshakes

    def send_direct(self, message: Message, deadline: float) -> None:
        """Send at once, before `start`. Raises: HandshakeTimeout, LinkClosed."""
        data = b"".join(self._codec.seal(message))
        with handshake_errors():
            self._sock.settimeout(socket_timeout(deadline, self._clock))
            self._sock.sendall(data)
            self._sock.settimeout(None)

    def recv_direct(self, deadline: float) -> Message:
        """Wait for one message, before `start`, of at most `Limits.unauthenticated_size`.

        Raises: HandshakeTimeout, LinkClosed, ProtocolError.
        """
        while (message := self._codec.open()) is None:
            with handshake_errors():
                self._sock.settimeout(socket_timeout(deadline, self._clock))
                data = self._sock.recv(_READ_SIZE)
                self._sock.settimeout(None)
            if not data:
                raise LinkClosed(f"{self.remote} closed the connection during the handshake")
            self._codec.feed(data)
        return message

    # Receiving

    def start(
        self, on_message: Callable[[Message], None], on_end: Callable[[Exception | None], None]
    ) -> None:
        """Receive from now on, messages of full size.

        Args:
            on_message: called with every message; a ProtocolError out of it ends the link.
            on_end: called exactly once, by the reading thread as well, when nothing more will
                come: with None after the peer's close packet, else with what broke. The owner
                still has to close.

        Raises: StateError when the link was started or closed before.
        """
        self._codec.raise_bounds()
        self._on_message, self._on_end = on_message, on_end
        with self._lock:
            if (self._state, "start") not in STEPS:
                raise StateError("link already started or closed")
            self._runner.start()  # its end waits for the lock
            self._step("start")
        self._metrics.links_opened[self.kind].inc()

    def _receive(self) -> None:
        assert self._on_end is not None
        error: Exception | None = None
        cause = "connection lost"
        try:
            self._read()
            # the peer waits for our close packet, and sends nothing after its own
            self.finish()
            cause = "closed"
        except ProtocolError as exc:
            _log.warning("protocol violation by %s: %s", self.remote, exc)
            error, cause = exc, "protocol violation"
        except LinkClosed as exc:
            error = exc
        except OSError as exc:
            error = self._failure or exc
        except Exception as exc:
            # our bug
            _log.exception("a message from %s couldn't be handled; closing its link", self.remote)
            error, cause = exc, "internal error"
        if error is not None and not isinstance(error, IrisError):
            error = with_cause(LinkClosed(f"the link to {self.remote} broke"), error)
        self._metrics.links_closed[self.kind, cause].inc()
        try:
            self._on_end(error)
        except Exception:
            _log.exception("the end of the link to %s couldn't be handled", self.remote)  # our bug
        with self._lock:
            aborted = self._state is _ABORTING
            self._step("end")
        if aborted:
            self._sock.close()

    def _read(self) -> None:
        """Receive until the peer's close packet."""
        codec, on_message = self._codec, self._on_message
        take, feed, recv = codec.open, codec.feed, SocketReader(self._sock).recv
        assert on_message is not None
        while True:
            with Batch() as batch:
                taken = 0
                while self._state is not _ABORTING and (message := take()) is not None:
                    if type(message.meta) is ClosePacket:
                        return
                    on_message(message)
                    taken += 1
                    if taken % BATCH == 0 and batch.full(taken):
                        flush_batch()
                        taken = 0
            data = recv()
            if not data:
                text = f"the link to {self.remote} ended without a close packet"
                raise with_cause(LinkClosed(text), self._failure)
            feed(data)

    # The end

    def close(self, grace: float | None = None) -> None:
        """Send what waits and the close packet, and receive until the peer's close packet, all
        within `grace` seconds; then close the socket. Idempotent.

        A link that never started has nothing to wait for.

        Raises: StateError on the link's own thread.
        """
        if threading.current_thread() is self._runner:
            raise StateError("a link can't be closed by its own thread, only aborted")
        deadline = self._clock() + (self._config.grace_timeout if grace is None else grace)
        self.finish()
        self.send_buffer.flush()  # what this thread's own batch still holds back
        self.send_buffer.wait_below(0, time_left(deadline, self._clock))
        if self._runner.ident is not None:
            self._runner.join(time_left(deadline, self._clock))
        self.abort()

    def abort(self) -> None:
        """End the connection now; what still waits to be sent is lost.

        Never waits; idempotent; from any thread.
        """
        with self._lock:
            if not self._step("abort"):
                return
            state = self._state
        self.send_buffer.close()
        shut_down(self._sock)  # wakes a blocked recv()
        if state is not _ABORTING:
            self._sock.close()
