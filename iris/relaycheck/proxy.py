"""Stands between bindings and a node, lets everything through unchanged, and judges both sides.

Shell.

A thread per direction and connection passes pieces on at once, so that suites that are hard on
timing can be run; another one judges them. Each piece joins the queue before it is passed on, so
that the judge sees a question before its answer.
"""

import contextlib
import errno
import socket
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial

from iris.errors import CloseTimeout
from iris.relaycheck.checker import Judge
from iris.relaycheck.reader import Packet
from iris.relaycheck.report import Report, by_rule
from iris.relaycheck.rules import Side, Violation

_PIECE = 65_536  # bytes
_MOST = 10_000  # violations that are kept
_AHEAD = 64 << 20  # bytes that may wait to be judged, before what brings more waits too
_SWITCH = 0.00005  # seconds; passing on shouldn't wait for judging
_PAUSE = 0.1  # seconds after a connection that couldn't be taken
_PATIENCE = 60.0  # seconds, at the end, for the judging of what has come


class Proxy:
    """Owns its listening sockets and all connections through it; its maker closes it."""

    def __init__(
        self,
        listen: int,
        node: int,
        *,
        host: str = "127.0.0.1",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Listen on the port `listen` (0: a free one) of both loopback addresses. Raises: OSError."""
        self._node, self._clock = (host, node), clock
        self._listeners = [socket.create_server(("127.0.0.1", listen), backlog=512)]
        self.port: int = self._listeners[0].getsockname()[1]
        if socket.has_ipv6:
            with contextlib.suppress(OSError):  # there is none on this machine
                self._listeners.append(
                    socket.create_server(("::1", self.port), family=socket.AF_INET6, backlog=512)
                )
        # guards all below, but what only the judging thread touches
        self._changed = threading.Condition()
        self._connections = 0
        self._live: set[_Connection] = set()
        self._violations: list[Violation] = []
        self._packets: Counter[tuple[str, str]] = Counter()
        self._queue: deque[Callable[[], None]] = deque()
        self._ahead = 0  # bytes
        self._closing = False
        self._failure: Exception | None = None  # of the judging
        sys.setswitchinterval(_SWITCH)
        self._judging = threading.Thread(target=self._judge, name="judge", daemon=True)
        self._judging.start()
        self._threads = [
            threading.Thread(
                target=self._accept,
                args=(listener,),
                name=f"accept-{listener.getsockname()[0]}",
                daemon=True,
            )
            for listener in self._listeners
        ]
        for thread in self._threads:
            thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError as exc:
                if exc.errno in (errno.EBADF, errno.EINVAL):
                    return  # closed
                print(f"relaycheck: a connection can't be taken: {exc.strerror}", file=sys.stderr)
                time.sleep(_PAUSE)
                continue
            try:
                node = socket.create_connection(self._node, 10.0)
            except OSError as exc:
                print(f"relaycheck: no node at port {self._node[1]}: {exc}", file=sys.stderr)
                client.close()
                continue
            node.settimeout(None)
            with self._changed:
                self._connections += 1
                connection = _Connection(self, self._connections, client, node, self._clock)
                self._live.add(connection)
            connection.start()

    def later(self, step: Callable[[], None], size: int = 0) -> None:
        """Have something judged, in order; `size` bytes of it."""
        with self._changed:
            self._changed.wait_for(lambda: self._ahead < _AHEAD or self._closing)
            self._ahead += size
            self._queue.append(partial(self._judged, step, size))
            self._changed.notify_all()

    def _judged(self, step: Callable[[], None], size: int) -> None:
        try:
            step()
        except Exception as exc:  # our bug; nobody may wait for it, and `close` tells
            self._failure = self._failure or exc
        with self._changed:
            self._ahead -= size
            self._changed.notify_all()

    def _judge(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or (self._closing and not self._live))
                if not self._queue:
                    return
                step = self._queue.popleft()
            step()

    def count(self, packet: Packet) -> None:
        """One more packet came through: for the judging thread."""
        self._packets[packet.side.value, packet.op.name] += 1

    def found(self, violations: list[Violation]) -> None:
        """Keep what was wrong: for the judging thread."""
        self._violations += violations[: _MOST - len(self._violations)]

    def ended(self, connection: "_Connection") -> None:
        """Both sides of it hung up, and all of it is judged."""
        with self._changed:
            self._live.discard(connection)
            self._changed.notify_all()

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until there has been a connection, and there is none any more."""
        with self._changed:
            return self._changed.wait_for(lambda: self._connections > 0 and not self._live, timeout)

    def close(self, timeout: float = 1.0) -> Report:
        """Take no connections any more, cut those that are left, and say what was found.

        What they owe by then isn't judged.

        Raises: CloseTimeout when the judging takes too long; RuntimeError when it failed.
        """
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._changed:
            live = list(self._live)
        for connection in live:
            connection.cut()
        for thread in self._threads:
            thread.join(timeout)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._judging.join(_PATIENCE)
        if self._failure is not None:
            raise RuntimeError("what was said couldn't be judged") from self._failure
        if self._judging.is_alive():
            raise CloseTimeout(f"what was said isn't judged within {_PATIENCE:g} s")
        return Report("proxy", by_rule(self._violations), Counter(self._packets), self._connections)


class _Connection:
    """Owns two sockets, and a thread for each direction."""

    def __init__(
        self,
        proxy: Proxy,
        number: int,
        client: socket.socket,
        node: socket.socket,
        clock: Callable[[], float],
    ) -> None:
        self._proxy, self._clock = proxy, clock
        self._sockets = {Side.CLIENT: client, Side.NODE: node}
        for sock in self._sockets.values():
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._judge = Judge(number, proxy.count)
        self._lock = threading.Lock()  # guards _running and _cut
        self._running = 2
        self._cut = False
        self._number = number

    def start(self) -> None:
        for side in Side:
            threading.Thread(
                target=self._pump,
                args=(side,),
                name=f"proxy-{self._number}-{side.value}",
                daemon=True,
            ).start()

    def cut(self) -> None:
        with self._lock:
            self._cut = True
        for sock in self._sockets.values():
            with contextlib.suppress(OSError):  # it is gone
                sock.shutdown(socket.SHUT_RDWR)

    def _pump(self, side: Side) -> None:
        source, target = self._sockets[side], self._sockets[side.other]
        gone = False
        with contextlib.suppress(OSError):  # it hung up without the courtesy of saying so
            while data := source.recv(_PIECE):
                self._proxy.later(partial(self._feed, side, data, self._clock()), len(data))
                if not gone:
                    try:
                        target.sendall(data)
                    except OSError:
                        gone = True  # what the source says is judged to the end all the same
        with self._lock:
            if not self._cut:
                self._proxy.later(partial(self._end, side, self._clock()))
            self._running -= 1
            last = not self._running
        with contextlib.suppress(OSError):  # it is gone
            target.shutdown(socket.SHUT_WR)
        if last:
            for sock in self._sockets.values():
                sock.close()
            self._proxy.later(partial(self._proxy.ended, self))

    def _feed(self, side: Side, data: bytes, now: float) -> None:
        self._proxy.found(self._judge.feed(side, data, now))

    def _end(self, side: Side, now: float) -> None:
        self._proxy.found(self._judge.end(side, now))
