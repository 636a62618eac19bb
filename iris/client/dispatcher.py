"""Submit what arrives for a service to the pools of its handlers, in both APIs. Core.

The clock is an argument. Counterpart of the dispatching half of iris-go's events.go.
"""

import threading
from collections.abc import Callable
from typing import Any, Generic

from iris.client.base_node_connection import QUEUE_FULL, BaseNodeConnection, P
from iris.client.handlers import BaseHandler
from iris.client.limits import ServiceLimits
from iris.client.protocol import T
from iris.runtime.compiling import mypyc_attr

Request = tuple[int, bytes, float]  # its number, its payload, and when it expires


@mypyc_attr(allow_interpreted_subclasses=True)
class Dispatcher(Generic[T, P]):
    """Submits to pools what arrives for a service, or drops it: a `protocol.Dispatcher`."""

    def __init__(
        self,
        node: BaseNodeConnection[T, P],
        handler: BaseHandler,
        limits: ServiceLimits,
        clock: Callable[[], float],
    ) -> None:
        """Queue what arrives, and do nothing before `start`. The clock gives seconds."""
        self._name, self._protocol, self._log_dropped = node.name, node.protocol, node.log_dropped
        self._handler, self._limits, self._clock = handler, limits, clock
        threads, memory = limits.broadcast_threads, limits.broadcast_memory
        self._broadcasts = node.new_pool("broadcast", handler.handle_broadcast, threads, memory)
        threads, memory = limits.request_threads, limits.request_memory
        self._requests = node.new_pool("request", self.answer, threads, memory)
        self._tunnels = node.new_pool("tunnel", self.serve_tunnel, limits.tunnel_threads, 0)
        self._lock = threading.Lock()  # guards _open_tunnels
        self._open_tunnels = 0

    def answer(self, request: Request) -> Any:
        """Call the handler of a request, and send its reply or failure."""
        raise NotImplementedError

    def serve_tunnel(self, tunnel: T) -> Any:
        """Call the handler of an accepted tunnel, then `tunnel_done`."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin to call handlers."""
        self._broadcasts.start()
        self._requests.start()
        self._tunnels.start()

    def handle_broadcast(self, message: bytes) -> None:
        """Queue a broadcast."""
        if not self._broadcasts.submit(message, len(message)):
            self._log_dropped("broadcast", QUEUE_FULL, self._limits.broadcast_memory)

    def handle_request(self, number: int, request: bytes, timeout: float) -> None:
        """Queue a request, which expires after `timeout` seconds."""
        if not self._requests.submit((number, request, self._clock() + timeout), len(request)):
            self._log_dropped("request", QUEUE_FULL, self._limits.request_memory)

    def handle_tunnel_offer(self, build_id: int, chunk_limit: int) -> None:
        """Accept a tunnel; the caller times out when too many are open already."""
        with self._lock:
            accepted = self._open_tunnels < self._limits.tunnel_threads
            self._open_tunnels += accepted
        if accepted:
            tunnel = self._protocol.accept(build_id, chunk_limit)
            if not self._tunnels.submit(tunnel, 0):  # the system has no thread left
                self.tunnel_done()
                self._protocol.abandon(tunnel)
        else:
            limit = self._limits.tunnel_threads
            self._log_dropped("tunnel offer", "limit of %d open tunnels reached", limit)

    def tunnel_done(self) -> None:
        """Make room for another tunnel."""
        with self._lock:
            self._open_tunnels -= 1

    def expired(self, request: Request) -> bool:
        """Whether it is too late to answer a request; log it then."""
        if (late := self._clock() - request[2]) < 0:
            return False
        self._log_dropped("request", "expired %.3f s ago in the queue", late)
        return True
