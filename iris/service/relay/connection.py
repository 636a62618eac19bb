"""The socket and the reading thread of one attached application. Shell.

Counterpart of the connection half of Go's service/relay/relay.go and of process() in proto.go.
`session.py` is the core that decides.

The thread carries each packet all the way to where it leaves the node. After the last packet to the
application it only waits for it to hang up, a while at most: closing with something unread would
discard what the application hasn't read yet.
"""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from functools import partial

from iris.errors import LimitReached, ProtocolError
from iris.proto.iris.base import Handler
from iris.proto.iris.connection import Connection
from iris.relay_protocol.parser import Parser
from iris.relay_protocol.schema import DEFAULT, Op, Side
from iris.runtime.batch import BATCH, Batch, Flushable
from iris.runtime.deadline import time_left
from iris.runtime.reader import SocketReader
from iris.runtime.send_buffer import SendBuffer
from iris.runtime.tcp import shut_down
from iris.runtime.thread_cache import ThreadCache
from iris.service.relay.base import Denied, Shared
from iris.service.relay.session import ClientSession

# seconds that an application isn't read from at a time, while peers read too little of its messages
_THROTTLE_TIMEOUT = 0.5

_log = logging.getLogger(__name__)


class ClientSendBuffer(SendBuffer):
    """Leads to an application on this host; any other one leads to a peer."""


class ClientConnection:
    """Owns a socket and the thread `relay-N`; reports its end through on_gone.

    Its maker closes it with `session.end`, `join` and `cut`.
    """

    def __init__(
        self,
        number: int,
        sock: socket.socket,
        shared: Shared,
        *,
        threads: ThreadCache,
        connect: Callable[["ClientConnection", str, Handler], Connection],
        on_gone: Callable[["ClientConnection"], None],
    ) -> None:
        """Take over a connected, blocking socket.

        connect raises Denied, or another IrisError, when the application can't attach.
        """
        self._sock, self._shared, self._threads = sock, shared, threads
        self._connect, self._on_gone = connect, on_gone
        config, self._timer, self._clock = shared.config, shared.timer, shared.clock
        self._config = config.relay
        # Tunnels throttle themselves: a stalled one may fill its window without keeping other
        # messages of its application waiting.
        self._high_water = max(
            config.limits.peer_high_water,
            config.relay.tunnel_buffer + 2 * config.iris.tunnel_window,
        )
        self._parser = Parser(Side.CLIENT, config.limits, config.relay)
        self._name = f"relay-{number}"
        self._send_buffer = ClientSendBuffer(
            sock, name=self._name, limit=config.limits.client_send_buffer, corked=True
        )
        self.session = ClientSession(
            number, self._send_buffer, shared, connect=self._attach, on_end=self._ended
        )
        self._deadline = self._timer.after(self._config.init_timeout, self._expire)
        self._done = threading.Event()

    def start(self) -> None:
        """Start reading. Raises: RuntimeError when the system has no thread left."""
        self._threads.run(self._name, self._run)

    def refuse(self, reason: str) -> None:
        """Deny and close, instead of `start`."""
        self._deny(reason)
        self._timer.cancel(self._deadline)
        self._sock.close()
        self.session.release()
        self._done.set()

    def deny(self, reason: str) -> None:
        """Deny and hang up, before an init packet has come: after `start`."""
        self._deny(reason)
        self.cut()

    def join(self, timeout: float) -> bool:
        """Wait for its thread to be done with it; False after `timeout` seconds."""
        return self._done.wait(timeout)

    def cut(self) -> None:
        """Hang up, whatever isn't sent or read yet."""
        shut_down(self._sock)  # wakes a blocked recv()

    def _expire(self) -> None:
        _log.debug("%s: no init packet within %g s", self.session.label, self._config.init_timeout)
        self.session.end(None)
        self.cut()

    def _attach(self, cluster: str, handler: Handler) -> Connection:
        self._timer.cancel(self._deadline)
        return self._connect(self, cluster, handler)

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            self._done.set()

    def _serve(self) -> None:
        session = self.session
        while True:
            try:
                self._read()
                break
            except OSError:
                break  # it is gone, without hanging up gracefully
            except Denied as denied:  # a name of its own: mypyc gives one name one class
                self._deny(str(denied))
            except ProtocolError as violation:
                session.end(str(violation), "protocol violation")
            except LimitReached as limit:
                session.end(str(limit), "limit reached")
            except Exception:
                # our bug; the node still counts
                _log.exception("%s: failed to carry out a packet; closing it", session.label)
                session.end("internal error", "internal error")
        session.end(None)
        self._send_buffer.close(self._config.drain_timeout)
        self._timer.cancel(self._deadline)
        self._sock.close()
        self._on_gone(self)
        self.session.release()

    def _read(self) -> None:
        """Read until EOF; keep no input buffer between reads."""
        session, recv = self.session, SocketReader(self._sock).recv
        while data := recv():
            if not session.ended:
                self._carry_out(data)
            del data

    def _carry_out(self, data: bytes) -> None:
        packets, handlers = self._parser.feed(data), self.session.handlers
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
                self._throttle(congested)

    def _throttle(self, congested: Iterable[Flushable]) -> None:
        """Wait for peers that read too little of its messages, a while for all of them together.

        A slow application delays nothing but itself.
        """
        deadline = self._clock() + _THROTTLE_TIMEOUT
        for buffer in congested:
            if not isinstance(buffer, ClientSendBuffer):
                buffer.wait_below(self._high_water, time_left(deadline, self._clock))

    def _deny(self, reason: str) -> None:
        _log.debug("%s denied: %s", self.session.label, reason)
        with contextlib.suppress(OSError):  # it is gone
            # the first bytes; they fit
            self._sock.send(DEFAULT.node(Op.DENY, reason=reason), socket.MSG_DONTWAIT)
        self._send_buffer.close()  # nothing in it was meant to be sent
        self.session.end(None, "denied")

    def _ended(self) -> None:
        """Send the last packet, then wait for the application to hang up, a while at most."""
        self._timer.cancel(self._deadline)
        self._deadline = self._timer.after(self._config.drain_timeout, self.cut)
        self._send_buffer.on_drained_to(0, partial(shut_down, self._sock, socket.SHUT_WR))
