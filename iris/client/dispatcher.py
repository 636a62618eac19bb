"""What comes for a service, and to which pool it is handed, in both APIs. Core.

Its clock is an argument.

Answers to the dispatching half of iris-go's events.go.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol

from iris.client.limits import ServiceLimits
from iris.client.protocol import ClientProtocol, T
from iris.runtime.compiling import mypyc_attr

Request = tuple[int, bytes, float]  # its number, what is asked, and when it expires

_log = logging.getLogger(__name__)


class Pool(Protocol):
    """A face's pool."""

    def start(self) -> None:
        """Begin with what waits."""

    def submit(self, item: Any, size: int) -> bool:
        """Have an item worked on; False when there is no memory for it."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Dispatcher(Generic[T]):
    """Hands what comes for a service to its pools, or drops it: `protocol.Dispatcher`."""

    def __init__(
        self,
        core: ClientProtocol[T],
        limits: ServiceLimits,
        clock: Callable[[], float],
        *,
        name: str,
        broadcasts: Pool,
        requests: Pool,
        tunnels: Pool,
    ) -> None:
        """The pools get messages, `Request`s and accepted tunnels.

        Each of the latter is followed by a call of `tunnel_done`.
        """
        self._core, self._limits, self._clock, self._name = core, limits, clock, name
        self._broadcasts, self._requests, self._tunnels = broadcasts, requests, tunnels
        self._lock = threading.Lock()  # guards _open_tunnels
        self._open_tunnels = 0

    def start(self) -> None:
        """Begin to handle what has come."""
        for pool in (self._broadcasts, self._requests, self._tunnels):
            pool.start()

    def handle_broadcast(self, message: bytes) -> None:
        """A message to the cluster came."""
        if not self._broadcasts.submit(message, len(message)):
            self._dropped("broadcast", self._limits.broadcast_memory)

    def handle_request(self, number: int, request: bytes, timeout: float) -> None:
        """A request to the cluster came."""
        if not self._requests.submit((number, request, self._clock() + timeout), len(request)):
            self._dropped("request", self._limits.request_memory)

    def handle_offer(self, build_id: int, chunk_limit: int) -> None:
        """Somebody wants a tunnel; who isn't accepted hears nothing until the time is over."""
        with self._lock:
            accepted = self._open_tunnels < self._limits.tunnel_threads
            self._open_tunnels += accepted
        if accepted:
            self._tunnels.submit(self._core.accept(build_id, chunk_limit), 0)
        else:
            _log.error(
                "%s: a tunnel isn't accepted, %d are in use",
                self._name,
                self._limits.tunnel_threads,
            )

    def tunnel_done(self) -> None:
        """A tunnel isn't used any more."""
        with self._lock:
            self._open_tunnels -= 1

    def expired(self, request: Request) -> bool:
        """Whether it is too late to answer."""
        late = self._clock() - request[2]
        if late >= 0:
            _log.error("%s: a request expired %.3f s before its turn came", self._name, late)
        return late >= 0

    def _dropped(self, kind: str, memory: int) -> None:
        _log.error(
            "%s: a %s is dropped: those that wait may take %d bytes", self._name, kind, memory
        )
