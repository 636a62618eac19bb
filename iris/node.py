"""The node put together: layers made bottom up, started so that applications are served at once, stopped so that nothing is lost.

Answers to the second half of Go's main.go. Unlike there, nobody waits for the ring: the relay opens first.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from iris.config import Config
from iris.netif import Interface
from iris.proto.iris.overlay import Overlay as Iris
from iris.proto.message import Entropy
from iris.proto.pastry.overlay import Overlay as Pastry
from iris.proto.scribe.overlay import Overlay as Scribe
from iris.service.relay.relay import Relay
from iris.system import CpuMeter
from iris.timer import Timer

_log = logging.getLogger(__name__)

_DRAIN_SHARE = 0.6  # of a stop's time goes to requests in hand at most; the rest is for taking leave


class Node:
    """One node of a network. `start` returns within a moment; `stop` takes as long as it is given, at most."""

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
        """Arguments: interfaces to join on; rng for choices that needn't be secret, entropy for keys and ids."""
        self._config = config or Config()
        self._network, self._interfaces, self._clock = network, interfaces, clock
        rng = rng or random.Random()
        self._timer = Timer(clock)
        self._iris = Iris(config=self._config, timer=self._timer, rng=rng, entropy=entropy, clock=clock)
        self._scribe = Scribe(
            self._iris, config=self._config.scribe, limits=self._config.limits, timer=self._timer, rng=rng, cpu_usage=CpuMeter()
        )
        self._pastry = Pastry(network, key, interfaces, self._scribe, config=self._config, timer=self._timer, rng=rng, entropy=entropy)
        self._scribe.attach(self._pastry)
        self._iris.attach(self._scribe)
        self._relay = Relay(self._iris, config=self._config, timer=self._timer, clock=clock)
        self._watcher = threading.Thread(target=self._tell_convergence, name="convergence", daemon=True)
        self._stopping = False

    @property
    def relay_port(self) -> int:
        """Where applications attach."""
        return self._relay.port

    def start(self) -> None:
        """Serve applications, and look for other nodes. Raises: ConfigError, having undone all, when a port can't be had."""
        started = self._clock()
        self._timer.start()
        try:
            self._relay.start()
            self._iris.start_tunnels(self._interfaces)
            self._scribe.start()
            self._pastry.boot()
        except BaseException:
            self.stop(0.0)
            raise
        self._started = started
        _log.info("node %010x of network '%s'", self._pastry.node_id, self._network)
        _log.info("peers at %s, tunnels at %s", ", ".join(self._pastry.addresses), ", ".join(self._iris.tunnel_addresses))
        _log.info("applications attach at 127.0.0.1:%d", self._relay.port)
        self._watcher.start()

    def _tell_convergence(self) -> None:
        if self._pastry.wait_converged(None) and not self._stopping:
            _log.info("converged with %d peers after %.1f s", len(self._pastry.peers()), self._clock() - self._started)

    def stop(self, timeout: float) -> None:
        """Leave the clusters, finish requests in hand, close the applications, leave the ring: `timeout` seconds at most. Idempotent."""
        self._stopping = True
        deadline = self._clock() + timeout
        self._relay.close(timeout=timeout * _DRAIN_SHARE)
        self._iris.close(max(0.0, (deadline - self._clock()) * _DRAIN_SHARE))
        self._scribe.leave()
        self._pastry.close()
        self._scribe.close()
        self._timer.close()
