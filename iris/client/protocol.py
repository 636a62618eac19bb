"""The client's half of the relay protocol: one program's requests, subscriptions, tunnels. Core.

No socket, thread or clock. Counterpart of iris-go's events.go and the tables of connection.go. Both
APIs, `iris.client` and `iris.aio`, are frontends of this: bytes come in through `feed` and leave
through the frontend's `write_soon`; results complete the frontend's futures.

One thread feeds bytes, any thread may call the rest. Tables are plain dicts: the thread whose `pop`
takes an entry out completes it. Lock order: _lock -> the frontend's `write_soon`.
"""

import itertools
import threading
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

from iris.client.errors import Closed, Denied, Fault, TimedOut
from iris.client.limits import TUNNEL_BUFFER
from iris.config import Limits, RelayConfig
from iris.errors import ProtocolError, StateError
from iris.relay_protocol import client_packets as codec
from iris.relay_protocol.client_packets import Buffer, ImmutableBytes
from iris.relay_protocol.parser import Parser
from iris.relay_protocol.schema import VERSION, Op, Side


class Pending(Protocol):
    """The future, of any kind, of a result."""

    def done(self) -> bool:
        """Whether it is completed or cancelled."""

    def set_result(self, result: Any, /) -> None:
        """Complete with a result."""

    def set_exception(self, exception: BaseException, /) -> None:
        """Complete with an error."""


class TunnelEnd(Protocol):
    """A frontend's end of a tunnel. None of these waits."""

    def handle_allow(self, space: int) -> None:
        """Add `space` bytes of credit for sending."""

    def handle_chunk(self, size: int, chunk: bytes) -> None:
        """Take a chunk; size is the whole message's in its first one, else 0.

        Raises: ProtocolError.
        """

    def handle_close(self, error: Closed) -> None:
        """End the tunnel."""


Packet = tuple[ImmutableBytes, ...]  # in pieces

_REPLY: Final = int(Op.REPLY)
_REQUEST: Final = int(Op.REQUEST)

T = TypeVar("T", bound=TunnelEnd)
T_co = TypeVar("T_co", bound=TunnelEnd, covariant=True)


class Frontend(Protocol[T_co]):
    """What the protocol needs of the code around it. None of these waits."""

    def write_soon(self, packet: Packet, /) -> None:
        """Write one packet. Raises: Closed."""

    def new_tunnel(self, number: int, chunk_limit: int) -> T_co:
        """Make the local end of a tunnel that is open from now on."""


class Dispatcher(Protocol):
    """Takes what arrives for a service. None of these waits."""

    def handle_broadcast(self, message: bytes) -> None:
        """Take a broadcast to the cluster."""

    def handle_request(self, number: int, request: bytes, timeout: float) -> None:
        """Take a request to the cluster, to be answered within `timeout` seconds."""

    def handle_tunnel_offer(self, build_id: int, chunk_limit: int) -> None:
        """Accept a tunnel to the cluster with `ClientProtocol.accept`, or let it time out."""


class ClientProtocol(Generic[T]):
    """One connection to a node.

    Calls raise ValueError or TypeError for invalid arguments, and Closed once the connection has
    ended. Timeouts are in seconds.
    """

    def __init__(self, frontend: Frontend[T], *, attached: Pending, cluster: str) -> None:
        """Start a connection by sending `init_packet`.

        Args:
            attached: gets None, or the Denied or Closed that came instead of an init packet.
            cluster: what the program serves; "" for none.
        """
        self.init_packet = codec.init(cluster)
        self.ended: Closed | None = None
        self.dispatcher: Dispatcher | None = None  # a service sets it before the first feed()
        self._frontend, self._attached = frontend, attached
        self._lock = threading.Lock()  # guards _subscriptions, together with their packets
        self._numbers, self._tunnel_numbers = itertools.count(), itertools.count()
        self._pending: dict[int, Pending] = {}
        self._building: dict[int, Pending] = {}
        self._tunnels: dict[int, T] = {}
        self._subscriptions: dict[str, Callable[[bytes], None]] = {}
        self._parser = Parser(Side.NODE, Limits(), RelayConfig())
        # the parser yields only these, and the two that `feed` calls directly
        self._handlers: dict[int, Callable[..., None]] = {
            Op.INIT: self._handle_init,
            Op.DENY: self._handle_deny,
            Op.CLOSE: self._handle_close,
            Op.BROADCAST: self._handle_broadcast,
            Op.PUBLISH: self._handle_event,
            Op.TUNNEL_INIT: self._handle_tunnel_init,
            Op.TUNNEL_CONFIRM: self._handle_tunnel_confirm,
            Op.TUNNEL_ALLOW: self._handle_tunnel_allow,
            Op.TUNNEL_TRANSFER: self._handle_tunnel_transfer,
            Op.TUNNEL_CLOSE: self._handle_tunnel_close,
        }

    @property
    def in_flight(self) -> int:
        """How many requests and tunnels are pending."""
        return len(self._pending) + len(self._building)

    def feed(self, data: bytes) -> None:
        """Process bytes from the node. Raises: ProtocolError."""
        handlers = self._handlers
        for op, fields in self._parser.feed(data):
            if self.ended is not None:
                raise ProtocolError("packet after a close")
            if op == _REPLY:
                self._handle_reply(fields[0], fields[1], fields[2], fields[3])
            elif op == _REQUEST:
                self._handle_request(fields[0], fields[1], fields[2])
            else:
                handlers[op](*fields)

    def end(self, error: Closed) -> bool:
        """End the connection: fail all that is pending, and close the tunnels. Idempotent.

        Returns: whether this was the first time.
        """
        with self._lock:
            if self.ended is not None:
                return False
            self.ended = error
            self._subscriptions.clear()
        _fail(self._attached, error.copy())
        for table in (self._pending, self._building):
            while table:
                _fail(table.popitem()[1], error.copy())
        while self._tunnels:
            self._tunnels.popitem()[1].handle_close(error)
        return True

    # Calls of the application

    def broadcast(self, cluster: str, message: Buffer) -> None:
        """Send to all members of a cluster."""
        self._send(codec.broadcast(cluster, codec.payload(message)))

    def publish(self, topic: str, event: Buffer) -> None:
        """Send to all subscribers of a topic."""
        self._send(codec.publish(topic, codec.payload(event)))

    def request(self, cluster: str, request: Buffer, timeout: float, pending: Pending) -> int:
        """Send a request to a cluster; pending gets the reply, or a Fault, TimedOut or Closed.

        Returns: a number for `forget`.
        """
        number = next(self._numbers)
        packet = codec.request(number, cluster, codec.payload(request), codec.milliseconds(timeout))
        return self._open(self._pending, number, pending, packet)

    def forget(self, number: int) -> bool:
        """Ignore the result of a request. Returns: False when it has arrived already."""
        return self._pending.pop(number, None) is not None

    def reply(self, number: int, reply: Buffer) -> None:
        """Answer a request."""
        self._send(codec.reply(number, codec.payload(reply)))

    def fail(self, number: int, text: str) -> None:
        """Fail a request."""
        self._send((codec.fault(number, text),))

    def subscribe(self, topic: str, deliver: Callable[[bytes], None]) -> None:
        """Subscribe to a topic; deliver takes its events, without waiting.

        Raises: StateError when it is subscribed already.
        """
        packet = codec.subscribe(topic)
        with self._lock:
            if topic in self._subscriptions:
                raise StateError(f"subscribed to '{topic}' already")
            self._send((packet,))
            self._subscriptions[topic] = deliver

    def unsubscribe(self, topic: str) -> None:
        """Unsubscribe from a topic. Raises: StateError when it isn't subscribed."""
        packet = codec.unsubscribe(topic)
        with self._lock:
            if self.ended is not None:
                raise self.ended.copy()
            if self._subscriptions.pop(topic, None) is None:
                raise StateError(f"not subscribed to '{topic}'")
            self._send((packet,))

    def tunnel(self, cluster: str, timeout: float, pending: Pending) -> int:
        """Build a tunnel to one member of a cluster; pending gets it, or a TimedOut or Closed.

        Returns: a number for `forget_tunnel`.
        """
        number = next(self._tunnel_numbers)
        packet = codec.tunnel_init(number, cluster, codec.milliseconds(timeout))
        return self._open(self._building, number, pending, (packet,))

    def forget_tunnel(self, number: int) -> bool:
        """Close a tunnel as soon as it is built. Returns: False when that has happened already."""
        return self._building.pop(number, None) is not None

    def accept(self, build_id: int, chunk_limit: int) -> T:
        """Accept a tunnel, within `handle_tunnel_offer`: the next packet may be for it."""
        number = next(self._tunnel_numbers)
        tunnel = self._tunnels[number] = self._frontend.new_tunnel(number, chunk_limit)
        confirm = codec.tunnel_confirm(build_id, number)
        self._send((confirm + codec.tunnel_allow(number, TUNNEL_BUFFER),))
        return tunnel

    def abandon(self, tunnel: T) -> None:
        """Close a tunnel that was accepted, and that nothing uses."""
        for number, each in list(self._tunnels.items()):
            if each is tunnel:
                self.close_tunnel(number)

    def close_tunnel(self, number: int) -> None:
        """Close a tunnel; its `handle_close` is called when the node has confirmed that."""
        if number in self._tunnels:
            self._send((codec.tunnel_close(number),))

    def close(self) -> None:
        """Send a close packet; requests may still be answered until the node's own one arrives."""
        self._send((codec.CLOSE,))

    def _open(
        self, table: dict[int, Pending], number: int, pending: Pending, packet: Packet
    ) -> int:
        table[number] = pending
        try:
            self._send(packet)
        except Closed:
            table.pop(number, None)
            raise
        return number

    def _send(self, packet: Packet) -> None:
        if self.ended is not None:
            raise self.ended.copy()
        self._frontend.write_soon(packet)

    # Packets of the node

    def _handle_init(self, version: str) -> None:
        if version != VERSION:
            raise ProtocolError(f"unsupported protocol version {version}")
        if not self._attached.done():
            self._attached.set_result(None)

    def _handle_deny(self, reason: str) -> None:
        _fail(self._attached, Denied(reason))
        self.end(Closed(reason))

    def _handle_close(self, reason: str) -> None:
        self.end(Closed(reason))

    def _service(self) -> Dispatcher:
        if self.dispatcher is None:
            raise ProtocolError("packet for a service, sent to a client")
        return self.dispatcher

    def _handle_broadcast(self, message: bytes) -> None:
        self._service().handle_broadcast(message)

    def _handle_request(self, number: int, request: bytes, timeout: int) -> None:
        self._service().handle_request(number, request, timeout / 1_000)

    def _handle_reply(
        self, number: int, timed_out: bool, success: bool | None, result: Any
    ) -> None:
        pending = self._pending.pop(number, None)
        if pending is None or pending.done():
            return  # the caller has given up
        if success:
            pending.set_result(result)
        elif timed_out:
            pending.set_exception(TimedOut("request timed out"))
        else:
            pending.set_exception(Fault(result))

    def _handle_event(self, topic: str, event: bytes) -> None:
        deliver = self._subscriptions.get(topic)
        if deliver is not None:  # else it was in flight when the subscription ended
            deliver(event)

    def _handle_tunnel_init(self, build_id: int, chunk_limit: int) -> None:
        self._service().handle_tunnel_offer(build_id, _checked(chunk_limit))

    def _handle_tunnel_confirm(self, number: int, timed_out: bool, chunk_limit: int | None) -> None:
        limit = 0 if timed_out else _checked(chunk_limit)
        pending = self._building.pop(number, None)
        if timed_out:
            if pending is not None:
                _fail(pending, TimedOut("tunnel timed out: not accepted in time"))
        elif pending is None or pending.done():
            self._send((codec.tunnel_close(number),))
        else:
            tunnel = self._tunnels[number] = self._frontend.new_tunnel(number, limit)
            try:
                self._send((codec.tunnel_allow(number, TUNNEL_BUFFER),))
            finally:  # should writing have failed, the end follows
                pending.set_result(tunnel)

    def _handle_tunnel_allow(self, number: int, space: int) -> None:
        if (tunnel := self._tunnels.get(number)) is not None:
            tunnel.handle_allow(space)

    def _handle_tunnel_transfer(self, number: int, size: int, chunk: bytes) -> None:
        if (tunnel := self._tunnels.get(number)) is not None:
            tunnel.handle_chunk(size, chunk)

    def _handle_tunnel_close(self, number: int, reason: str) -> None:
        if (tunnel := self._tunnels.pop(number, None)) is not None:
            tunnel.handle_close(Closed(reason))


def _fail(pending: Pending, error: Exception) -> None:
    if not pending.done():
        pending.set_exception(error)


def _checked(chunk_limit: int | None) -> int:
    if not chunk_limit:
        raise ProtocolError("tunnel with a chunk limit of 0 bytes")
    return chunk_limit
