"""Finding other nodes in an interface's subnet over UDP.

Answers to the shell of Go's proto/bootstrap/bootstrap.go.

A datagram to a host that isn't there stays in the kernel for 3 s, until ARP gives up, and counts
against the socket's send buffer all the while; some 250 fill the default one. So requests are sent
only while half of it is free, which is when Linux calls a UDP socket writable; the other half is
left for responses. It also bounds the unresolved entries that a search puts into the machine's ARP
table, which all its programs share.
"""

import contextlib
import logging
import random
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from iris.config import KIB, BootstrapConfig
from iris.errors import CloseTimeout, ConfigError
from iris.proto.bootstrap.greeting import MAX_SIZE, Greeting
from iris.proto.bootstrap.schedule import Schedule, Target, obstacle
from iris.runtime.interfaces import Interface

_log = logging.getLogger(__name__)

# Linux doubles it, and counts 832 bytes a datagram: half is some 300, a /24 or a third of the ARP
# table
_SEND_BUFFER = 256 * KIB
_RETRY = 0.1  # seconds, after an error while receiving

OnFound = Callable[[int, tuple[str, int], bool], None]


@dataclass(slots=True)
class Counts:
    """What happened so far, in datagrams. Each count belongs to one thread."""

    asked: int = 0
    unsent_requests: int = 0
    heard: int = 0
    ignored: int = 0  # of those heard: not of this network, or not understood
    unsent_responses: int = 0
    receive_errors: int = 0


class Bootstrapper:
    """Owns one UDP socket and the threads `boot-rx-…` and `boot-tx-…`; its maker closes it.

    Lock order: nothing is called with the schedule's lock held.
    """

    def __init__(
        self,
        interface: Interface,
        network: str,
        node_id: int,
        overlay_port: int,
        on_found: OnFound,
        *,
        config: BootstrapConfig,
        rng: random.Random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Listen on the first free boot port of `interface`, for the node with this id and TCP port
        for peers.

        `on_found(node_id, (ip, overlay_port), is_response)` is told on boot-rx of each datagram of
        another node. It must not wait.
        Raises: ConfigError when no boot port is free.
        """
        self._greeting = Greeting(network, node_id, overlay_port)
        self._sock = _bind(interface, config.ports)
        self._on_found, self._clock = on_found, clock
        self.address: Target = self._sock.getsockname()
        self.counts = Counts()
        self._lock = threading.Lock()
        self._schedule = Schedule(interface, self.address[1], config=config, rng=rng)
        if (reason := obstacle(interface, config)) is not None:
            level = logging.DEBUG if interface.address.is_loopback else logging.WARNING
            _log.log(
                level,
                "%s (%s) isn't searched for other nodes: %s",
                interface.name,
                interface.address,
                reason,
            )
        self._stop = threading.Event()
        self._writable = select.poll()
        self._writable.register(self._sock, select.POLLOUT)
        self._threads = [
            threading.Thread(target=target, name=f"boot-{name}-{self.address[0]}", daemon=True)
            for name, target in (("rx", self._receive), ("tx", self._search))
        ]

    def start(self) -> None:
        """Answer and search."""
        for thread in self._threads:
            thread.start()

    def slow(self) -> None:
        """Search at the slow pace from now on."""
        with self._lock:
            self._schedule.slow()

    def close(self, timeout: float = 3.0) -> None:
        """Stop both; idempotent, from any thread but boot-rx. Raises.

        CloseTimeout when `on_found` takes longer than this, in seconds.
        """
        self._stop.set()
        # ENOTCONN, always; it wakes recvfrom and poll all the same
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout)
        self._sock.close()
        if any(thread.is_alive() for thread in self._threads):
            raise CloseTimeout(f"{self._threads[0].name} alive after {timeout} s")

    def _search(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                targets, again_at = self._schedule.step(self._clock())
            for target in targets:
                self._writable.poll()
                if self._stop.is_set():
                    return
                self.counts.asked += 1
                if not self._send(self._greeting.request, target):
                    self.counts.unsent_requests += 1
            self._stop.wait(again_at - self._clock())

    def _receive(self) -> None:
        while not self._stop.is_set():
            try:
                data, source = self._sock.recvfrom(MAX_SIZE + 1)
            # nobody listens where we asked; unconnected sockets aren't told so by Linux
            except ConnectionRefusedError:
                self.counts.receive_errors += 1
            except OSError as exc:
                self.counts.receive_errors += 1
                _log.debug("%s:%d: %s", *self.address, exc)
                self._stop.wait(_RETRY)
            else:
                if not self._stop.is_set():
                    self._handle(data, source)

    def _handle(self, data: bytes, source: Target) -> None:
        self.counts.heard += 1
        message = self._greeting.read(data)
        if message is None:
            self.counts.ignored += 1
            return
        assert message.node_id is not None
        if message.request and not self._send(self._greeting.response, source):
            self.counts.unsent_responses += 1
        with self._lock:
            self._schedule.remember(source)
        try:
            self._on_found(message.node_id, (source[0], message.overlay), not message.request)
        except Exception:
            # our bug; further nodes can be found nevertheless
            _log.exception("what bootstrap found wasn't taken")

    def _send(self, data: bytes, target: Target) -> bool:
        """Whether it went out.

        Unreachable hosts, missing routes, firewalls and full buffers are everyday life; others will
        be asked.
        """
        try:
            self._sock.sendto(data, socket.MSG_DONTWAIT, target)
        except OSError:
            return False
        return True


def _bind(interface: Interface, ports: tuple[int, ...]) -> socket.socket:
    """Open a UDP socket on the first free of `ports`. Raises: ConfigError when there is none."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    reason: OSError | None = None
    for port in ports:
        try:
            sock.bind((str(interface.address), port))
        except OSError as exc:
            reason = exc
        else:
            return sock
    sock.close()
    text = f"no boot port is free on {interface.name} ({interface.address}), UDP {', '.join(map(str, ports))}: {reason and reason.strerror}"
    raise ConfigError(text) from reason
