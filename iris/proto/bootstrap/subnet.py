"""The search of an interface's subnet for other nodes, over UDP.

Counterpart of the sockets of Go's proto/bootstrap/bootstrap.go. Shell.

A datagram to a host that isn't there stays in the kernel for 3 s, until ARP gives up, and counts
against the socket's send buffer all the while; some 250 fill the default one. So requests are sent
only while half of it is free, which is when Linux calls a UDP socket writable; the other half is
left for responses. It also bounds the unresolved entries that a search puts into the machine's ARP
table, which all its programs share.
"""

import logging
import random
import select
import socket
import threading
import time
from collections.abc import Callable

from iris.config import KIB, BootstrapConfig
from iris.errors import CloseTimeout, ConfigError
from iris.metrics import Metrics
from iris.proto.bootstrap.base import OnFound
from iris.proto.bootstrap.greeting import MAX_SIZE, Greeting
from iris.proto.bootstrap.schedule import Schedule, obstacle
from iris.proto.wire.node_id import NodeId
from iris.runtime.interfaces import Interface
from iris.runtime.tcp import Address, shut_down

_log = logging.getLogger(__name__)

# Linux doubles it, and counts 832 bytes a datagram: half is some 300, a /24 or a third of the ARP
# table
_SEND_BUFFER = 256 * KIB
_RETRY = 0.1  # seconds, after an error while receiving


class SubnetSearch:
    """A source: owns one UDP socket and the threads `boot-rx-…` and `boot-tx-…`.

    Answers the searches of other nodes as well. Lock order: nothing is called with the schedule's
    lock held.
    """

    def __init__(
        self,
        interface: Interface,
        network: str,
        node_id: NodeId,
        overlay_port: int,
        *,
        config: BootstrapConfig,
        rng: random.Random,
        metrics: Metrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Bind the first free boot port of `interface`.

        Args:
            node_id, overlay_port: sent in datagrams: this node's id, and its TCP port for peers.
        Raises: ConfigError when no boot port is free.
        """
        self._greeting = Greeting(network, node_id, overlay_port)
        self._sock = _bind(interface, config.ports)
        self._clock = clock
        self.address: Address = self._sock.getsockname()
        metrics = metrics or Metrics()
        self._sent, self._received = metrics.discovery_sent, metrics.discovery_received
        self._lock = threading.Lock()
        self._schedule = Schedule(interface, self.address[1], config=config, rng=rng)
        if (reason := obstacle(interface, config)) is not None:
            level = logging.DEBUG if interface.address.is_loopback else logging.WARNING
            name, address = interface.name, interface.address
            _log.log(level, "not searching %s (%s) for other nodes: %s", name, address, reason)
        self._stop = threading.Event()
        self._writable = select.poll()
        self._writable.register(self._sock, select.POLLOUT)
        self._threads: list[threading.Thread] = []

    def __str__(self) -> str:
        return f"subnet search on UDP port {self.address[1]}"

    def start(self, on_found: OnFound) -> None:
        """Search, and answer other nodes; report those that answer, on `boot-rx-…`."""
        self._on_found = on_found
        for name, target in (("rx", self._receive), ("tx", self._search)):
            name = f"boot-{name}-{self.address[0]}"
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)  # once it can be joined

    def slow(self) -> None:
        """Search at the slow pace from now on."""
        with self._lock:
            self._schedule.slow()

    def close(self, timeout: float = 3.0) -> None:
        """Stop both threads; idempotent, from any thread but `boot-rx-…`.

        Raises: CloseTimeout when `on_found` takes longer than `timeout` seconds.
        """
        self._stop.set()
        shut_down(self._sock)  # ENOTCONN, always; it wakes recvfrom and poll all the same
        for thread in self._threads:
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
                self._send("request", self._greeting.request, target)
            self._stop.wait(again_at - self._clock())

    def _receive(self) -> None:
        while not self._stop.is_set():
            try:
                data, source = self._sock.recvfrom(MAX_SIZE + 1)
            except ConnectionRefusedError:  # a request met a closed port; Linux seldom reports it
                self._received["error"].inc()
            except OSError as exc:
                self._received["error"].inc()
                _log.debug("%s:%d: receiving failed: %s", *self.address, exc)
                self._stop.wait(_RETRY)
            else:
                if not self._stop.is_set():
                    self._handle(data, source)

    def _handle(self, data: bytes, source: Address) -> None:
        message = self._greeting.read(data)
        if message is None:
            self._received["ignored"].inc()
            return
        with self._lock:
            self._schedule.remember(source)
        if message.request:  # its sender dials us when we answer
            self._received["request"].inc()
            self._send("response", self._greeting.response, source)
            return
        self._received["response"].inc()
        assert message.node_id is not None
        try:
            self._on_found((source[0], message.overlay), NodeId(message.node_id))
        except Exception:
            _log.exception("discovery callback failed")  # our bug; further nodes can be found

    def _send(self, kind: str, data: bytes, target: Address) -> None:
        """Send a datagram; count it as failed where that isn't possible right now.

        Unreachable hosts, missing routes, firewalls and full buffers are everyday life; others are
        asked.
        """
        try:
            self._sock.sendto(data, socket.MSG_DONTWAIT, target)
        except OSError:
            self._sent[kind, "failed"].inc()
        else:
            self._sent[kind, "sent"].inc()


def _bind(interface: Interface, ports: tuple[int, ...]) -> socket.socket:
    """Open a UDP socket on the first free of `ports`. Raises: ConfigError when none is free."""
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
    where = f"{interface.name} ({interface.address}), UDP {', '.join(map(str, ports))}"
    raise ConfigError(f"no boot port is free on {where}: {reason and reason.strerror}") from reason
