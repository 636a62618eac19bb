"""The relay's listening sockets, and the admission of applications. Shell.

Counterpart of Go's service/relay/service.go. Accepting never waits for an application: each has a
thread of its own, from its first byte on.

Lock order: `RelayServer._lock` is held across no call.
"""

import errno
import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

from iris.config import Config
from iris.errors import CloseTimeout, ConfigError
from iris.metrics import Metrics
from iris.proto.iris.base import Handler
from iris.proto.iris.connection import Connection
from iris.runtime.deadline import time_left
from iris.runtime.rate_limited_log import RateLimitedLogger
from iris.runtime.tcp import Address, Listener
from iris.runtime.thread_cache import ThreadCache
from iris.runtime.timer import Timer
from iris.service.relay.base import Denied, Shared
from iris.service.relay.connection import ClientConnection

_BACKLOG = 512  # connections that the kernel holds until they're accepted
_WARNING_PERIOD = 10.0  # seconds between two log lines about the same thing
_CLOSE_GRACE = 0.5  # seconds that applications have to read their last bytes and hang up
_SHUTTING_DOWN = "the node is shutting down"

_log = logging.getLogger(__name__)


class Overlay(Protocol):
    """What is used of `iris.proto.iris.overlay.Overlay`."""

    def connect(self, cluster: str, handler: Handler) -> Connection:
        """Attach to the network; cluster "" is a plain client. Raises: IrisError."""


class RelayServer:
    """Owns the listening sockets, and the connections of applications.

    Its maker closes it, before the overlay and the timer.
    """

    def __init__(
        self,
        overlay: Overlay,
        *,
        config: Config,
        timer: Timer,
        clock: Callable[[], float] = time.monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        """Listen nowhere yet."""
        self._overlay, self._limits, self._clock = overlay, config.limits, clock
        self.metrics = metrics or Metrics()
        self._warnings = RateLimitedLogger(_log, period=_WARNING_PERIOD, clock=clock)
        self._shared = Shared(config, timer, clock, self.metrics, self._warnings)
        self.port = config.relay.port
        self._listeners: list[Listener] = []
        self._threads = ThreadCache("relay")
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()  # guards all below
        # the one that has been silent for longest comes first
        self._greeting: dict[ClientConnection, None] = {}
        self._attached: set[ClientConnection] = set()
        self._closing = False

    def start(self) -> None:
        """Listen on 127.0.0.1, and on ::1 if there is IPv6; port 0 takes a free one.

        Raises: ConfigError.
        """
        try:
            self._listen("127.0.0.1", socket.AF_INET)
            try:
                self._listen("::1", socket.AF_INET6)
            except OSError as exc:
                if exc.errno in (errno.EADDRINUSE, errno.EACCES):
                    raise
                _log.debug("not listening on ::1: %s", exc)
        except OSError as exc:
            for listener in self._listeners:
                listener.close()
            if exc.errno == errno.EADDRINUSE:
                raise ConfigError(
                    f"port {self.port} is in use, maybe by another node: choose one with -port"
                ) from exc
            raise ConfigError(
                f"cannot listen for applications on port {self.port}: {exc.strerror or exc}"
            ) from exc
        for listener in self._listeners:
            listener.start()

    def _listen(self, host: str, family: socket.AddressFamily) -> None:
        def bind(address: Address) -> socket.socket:
            return socket.create_server(address, family=family, backlog=_BACKLOG)

        listener = Listener((host, self.port), self._accept, bind=bind)
        self._listeners.append(listener)
        self.port = listener.address[1]

    def _accept(self, sock: socket.socket, remote: Address) -> None:
        connection = ClientConnection(
            next(self._numbers),
            sock,
            self._shared,
            threads=self._threads,
            connect=self._connect,
            on_gone=self._gone,
        )
        silent = None
        with self._lock:
            refusal = _SHUTTING_DOWN if self._closing else None
            if refusal is None:
                if len(self._greeting) >= self._limits.client_handshakes:
                    silent = next(iter(self._greeting))
                    del self._greeting[silent]
                self._greeting[connection] = None
        # not the new one, or a few silent ones could keep all others out
        if silent is not None:
            rush = f"limit of {self._limits.client_handshakes} attaching applications reached"
            self._warn(rush)
            silent.deny(rush)
        if refusal is None:
            try:
                connection.start()
                return
            except RuntimeError as exc:  # the system has no thread left
                refusal = str(exc)
        self._warn(refusal)
        connection.refuse(refusal)
        self._gone(connection)

    def _warn(self, refusal: str) -> None:
        self._warnings.log(logging.WARNING, refusal, "application denied: %s", refusal)

    def _connect(self, connection: ClientConnection, cluster: str, handler: Handler) -> Connection:
        refusal = None
        with self._lock:
            if self._closing:
                refusal = _SHUTTING_DOWN
            elif len(self._attached) >= self._limits.clients:
                refusal = f"limit of {self._limits.clients} applications reached"
            else:
                self._greeting.pop(connection, None)
                self._attached.add(connection)
        if refusal is not None:
            self._warn(refusal)
            raise Denied(refusal)
        return self._overlay.connect(cluster, handler)

    def _gone(self, connection: ClientConnection) -> None:
        with self._lock:
            self._greeting.pop(connection, None)
            self._attached.discard(connection)

    def close(self, reason: str = _SHUTTING_DOWN, timeout: float = 0.0) -> None:
        """Stop accepting, finish requests in flight, then close all applications. Idempotent.

        From any thread but the applications'. Requests get `timeout` seconds at most.

        Raises: CloseTimeout when an application's thread hangs.
        """
        deadline = self._clock() + timeout
        with self._lock:
            self._closing = True
            connections = [*self._greeting, *self._attached]
        for listener in self._listeners:
            listener.close()
        idle = []
        for connection in connections:
            idle.append(threading.Event())
            connection.session.drain(idle[-1].set, requests=True)
        for event in idle:
            event.wait(time_left(deadline, self._clock))
        for connection in connections:
            connection.session.end(reason, "shutdown")
        self._join(connections)

    def _join(self, connections: list[ClientConnection]) -> None:
        for _ in range(2):
            deadline = self._clock() + _CLOSE_GRACE
            connections = [
                connection
                for connection in connections
                if not connection.join(time_left(deadline, self._clock))
            ]
            for connection in connections:
                connection.cut()
        if not self._threads.close(_CLOSE_GRACE) or connections:
            raise CloseTimeout(f"relay threads of {len(connections)} applications still run")
