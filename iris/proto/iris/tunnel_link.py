"""One end of a tunnel to another node: a TCP stream of its own, spoken on as a link.

Shell; counterpart of the data half of Go's proto/iris/tunnel.go. The slowest reader throttles both
directions: the link's thread stops reading while more than a window isn't consumed, and what is
sent earns credit only once it has left for the network. Unlike in Go, a close waits for nothing and
overtakes nothing: the close packet is queued behind the data, and the link lives on without its
owner until both sides have sent theirs. For an application that disconnected no close packet is
sent, so that the other node takes the link for broken. (A Go node tells its application of a close
then, like of any other.)

Lock order: tunnel -> link, timer. No lock here is held across a callback.
"""

import threading
from collections.abc import Callable
from enum import Enum, auto
from functools import partial

from iris.errors import LinkClosed, ProtocolError, StateError
from iris.proto.iris.tunnel import Tunnel, TunnelConsumer
from iris.proto.link.link import Link
from iris.proto.wire.clusters import DataHeader
from iris.proto.wire.message import Message, Payload
from iris.runtime.batch import flush_batch
from iris.runtime.credit_window import CreditWindow
from iris.runtime.timer import Timer, TimerEntry

_PEER_LOST = "the other application disconnected, or its node"
_CHECKS = 4  # of a closed tunnel's progress, within its linger time


class State(Enum):
    """Of a tunnel's link."""

    CREATED = auto()  # the link isn't started
    OPEN = auto()  # it delivers to the consumer
    CLOSING = auto()  # it runs without a consumer, until both sides have sent their close packets
    DOWN = auto()  # it has ended


STEPS = {
    (State.CREATED, "start"): State.OPEN,
    (State.CREATED, "close"): State.CLOSING,
    (State.OPEN, "close"): State.CLOSING,
    (State.CREATED, "end"): State.DOWN,
    (State.OPEN, "end"): State.DOWN,
    (State.CLOSING, "end"): State.DOWN,
}


class LinkTunnel:
    """A `Tunnel` over a link that isn't started yet, which it owns from now on."""

    def __init__(
        self,
        link: Link,
        *,
        window: int,
        linger: float,
        timer: Timer,
        on_gone: Callable[[Tunnel], None],
        on_down: Callable[["LinkTunnel"], None],
    ) -> None:
        """Wrap a link.

        Args:
            window: bytes, each way, that may wait for the reader, or to be sent.
            linger: seconds that a closed tunnel may stay without progress.
            on_gone: called when the tunnel is over for its owner.
            on_down: called when its link has ended too.
        """
        self._link, self._linger, self._timer = link, linger, timer
        self._on_gone, self._on_down = on_gone, on_down
        # guards what follows; notified when the reading thread may go on
        self._changed = threading.Condition(threading.Lock())
        self._state = State.CREATED
        self._consumer: TunnelConsumer | None = None  # set exactly while OPEN
        self._incoming = CreditWindow(window)
        self._pending_credit = 0  # bytes sent and not credited yet
        self._watch: TimerEntry | None = None

    def start(self, consumer: TunnelConsumer) -> None:
        """See `Tunnel`."""
        with self._changed:
            if self._state in (State.CLOSING, State.DOWN):
                return
            if self._state is State.OPEN:
                raise StateError("tunnel already started")
            self._state, self._consumer = STEPS[self._state, "start"], consumer
            self._link.start(self._receive, self._ended)

    # Sending

    def send(self, size: int, chunk: bytes) -> None:
        """See `Tunnel`."""
        if not chunk or (self._consumer is None and self._state is not State.CREATED):
            return
        try:
            self._link.send(Message(DataHeader(size), Payload.of(chunk)))
        except LinkClosed:
            return  # the link's thread tells the consumer why
        with self._changed:
            waiting = self._pending_credit > 0
            self._pending_credit += len(chunk)
        if not waiting:
            self._link.send_buffer.on_drained_to(self._incoming.size, self._send_credit)

    def _send_credit(self) -> None:
        with self._changed:
            count, self._pending_credit = self._pending_credit, 0
            consumer = self._consumer
        if consumer is not None:
            consumer.handle_credit(count)

    # Receiving

    def _receive(self, message: Message) -> None:
        header = message.meta
        if not isinstance(header, DataHeader) or header.size_or_cont < 0 or message.payload is None:
            raise ProtocolError("a tunnel's peer sent something else than data")
        consumer, chunk = self._consumer, message.data()
        if consumer is None or not chunk:
            return  # closed here: what still comes is dropped
        window = self._incoming
        with self._changed:
            window.consume(len(chunk))
        consumer.handle_chunk(header.size_or_cont, chunk)
        if window.available < 0:
            flush_batch()  # or what the consumer passed on would wait for this thread
            with self._changed:
                self._changed.wait_for(lambda: window.available >= 0 or self._consumer is None)

    def consumed(self, count: int) -> None:
        """See `Tunnel`."""
        with self._changed:
            self._incoming.grant(count)
            self._changed.notify_all()

    # The end

    def close(self) -> None:
        """See `Tunnel`."""
        self._close(self._link.finish)

    def break_off(self) -> None:
        """See `Tunnel`."""
        self._close(self._link.break_off)

    def _close(self, end: Callable[[], None]) -> None:
        if self._leave("close"):
            end()
            self._watch_progress()

    def abort(self) -> None:
        """End the link now, whatever is still queued, without calling the consumer."""
        self._leave("end")

    def _ended(self, error: Exception | None) -> None:
        """Take the end of the link's incoming direction; a graceful one is answered in kind."""
        consumer = self._consumer
        if self._leave("close") and consumer is not None:
            consumer.handle_close("" if error is None else _reason(error))
        if error is None:
            self._watch_progress()
            self._link.send_buffer.on_drained_to(0, self.abort)
        else:
            self.abort()

    def _leave(self, event: str) -> bool:
        """Close, or end, unless that was done before. Returns: whether the owner had the tunnel."""
        with self._changed:
            before = self._state
            if (before, event) not in STEPS:
                return False
            self._state, self._consumer = STEPS[before, event], None
            watch, self._watch = self._watch, None
            if before is State.CREATED and event == "close":  # its close packet must still be read
                try:
                    self._link.start(self._receive, self._ended)
                except RuntimeError:  # the system has no thread left
                    self._state, event = State.DOWN, "end"
            self._changed.notify_all()
        owned = before is not State.CLOSING
        if owned:
            self._on_gone(self)
        if event == "end":
            if watch is not None:
                self._timer.cancel(watch)
            self._link.abort()
            self._on_down(self)
        return owned

    def _watch_progress(self) -> None:
        """From now on, abort the link when it makes no progress."""
        self._check_progress(self._link.send_buffer.size, _CHECKS)

    def _check_progress(self, waiting: int, checks: int) -> None:
        size = self._link.send_buffer.size
        if size < waiting:
            checks = _CHECKS
        if checks == 0:
            self.abort()
            return
        with self._changed:
            if self._state is not State.DOWN:
                if self._watch is not None:
                    self._timer.cancel(self._watch)
                self._watch = self._timer.after(
                    self._linger / _CHECKS, partial(self._check_progress, size, checks - 1)
                )


def _reason(error: Exception) -> str:
    hung_up = type(error) is LinkClosed and error.__cause__ is None
    return _PEER_LOST if hung_up else f"tunnel broken: {error}"
