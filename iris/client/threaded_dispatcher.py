"""How a service's handlers are run, with threads. Shell around `intake.py`."""

import logging
import time
from typing import TYPE_CHECKING

from iris.client.dispatcher import Dispatcher, Request
from iris.client.errors import Closed
from iris.client.handlers import fault_text
from iris.client.limits import ServiceLimits
from iris.client.node_connection import NodeConnection
from iris.client.tunnel import Tunnel
from iris.relay_protocol.client_codec import payload

if TYPE_CHECKING:
    from iris.client.service import Handler

_log = logging.getLogger(__name__)


class ThreadedDispatcher(Dispatcher[Tunnel]):
    """Runs a service's handlers."""

    def __init__(
        self, attachment: NodeConnection, handler: "Handler", limits: ServiceLimits
    ) -> None:
        self._attachment, self._handler = attachment, handler
        new_pool, broadcast_memory = attachment.new_pool, limits.broadcast_memory
        super().__init__(
            attachment.core,
            limits,
            time.monotonic,
            name=attachment.name,
            broadcasts=new_pool(
                handler.handle_broadcast,
                threads=limits.broadcast_threads,
                memory=broadcast_memory,
                kind="broadcast",
            ),
            requests=new_pool(
                self._answer,
                threads=limits.request_threads,
                memory=limits.request_memory,
                kind="request",
            ),
            tunnels=new_pool(self._use, threads=limits.tunnel_threads, memory=0, kind="tunnel"),
        )

    def _answer(self, request: Request) -> None:
        if self.expired(request):
            return
        number = request[0]
        try:
            try:
                reply = payload(self._handler.handle_request(request[1]))
            except BaseException as exc:  # an exit too: somebody waits for the answer
                self._core.fail(number, fault_text(exc, self._name))
            else:
                self._core.reply(number, reply)
        except Closed:
            return  # nobody can be told any more
        self._attachment.hold_back()

    def _use(self, tunnel: Tunnel) -> None:
        try:
            with tunnel:
                self._handler.handle_tunnel(tunnel)
        except Closed as exc:
            _log.info("%s: a tunnel ended while it was used: %s", self._name, exc)
        finally:
            self.tunnel_done()
