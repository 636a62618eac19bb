"""`relaycheck proxy`: forward everything between bindings and a node, and check both. Shell.

A thread per direction and connection forwards at once, so that suites that depend on timing can be
run; another one checks. Data joins the checker's queue before it is forwarded, so that the checker
sees a request before its reply.
"""

import contextlib
import socket
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial

from iris.errors import CloseTimeout, LinkClosed
from iris.relay_protocol.schema import Side
from iris.relaycheck.checker import ConformanceChecker
from iris.relaycheck.listener import listen
from iris.relaycheck.reader import Packet
from iris.relaycheck.report import Report, by_rule
from iris.relaycheck.rules import Violation
from iris.runtime.tcp import connect, shut_down

_PIECE = 65_536  # bytes
_MAX_VIOLATIONS = 10_000  # more are not kept
_QUEUE_LIMIT = 64 << 20  # bytes in the checker's queue, at which forwarding waits
_SWITCH_INTERVAL = 0.00005  # seconds; forwarding shouldn't wait for the checker
CONNECT_TIMEOUT = 10.0  # seconds
CHECK_TIMEOUT = 60.0  # seconds, at the end, for the checker's queue


class Proxy:
    """Owns its listening sockets and all connections through it; its maker closes it."""

    def __init__(
        self,
        port: int,
        node: int,
        *,
        host: str = "127.0.0.1",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Listen on a port of both loopback addresses; 0 takes a free one. Raises: OSError."""
        self._node, self.clock = (host, node), clock
        # guards all below, but what only the checking thread touches
        self._changed = threading.Condition()
        self._connections = 0
        self._live: set[_Connection] = set()
        self._violations: list[Violation] = []
        self._packets: Counter[tuple[str, str]] = Counter()
        self._queue: deque[tuple[Callable[[], None], int]] = deque()  # steps, and their bytes
        self._queued = 0  # bytes
        self._closing = False
        self._failure: Exception | None = None  # of the checker
        sys.setswitchinterval(_SWITCH_INTERVAL)
        self._checking = threading.Thread(target=self._check, name="checker", daemon=True)
        self._checking.start()
        self._listeners = listen(port, self._accept)
        self.port = self._listeners[0].address[1]
        for listener in self._listeners:
            listener.start()

    def _accept(self, client: socket.socket) -> None:
        try:
            node = connect(self._node, CONNECT_TIMEOUT)
        except LinkClosed as exc:
            print(f"relaycheck: no node: {exc}", file=sys.stderr)
            client.close()
            return
        with self._changed:
            self._connections += 1
            connection = _Connection(self, self._connections, client, node)
            self._live.add(connection)
        connection.start()

    def later(self, step: Callable[[], None], size: int = 0) -> None:
        """Queue a step for the checker, which holds `size` bytes; wait while the queue is full."""
        with self._changed:
            self._changed.wait_for(lambda: self._queued < _QUEUE_LIMIT or self._closing)
            self._queued += size
            self._queue.append((step, size))
            self._changed.notify_all()

    def _check(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or (self._closing and not self._live))
                if not self._queue:
                    return
                step, size = self._queue.popleft()
            try:
                step()
            except Exception as exc:  # our bug: keep forwarding; `close` reports it
                self._failure = self._failure or exc
            with self._changed:
                self._queued -= size
                self._changed.notify_all()

    def count(self, packet: Packet) -> None:
        """Count a packet: for the checking thread."""
        self._packets[packet.side.value, packet.op.name] += 1

    def found(self, violations: list[Violation]) -> None:
        """Keep violations: for the checking thread."""
        self._violations += violations[: _MAX_VIOLATIONS - len(self._violations)]

    def ended(self, connection: "_Connection") -> None:
        """Forget a connection: both sides disconnected, and it is checked."""
        with self._changed:
            self._live.discard(connection)
            self._changed.notify_all()

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until there was a connection, and all have ended."""
        with self._changed:
            return self._changed.wait_for(lambda: self._connections > 0 and not self._live, timeout)

    def close(self) -> Report:
        """Close all connections, and report; deadlines that are still open aren't checked.

        Raises: CloseTimeout when the checker takes too long; RuntimeError when it failed.
        """
        for listener in self._listeners:
            listener.close()
        with self._changed:
            live = list(self._live)
        for connection in live:
            connection.cut()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._checking.join(CHECK_TIMEOUT)
        if self._failure is not None:
            raise RuntimeError("the checker failed") from self._failure
        if self._checking.is_alive():
            raise CloseTimeout(f"the checker takes longer than {CHECK_TIMEOUT:g} s")
        return Report("proxy", by_rule(self._violations), Counter(self._packets), self._connections)


class _Connection:
    """Owns two sockets, and a thread for each direction."""

    def __init__(
        self, proxy: Proxy, number: int, client: socket.socket, node: socket.socket
    ) -> None:
        self._proxy, self._number = proxy, number
        self._sockets = {Side.CLIENT: client, Side.NODE: node}
        self._checker = ConformanceChecker(number, proxy.count)
        self._lock = threading.Lock()  # guards _running and _cut
        self._running = 2
        self._cut = False

    def start(self) -> None:
        for side in Side:
            name = f"proxy-{self._number}-{side.value}"
            threading.Thread(target=self._pump, args=(side,), name=name, daemon=True).start()

    def cut(self) -> None:
        with self._lock:
            self._cut = True
        for sock in self._sockets.values():
            shut_down(sock)

    def _pump(self, side: Side) -> None:
        source, target = self._sockets[side], self._sockets[side.other]
        gone = False
        with contextlib.suppress(OSError):  # connection reset
            while data := source.recv(_PIECE):
                self._proxy.later(partial(self._feed, side, data, self._proxy.clock()), len(data))
                if not gone:
                    try:
                        target.sendall(data)
                    except OSError:
                        gone = True  # keep checking the source
        with self._lock:
            if not self._cut:
                self._proxy.later(partial(self._feed, side, b"", self._proxy.clock()))
            self._running -= 1
            last = not self._running
        shut_down(target, socket.SHUT_WR)
        if last:
            for sock in self._sockets.values():
                sock.close()
            self._proxy.later(partial(self._proxy.ended, self))

    def _feed(self, side: Side, data: bytes, now: float) -> None:
        self._proxy.found(self._checker.feed(side, data, now))
