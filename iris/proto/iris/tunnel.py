"""Tunnels: what both ends look like, and the pair of ends of a tunnel that stays on this node.

Core; answers to the data half of Go's proto/iris/tunnel.go. What Go's relay keeps in queues of its
own, a tunnel does here: whoever sends is never kept waiting but gets credit for what left, whoever
receives is handed no more than a window's worth that it hasn't consumed. Tunnels to other nodes are
in `tunnel_link.py`.

Lock order: none; no lock here is held across a call.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from iris.errors import LimitReached

_CHUNK_COST = 100  # bytes that a waiting chunk takes beside its data
_VANISHED = "the other application has vanished"


class TunnelConsumer(Protocol):
    """Who has one end of a tunnel. Called from any thread, chunks and close one after the other.

    Must never wait.
    """

    def handle_chunk(self, size: int, chunk: bytes) -> None:
        """Data: size is the whole message's in its first chunk, 0 in the following ones.

        Owes `consumed`.
        """

    def handle_credit(self, count: int) -> None:
        """`count` payload bytes of those sent here have left the node, or have been consumed on it."""

    def handle_close(self, reason: str) -> None:
        """After all data that came: closed by the other end (""), or what broke.

        At most once, and not after an own close.
        """


class Tunnel(Protocol):
    """One end of a tunnel.

    After `close`, and after its consumer's `handle_close`, everything asked of it is ignored.
    """

    def start(self, consumer: TunnelConsumer) -> None:
        """Hand out what comes. Once, before anything is sent; what came before waits."""

    def send(self, size: int, chunk: bytes) -> None:
        """Send a chunk; never waits. An empty one is ignored. From one thread at a time.

        Raises: LimitReached when more waits already than any allowance covers.
        """

    def consumed(self, count: int) -> None:
        """So many bytes of those handed out were passed on; more may come."""

    def close(self) -> None:
        """End both directions, this one after all that was sent. Never waits; idempotent.

        From any thread.
        """

    def break_off(self) -> None:
        """The same for who has vanished.

        The other end is told that, after all data, so that it doesn't take the data for all there
        is.
        """


class _Pipe:
    """One direction of a local tunnel. Whichever thread makes a chunk deliverable delivers it.

    Two never do at the same time.
    """

    __slots__ = (
        "_consumer",
        "_cost",
        "_draining",
        "_handed",
        "_limit",
        "_lock",
        "_on_end",
        "_shut",
        "_source",
        "_waiting",
        "_window",
        "reason",
    )

    def __init__(self, window: int, limit: int) -> None:
        self._lock = threading.Lock()
        self._window, self._limit = window, limit
        self._waiting: deque[tuple[int, bytes]] = deque()  # the end is an empty chunk
        self._cost = 0  # bytes that it takes
        self._handed = 0  # bytes handed out and not consumed
        self._draining = self._shut = False
        self._source: TunnelConsumer | None = None  # gets the credit
        self._consumer: TunnelConsumer | None = None
        self._on_end: Callable[[TunnelConsumer], None] | None = None
        self.reason = ""  # of the end, to be set before it is put

    def set_source(self, source: TunnelConsumer | None) -> None:
        self._source = source

    def open(self, consumer: TunnelConsumer, on_end: Callable[[TunnelConsumer], None]) -> None:
        with self._lock:
            if self._shut:
                return
            self._consumer, self._on_end = consumer, on_end
        self._drain()

    def put(self, size: int, chunk: bytes) -> None:
        with self._lock:
            shut = self._shut
            if not shut:
                if chunk and self._cost > self._limit:
                    raise LimitReached(f"{len(self._waiting)} chunks wait in the tunnel")
                self._waiting.append((size, chunk))
                self._cost += len(chunk) + _CHUNK_COST
        if shut:
            self._credit(len(chunk))  # nobody will consume it
        else:
            self._drain()

    def consumed(self, count: int) -> None:
        with self._lock:
            if self._shut:
                return
            self._handed -= count
        self._credit(count)
        self._drain()

    def shut(self) -> None:
        """The receiving end wants no more: what isn't consumed counts as if it were."""
        with self._lock:
            rest = self._handed + sum(len(chunk) for _, chunk in self._waiting)
            self._shut, self._handed = True, 0
            self._waiting.clear()
            self._consumer = self._on_end = None
        self._credit(rest)

    def _credit(self, count: int) -> None:
        source = self._source
        if source is not None and count:
            source.handle_credit(count)

    def _drain(self) -> None:
        with self._lock:
            if self._draining:
                return  # whoever drains takes what was just added, or freed
            self._draining = True
        try:
            while (item := self._next()) is not None:
                consumer, on_end, size, chunk = item
                if chunk:
                    consumer.handle_chunk(size, chunk)
                else:
                    on_end(consumer)
        except BaseException:
            self._draining = False
            raise

    def _next(self) -> tuple[TunnelConsumer, Callable[[TunnelConsumer], None], int, bytes] | None:
        with self._lock:
            if (
                self._consumer is None
                or self._on_end is None
                or not self._waiting
                or self._handed > self._window
            ):
                self._draining = False
                return None
            size, chunk = self._waiting.popleft()
            self._cost -= len(chunk) + _CHUNK_COST
            self._handed += len(chunk)
            return self._consumer, self._on_end, size, chunk


class LocalTunnel:
    """A `Tunnel` whose other end is on this node.

    No socket, nothing is encoded, credit comes when the other end consumed.
    """

    def __init__(self, incoming: _Pipe, outgoing: _Pipe, on_gone: Callable[[Tunnel], None]) -> None:
        self._incoming, self._outgoing, self._on_gone = incoming, outgoing, on_gone
        self._lock = threading.Lock()
        self._live = True

    def start(self, consumer: TunnelConsumer) -> None:
        """See `Tunnel`."""
        self._outgoing.set_source(consumer)
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
        self._leave("")

    def break_off(self) -> None:
        """See `Tunnel`."""
        self._leave(_VANISHED)

    def _leave(self, reason: str) -> None:
        if self._finish():
            self._outgoing.reason = reason
            self._outgoing.put(0, b"")

    def _ended(self, consumer: TunnelConsumer) -> None:
        if self._finish():
            consumer.handle_close(self._incoming.reason)

    def _finish(self) -> bool:
        """Let go of everything. False when that has been done."""
        with self._lock:
            first, self._live = self._live, False
        if first:
            self._incoming.shut()
            self._outgoing.set_source(None)
            self._on_gone(self)
        return first


def local_pair(
    window: int,
    limit: int,
    on_gone: Callable[[Tunnel], None],
    on_other_gone: Callable[[Tunnel], None],
) -> tuple[LocalTunnel, LocalTunnel]:
    """Make both ends of a tunnel that stays on this node.

    Each is told to its owner when it is over.

    Arguments, in bytes each way: window that is handed out and not consumed; limit of what waits.
    """
    there, back = _Pipe(window, limit), _Pipe(window, limit)
    return LocalTunnel(back, there, on_gone), LocalTunnel(there, back, on_other_gone)
