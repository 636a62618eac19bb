"""One end of a tunnel to another node: a TCP stream of its own, spoken on as a link.

Shell; answers to the data half of Go's proto/iris/tunnel.go. Both directions are throttled by
whoever is slowest: the link's thread stops reading while a window's worth isn't consumed, and what
is sent earns credit only once it has left for the network. Unlike there, a close waits for nobody
and overtakes nothing: the close packet is queued behind the data, and the link lives on without its
owner until both sides have said theirs. An application that vanished has said no close, so its node
says none either: the other node takes the link for broken. (A Go node tells its application of a
close then, like of any other.)

Lock order: tunnel -> link, timer. No lock here is held across a callback.
"""

import threading
from collections.abc import Callable
from functools import partial

from iris.errors import LinkClosed, ProtocolError
from iris.proto.iris.tunnel import Tunnel, TunnelConsumer
from iris.proto.link.link import Link
from iris.proto.wire.clusters import DataHeader
from iris.proto.wire.message import Message, Payload
from iris.runtime.batch import flush_batch
from iris.runtime.timer import Timer, TimerEntry

_VANISHED = "the other application has vanished, or its node"
_LOOKS = 4  # at a closed tunnel's progress, within the time that it may make none


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
        """Wrap a link that isn't started.

        Arguments: window in bytes each way; linger in seconds that a closed tunnel may stay without
        progress; on_gone is told when the tunnel is over for its owner, on_down when its link has
        ended too.
        """
        self._link, self._window, self._linger, self._timer = link, window, linger, timer
        self._on_gone, self._on_down = on_gone, on_down
        # guards what follows; notified when the reading thread may go on
        self._room = threading.Condition(threading.Lock())
        self._consumer: TunnelConsumer | None = None
        self._live, self._started, self._down = True, False, False
        self._handed = 0  # bytes handed out and not consumed
        self._owed = 0  # bytes sent and not credited yet
        self._watch: TimerEntry | None = None

    def start(self, consumer: TunnelConsumer) -> None:
        """See `Tunnel`."""
        with self._room:
            if self._live:
                self._consumer, self._started = consumer, True
                self._link.start(self._receive, self._ended)

    # This way: credit

    def send(self, size: int, chunk: bytes) -> None:
        """See `Tunnel`."""
        if not self._live or not chunk:
            return
        try:
            self._link.send(Message(DataHeader(size), Payload.of(chunk)))
        except LinkClosed:
            return  # the link's thread tells the consumer why
        with self._room:
            waiting, self._owed = self._owed > 0, self._owed + len(chunk)
        if not waiting:
            self._link.send_buffer.on_drained_to(self._window, self._credit)

    def _credit(self) -> None:
        with self._room:
            count, self._owed = self._owed, 0
            consumer = self._consumer
        if consumer is not None:
            consumer.handle_credit(count)

    # That way: the window

    def _receive(self, message: Message) -> None:
        header = message.meta
        if not isinstance(header, DataHeader) or header.size_or_cont < 0 or message.payload is None:
            raise ProtocolError("a tunnel brought something else than data")
        consumer, chunk = self._consumer, message.data()
        if consumer is None or not chunk:
            return  # closed here: what comes still is nobody's
        with self._room:
            self._handed += len(chunk)
        consumer.handle_chunk(header.size_or_cont, chunk)
        if self._handed > self._window:
            flush_batch()  # or what the consumer passed on would wait for us
            with self._room:
                self._room.wait_for(lambda: self._handed <= self._window or not self._live)

    def consumed(self, count: int) -> None:
        """See `Tunnel`."""
        with self._room:
            self._handed -= count
            self._room.notify_all()

    # The end

    def close(self) -> None:
        """See `Tunnel`."""
        self._leave(self._link.finish)

    def break_off(self) -> None:
        """See `Tunnel`."""
        self._leave(self._link.break_off)

    def _leave(self, end: Callable[[], None]) -> None:
        if not self._finish():
            return
        with self._room:
            # the other side's close packet must be read all the same
            if not self._started and not self._down:
                self._started = True
                self._link.start(self._receive, self._ended)
        end()
        self._keep_watch()

    def abort(self) -> None:
        """End the link now, whatever still waits, without a word to the consumer."""
        self._finish()
        with self._room:
            first, self._down = not self._down, True
            watch, self._watch = self._watch, None
        if first:
            if watch is not None:
                self._timer.cancel(watch)
            self._link.abort()
            self._on_down(self)

    def _ended(self, error: Exception | None) -> None:
        """Take the link's word that nothing more comes.

        To a graceful end it has answered with our own close packet.
        """
        consumer = self._consumer
        if self._finish() and consumer is not None:
            consumer.handle_close("" if error is None else _reason(error))
        if error is None:
            self._keep_watch()
            self._link.send_buffer.on_drained_to(0, self.abort)
        else:
            self.abort()

    def _finish(self) -> bool:
        """Let go of the owner. False when that has been done."""
        with self._room:
            first, self._live, self._consumer = self._live, False, None
            self._room.notify_all()
        if first:
            self._on_gone(self)
        return first

    def _keep_watch(self) -> None:
        """From now on, give the link up when it makes no progress."""
        self._look(self._link.send_buffer.size, _LOOKS)

    def _look(self, waiting: int, looks: int) -> None:
        size = self._link.send_buffer.size
        if size < waiting:
            looks = _LOOKS
        if looks == 0:
            self.abort()
            return
        with self._room:
            if not self._down:
                if self._watch is not None:
                    self._timer.cancel(self._watch)
                self._watch = self._timer.after(
                    self._linger / _LOOKS, partial(self._look, size, looks - 1)
                )


def _reason(error: Exception) -> str:
    hung_up = type(error) is LinkClosed and error.__cause__ is None
    return _VANISHED if hung_up else f"the tunnel broke: {error}"
