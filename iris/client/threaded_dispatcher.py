"""Call a service's handlers, with threads."""

import logging
import time
from typing import Any

from iris.client.dispatcher import Dispatcher, Request
from iris.client.errors import Closed
from iris.client.handlers import BaseHandler, fault_text
from iris.client.limits import ServiceLimits
from iris.client.node_connection import NodeConnection
from iris.client.tunnel import Tunnel
from iris.relay_protocol.client_packets import payload
from iris.runtime.worker_pool import WorkerPool

_log = logging.getLogger(__name__)


class ThreadedDispatcher(Dispatcher[Tunnel, WorkerPool[Any]]):
    """Calls the methods of a `Handler`."""

    def __init__(self, node: NodeConnection, handler: BaseHandler, limits: ServiceLimits) -> None:
        self._node = node
        super().__init__(node, handler, limits, time.monotonic)

    def answer(self, request: Request) -> None:
        """See `Dispatcher`."""
        if self.expired(request):
            return
        number = request[0]
        try:
            try:
                reply = payload(self._handler.handle_request(request[1]))
            except BaseException as exc:  # an exit too: the caller waits for an answer
                self._protocol.fail(number, fault_text(exc, self._name))
            else:
                self._protocol.reply(number, reply)
        except Closed:
            return  # the caller cannot be reached any more
        self._node.throttle()

    def serve_tunnel(self, tunnel: Tunnel) -> None:
        """See `Dispatcher`."""
        try:
            with tunnel:
                self._handler.handle_tunnel(tunnel)
        except Closed as exc:
            _log.info("%s: tunnel closed while in use: %s", self._name, exc)
        finally:
            self.tunnel_done()
