"""Where local applications attach: the listening sockets, and who is let in. Shell.

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
from iris.proto.iris.base import Handler
from iris.proto.iris.connection import Connection
from iris.runtime.deadline import time_left
from iris.runtime.tcp import Address, Listener
from iris.runtime.thread_cache import ThreadCache
from iris.runtime.timer import Timer
from iris.service.relay.connection import ClientConnection
from iris.service.relay.counters import Counters
from iris.service.relay.session import Denied

_BACKLOG = 512  # connections that the kernel holds until they're accepted
_COMPLAIN_EVERY = 10.0  # seconds between two lines about the same limit
_FAREWELL = 0.5  # seconds that a closing relay's clients get to take their last bytes and hang up
_STOPPING = "the node is stopping"
_FULL = "this node serves as many applications as it may"
_RUSH = "too many applications attach at the same time"

_log = logging.getLogger(__name__)


class Overlay(Protocol):
    """What is used of `iris.proto.iris.overlay.Overlay`."""

    def connect(self, cluster: str, handler: Handler) -> Connection:
        """Attach to the network; cluster "" is a plain client. Raises: IrisError."""


class RelayServer:
    """Owns the listening sockets, and whoever attaches there.

    Its maker closes it, before the overlay and the timer.
    """

    def __init__(
        self,
        overlay: Overlay,
        *,
        config: Config,
        timer: Timer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Listen nowhere yet."""
        self._overlay, self._config, self._timer, self._clock = overlay, config, timer, clock
        self.counters = Counters()
        self.port = config.relay.port
        self._listeners: list[Listener] = []
        self._spares = ThreadCache()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()  # guards all below
        self._greeting: dict[ClientConnection, None] = {}  # who was silent for longest comes first
        self._attached: set[ClientConnection] = set()
        self._closing = False
        self._complain_at = 0.0

    def start(self) -> None:
        """Listen on 127.0.0.1 and on ::1, where there is IPv6; port 0 takes a free one. Raises.

        ConfigError.
        """
        try:
            self._listen("127.0.0.1", socket.AF_INET)
            try:
                self._listen("::1", socket.AF_INET6)
            except OSError as exc:
                if exc.errno in (errno.EADDRINUSE, errno.EACCES):
                    raise
                _log.debug("no IPv6 here: %s", exc)
        except OSError as exc:
            for listener in self._listeners:
                listener.close()
            if exc.errno == errno.EADDRINUSE:
                raise ConfigError(
                    f"port {self.port} is taken, maybe by another node; choose one for applications with -port"
                ) from exc
            raise ConfigError(
                f"can't listen for applications on port {self.port}: {exc.strerror or exc}"
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
        attachment = ClientConnection(
            next(self._numbers),
            sock,
            spares=self._spares,
            connect=self._connect,
            on_gone=self._gone,
            config=self._config,
            timer=self._timer,
            counters=self.counters,
            clock=self._clock,
        )
        silent = None
        with self._lock:
            refusal = _STOPPING if self._closing else None
            if refusal is None:
                if len(self._greeting) >= self._config.limits.client_handshakes:
                    silent = next(iter(self._greeting))
                    del self._greeting[silent]
                self._greeting[attachment] = None
        # not the new one, or a few who say nothing could keep all others out
        if silent is not None:
            self._report(_RUSH)
            silent.turn_away(_RUSH)
        if refusal is None:
            try:
                attachment.start()
                return
            except RuntimeError as exc:  # no thread to be had
                refusal = str(exc)
        self._report(refusal)
        attachment.refuse(refusal)
        self._gone(attachment)

    def _report(self, refusal: str) -> None:
        with self._lock:
            due = self._clock() >= self._complain_at
            if due:
                self._complain_at = self._clock() + _COMPLAIN_EVERY
        if due:
            _log.warning("applications are turned away: %s", refusal)

    def _connect(self, attachment: ClientConnection, cluster: str, handler: Handler) -> Connection:
        with self._lock:
            refusal = (
                _STOPPING
                if self._closing
                else _FULL
                if len(self._attached) >= self._config.limits.clients
                else None
            )
            if refusal is None:
                self._greeting.pop(attachment, None)
                self._attached.add(attachment)
        if refusal is not None:
            self._report(refusal)
            raise Denied(refusal)
        connection = self._overlay.connect(cluster, handler)
        self.counters.add("attached")
        _log.debug(
            "client %d attached%s",
            attachment.client.number,
            f" as a service of {cluster!r}" if cluster else "",
        )
        return connection

    def _gone(self, attachment: ClientConnection) -> None:
        with self._lock:
            self._greeting.pop(attachment, None)
            self._attached.discard(attachment)
        if attachment.client.attached:
            self.counters.add("detached")
            _log.debug("client %d detached", attachment.client.number)

    def close(self, reason: str = _STOPPING, timeout: float = 0.0) -> None:
        """Let nobody in, take no new requests, wait for the answers in hand, `timeout` seconds at
        most; then close all clients.

        Idempotent; from any thread but the clients'. Raises: CloseTimeout when a client's thread
        hangs.
        """
        deadline = self._clock() + timeout
        with self._lock:
            self._closing = True
            attachments = [*self._greeting, *self._attached]
        for listener in self._listeners:
            listener.close()
        idle = []
        for attachment in attachments:
            idle.append(threading.Event())
            attachment.client.drain(idle[-1].set, asked=True)
        for event in idle:
            event.wait(time_left(deadline, self._clock))
        for attachment in attachments:
            attachment.client.end(reason)
        _log.debug("applications so far: %s", self.counters)
        self._join(attachments)

    def _join(self, attachments: list[ClientConnection]) -> None:
        for grace in (_FAREWELL, _FAREWELL):
            deadline = self._clock() + grace
            attachments = [
                attachment
                for attachment in attachments
                if not attachment.join(time_left(deadline, self._clock))
            ]
            for attachment in attachments:
                attachment.cut()
        if not self._spares.close(_FAREWELL) or attachments:
            raise CloseTimeout(
                f"threads of {len(attachments)} clients, or of some who have gone, outlived the relay"
            )
