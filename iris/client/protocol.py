"""What one attached application has asked for and gets: the client's half of the relay protocol.

ClientProtocol: no socket, thread or clock.

Counterpart of iris-go's events.go and the tables of connection.go. Both faces, `iris.client` and
`iris.aio`, are shells around this: bytes come in through `feed`, leave through the face's
`write_soon`, and what happens is told to the face or completes a future of its.

Bytes are fed by one thread, calls may come from any. Tables are plain dicts: who takes an entry
out, with `pop`, is the one who deals with it. Lock order: _lock -> the face's `write_soon`.
"""

import itertools
import threading
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

from iris.client.errors import Closed, Denied, Fault, TimedOut
from iris.errors import ProtocolError, StateError
from iris.relay_protocol import client_codec as codec
from iris.relay_protocol.client_codec import Buffer
from iris.relay_protocol.schema import VERSION, Op


class Pending(Protocol):
    """What waits for an answer: a future of either kind."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, result: Any, /) -> None:
        """There it is."""

    def set_exception(self, exception: BaseException, /) -> None:
        """There it isn't."""


class TunnelEnd(Protocol):
    """A face's tunnel."""

    def handle_allow(self, space: int) -> None:
        """So many bytes more may be sent."""

    def handle_chunk(self, size: int, chunk: bytes) -> None:
        """A part of a message came; size is the whole message's in its first part, else 0. Raises.

        ProtocolError.
        """

    def handle_close(self, error: Closed) -> None:
        """It is over."""


_REPLY: Final = int(Op.REPLY)
_REQUEST: Final = int(Op.REQUEST)

T = TypeVar("T", bound=TunnelEnd)
T_co = TypeVar("T_co", bound=TunnelEnd, covariant=True)


class Face(Protocol[T_co]):
    """What the core needs of the shell around it. None of these waits."""

    def write_soon(self, first: codec.ImmutableBytes, /, *more: codec.ImmutableBytes) -> None:
        """Write one packet. Raises: Closed when that is in vain."""

    def new_tunnel(self, number: int, chunk_limit: int) -> T_co:
        """Make the end of a tunnel, which is there from now on."""


class Dispatcher(Protocol):
    """What a service does with what comes for it. None of these waits."""

    def handle_broadcast(self, message: bytes) -> None:
        """A message to the cluster came."""

    def handle_request(self, number: int, request: bytes, timeout: float) -> None:
        """A request to the cluster came, to be answered within that many seconds."""

    def handle_offer(self, build_id: int, chunk_limit: int) -> None:
        """Somebody wants a tunnel to the cluster: `ClientProtocol.accept` takes it."""


class ClientProtocol(Generic[T]):
    """One connection. Arguments that can't be right raise ValueError or TypeError.

    Every call raises Closed once it has ended.
    """

    def __init__(
        self, face: Face[T], *, attached: Pending, cluster: str, tunnel_buffer: int
    ) -> None:
        """Wait for the answer to `greeting`; attached gets it.

        None, or the Denied or Closed that came instead.
        """
        self.greeting = codec.init(cluster)
        self.tunnel_buffer = tunnel_buffer  # bytes
        self.ended: Closed | None = None
        self.intake: Dispatcher | None = None  # of a service, to be set before the first feed()
        self._face, self._attached = face, attached
        # guards changes of _subscriptions, in one go with their packets
        self._lock = threading.Lock()
        self._numbers, self._tunnel_numbers = itertools.count(), itertools.count()
        self._pending: dict[int, Pending] = {}
        self._building: dict[int, Pending] = {}
        self._tunnels: dict[int, T] = {}
        self._subscriptions: dict[str, Callable[[bytes], None]] = {}
        self._parser = codec.NodeParser()
        handlers: dict[int, Callable[..., None]] = {
            Op.INIT: self._take_init,
            Op.DENY: self._take_deny,
            Op.CLOSE: self._take_close,
            Op.BROADCAST: self._take_broadcast,
            Op.PUBLISH: self._take_event,
            Op.TUNNEL_INIT: self._take_offer,
            Op.TUNNEL_CONFIRM: self._take_tunnel,
            Op.TUNNEL_ALLOW: self._take_allowance,
            Op.TUNNEL_TRANSFER: self._take_chunk,
            Op.TUNNEL_CLOSE: self._take_tunnel_close,
        }
        # the parser lets nothing pass that isn't in there, or one of the two that `feed` knows
        self._handlers = handlers

    def feed(self, data: bytes) -> None:
        """Take what the node sent. Raises: ProtocolError when that breaks the rules."""
        handlers = self._handlers
        for op, fields in self._parser.feed(data):
            if self.ended is not None:
                raise ProtocolError("something follows the end")
            if op == _REPLY:
                self._take_reply(fields[0], fields[1], fields[2], fields[3])
            elif op == _REQUEST:
                self._take_request(fields[0], fields[1], fields[2])
            else:
                handlers[op](*fields)

    def end(self, error: Closed) -> bool:
        """Nothing will come any more: whoever waits is told. Idempotent.

        Returns whether this was the end.
        """
        with self._lock:
            if self.ended is not None:
                return False
            self.ended = error
            self._subscriptions.clear()
        _finish(self._attached, error.again())
        for table in (self._pending, self._building):
            while table:
                _finish(table.popitem()[1], error.again())
        while self._tunnels:
            self._tunnels.popitem()[1].handle_close(error)
        return True

    # What the application asks for

    def broadcast(self, cluster: str, message: Buffer) -> None:
        """Tell all of a cluster."""
        self._send(codec.broadcast(cluster, codec.payload(message)))

    def publish(self, topic: str, event: Buffer) -> None:
        """Tell all subscribers of a topic."""
        self._send(codec.publish(topic, codec.payload(event)))

    def request(self, cluster: str, request: Buffer, timeout: float, pending: Pending) -> int:
        """Ask one of a cluster; pending gets the reply's bytes, or a Fault, TimedOut or Closed.

        Returns: a number for `forget`.
        """
        number = next(self._numbers)
        packet = codec.request(number, cluster, codec.payload(request), codec.milliseconds(timeout))
        self._pending[number] = pending
        try:
            self._send(packet)
        except Closed:
            self._pending.pop(number, None)
            raise
        return number

    def forget(self, number: int) -> bool:
        """Nobody waits for the answer to that request any more. Returns.

        Whether it hasn't come, and won't.
        """
        return self._pending.pop(number, None) is not None

    def reply(self, number: int, reply: Buffer) -> None:
        """Answer a request."""
        self._send(codec.reply(number, codec.payload(reply)))

    def fail(self, number: int, text: str) -> None:
        """Fail a request."""
        self._write(codec.fault(number, text))

    def subscribe(self, topic: str, deliver: Callable[[bytes], None]) -> None:
        """Have events of a topic delivered, which mustn't wait. Raises.

        StateError when they are already.
        """
        packet = codec.subscribe(topic)
        with self._lock:
            if topic in self._subscriptions:
                raise StateError(f"subscribed to '{topic}' already")
            self._write(packet)
            self._subscriptions[topic] = deliver

    def unsubscribe(self, topic: str) -> None:
        """End that. Raises: StateError when it isn't subscribed."""
        packet = codec.unsubscribe(topic)
        with self._lock:
            if self.ended is not None:
                raise self.ended.again()
            if self._subscriptions.pop(topic, None) is None:
                raise StateError(f"not subscribed to '{topic}'")
            self._write(packet)

    def tunnel(self, cluster: str, timeout: float, pending: Pending) -> int:
        """Build a tunnel to one of a cluster; pending gets it, or a TimedOut or Closed. Returns.

        A number for `forget_tunnel`.
        """
        number = next(self._tunnel_numbers)
        packet = codec.tunnel_init(number, cluster, codec.milliseconds(timeout))
        self._building[number] = pending
        try:
            self._write(packet)
        except Closed:
            self._building.pop(number, None)
            raise
        return number

    def forget_tunnel(self, number: int) -> bool:
        """Nobody waits for that tunnel any more: should it come, it is closed. Returns.

        Whether it hasn't come just now.
        """
        return self._building.pop(number, None) is not None

    def accept(self, build_id: int, chunk_limit: int) -> T:
        """Take a tunnel that was offered.

        Within `handle_offer` only, as what comes next may be for it.
        """
        number = next(self._tunnel_numbers)
        tunnel = self._tunnels[number] = self._face.new_tunnel(number, chunk_limit)
        self._write(
            codec.tunnel_confirm(build_id, number) + codec.tunnel_allow(number, self.tunnel_buffer)
        )
        return tunnel

    def close_tunnel(self, number: int) -> None:
        """Close one; its `handle_close` says when that is done."""
        if number in self._tunnels:
            self._write(codec.tunnel_close(number))

    def close(self) -> None:
        """Leave: requests in hand may still be answered, until the node's close ends everything."""
        self._write(codec.CLOSE)

    def _write(self, packet: codec.ImmutableBytes) -> None:
        if self.ended is not None:
            raise self.ended.again()
        self._face.write_soon(packet)

    def _send(self, packet: tuple[codec.ImmutableBytes, ...]) -> None:
        if len(packet) == 1:
            self._write(packet[0])
            return
        if self.ended is not None:
            raise self.ended.again()
        self._face.write_soon(*packet)

    # What comes

    def _take_init(self, version: str) -> None:
        if version != VERSION:
            raise ProtocolError(f"the node speaks another protocol: {version}")
        if not self._attached.done():
            self._attached.set_result(None)

    def _take_deny(self, reason: str) -> None:
        _finish(self._attached, Denied(reason))
        self.end(Closed(reason))

    def _take_close(self, reason: str) -> None:
        self.end(Closed(reason))

    def _service(self) -> Dispatcher:
        if self.intake is None:
            raise ProtocolError("the node sends what is for services only")
        return self.intake

    def _take_broadcast(self, message: bytes) -> None:
        self._service().handle_broadcast(message)

    def _take_request(self, number: int, request: bytes, timeout: int) -> None:
        self._service().handle_request(number, request, timeout / 1_000)

    def _take_reply(self, number: int, timed_out: bool, success: bool | None, result: Any) -> None:
        pending = self._pending.pop(number, None)
        if pending is None or pending.done():
            return  # given up by the one who asked
        if success:
            pending.set_result(result)
        elif timed_out:
            pending.set_exception(TimedOut("nobody answered in time"))
        else:
            pending.set_exception(Fault(result))

    def _take_event(self, topic: str, event: bytes) -> None:
        deliver = self._subscriptions.get(topic)
        if deliver is not None:  # else it was under way when the subscription ended
            deliver(event)

    def _take_offer(self, build_id: int, chunk_limit: int) -> None:
        self._service().handle_offer(build_id, _checked(chunk_limit))

    def _take_tunnel(self, number: int, timed_out: bool, chunk_limit: int | None) -> None:
        pending = self._building.pop(number, None)
        if timed_out:
            if pending is not None:
                _finish(pending, TimedOut("nobody accepted the tunnel in time"))
        elif pending is None or pending.done():
            self._write(codec.tunnel_close(number))
        else:
            tunnel = self._tunnels[number] = self._face.new_tunnel(number, _checked(chunk_limit))
            try:
                self._write(codec.tunnel_allow(number, self.tunnel_buffer))
            # who waits is told in any case; should that have been in vain, the end comes next
            finally:
                pending.set_result(tunnel)

    def _take_allowance(self, number: int, space: int) -> None:
        if (tunnel := self._tunnels.get(number)) is not None:
            tunnel.handle_allow(space)

    def _take_chunk(self, number: int, size: int, chunk: bytes) -> None:
        if (tunnel := self._tunnels.get(number)) is not None:
            tunnel.handle_chunk(size, chunk)

    def _take_tunnel_close(self, number: int, reason: str) -> None:
        if (tunnel := self._tunnels.pop(number, None)) is not None:
            tunnel.handle_close(Closed(reason))


def _finish(pending: Pending, error: Exception) -> None:
    if not pending.done():
        pending.set_exception(error)


def _checked(chunk_limit: int | None) -> int:
    if not chunk_limit:
        raise ProtocolError("a tunnel without room for anything")
    return chunk_limit
