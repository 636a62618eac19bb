"""What an attached application may do, and what is delivered to it. Core.

No socket and no thread of its own. Counterpart of Go's service/relay/events.go and the rest of
relay.go; `connection.py` is the shell around it, `client_tunnels.py` has the tunnels.

The application's packets come from one thread, the Iris layer's deliveries from any. Tables are
plain dicts: the thread that takes an entry out, with `pop`, deals with it. Nothing can follow the
last packet, a close with its reason, because the send buffer refuses it.

Lock order: a lock here is held across no call; tunnel -> send buffer.
"""

import itertools
import logging
import threading
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import Any, Final

from iris.errors import IrisError, LimitReached, ProtocolError, StateError
from iris.proto.iris.base import Delivery, Handler
from iris.proto.iris.connection import Connection
from iris.proto.iris.requests import Call, Fault, Outcome, Reply
from iris.proto.iris.tunnel import TunnelOffer
from iris.relay_protocol import node_packets as packets
from iris.relay_protocol.schema import DEFAULT, VERSION, Op
from iris.relay_protocol.varint import varint
from iris.runtime.compiling import with_cause
from iris.runtime.send_buffer import SendBuffer
from iris.runtime.timer import TimerEntry
from iris.service.relay.base import Denied, Shared
from iris.service.relay.client_tunnels import ClientTunnels
from iris.service.relay.writer import SLOW_CONSUMER, ClientWriter

_log = logging.getLogger(__name__)

_INIT_PACKET: Final = DEFAULT.node(Op.INIT, version=VERSION)
_FAULTS: Final = ("protocol violation", "limit reached", "slow consumer")  # the application's


def _nothing() -> None:
    """Replace the callbacks of a released session."""


def _no_network(cluster: str, handler: Handler) -> Connection:
    """Replace the network of a released session."""
    raise Denied("connection closed")


class State(Enum):
    """Of an application's session."""

    GREETING = auto()  # its init packet hasn't come
    ATTACHED = auto()
    DRAINING = auto()  # it has left its cluster, and finishes its requests in flight
    ENDED = auto()


STEPS = {
    (State.GREETING, "attach"): State.ATTACHED,
    (State.ATTACHED, "drain"): State.DRAINING,
    (State.GREETING, "end"): State.ENDED,
    (State.ATTACHED, "end"): State.ENDED,
    (State.DRAINING, "end"): State.ENDED,
}


class _PendingCall:
    """A request that the application hasn't answered."""

    __slots__ = ("call", "deadline")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.deadline: TimerEntry | None = None


class ClientSession:
    """The state of one application; the Iris layer's `Handler` for it.

    `handlers[op](*fields)` carries out one of its packets. Raises: ProtocolError, LimitReached;
    Denied for its init.
    """

    def __init__(
        self,
        number: int,
        send_buffer: SendBuffer,
        shared: Shared,
        *,
        connect: Callable[[str, Handler], Connection],
        on_end: Callable[[], None],
    ) -> None:
        """Wait for an init packet, on a send buffer that is corked.

        on_end is called once, when the last packet has been written.
        """
        self.number, self._send_buffer, self._shared = number, send_buffer, shared
        self._connect, self._on_end = connect, on_end
        self._timer, self._metrics = shared.timer, shared.metrics
        self._writer = ClientWriter(
            number, send_buffer, shared, partial(self.end, SLOW_CONSUMER, "slow consumer")
        )
        self._tunnels = ClientTunnels(self._writer, shared)
        self.state = State.GREETING
        self._lock = threading.Lock()  # guards state, _on_idle and _drains_requests
        self._on_idle: list[Callable[[], None]] = []
        self._connection: Connection | None = None
        self._call_numbers = itertools.count()
        self._drains_requests = False  # a drain waits for the replies to its own requests, too
        self._calls: dict[int, _PendingCall] = {}
        self._close_received = False
        self.handlers: list[Callable[..., None]] = [self._init] * len(Op)

    def _step(self, event: str) -> None:
        assert self._lock.locked()
        state = STEPS.get((self.state, event))
        if state is None:
            raise StateError(f"cannot {event} a session that is {self.state.name}")
        self.state = state

    @property
    def ended(self) -> bool:
        """Whether further packets of the application are to be ignored."""
        return self.state is State.ENDED

    @property
    def label(self) -> str:
        """What log lines call it: its number, and its cluster."""
        return self._writer.label

    def _init(self, version: str, cluster: str) -> None:
        if version != VERSION:
            raise Denied(f"Unsupported protocol. Client: {version}. Iris: {VERSION}.")
        try:
            connection = self._connect(cluster, self)
        except Denied:
            raise
        except IrisError as exc:
            raise with_cause(Denied(str(exc)), exc) from exc
        tunnels = self._tunnels
        handlers: dict[Op, Callable[..., None]] = {
            Op.CLOSE: self._close,
            Op.BROADCAST: connection.broadcast,
            Op.REQUEST: self._request,
            Op.REPLY: self._reply,
            Op.SUBSCRIBE: partial(self._topic, connection.subscribe),
            Op.UNSUBSCRIBE: partial(self._topic, connection.unsubscribe),
            Op.PUBLISH: connection.publish,
            Op.TUNNEL_INIT: partial(tunnels.init, connection),
            Op.TUNNEL_CONFIRM: tunnels.confirm,
            Op.TUNNEL_ALLOW: tunnels.allow,
            Op.TUNNEL_TRANSFER: tunnels.transfer,
            Op.TUNNEL_CLOSE: tunnels.close,
        }
        for op, handler in handlers.items():
            self.handlers[op] = handler
        with self._lock:
            ended = self.ended
            if not ended:
                self._step("attach")
                self._connection = connection
        if ended:  # meanwhile
            connection.close()
            return
        if cluster:
            self._writer.label = f"client {self.number} ({cluster!r})"
        self._metrics.clients.inc()
        self._metrics.clients_attached["accepted"].inc()
        _log.debug("%s attached", self.label)
        self._send_buffer.uncork(_INIT_PACKET)

    # The application's packets

    def _request(self, number: int, cluster: str, data: bytes, timeout: int) -> None:
        assert self._connection is not None
        try:
            self._connection.request(cluster, data, timeout / 1_000, partial(self._answer, number))
        except LimitReached as exc:
            self._metrics.rejected["request"].inc()
            self._writer.send(packets.fault(number, str(exc)))

    def _answer(self, number: int, outcome: Outcome) -> None:
        writer = self._writer
        if isinstance(outcome, Reply):
            writer.reply(number, outcome.data)
        elif isinstance(outcome, Fault):
            writer.send(packets.fault(number, outcome.text))
        else:
            writer.send(packets.timed_out(number))
        if self.state is State.DRAINING:
            self._notify_if_drained()

    def _reply(self, number: int, success: bool, result: Any) -> None:
        entry = self._calls.pop(number, None)
        if entry is None:
            return  # too late, or a second one
        if entry.deadline is not None:
            self._timer.cancel(entry.deadline)
        if success:
            entry.call.reply(result)
        else:
            entry.call.fail(result)
        if self.state is State.DRAINING:
            self._notify_if_drained()

    def _topic(self, change: Callable[[str], None], topic: str) -> None:
        try:
            change(topic)
        # the application's fault; the protocol can tell it only with a close
        except StateError as exc:
            raise with_cause(ProtocolError(f"topic: {exc}"), exc) from exc

    def _close(self) -> None:
        self._close_received = True
        self.drain(partial(self.end, "", "left"))
        if not self.ended:
            self._timer.after(
                self._shared.config.relay.drain_timeout, partial(self.end, "", "left")
            )

    # The Iris layer's deliveries

    def handle_broadcast(self, message: Delivery) -> None:
        """See `Handler`."""
        packet = message.encoded
        if packet is None:
            packet = message.encoded = packets.broadcast(message.data)
        self._writer.write_droppable(packet, len(message.data), "broadcast")

    def handle_event(self, topic: str, event: Delivery) -> None:
        """See `Handler`."""
        packet = event.encoded
        if packet is None:
            packet = event.encoded = packets.publish(topic, event.data)
        self._writer.write_droppable(packet, len(event.data), "event")

    def handle_request(self, call: Call) -> None:
        """See `Handler`."""
        number, data = next(self._call_numbers), call.data
        if self._writer.reject_if_full(len(data), "request"):
            call.fail("service overloaded")
            return
        call.data = b""  # the send buffer has it, and drops it long before the answer comes
        entry = self._calls[number] = _PendingCall(call)
        entry.deadline = self._timer.after(call.timeout, partial(self._expire, number))
        self._writer.write(
            (packets.request(number, len(data)), data, varint(round(call.timeout * 1_000)))
        )

    def _expire(self, number: int) -> None:
        entry = self._calls.pop(number, None)
        if entry is not None:
            entry.call.drop()  # its caller times out by itself
            self._notify_if_drained()

    def handle_tunnel(self, offer: TunnelOffer) -> None:
        """See `Handler`."""
        self._tunnels.offer(offer)

    # The end

    def drain(self, on_idle: Callable[[], None], *, requests: bool = False) -> None:
        """Take no new requests.

        Args:
            on_idle: called once no request is in flight, by any thread, maybe before this returns.
            requests: wait for the replies to the application's own requests as well.
        """
        with self._lock:
            self._on_idle.append(on_idle)
            self._drains_requests = self._drains_requests or requests
            leaving = self.state is State.ATTACHED
            if leaving:
                self._step("drain")
        if leaving:
            assert self._connection is not None
            self._connection.leave()
        self._notify_if_drained()

    def _busy(self) -> bool:
        return bool(self._calls) or (
            self._drains_requests and self._connection is not None and self._connection.asking
        )

    def _notify_if_drained(self) -> None:
        if self.state is State.ATTACHED or (self._busy() and not self.ended):
            return
        with self._lock:
            callbacks, self._on_idle = self._on_idle, []
        for callback in callbacks:
            callback()

    def end(self, reason: str | None, cause: str = "disconnected") -> None:
        """Close idempotently, from any thread: write a close packet, fail open calls, end tunnels.

        Args:
            reason: for the close packet; None for none, as the application is gone.
            cause: one of the metric `clients_closed`.
        """
        with self._lock:
            if self.ended:
                return
            silent = reason is None or self.state is State.GREETING
            self._step("end")
        self._writer.finish(None if silent else reason)
        if self._close_received:
            cause = "left"
        if self._connection is None:
            self._metrics.clients_attached["denied" if cause == "denied" else "failed"].inc()
        else:
            self._metrics.clients.inc(-1)
            self._metrics.clients_closed[cause].inc()
            self._connection.close(disconnected=not self._close_received)
        fault = cause in _FAULTS and self._connection is not None
        _log.log(
            logging.WARNING if fault else logging.DEBUG,
            "%s closed: %s",
            self.label,
            f"{cause} ({reason})" if reason else cause,
        )
        self._tunnels.release()
        for number in list(self._calls):
            if (call := self._calls.pop(number, None)) is not None and call.deadline is not None:
                self._timer.cancel(call.deadline)
        self._notify_if_drained()
        self._on_end()

    def release(self) -> None:
        """Break the reference cycles, once the reading thread is done: no garbage is left."""
        self.handlers = []
        self._connect, self._on_end, self._writer.on_overflow = _no_network, _nothing, _nothing
