"""Tunnels: what both ends look like, and the pair of ends of a tunnel that stays on this node.

Core; counterpart of the data half of Go's proto/iris/tunnel.go. Flow control, which Go's relay does
with queues of its own, is here: a sender never waits but gets credit for what has left, a receiver
is handed no more than a window's worth that it hasn't consumed. Tunnels to other nodes are in
`tunnel_link.py`.

Lock order: none; no lock here is held across a call.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from iris.errors import LimitReached
from iris.runtime.credit_window import CreditWindow

_CHUNK_COST = 100  # bytes that a queued chunk takes beside its data
_PEER_LOST = "the other application disconnected"


class TunnelConsumer(Protocol):
    """The owner of one end of a tunnel.

    Called from any thread, for chunks and close by one at a time. Must never wait.
    """

    def handle_chunk(self, size: int, chunk: bytes) -> None:
        """Take data; size is the whole message's in its first chunk, 0 in the following ones.

        To be followed by `consumed`, once it has been processed.
        """

    def handle_credit(self, count: int) -> None:
        """`count` payload bytes of those sent here left the node, or were consumed on it."""

    def handle_close(self, reason: str) -> None:
        """The other end closed the tunnel (""), or it broke; called after all data that came.

        At most once, and not after an own close.
        """


class Tunnel(Protocol):
    """One end of a tunnel.

    After `close`, and after its consumer's `handle_close`, all calls are ignored.
    """

    def start(self, consumer: TunnelConsumer) -> None:
        """Begin to deliver. Once, before anything is sent; what came before is queued."""

    def send(self, size: int, chunk: bytes) -> None:
        """Send a chunk without waiting; an empty one is ignored. From one thread at a time.

        Raises: LimitReached when more is queued than any allowance covers.
        """

    def consumed(self, count: int) -> None:
        """Grant credit for `count` of the bytes delivered."""

    def close(self) -> None:
        """End both directions, this one after all that was sent. Never waits; idempotent.

        From any thread.
        """

    def break_off(self) -> None:
        """Close on behalf of an application that disconnected.

        The other end gets an error after all data, so that it doesn't take it for complete.
        """


class TunnelOffer:
    """A tunnel that a caller asks the cluster for; timeout: seconds left, counted from now."""

    __slots__ = ("_undecided", "timeout")

    def __init__(
        self, timeout: float, accept: Callable[[Callable[[Tunnel | None], None]], None]
    ) -> None:
        self.timeout = timeout
        self._undecided = [accept]

    def accept(self, done: Callable[[Tunnel | None], None]) -> None:
        """Accept; `done` gets the tunnel, or None when it can't be built, maybe at once.

        Ignored after a decision.
        """
        if (accept := self._decide()) is not None:
            accept(done)

    def refuse(self) -> None:
        """Decline. The protocol has no reject packet, so the caller times out.

        Ignored after a decision.
        """
        self._decide()

    def _decide(self) -> Callable[[Callable[[Tunnel | None], None]], None] | None:
        try:
            return self._undecided.pop()  # atomic
        except IndexError:
            return None


class _Pipe:
    """One direction of a local tunnel.

    The thread that makes a chunk deliverable delivers it, one thread at a time.
    """

    def __init__(self, window: int, limit: int) -> None:
        self._lock = threading.Lock()
        self._window, self._limit = CreditWindow(window), limit
        self._queue: deque[tuple[int, bytes]] = deque()  # an empty chunk marks the end
        self._queued = 0  # bytes that the queue takes
        self._delivering = self._shut = False
        self.source: TunnelConsumer | None = None  # gets the credit
        self._consumer: TunnelConsumer | None = None
        self._on_end: Callable[[TunnelConsumer], None] | None = None
        self.reason = ""  # of the end, to be set before the end is put

    def open(self, consumer: TunnelConsumer, on_end: Callable[[TunnelConsumer], None]) -> None:
        with self._lock:
            if self._shut:
                return
            self._consumer, self._on_end = consumer, on_end
        self._deliver()

    def put(self, size: int, chunk: bytes) -> None:
        with self._lock:
            shut = self._shut
            if not shut:
                if chunk and self._queued > self._limit:
                    raise LimitReached(
                        f"tunnel queue full: {len(self._queue)} chunks, {self._queued} bytes"
                    )
                self._queue.append((size, chunk))
                self._queued += len(chunk) + _CHUNK_COST
        if shut:
            self._credit(len(chunk))  # it will never be consumed
        else:
            self._deliver()

    def consumed(self, count: int) -> None:
        with self._lock:
            if self._shut:
                return
            self._window.grant(count)
        self._credit(count)
        self._deliver()

    def shut(self) -> None:
        """Discard everything, once: the receiving end closed. What wasn't consumed is credited."""
        with self._lock:
            unconsumed = self._window.size - self._window.available
            rest = unconsumed + sum(len(chunk) for _, chunk in self._queue)
            self._shut = True
            self._queue.clear()
            self._consumer = self._on_end = None
        self._credit(rest)

    def _credit(self, count: int) -> None:
        source = self.source
        if source is not None and count:
            source.handle_credit(count)

    def _deliver(self) -> None:
        with self._lock:
            if self._delivering:
                return  # the thread that delivers takes what was just added, or credited
            self._delivering = True
        try:
            while (item := self._next()) is not None:
                consumer, on_end, size, chunk = item
                if chunk:
                    consumer.handle_chunk(size, chunk)
                else:
                    on_end(consumer)
        except BaseException:
            self._delivering = False
            raise

    def _next(self) -> tuple[TunnelConsumer, Callable[[TunnelConsumer], None], int, bytes] | None:
        with self._lock:
            if (
                self._consumer is None
                or self._on_end is None
                or not self._queue
                or self._window.available < 0
            ):
                self._delivering = False
                return None
            size, chunk = self._queue.popleft()
            self._queued -= len(chunk) + _CHUNK_COST
            self._window.consume(len(chunk))
            return self._consumer, self._on_end, size, chunk


class LocalTunnel:
    """A `Tunnel` whose other end is on this node.

    No socket and no encoding; credit comes when the other end has consumed.
    """

    def __init__(self, incoming: _Pipe, outgoing: _Pipe, on_gone: Callable[[Tunnel], None]) -> None:
        self._incoming, self._outgoing, self._on_gone = incoming, outgoing, on_gone
        self._lock = threading.Lock()
        self._live = True

    def start(self, consumer: TunnelConsumer) -> None:
        """See `Tunnel`."""
        self._outgoing.source = consumer
        self._incoming.open(consumer, self._ended)

    def send(self, size: int, chunk: bytes) -> None:
        """See `Tunnel`."""
        if self._live and chunk:
            self._outgoing.put(size, chunk)

    def consumed(self, count: int) -> None:
        """See `Tunnel`."""
        self._incoming.consumed(count)

    def close(self) -> None:
        """See `Tunnel`."""
        self._close("")

    def break_off(self) -> None:
        """See `Tunnel`."""
        self._close(_PEER_LOST)

    def _close(self, reason: str) -> None:
        if self._finish():
            self._outgoing.reason = reason
            self._outgoing.put(0, b"")

    def _ended(self, consumer: TunnelConsumer) -> None:
        if self._finish():
            consumer.handle_close(self._incoming.reason)

    def _finish(self) -> bool:
        """Release everything. Returns: False when that was done before."""
        with self._lock:
            first, self._live = self._live, False
        if first:
            self._incoming.shut()
            self._outgoing.source = None
            self._on_gone(self)
        return first


def local_pair(
    window: int,
    limit: int,
    on_gone: Callable[[Tunnel], None],
    on_other_gone: Callable[[Tunnel], None],
) -> tuple[LocalTunnel, LocalTunnel]:
    """Make both ends of a tunnel that stays on this node.

    Args:
        window: bytes, each way, that are delivered and not consumed at most.
        limit: bytes, each way, that are queued at most.
        on_gone, on_other_gone: called with the first and the second end when it is over.
    """
    there, back = _Pipe(window, limit), _Pipe(window, limit)
    return LocalTunnel(back, there, on_gone), LocalTunnel(there, back, on_other_gone)
