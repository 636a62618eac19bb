"""One program's connection to its node, with threads: owns the socket.

What programs use of it is in connection.py and service.py.

One thread reads, completes futures, and submits what is for handlers to bounded pools. Any thread
writes; what the socket doesn't take at once is sent by a thread of the send buffer. Backpressure:
beyond `_HIGH_WATER` bytes in the buffer, writers wait.

Lock order: Tunnel._sending, Connection._lock -> ClientProtocol._lock -> send buffer;
Tunnel._changed, NodeConnection._lock and pending._materializing are leaves. No callback is invoked
with one of them held.
"""

import logging
import socket
import threading
import time
from concurrent.futures import Future
from typing import Any

from iris.client.base_node_connection import BaseNodeConnection, OnDisconnect, Work, no_response
from iris.client.errors import Closed
from iris.client.protocol import Dispatcher, Packet
from iris.client.tunnel import Tunnel
from iris.errors import LinkClosed, StateError
from iris.runtime.batch import Batch, flush_batch
from iris.runtime.compiling import with_cause
from iris.runtime.deadline import time_left
from iris.runtime.send_buffer import SendBuffer
from iris.runtime.tcp import shut_down
from iris.runtime.worker_pool import WorkerPool

_HIGH_WATER = 4 << 20  # bytes in the send buffer, beyond which writers wait
_READ_SIZE = 65_536  # bytes

_log = logging.getLogger(__name__)


class NodeConnection(BaseNodeConnection[Tunnel, WorkerPool[Any]]):
    """Owns a socket, the thread `iris-N-rx` that reads it, and the pools of all handlers."""

    def __init__(
        self, sock: socket.socket, cluster: str = "", *, on_disconnect: OnDisconnect = None
    ) -> None:
        """Take over a connected, blocking socket. See `BaseNodeConnection`."""
        self._attached: Future[None] = Future()
        super().__init__("iris", cluster, self._attached, on_disconnect)
        self._sock = sock
        name, limit = self.name, _HIGH_WATER
        self._send_buffer = SendBuffer(sock, name=name, limit=limit, on_broken=self._shut_down)
        self._reader = threading.Thread(target=self._run, name=f"{name}-rx", daemon=True)

    def start(self, dispatcher: Dispatcher | None, timeout: float) -> None:
        """Attach; close when that fails.

        Args:
            dispatcher: takes what arrives for a member of a cluster.
            timeout: seconds.
        Raises: Denied, Closed, TimedOut.
        """
        self.protocol.dispatcher = dispatcher
        self._reader.start()
        try:
            self.write_soon((self.protocol.init_packet,))
            self._attached.result(timeout)
        except BaseException as exc:
            self._closing = True
            self._shut_down()
            self._reader.join()
            if isinstance(exc, TimeoutError):
                raise with_cause(no_response(timeout), None) from None
            raise
        self._log_attached()

    def close(self, timeout: float) -> None:
        """Close as described in `Connection.close`."""
        self._begin_close()
        flush_batch()
        with self._lock:
            pools = list(self._pools)
        current, deadline = threading.current_thread(), time.monotonic() + timeout
        if self.is_reader() or any(pool.owns(current) for pool in pools):
            return
        self._reader.join(timeout)
        if self._reader.is_alive():
            _log.warning("%s: close timed out; disconnecting", self.name)
            self._shut_down()
            self._reader.join()
        for pool in pools:
            if not pool.join(time_left(deadline)):
                _log.warning("%s: a handler is still running", self.name)

    def abort(self) -> None:
        """Disconnect without a close packet."""
        with self._lock:
            self._closing = True
        self._send_buffer.flush()  # what batches hold back, such as a tunnel's confirmation
        self._shut_down()

    def wait(self, timeout: float | None) -> bool:
        """Wait for the end. Returns: False after `timeout` seconds."""
        self._reader.join(timeout)
        return not self._reader.is_alive()

    def make_pool(self, name: str, work: Work, workers: int, memory: int) -> WorkerPool[Any]:
        """Make a pool of threads."""
        return WorkerPool(work, threads=workers, limit=memory, name=name, running=False)

    # Reading

    def is_reader(self) -> bool:
        """Whether the calling thread is the one that reads from the node."""
        return threading.current_thread() is self._reader

    def check_may_wait(self) -> None:
        """Raise StateError in the reading thread: it would wait for itself."""
        if self.is_reader():
            raise StateError("the thread that reads from the node cannot wait for it")

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._read()
        except Exception as exc:
            error = exc
        self._end(error)
        self._send_buffer.close()
        self._sock.close()
        reason = self._disconnected()
        if reason is not None and self._on_disconnect is not None:
            try:
                self._on_disconnect(reason)
            except Exception:
                _log.exception("%s: the disconnect callback failed", self.name)

    def _read(self) -> None:
        protocol, recv = self.protocol, self._sock.recv
        while protocol.ended is None and (data := recv(_READ_SIZE)):
            with Batch():
                protocol.feed(data)

    def _shut_down(self, error: Exception | None = None) -> None:
        shut_down(self._sock)  # wakes the reading thread

    # Writing

    def throttle(self) -> None:
        """Apply backpressure: wait while too much of what was written is unsent."""
        if self._send_buffer.size > _HIGH_WATER and not self.is_reader():
            flush_batch()
            self._send_buffer.wait_below(_HIGH_WATER, threading.TIMEOUT_MAX)

    def write_soon(self, packet: Packet) -> None:
        """Write one packet, without waiting. Raises: Closed."""
        try:
            self._send_buffer.write_all(packet)
        except LinkClosed as exc:
            ended = self.protocol.ended or Closed("connection to the node lost")
            raise with_cause(ended.copy(), exc) from exc

    def new_tunnel(self, number: int, chunk_limit: int) -> Tunnel:
        """Make the local end of a tunnel."""
        return Tunnel(self, number, chunk_limit)


def open_socket(port: int, timeout: float) -> socket.socket:
    """Connect to the node on this host, within `timeout` seconds. Raises: OSError."""
    sock = socket.create_connection(("127.0.0.1", port), timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(None)
    return sock
