"""The socket and the reading thread of one attached application. Shell.

Answers to the connection half of Go's service/relay/relay.go and to process() in proto.go.
`client.py` is the core that decides.

The thread carries each packet all the way to where it leaves the node. After the last packet to the
application it only waits for it to hang up, a while at most: closing with something unread would
throw away what the application hasn't read yet.
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable

from iris.config import Config
from iris.errors import LimitReached, ProtocolError
from iris.proto.iris.base import Handler
from iris.proto.iris.connection import Connection
from iris.relay_protocol.parser import Parser
from iris.relay_protocol.schema import DEFAULT, Op, Side
from iris.runtime.batch import BATCH, Batch, Flushable
from iris.runtime.reader import SocketReader
from iris.runtime.send_buffer import SendBuffer
from iris.runtime.thread_cache import ThreadCache
from iris.runtime.timer import Timer
from iris.service.relay.counters import Counters
from iris.service.relay.session import ClientSession, Denied

# seconds that a client waits for a peer that takes too little, before more is read from it
_PATIENCE = 0.5

_log = logging.getLogger(__name__)


class ClientSendBuffer(SendBuffer):
    """Leads to an application on this host; any other one leads to a peer."""


class ClientConnection:
    """Owns a socket and the thread `relay-N`; reports its end through on_gone.

    `close` of its maker is `client.end`, `join` and `cut`.
    """

    def __init__(
        self,
        number: int,
        sock: socket.socket,
        *,
        spares: ThreadCache,
        connect: Callable[["ClientConnection", str, Handler], Connection],
        on_gone: Callable[["ClientConnection"], None],
        config: Config,
        timer: Timer,
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over a connected, blocking socket.

        connect raises Denied, or another IrisError, when the application can't be attached.
        """
        self._sock, self._on_gone, self._counters, self._timer = sock, on_gone, counters, timer
        self._spares, self._connect, self._clock = spares, connect, clock
        self._drain_timeout = config.relay.drain_timeout
        # Tunnels throttle themselves: one that stalls with all of its allowance on the way keeps
        # nothing else of its client waiting.
        self._high_water = max(
            config.limits.peer_high_water,
            config.relay.tunnel_buffer + 2 * config.iris.tunnel_window,
        )
        self._parser = Parser(Side.CLIENT, config.limits, config.relay)
        self._name = f"relay-{number}"
        self._send_buffer = ClientSendBuffer(
            sock, name=self._name, limit=config.limits.client_send_buffer, corked=True
        )
        self.client = ClientSession(
            number,
            self._send_buffer,
            connect=self._attach,
            on_end=self._ended,
            config=config,
            timer=timer,
            counters=counters,
            clock=clock,
        )
        self._deadline = timer.after(config.relay.init_timeout, self._expire)
        self._over = threading.Event()  # all is done

    def start(self) -> None:
        """Start reading. Raises: RuntimeError when the system has no thread left."""
        self._spares.run(self._name, self._run)

    def refuse(self, reason: str) -> None:
        """Deny, and hang up at once: instead of `start`."""
        self._deny(reason)
        self._timer.cancel(self._deadline)
        self._sock.close()
        self.client.release()
        self._over.set()

    def join(self, timeout: float) -> bool:
        """Wait for its thread to be done with it; False when that takes longer."""
        return self._over.wait(timeout)

    def cut(self) -> None:
        """Hang up, whatever isn't sent or read yet."""
        with contextlib.suppress(OSError):  # it is gone
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes a blocked recv()

    def turn_away(self, reason: str) -> None:
        """Deny who hasn't said yet what it is, and hang up at once: after `start`."""
        self._deny(reason)
        self.cut()

    def _expire(self) -> None:
        self._counters.add("refused")
        _log.debug("client %d didn't say in time what it is", self.client.number)
        self.client.end(None)
        self.cut()

    def _attach(self, cluster: str, handler: Handler) -> Connection:
        self._timer.cancel(self._deadline)
        return self._connect(self, cluster, handler)

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            self._over.set()

    def _serve(self) -> None:
        client = self.client
        while True:
            try:
                self._read()
                break
            except OSError:
                break  # it is gone, without the courtesy of hanging up
            except Denied as denied:  # a name of its own: mypyc gives one name one class
                self._deny(str(denied))
            except (ProtocolError, LimitReached) as exc:
                # whoever isn't attached may be a port scan: nobody's concern
                _log.log(
                    logging.WARNING if client.attached else logging.DEBUG,
                    "client %d broke the rules: %s",
                    client.number,
                    exc,
                )
                self._counters.add("violations")
                client.end(str(exc))
            except Exception:
                # our bug; the node still counts
                _log.exception("client %d: a packet couldn't be carried out", client.number)
                client.end("the node failed")
        client.end(None)
        self._send_buffer.close(self._drain_timeout)
        self._timer.cancel(self._deadline)
        self._sock.close()
        self._on_gone(self)
        self.client.release()

    def _read(self) -> None:
        """Read until the application hangs up. Whoever is idle holds on to nothing of what it said."""
        client, recv = self.client, SocketReader(self._sock).recv
        while data := recv():
            if not client.ended:
                self._carry_out(data)
            del data

    def _carry_out(self, data: bytes) -> None:
        packets, handlers = self._parser.feed(data), self.client.handlers
        for op, fields in packets:
            with Batch() as batch:
                handlers[op](*fields)
                carried = 1
                for op, fields in packets:
                    handlers[op](*fields)
                    carried += 1
                    if carried % BATCH == 0 and batch.full(carried):
                        break
                congested = batch.congested(self._high_water)
            if congested:
                self._wait(congested)

    def _wait(self, congested: Iterable[Flushable]) -> None:
        """Read no more while peers have too much of this client's, a while for all of them.

        A slow application is its own concern.
        """
        until = self._clock() + _PATIENCE
        for buffer in congested:
            if not isinstance(buffer, ClientSendBuffer):
                buffer.wait_below(self._high_water, max(0.0, until - self._clock()))

    def _deny(self, reason: str) -> None:
        self._counters.add("refused")
        _log.debug("client %d is denied: %s", self.client.number, reason)
        with contextlib.suppress(OSError):  # it is gone
            # the first bytes; they fit
            self._sock.send(DEFAULT.node(Op.DENY, reason=reason), socket.MSG_DONTWAIT)
        self._send_buffer.close()  # nothing in it was meant to be sent
        self.client.end(None)

    def _ended(self) -> None:
        """The last packet has been written.

        Send it, and then wait for the application to hang up, a while at most.
        """
        self._timer.cancel(self._deadline)
        self._deadline = self._timer.after(self._drain_timeout, self.cut)
        self._send_buffer.on_drained_to(0, self._hang_up)

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):  # it is gone
            self._sock.shutdown(socket.SHUT_WR)
