"""What the services of both faces have in common: decorators, what is handed to which pool, and what a caller is told. Core."""

import logging
import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from iris.client.errors import Fault
from iris.client.limits import ServiceLimits
from iris.client.protocol import Core, T

F = TypeVar("F", bound=Callable[..., object])
Request = tuple[int, bytes, float]  # its number, what is asked, and when it expires

_log = logging.getLogger(__name__)


class Decorators:
    """Lets functions take the place of an instance's methods."""

    def on_init(self, function: F) -> F:
        """Decorate what is called with the connection, before anything is handled."""
        return self._set("init", function)

    def on_broadcast(self, function: F) -> F:
        """Decorate what takes broadcasts."""
        return self._set("handle_broadcast", function)

    def on_request(self, function: F) -> F:
        """Decorate what answers requests."""
        return self._set("handle_request", function)

    def on_tunnel(self, function: F) -> F:
        """Decorate what uses tunnels."""
        return self._set("handle_tunnel", function)

    def on_drop(self, function: F) -> F:
        """Decorate what learns that the node is lost."""
        return self._set("handle_drop", function)

    def _set(self, name: str, function: F) -> F:
        setattr(self, name, function)
        return function


def fault_text(error: BaseException, service: str) -> str:
    """What the caller is told of a request that failed; what wasn't meant as an answer is logged, too. Never empty."""
    if isinstance(error, Fault):
        return str(error) or "failed"
    _log.error("%s: the handler of a request failed", service, exc_info=error)
    return f"{type(error).__name__}: {error}"


class Pool(Protocol):
    """A face's pool."""

    def start(self) -> None:
        """Begin with what waits."""

    def submit(self, item: Any, size: int) -> bool:
        """Have an item worked on; False when there is no memory for it."""


class Intake(Generic[T]):
    """Hands what comes for a service to its pools, or drops it: `protocol.Intake`."""

    def __init__(
        self,
        core: Core[T],
        limits: ServiceLimits,
        clock: Callable[[], float],
        *,
        name: str,
        broadcasts: Pool,
        requests: Pool,
        tunnels: Pool,
    ) -> None:
        """The pools get messages, `Request`s and accepted tunnels; each of the latter is followed by a call of `tunnel_done`."""
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
            _log.error("%s: a tunnel isn't accepted, %d are in use", self._name, self._limits.tunnel_threads)

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
        _log.error("%s: a %s is dropped: those that wait may take %d bytes", self._name, kind, memory)
