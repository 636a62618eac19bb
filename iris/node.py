"""The node put together: the only place that chooses implementations.

Counterpart of the second half of Go's main.go. Layers are made bottom up, started so that
applications are served at once (unlike there, the relay doesn't wait for the ring), and stopped so
that no request is lost.
"""

import logging
import os
import random
import time
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from iris.config import Config
from iris.errors import IrisError
from iris.metrics import Metrics
from iris.proto.bootstrap.base import Source
from iris.proto.bootstrap.subnet import SubnetSearch
from iris.proto.iris.overlay import Overlay as Iris
from iris.proto.pastry.overlay import Overlay as Pastry
from iris.proto.scribe.overlay import Overlay as Scribe
from iris.proto.session.base import LinkFactory, Suite
from iris.proto.session.classic import ClassicSuite
from iris.proto.session.handshakes import HandshakeReporter, SessionListener, dial
from iris.proto.session.session import Session
from iris.proto.wire.message import Entropy
from iris.proto.wire.node_id import NodeId
from iris.runtime.deadline import time_left
from iris.runtime.interfaces import Interface
from iris.runtime.system import CpuMeter
from iris.runtime.timer import Timer
from iris.service.relay.server import RelayServer

_log = logging.getLogger(__name__)

# of a stop's time, for requests in flight at most; the rest is for leaving
_DRAIN_SHARE = 0.5
_TUNNEL_SHARE = 0.3  # of what is left then goes to what tunnels hold


class Node:
    """One node of a network."""

    def __init__(
        self,
        network: str,
        key: RSAPrivateKey,
        interfaces: Sequence[Interface],
        *,
        config: Config | None = None,
        rng: random.Random | None = None,
        entropy: Entropy = os.urandom,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make all layers; nothing happens before `start`.

        Args:
            interfaces: to join on.
            rng, entropy: for choices that needn't be secret; for keys and ids.
        """
        self._config = config = config or Config()
        self._network, self._interfaces, self._clock = network, interfaces, clock
        self._rng, self._entropy = rng or random.Random(), entropy
        self.metrics = metrics = Metrics()
        self._timer = timer = Timer(clock)
        links = LinkFactory(
            config=config.session, limits=config.limits, metrics=metrics, clock=clock
        )
        suite = ClassicSuite(key, links, entropy=entropy)
        self._iris = Iris(
            config=config,
            timer=timer,
            suite=suite,
            rng=self._rng,
            entropy=entropy,
            clock=clock,
            metrics=metrics,
        )
        self._scribe = Scribe(
            self._iris,
            config=config.scribe,
            limits=config.limits,
            timer=timer,
            rng=self._rng,
            cpu_usage=CpuMeter(),
            metrics=metrics,
        )
        self._pastry = self._make_ring(suite)
        self._scribe.attach(self._pastry)
        self._iris.attach(self._scribe)
        self._relay = RelayServer(
            self._iris, config=config, timer=timer, clock=clock, metrics=metrics
        )

    def _make_ring(self, suite: Suite) -> Pastry:
        """Make the ring, with a suite for its sessions and what finds other nodes."""
        config, metrics = self._config, self.metrics
        handshakes = HandshakeReporter(self._network, metrics, self._clock)

        def listen(interface: Interface, on_session: Callable[[Session], None]) -> SessionListener:
            address, limit = (str(interface.address), 0), config.limits.peer_handshakes
            return SessionListener(address, suite, on_session, handshakes, max_handshakes=limit)

        def search_subnet(interface: Interface, node_id: NodeId, port: int) -> Source:
            return SubnetSearch(
                interface,
                self._network,
                node_id,
                port,
                config=config.bootstrap,
                rng=self._rng,
                metrics=metrics,
            )

        return Pastry(
            self._interfaces,
            self._scribe,
            listen=listen,
            connect=lambda address: dial(address, suite, handshakes),
            searches=[search_subnet],  # discovery: a source for every interface
            sources=[],  # and those of the whole node
            config=config,
            timer=self._timer,
            metrics=metrics,
            entropy=self._entropy,
        )

    @property
    def relay_port(self) -> int:
        """Where applications attach."""
        return self._relay.port

    def start(self) -> None:
        """Serve applications, and look for other nodes.

        Raises: ConfigError, with everything stopped again, when a port isn't available.
        """
        self._timer.start()
        try:
            self._relay.start()
            _log.info("node %010x of network '%s'", self._pastry.node_id, self._network)
            _log.info("applications attach at 127.0.0.1:%d", self._relay.port)
            self._iris.start_tunnels(self._interfaces)
            addresses = ", ".join(self._iris.tunnel_addresses) or "no address"
            _log.info("accepting tunnels on %s", addresses)
            self._scribe.start()
            self._pastry.boot()
        except BaseException:
            self.stop(0.0)
            raise

    def stop(self, timeout: float) -> None:
        """Leave the clusters, finish requests in flight, close the applications, leave the ring.

        Takes `timeout` seconds at most. Idempotent.
        """
        deadline = self._clock() + timeout
        steps: tuple[Callable[[], None], ...] = (
            lambda: self._relay.close(timeout=timeout * _DRAIN_SHARE),
            lambda: self._iris.close(time_left(deadline, self._clock) * _TUNNEL_SHARE),
            self._scribe.leave,
            lambda: self._pastry.close(time_left(deadline, self._clock)),
            self._scribe.close,
            self._timer.close,
        )
        for step in steps:
            try:
                step()
            except IrisError as exc:  # the next steps are taken all the same
                _log.warning("shutting down: %s", exc)
