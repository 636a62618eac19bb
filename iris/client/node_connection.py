"""The socket of one attached program, with threads. Shell around `protocol.py`.

What programs see is in connection.py and service.py.

Answers to the lower half of iris-go's connection.go. One thread reads, completes futures, and hands
what is for handlers to bounded pools. Writing is done by whoever has something to say; what the
node doesn't take at once is sent by a thread of the send buffer, and beyond `_HIGH_WATER` the writer
waits.

Lock order: Tunnel._sending, Connection._lock -> ClientProtocol._lock -> send buffer; Tunnel._changed,
NodeConnection._lock and pending._deciding are leaves. Nothing is called back with one of them held.
"""

import contextlib
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from iris.client.errors import Closed, TimedOut
from iris.client.limits import TUNNEL_BUFFER
from iris.client.pool import Pool
from iris.client.protocol import ClientProtocol, Dispatcher
from iris.client.tunnel import Tunnel
from iris.errors import LinkClosed, ProtocolError, StateError
from iris.relay_protocol import client_codec as codec
from iris.runtime.batch import Batch, flush_batch
from iris.runtime.compiling import with_cause
from iris.runtime.deadline import time_left
from iris.runtime.send_buffer import SendBuffer

_HIGH_WATER = 4 << 20  # bytes that the node hasn't taken yet, at which writers wait
_READ = 65_536  # bytes of one read

T = TypeVar("T")
_log = logging.getLogger(__name__)
_numbers = itertools.count(1)


class NodeConnection:
    """Owns a socket, the thread `iris-N-rx` that reads it, and the pools of all handlers."""

    def __init__(
        self,
        sock: socket.socket,
        cluster: str = "",
        *,
        on_drop: Callable[[Closed], None] | None = None,
    ) -> None:
        """Take over a connected, blocking socket, for a member of a cluster when it is named.

        on_drop: see `iris.connect`.
        """
        self.name = f"iris-{next(_numbers)}"
        self._sock, self._cluster, self._on_drop = sock, cluster, on_drop
        self._attached: Future[None] = Future()
        self._lock = threading.Lock()  # guards the next two
        self._closing = False
        self._pools: list[Pool[Any]] = []
        self._send_buffer = SendBuffer(sock, name=self.name, limit=_HIGH_WATER, on_broken=self._cut)
        self.core: ClientProtocol[Tunnel] = ClientProtocol(
            self, attached=self._attached, cluster=cluster, tunnel_buffer=TUNNEL_BUFFER
        )
        self._reader = threading.Thread(target=self._run, name=f"{self.name}-rx", daemon=True)

    def start(self, intake: Dispatcher | None, timeout: float) -> None:
        """Attach. intake is for a member of a cluster. Raises: Denied, Closed, TimedOut.

        It is closed then.
        """
        self.core.intake = intake
        self._reader.start()
        try:
            self.write_soon(self.core.greeting)
            self._attached.result(timeout)
        except BaseException as exc:
            self._closing = True
            self._cut()
            self._reader.join()
            if isinstance(exc, TimeoutError):
                raise with_cause(
                    TimedOut(f"the node hasn't answered within {timeout} s"), None
                ) from None
            raise
        _log.info(
            "%s: attached%s",
            self.name,
            f" as a member of '{self._cluster}'" if self._cluster else "",
        )

    def close(self, timeout: float) -> None:
        """See `Connection.close`."""
        with self._lock:
            first, self._closing = not self._closing, True
            pools = list(self._pools)
        if first:
            with contextlib.suppress(Closed):  # the node was faster
                self.core.close()
        flush_batch()
        current, deadline = threading.current_thread(), time.monotonic() + timeout
        if self.is_reader() or any(pool.owns(current) for pool in pools):
            return
        self._reader.join(timeout)
        if self._reader.is_alive():
            _log.warning("%s: the node doesn't answer a close", self.name)
            self._cut()
            self._reader.join()
        for pool in pools:
            if not pool.join(time_left(deadline)):
                _log.warning("%s: a handler is still running", self.name)

    def abort(self) -> None:
        """See `Connection.abort`."""
        with self._lock:
            self._closing = True
        # what any thread's batch still holds back, such as the confirmation of a tunnel
        self._send_buffer.flush()
        self._cut()

    def wait(self, timeout: float | None) -> bool:
        """Wait for its end; False after `timeout` seconds."""
        self._reader.join(timeout)
        return not self._reader.is_alive()

    # Threads

    def new_pool(
        self, work: Callable[[T], None], *, threads: int, memory: int, kind: str
    ) -> Pool[T]:
        """A pool for handlers, which is closed with this, or by `drop_pool`."""
        pool = Pool(work, threads=threads, memory=memory, name=f"{self.name}-{kind}")
        with self._lock:
            self._pools.append(pool)
        return pool

    def drop_pool(self, pool: Pool[Any]) -> None:
        """Close one that isn't needed any more; what is being worked on goes on."""
        pool.close()
        with self._lock, contextlib.suppress(ValueError):  # twice is fine
            self._pools.remove(pool)

    def is_reader(self) -> bool:
        """Whether the calling thread is the one that everything else waits for."""
        return threading.current_thread() is self._reader

    def may_wait(self) -> None:
        """Raises: StateError when the calling thread can't wait for anything that has to be read."""
        if threading.current_thread() is self._reader:
            raise StateError("this thread reads what the node sends: it can't wait for it")

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._read()
        except (OSError, LinkClosed) as exc:
            error = exc
        except ProtocolError as exc:
            error = exc
            _log.error("%s: the node broke the rules: %s", self.name, exc)
        except Exception as exc:
            error = exc
            _log.exception("%s: what the node sent couldn't be carried out", self.name)  # our bug
        lost = Closed("the connection to the node is lost")
        lost.__cause__ = error
        self.core.end(lost)  # unless the node has said something itself
        self._send_buffer.close()
        self._sock.close()
        self._ended()

    def _read(self) -> None:
        core, recv = self.core, self._sock.recv
        while core.ended is None and (data := recv(_READ)):
            with Batch():
                core.feed(data)

    def _ended(self) -> None:
        with self._lock:
            pools, closing = list(self._pools), self._closing
        for pool in pools:
            if dropped := pool.close():
                _log.warning("%s: %d messages weren't handled any more", self.name, dropped)
        if closing:
            _log.info("%s: detached", self.name)
            return
        reason = self.core.ended
        assert reason is not None
        _log.warning("%s: dropped: %s", self.name, reason)
        if self._on_drop is not None:
            try:
                self._on_drop(reason.again())
            except Exception:
                _log.exception("%s: the drop callback failed", self.name)

    def _cut(self, error: Exception | None = None) -> None:
        with contextlib.suppress(OSError):  # it is gone
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes the reading thread

    # Writing

    def hold_back(self) -> None:
        """Wait while the node takes too little of what was written."""
        if self._send_buffer.size > _HIGH_WATER and not self.is_reader():
            flush_batch()
            self._send_buffer.wait_below(_HIGH_WATER, threading.TIMEOUT_MAX)

    # See `protocol.Face`

    def write_soon(self, *buffers: codec.ImmutableBytes) -> None:
        """Write one packet, without waiting."""
        try:
            self._send_buffer.write_all(buffers)
        except LinkClosed as exc:
            raise with_cause(
                (self.core.ended or Closed("the connection to the node is lost")).again(), exc
            ) from exc

    def new_tunnel(self, number: int, chunk_limit: int) -> Tunnel:
        """Make the end of a tunnel."""
        return Tunnel(self, number, chunk_limit)


def attach(port: int, timeout: float) -> socket.socket:
    """A socket that is connected to the node on this host. Raises: OSError when there is none."""
    sock = socket.create_connection(("127.0.0.1", port), timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(None)
    return sock
