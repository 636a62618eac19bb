"""The node put together.

Layers made bottom up, started so that applications are served at once, stopped so that nothing is
lost.

Answers to the second half of Go's main.go. Unlike there, nobody waits for the ring: the relay opens
first.
"""

import logging
import os
import random
import time
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from iris.config import Config
from iris.errors import IrisError
from iris.proto.iris.overlay import Overlay as Iris
from iris.proto.pastry.overlay import Overlay as Pastry
from iris.proto.scribe.overlay import Overlay as Scribe
from iris.proto.wire.message import Entropy
from iris.runtime.deadline import time_left
from iris.runtime.interfaces import Interface
from iris.runtime.system import CpuMeter
from iris.runtime.timer import Timer
from iris.service.relay.server import RelayServer

_log = logging.getLogger(__name__)

# of a stop's time goes to requests in hand at most; the rest is for taking leave
_DRAIN_SHARE = 0.5
_TUNNEL_SHARE = 0.3  # of what is left then goes to what tunnels hold


class Node:
    """One node of a network. `start` returns within a moment.

    `stop` takes as long as it is given, at most.
    """

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
        """Arguments: interfaces to join on.

        Rng for choices that needn't be secret, entropy for keys and ids.
        """
        self._config = config or Config()
        self._network, self._interfaces, self._clock = network, interfaces, clock
        rng = rng or random.Random()
        self._timer = Timer(clock)
        self._iris = Iris(
            config=self._config, timer=self._timer, rng=rng, entropy=entropy, clock=clock
        )
        self._scribe = Scribe(
            self._iris,
            config=self._config.scribe,
            limits=self._config.limits,
            timer=self._timer,
            rng=rng,
            cpu_usage=CpuMeter(),
        )
        self._pastry = Pastry(
            network,
            key,
            interfaces,
            self._scribe,
            config=self._config,
            timer=self._timer,
            rng=rng,
            entropy=entropy,
        )
        self._scribe.attach(self._pastry)
        self._iris.attach(self._scribe)
        self._relay = RelayServer(self._iris, config=self._config, timer=self._timer, clock=clock)

    @property
    def relay_port(self) -> int:
        """Where applications attach."""
        return self._relay.port

    def start(self) -> None:
        """Serve applications, and look for other nodes. Raises.

        ConfigError, having undone all, when a port can't be had.
        """
        self._timer.start()
        try:
            self._relay.start()
            _log.info("node %010x of network '%s'", self._pastry.node_id, self._network)
            _log.info("applications attach at 127.0.0.1:%d", self._relay.port)
            self._iris.start_tunnels(self._interfaces)
            _log.info(
                "tunnels of other nodes come in at %s",
                ", ".join(self._iris.tunnel_addresses) or "no address",
            )
            self._scribe.start()
            self._pastry.boot()
        except BaseException:
            self.stop(0.0)
            raise

    def stop(self, timeout: float) -> None:
        """Leave the clusters, finish requests in hand, close the applications, leave the ring.

        `timeout` seconds at most. Idempotent.
        """
        deadline = self._clock() + timeout

        def left() -> float:
            return time_left(deadline, self._clock)

        steps: tuple[Callable[[], None], ...] = (
            lambda: self._relay.close(timeout=timeout * _DRAIN_SHARE),
            lambda: self._iris.close(left() * _TUNNEL_SHARE),
            self._scribe.leave,
            lambda: self._pastry.close(left()),
            self._scribe.close,
            self._timer.close,
        )
        for step in steps:
            try:
                step()
            except IrisError as exc:  # the others are left all the same
                _log.warning("while stopping: %s", exc)
