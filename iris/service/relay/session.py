"""What an attached application may ask for, and what it is told. Core.

No socket and no thread of its own.

Counterpart of Go's service/relay/events.go and the rest of relay.go; `attachment.py` is the shell
around it, `tunnel.py` has the tunnels.

The client's packets come from one thread, what the Iris layer has for it from any. Tables are plain
dicts: who takes an entry out, with `pop`, is the one who deals with it. Nothing can follow the last
packet, a close with its reason, because the send buffer refuses it.

Lock order: a lock here is held across no call; tunnel -> send buffer.
"""

import contextlib
import itertools
import logging
import threading
import time
from collections.abc import Callable
from enum import Enum, auto
from functools import lru_cache, partial
from typing import Any, Final

from iris.config import Config
from iris.errors import IrisError, LimitReached, LinkClosed, ProtocolError, StateError
from iris.proto.iris.base import Delivery, Handler
from iris.proto.iris.connection import Connection
from iris.proto.iris.requests import Call, Fault, Outcome, Reply
from iris.proto.iris.tunnel import TunnelOffer
from iris.relay_protocol import node_packets as codec
from iris.relay_protocol.schema import DEFAULT, VERSION, Op
from iris.relay_protocol.varint import varint
from iris.runtime.compiling import with_cause
from iris.runtime.send_buffer import SendBuffer
from iris.runtime.timer import Timer, TimerEntry
from iris.service.relay.counters import Counters
from iris.service.relay.tunnel import RelayTunnel

_log = logging.getLogger(__name__)

_WELCOME: Final = DEFAULT.node(Op.INIT, version=VERSION)
_COMPLAIN_EVERY = 10.0  # seconds between two lines about the same slow client
_TOO_SLOW = "takes too little of what is sent to it"
_SERVICE_FULL = "the service takes too little of what it is asked"
_REPLY_TOO_MUCH = "there is no room for the reply: take more of what is sent to you"
_NO_OFFER = "that tunnel isn't offered any more"


@lru_cache(maxsize=64)
def _goodbye(reason: str) -> bytes:
    data: bytes = DEFAULT.node(Op.CLOSE, reason=reason)
    return data


def _nothing() -> None:
    """The owner of a client that is over."""


def _refuse(cluster: str, handler: Handler) -> Connection:
    """The network of a client that is over."""
    raise Denied("it is over")


class Denied(IrisError):
    """The application can't be attached; the text tells it why."""


class State(Enum):
    """Of an attachment."""

    GREETING = auto()  # its init hasn't come
    ATTACHED = auto()
    DRAINING = auto()  # it has left its cluster, and finishes the requests it has in hand
    ENDED = auto()


STEPS = {
    (State.GREETING, "attach"): State.ATTACHED,
    (State.ATTACHED, "drain"): State.DRAINING,
    (State.GREETING, "end"): State.ENDED,
    (State.ATTACHED, "end"): State.ENDED,
    (State.DRAINING, "end"): State.ENDED,
}


class _InHand:
    """A request that the application hasn't answered."""

    __slots__ = ("call", "deadline")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.deadline: TimerEntry | None = None


class ClientSession:
    """One application: the Iris layer's `Handler`, and the owner of a connection there.

    `handlers[op](*fields)` carries out one of its packets. Raises: ProtocolError when that breaks
    the rules; Denied for its init.
    """

    def __init__(
        self,
        number: int,
        send_buffer: SendBuffer,
        *,
        connect: Callable[[str, Handler], Connection],
        on_end: Callable[[], None],
        config: Config,
        timer: Timer,
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wait for an init, on a send buffer that is corked.

        on_end is told once, when the last packet has been written.
        """
        self.number, self._send_buffer = number, send_buffer
        self._connect, self._on_end = connect, on_end
        self._config, self._timer, self._counters, self._clock = config, timer, counters, clock
        self.state = State.GREETING
        self.cluster = ""
        self._lock = threading.Lock()  # guards state, _when_idle and _waits
        self._when_idle: list[Callable[[], None]] = []
        self._connection: Connection | None = None
        self._call_numbers, self._build_ids = itertools.count(), itertools.count()
        self._waits = False  # a drain waits for answers to it, too
        self._calls: dict[int, _InHand] = {}
        self._offers: dict[int, tuple[TunnelOffer, TimerEntry]] = {}  # by build id
        self._tunnels: dict[int, RelayTunnel] = {}  # by the client's number, also those being built
        # bytes that what can be refused or dropped may fill; the rest is for what can't
        self._room = send_buffer.limit * 2 // 3
        self._full_since: float | None = None  # there has been no room for any request or tunnel
        self._complain_at = 0.0
        self._leaves = False  # it has said close
        self.handlers: list[Callable[..., None]] = [self._init] * len(Op)

    def _step(self, event: str) -> None:
        assert self._lock.locked()
        state = STEPS.get((self.state, event))
        if state is None:
            raise StateError(f"{event} isn't possible for a client that is {self.state.name}")
        self.state = state

    @property
    def ended(self) -> bool:
        """Whether whatever it says is of no interest any more."""
        return self.state is State.ENDED

    @property
    def attached(self) -> bool:
        """Whether it was ever let in."""
        return self._connection is not None

    # Attaching

    def _init(self, version: str, cluster: str) -> None:
        if version != VERSION:
            raise Denied(f"Unsupported protocol. Client: {version}. Iris: {VERSION}.")
        try:
            connection = self._connect(cluster, self)
        except Denied:
            raise
        except IrisError as exc:
            raise with_cause(Denied(str(exc)), exc) from exc
        handlers: dict[Op, Callable[..., None]] = {
            Op.CLOSE: self._close,
            Op.BROADCAST: connection.broadcast,
            Op.REQUEST: self._request,
            Op.REPLY: self._reply,
            Op.SUBSCRIBE: partial(self._topic, connection.subscribe),
            Op.UNSUBSCRIBE: partial(self._topic, connection.unsubscribe),
            Op.PUBLISH: connection.publish,
            Op.TUNNEL_INIT: self._tunnel_init,
            Op.TUNNEL_CONFIRM: self._tunnel_confirm,
            Op.TUNNEL_ALLOW: self._tunnel_allow,
            Op.TUNNEL_TRANSFER: self._tunnel_transfer,
            Op.TUNNEL_CLOSE: self._tunnel_close,
        }
        for op, handler in handlers.items():
            self.handlers[op] = handler
        with self._lock:
            ended = self.ended
            if not ended:
                self._step("attach")
                self.cluster, self._connection = cluster, connection
        if ended:  # meanwhile
            connection.close()
        else:
            self._send_buffer.uncork(_WELCOME)

    # What it asks for

    def _request(self, number: int, cluster: str, data: bytes, timeout: int) -> None:
        assert self._connection is not None
        try:
            self._connection.request(cluster, data, timeout / 1_000, partial(self._answer, number))
        except LimitReached as exc:
            self._counters.add("limited")
            self.send(codec.fault(number, str(exc)))

    def _answer(self, number: int, outcome: Outcome) -> None:
        if isinstance(outcome, Reply):
            data = outcome.data
            if self._send_buffer.full(len(data)):
                self._counters.add("limited")
                self.send(codec.fault(number, _REPLY_TOO_MUCH))
            else:
                self._write((codec.reply(number, len(data)), data))
        elif isinstance(outcome, Fault):
            self.send(codec.fault(number, outcome.text))
        else:
            self.send(codec.timed_out(number))
        if self.state is State.DRAINING:
            self._settle()

    def _topic(self, change: Callable[[str], None], topic: str) -> None:
        try:
            change(topic)
        # the protocol has no word for it but the close's reason
        except (StateError, LimitReached) as exc:
            raise with_cause(ProtocolError(f"topic: {exc}"), exc) from exc

    def _tunnel_init(self, number: int, cluster: str, timeout: int) -> None:
        assert self._connection is not None
        tunnel = self._new_tunnel(number, accepted=False)
        try:
            self._connection.tunnels.request(cluster, timeout / 1_000, tunnel.built)
        except LimitReached as exc:
            self._counters.add("limited")
            self._report("gets no tunnel: %s", exc)
            tunnel.built(None)

    def _new_tunnel(self, number: int, *, accepted: bool) -> RelayTunnel:
        if number in self._tunnels:
            raise ProtocolError(f"tunnel {number} exists already")
        tunnel = self._tunnels[number] = RelayTunnel(number, self, self._config, accepted=accepted)
        return tunnel

    def _tunnel_confirm(self, build_id: int, number: int) -> None:
        tunnel = self._new_tunnel(number, accepted=True)
        entry = self._offers.pop(build_id, None)
        # it came too late: the application has a tunnel in its hands, so it is told
        if entry is None:
            self.forget_tunnel(number)
            self.send(codec.tunnel_close(number, _NO_OFFER))
            return
        offer, deadline = entry
        self._timer.cancel(deadline)
        offer.accept(tunnel.built)

    def _tunnel_allow(self, number: int, space: int) -> None:
        if (tunnel := self._tunnels.get(number)) is not None:
            tunnel.allow(space)

    def _tunnel_transfer(self, number: int, size: int, chunk: bytes) -> None:
        if (tunnel := self._tunnels.get(number)) is not None:  # else the other end has just closed
            tunnel.transfer(size, chunk)

    def _tunnel_close(self, number: int) -> None:
        if (tunnel := self._tunnels.get(number)) is not None:
            tunnel.close()

    def forget_tunnel(self, number: int) -> None:
        """See `tunnel.ClientSide`."""
        self._tunnels.pop(number, None)

    # What the Iris layer has for it

    def handle_broadcast(self, message: Delivery) -> None:
        """See `Handler`."""
        packet = message.encoded
        if packet is None:
            packet = message.encoded = codec.broadcast(message.data)
        self._offer(packet, len(message.data))

    def handle_event(self, topic: str, event: Delivery) -> None:
        """See `Handler`."""
        packet = event.encoded
        if packet is None:
            packet = event.encoded = codec.publish(topic, event.data)
        self._offer(packet, len(event.data))

    def handle_request(self, call: Call) -> None:
        """See `Handler`."""
        number, data = next(self._call_numbers), call.data
        if self._refuses(len(data)):
            call.fail(_SERVICE_FULL)
            return
        call.data = b""  # the send buffer has it, and lets go of it long before the answer comes
        entry = self._calls[number] = _InHand(call)
        entry.deadline = self._timer.after(call.timeout, partial(self._give_up, number))
        self._write((codec.request(number, len(data)), data, varint(round(call.timeout * 1_000))))

    def _give_up(self, number: int) -> None:
        entry = self._calls.pop(number, None)
        if entry is not None:
            entry.call.drop()  # the caller's node has told it by itself
            self._settle()

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
            self._settle()

    def handle_tunnel(self, offer: TunnelOffer) -> None:
        """See `Handler`."""
        if self._refuses(0):
            offer.refuse()
            return
        build_id = next(self._build_ids)
        deadline = self._timer.after(
            self._config.relay.tunnel_confirm_timeout, partial(self._withdraw, build_id)
        )
        self._offers[build_id] = (offer, deadline)
        self.send(codec.tunnel_init(build_id, self._config.relay.chunk_limit))

    def _withdraw(self, build_id: int) -> None:
        entry = self._offers.pop(build_id, None)
        if entry is not None:
            self._report("didn't confirm a tunnel in time")
            entry[0].refuse()

    # Writing

    def send(self, *buffers: bytes) -> None:
        """Write one packet, unless the client is on its way out.

        If it can't take that, it is ended. Never waits, never raises.
        """
        buffer = self._send_buffer
        if buffer.size and buffer.full(sum(map(len, buffers))):
            self._overflow()
        else:
            self._write(buffers)

    def _write(self, buffers: tuple[bytes, ...]) -> None:
        try:
            self._send_buffer.write_all(buffers)
        except LinkClosed:
            return  # it is gone, or was told so; its reading thread cleans up

    def _crowded(self, size: int) -> bool:
        """Whether there is no room for `size` bytes that can be refused or dropped.

        An empty send buffer takes anything.
        """
        waiting = self._send_buffer.size
        return waiting > 0 and waiting + size > self._room

    def _offer(self, packet: tuple[bytes, ...], size: int) -> None:
        """Write one packet that may be lost."""
        if self._crowded(size):
            self._counters.add("dropped")
            self._report("%s: broadcasts and events for it are dropped", _TOO_SLOW)
        else:
            self._write(packet)

    def _refuses(self, size: int) -> bool:
        """Whether there is no room for what it is asked.

        A service where that lasts is ended, so that others are asked instead.
        """
        if not self._crowded(size):
            self._full_since = None
            return False
        self._counters.add("limited")
        now, since = self._clock(), self._full_since  # once: another thread may find room meanwhile
        if since is None:
            self._full_since = now
            self._report("%s: it is asked no more", _TOO_SLOW)
        elif now - since >= self._config.relay.stall_timeout:
            self._overflow()
        return True

    def _report(self, text: str, *args: object) -> None:
        """Say it, unless something was said about this client just now."""
        now = self._clock()
        if now >= self._complain_at:
            self._complain_at = now + _COMPLAIN_EVERY
            _log.warning(f"client %d {text}", self.number, *args)

    def _overflow(self) -> None:
        try:
            self._send_buffer.finish(_goodbye(_TOO_SLOW))
        except LinkClosed:
            return
        self._counters.add("overflowed")
        # not here: this is somebody's call into it
        self._timer.after(0, partial(self.end, _TOO_SLOW))

    @property
    def relieved(self) -> bool:
        """See `tunnel.ClientSide`."""
        return self._send_buffer.size <= self._config.relay.tunnel_buffer

    def when_relieved(self, callback: Callable[[], None]) -> None:
        """See `tunnel.ClientSide`."""
        if self.relieved:
            callback()
        else:
            self._send_buffer.on_drained_to(self._config.relay.tunnel_buffer, callback)

    # Leaving

    def _close(self) -> None:
        self._leaves = True
        self.drain(partial(self.end, ""))
        if not self.ended:
            self._timer.after(self._config.relay.drain_timeout, partial(self.end, ""))

    def drain(self, when_idle: Callable[[], None], *, asked: bool = False) -> None:
        """Get no new requests.

        Called back, by any thread, maybe at once, when none is in hand any more.

        With `asked`, not before those that it waits for itself are answered as well.
        """
        with self._lock:
            self._when_idle.append(when_idle)
            self._waits = self._waits or asked
            leaving = self.state is State.ATTACHED
            if leaving:
                self._step("drain")
        if leaving:
            assert self._connection is not None
            self._connection.leave()
        self._settle()

    def _busy(self) -> bool:
        return bool(self._calls) or (
            self._waits and self._connection is not None and self._connection.asking
        )

    def _settle(self) -> None:
        if self.state is State.ATTACHED or (self._busy() and not self.ended):
            return
        with self._lock:
            callbacks, self._when_idle = self._when_idle, []
        for callback in callbacks:
            callback()

    def end(self, reason: str | None) -> None:
        """The last packet is a close with this reason (None: it is gone, nothing is written).

        All of it is cleaned up here.

        Idempotent, from any thread. What it hasn't answered is failed by the Iris layer, so that
        the callers know at once.
        """
        with self._lock:
            if self.ended:
                return
            silent = reason is None or self.state is State.GREETING
            self._step("end")
        with contextlib.suppress(LinkClosed):  # it broke, or overflowed
            self._send_buffer.finish(*(() if silent else [_goodbye(reason)]))
        if self._connection is not None:
            self._connection.close(disconnected=not self._leaves)
        for tunnel in list(self._tunnels.values()):
            tunnel.abandon()
        for build_id in list(self._offers):
            if (entry := self._offers.pop(build_id, None)) is not None:
                self._timer.cancel(entry[1])
                entry[0].refuse()
        for number in list(self._calls):
            if (call := self._calls.pop(number, None)) is not None and call.deadline is not None:
                self._timer.cancel(call.deadline)
        self._settle()
        self._on_end()

    def release(self) -> None:
        """Refer to nobody any more, so that no garbage collector is needed.

        When its reading thread is done.
        """
        self.handlers = []
        self._connect, self._on_end = _refuse, _nothing
