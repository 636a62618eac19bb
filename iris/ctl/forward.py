"""`irisctl tunnel --listen` and `--connect`: TCP connections through tunnels, one each.

Lock order: _lock is a leaf.
"""

import contextlib
import errno
import itertools
import logging
import socket
import struct
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from functools import partial

from iris.client import Closed, Handler, ServiceLimits, TimedOut, Tunnel
from iris.ctl.conversation import PIECE, Conversation, NotAllSent
from iris.ctl.node import attach, build_tunnel, join
from iris.ctl.outcome import Exit, UsageError
from iris.ctl.signals import until_signal, wait_for_end
from iris.runtime.tcp import shut_down

LIMIT = 256  # concurrent TCP connections; further ones wait
_BACKLOG = 64
_RETRY_PAUSE = 0.1  # seconds after a failed accept

_log = logging.getLogger(__name__)


def run(args: Namespace) -> Exit:
    """Forward until a signal, or until the node is lost."""
    sockets = _Sockets(args.linger)
    with until_signal() as ends, contextlib.ExitStack() as stack:
        if args.connect:
            handler = Handler()
            handler.on_tunnel(lambda tunnel: _connect(args, tunnel, sockets))
            handler.on_disconnect(ends.put)
            stack.enter_context(join(args, handler, ServiceLimits(tunnel_threads=LIMIT)))
        else:
            listener = stack.enter_context(_listen(*args.listen))
            connection = stack.enter_context(attach(args, on_disconnect=ends.put))
            stack.callback(shut_down, listener)
            build = partial(build_tunnel, connection, args)
            _Listener(listener, build, sockets).start()
        stack.callback(sockets.close)
        return wait_for_end(ends)


class _Sockets:
    """The sockets in use, to be shut down together."""

    def __init__(self, linger: float) -> None:
        self._linger = linger
        self._lock = threading.Lock()  # guards the next two
        self._open: set[socket.socket] = set()
        self._closed = False

    def forward(self, sock: socket.socket, tunnel: Tunnel) -> None:
        """Carry bytes until either side ends it."""
        with self._lock:
            if self._closed:
                return
            self._open.add(sock)
        how = socket.SHUT_RDWR
        try:
            Conversation(tunnel, lambda: sock.recv(PIECE), sock.sendall, linger=self._linger).run()
        except (OSError, NotAllSent) as exc:  # Closed, too
            _log.info("connection broke: %s", exc)
            _reset(sock)
            how = socket.SHUT_RD  # the peer must see the reset, not an orderly end
        finally:
            tunnel.close()
            shut_down(sock, how)
            with self._lock:
                self._open.discard(sock)

    def close(self) -> None:
        """Shut down all sockets, and those to come."""
        with self._lock:
            self._closed = True
            for sock in self._open:
                shut_down(sock)


def _reset(sock: socket.socket) -> None:
    """Have the socket's close send a reset."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _connect(args: Namespace, tunnel: Tunnel, sockets: _Sockets) -> None:
    """The far side: make a TCP connection for a tunnel."""
    try:
        sock = socket.create_connection(args.connect, args.timeout)
    except OSError as exc:
        _log.error("can't connect to %s port %d: %s", *args.connect, exc)
        return
    with sock:
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets.forward(sock, tunnel)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as exc:
        raise UsageError(f"can't listen at {host} port {port}: {exc.strerror}") from exc


class _Listener:
    """The near side: a tunnel for each TCP connection.

    Owns the thread `ctl-listen`, which starts `ctl-forward-N`.
    """

    def __init__(
        self, listener: socket.socket, build: Callable[[], Tunnel], sockets: _Sockets
    ) -> None:
        self._listener, self._build, self._sockets = listener, build, sockets
        self._free = threading.BoundedSemaphore(LIMIT)
        self._thread = threading.Thread(target=self._accept, name="ctl-listen", daemon=True)

    def start(self) -> None:
        self._thread.start()
        _log.info("listening at %s port %d", *self._listener.getsockname()[:2])

    def _accept(self) -> None:
        for number in itertools.count(1):
            self._free.acquire()
            try:
                sock, _ = self._listener.accept()
            except OSError as exc:
                if exc.errno in (errno.EBADF, errno.EINVAL):  # closed
                    return
                self._failed(exc)
                continue
            try:
                name = f"ctl-forward-{number}"
                threading.Thread(target=self._forward, args=(sock,), name=name, daemon=True).start()
            except RuntimeError as exc:  # the system has no thread left
                sock.close()
                self._failed(exc)

    def _failed(self, error: Exception) -> None:
        _log.error("can't accept a connection: %s", error)
        self._free.release()
        time.sleep(_RETRY_PAUSE)

    def _forward(self, sock: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._free.release)
            stack.enter_context(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                tunnel = self._build()
            except (TimedOut, Closed) as exc:
                lost = isinstance(exc, Closed)
                _log.log(logging.INFO if lost else logging.ERROR, "connection rejected: %s", exc)
                _reset(sock)
            else:
                self._sockets.forward(sock, tunnel)
