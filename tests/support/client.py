"""A small blocking client of the relay protocol, on the schemas.

For tests of everything from the relay down.

`Raw` is a socket that speaks in packets. `Client` is an application: several threads may share one;
its own reading thread hands out what comes. It counts on nothing of the node's code but the
schemas.
"""

import contextlib
import itertools
import queue
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from io import BufferedReader
from typing import Any

from construct import Container

from iris.relay_protocol.schema import DEFAULT, VERSION, Op

CHUNK_WINDOW = 64 << 20  # bytes that a tunnel's end grants, as the bindings do
PATIENCE = 10.0  # seconds


class Closed(Exception):
    """The connection ended; reason is the node's, "" after our close, None without a packet."""

    def __init__(self, reason: str | None) -> None:
        super().__init__(reason)
        self.reason = reason


class Denied(Exception):
    """The node rejected us; the text says why."""


class Fault(Exception):
    """The service failed the request; the text is its own."""


class TimedOut(Exception):
    """The node reported a timeout."""


class Raw:
    """A connection that sends and receives packets, without any state.

    Not thread-safe, but one may read while another writes.
    """

    def __init__(
        self, port: int, *, host: str = "127.0.0.1", timeout: float | None = PATIENCE
    ) -> None:
        self.sock = socket.create_connection((host, port), PATIENCE)
        self.sock.settimeout(timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = BufferedReader(self.sock.makefile("rb", buffering=0), 65_536)

    def send(self, op: Op, **body: Any) -> None:
        self.sock.sendall(DEFAULT.client(op, **body))

    def send_bytes(self, data: bytes) -> None:
        self.sock.sendall(data)

    def recv(self) -> tuple[Op, Container]:
        """The next packet. Raises: EOFError when there is none."""
        if not self._stream.peek(1):
            raise EOFError
        packet = DEFAULT.from_node.parse_stream(self._stream)
        return packet.op, packet.body

    def expect(self, op: Op) -> Container:
        """The next packet, which must be of that kind."""
        got, body = self.recv()
        assert got == op, f"got {got!r} {dict(body)}, want {op!r}"
        return body

    def at_end(self) -> bool:
        """Wait for the next thing: True when it is the end of the stream, or a reset."""
        try:
            return not self._stream.peek(1)
        except ConnectionError:
            return True

    def init(self, cluster: str = "", version: str = VERSION) -> "Raw":
        """Attach. Raises: Denied."""
        self.send(Op.INIT, version=version, cluster=cluster)
        op, body = self.recv()
        if op == Op.DENY:
            raise Denied(body.reason)
        assert (op, body.version) == (Op.INIT, VERSION)
        return self

    def close(self) -> None:
        """Disconnect without a close packet."""
        self._stream.close()
        self.sock.close()


class Client:
    """An attached application.

    What comes for it is in `broadcasts`, `events`, `next_request()` and `tunnels`, or goes to the
    callbacks.

    A callback runs in the reading thread: on_request gets a request's data, and returns the reply
    or raises Fault.
    """

    def __init__(
        self,
        port: int,
        cluster: str = "",
        *,
        host: str = "127.0.0.1",
        on_request: Callable[[bytes], bytes] | None = None,
        on_broadcast: Callable[[bytes], None] | None = None,
        on_event: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self.broadcasts: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.events: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        # (id, data, seconds)
        self._requests: queue.SimpleQueue[tuple[int, bytes, float] | None] = queue.SimpleQueue()
        self.tunnels: queue.SimpleQueue[Tunnel] = queue.SimpleQueue()  # accepted ones
        self._on_request, self._on_broadcast, self._on_event = on_request, on_broadcast, on_event
        self._ids, self._tunnel_ids = itertools.count(), itertools.count()
        self._pending: dict[int, Future[bytes]] = {}
        self._live: dict[int, Tunnel] = {}
        self._building: dict[int, Future[Tunnel]] = {}
        self._lock = threading.Lock()  # of writing
        self._ended = threading.Event()
        self.reason: str | None = None  # the node's close
        self._raw = Raw(port, host=host)
        try:
            self._raw.init(cluster)
        except BaseException:
            self._raw.close()
            raise
        self._raw.sock.settimeout(None)
        self._thread = threading.Thread(
            target=self._read, name=f"test-client-{cluster}", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, op: Op, **body: Any) -> None:
        """Send any packet. Raises: Closed."""
        data = DEFAULT.client(op, **body)
        try:
            with self._lock:
                self._raw.sock.sendall(data)
        except OSError as exc:
            raise Closed(self.reason) from exc

    # What an application does

    def broadcast(self, cluster: str, message: bytes) -> None:
        self.send(Op.BROADCAST, cluster=cluster, message=message)

    def publish(self, topic: str, event: bytes) -> None:
        self.send(Op.PUBLISH, topic=topic, event=event)

    def subscribe(self, topic: str) -> None:
        self.send(Op.SUBSCRIBE, topic=topic)

    def unsubscribe(self, topic: str) -> None:
        self.send(Op.UNSUBSCRIBE, topic=topic)

    def request(self, cluster: str, data: bytes, timeout: float = 1.0) -> bytes:
        """Raises: Fault, TimedOut, Closed."""
        return self.request_later(cluster, data, timeout).result(timeout + PATIENCE)

    def request_later(self, cluster: str, data: bytes, timeout: float = 1.0) -> "Future[bytes]":
        """Send a request without waiting, to have many in flight."""
        number, future = next(self._ids), Future[bytes]()
        self._pending[number] = future
        self.send(
            Op.REQUEST, id=number, cluster=cluster, request=data, timeout=round(timeout * 1_000)
        )
        if self._ended.is_set() and self._pending.pop(number, None) is not None:
            future.set_exception(Closed(self.reason))
        return future

    def reply(self, number: int, data: bytes) -> None:
        self.send(Op.REPLY, id=number, success=True, result=data)

    def fail(self, number: int, text: str) -> None:
        self.send(Op.REPLY, id=number, success=False, result=text)

    def next_request(self, timeout: float = PATIENCE) -> tuple[int, bytes, float]:
        """Wait for a request: its id, its data, and its timeout in seconds.

        Raises: Closed.
        """
        request = self._requests.get(timeout=timeout)
        if request is None:
            raise Closed(self.reason)
        return request

    def _answer(self, handler: Callable[[bytes], bytes], number: int, data: bytes) -> None:
        try:
            self.reply(number, handler(data))
        except Fault as exc:
            self.fail(number, str(exc))

    def tunnel(self, cluster: str, timeout: float = 1.0) -> "Tunnel":
        """Raises: TimedOut, Closed."""
        number, future = next(self._tunnel_ids), Future[Tunnel]()
        self._building[number] = future
        self.send(Op.TUNNEL_INIT, id=number, cluster=cluster, timeout=round(timeout * 1_000))
        return future.result(timeout + PATIENCE)

    def close(self) -> str | None:
        """Close. Returns: the reason in the node's close packet."""
        if not self._ended.is_set():
            with contextlib.suppress(Closed):  # the node closes too
                self.send(Op.CLOSE)
            assert self._ended.wait(PATIENCE), "the node doesn't answer a close"
        self._thread.join(PATIENCE)
        self._raw.close()
        return self.reason

    def vanish(self) -> None:
        """Disconnect without a close packet."""
        self._raw.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._raw.close()

    def wait_closed(self, timeout: float = PATIENCE) -> str | None:
        """Wait for the node to close. Returns: its reason."""
        assert self._ended.wait(timeout), "the node doesn't close"
        return self.reason

    # What comes

    def _read(self) -> None:
        dispatch: dict[Op, Callable[[Container], None]] = {
            Op.BROADCAST: self._take_broadcast,
            Op.REQUEST: self._take_request,
            Op.REPLY: self._take_reply,
            Op.PUBLISH: self._take_event,
            Op.TUNNEL_INIT: self._take_offer,
            Op.TUNNEL_CONFIRM: self._take_tunnel,
            Op.TUNNEL_ALLOW: self._take_allowance,
            Op.TUNNEL_TRANSFER: self._take_chunk,
            Op.TUNNEL_CLOSE: self._take_tunnel_close,
        }
        try:
            while True:
                op, body = self._raw.recv()
                if op == Op.CLOSE:
                    self.reason = body.reason
                    assert self._raw.at_end(), "something follows a close"
                    break
                dispatch[op](body)
        except (EOFError, OSError, Closed):
            pass  # as `reason` tells
        finally:
            self._end()

    def _end(self) -> None:
        self._ended.set()
        for table in (self._pending, self._building):
            while table:
                table.popitem()[1].set_exception(Closed(self.reason))
        for tunnel in list(self._live.values()):
            tunnel.handle_close("connection ended")
        self._requests.put(None)

    def _take_broadcast(self, body: Container) -> None:
        (self._on_broadcast or self.broadcasts.put)(body.message)

    def _take_event(self, body: Container) -> None:
        if self._on_event is not None:
            self._on_event(body.topic, body.event)
        else:
            self.events.put((body.topic, body.event))

    def _take_request(self, body: Container) -> None:
        if self._on_request is not None:
            self._answer(self._on_request, body.id, body.request)
        else:
            self._requests.put((body.id, body.request, body.timeout / 1_000))

    def _take_reply(self, body: Container) -> None:
        future = self._pending.pop(body.id)  # KeyError: answered twice, a bug of the node's
        if body.timed_out:
            future.set_exception(TimedOut())
        elif body.success:
            future.set_result(body.result)
        else:
            future.set_exception(Fault(body.result))

    def _take_offer(self, body: Container) -> None:
        number = next(self._tunnel_ids)
        tunnel = self._live[number] = Tunnel(self, number, body.chunk_limit)
        self.send(Op.TUNNEL_CONFIRM, build_id=body.build_id, id=number)
        self.send(Op.TUNNEL_ALLOW, id=number, space=CHUNK_WINDOW)
        self.tunnels.put(tunnel)

    def _take_tunnel(self, body: Container) -> None:
        future = self._building.pop(body.id)
        if body.timed_out:
            future.set_exception(TimedOut())
            return
        tunnel = self._live[body.id] = Tunnel(self, body.id, body.chunk_limit)
        self.send(Op.TUNNEL_ALLOW, id=body.id, space=CHUNK_WINDOW)
        future.set_result(tunnel)

    def _take_allowance(self, body: Container) -> None:
        if (tunnel := self._live.get(body.id)) is not None:
            tunnel.handle_allow(body.space)

    def _take_chunk(self, body: Container) -> None:
        if (tunnel := self._live.get(body.id)) is not None:
            tunnel.handle_chunk(body.size, body.chunk)

    def _take_tunnel_close(self, body: Container) -> None:
        if (tunnel := self._live.pop(body.id, None)) is not None:
            tunnel.handle_close(body.reason)


class Tunnel:
    """One end of a tunnel, which sends and gets whole messages."""

    def __init__(self, client: Client, number: int, chunk_limit: int) -> None:
        self.number, self.chunk_limit, self._client = number, chunk_limit, client
        self._changed = threading.Condition()
        self._space = 0
        self._message, self._size = bytearray(), 0
        self._messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()  # None: the end
        self.reason: str | None = None  # once it is closed

    def send(self, message: bytes, timeout: float = PATIENCE) -> None:
        """Raises: TimeoutError when the allowance doesn't come, which leaves half a message behind.

        Closed.
        """
        for start in range(0, len(message), self.chunk_limit):
            chunk = message[start : start + self.chunk_limit]
            self._spend(len(chunk), timeout)
            self._client.send(
                Op.TUNNEL_TRANSFER, id=self.number, size=0 if start else len(message), chunk=chunk
            )

    def wait_for_space(self, space: int, timeout: float = PATIENCE) -> None:
        """Wait until the node has taken so much that `space` bytes may be sent."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._space >= space, timeout)

    def _spend(self, count: int, timeout: float) -> None:
        with self._changed:
            if not self._changed.wait_for(
                lambda: self._space >= count or self.reason is not None, timeout
            ):
                raise TimeoutError
            if self.reason is not None:
                raise Closed(self.reason)
            self._space -= count

    def recv(self, timeout: float = PATIENCE) -> bytes:
        """Raises: TimeoutError; Closed, after the last message."""
        try:
            message = self._messages.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None
        if message is None:
            self._messages.put(None)
            raise Closed(self.reason)
        self._grant(len(message))
        return message

    def close(self) -> None:
        """End it; returns when the node has confirmed that."""
        if self.reason is None:
            self._client.send(Op.TUNNEL_CLOSE, id=self.number)
            self.wait_closed()

    def wait_closed(self, timeout: float = PATIENCE) -> str:
        """Wait for its end. Returns: the reason."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.reason is not None, timeout), (
                "the tunnel stays open"
            )
        assert self.reason is not None
        return self.reason

    def _grant(self, count: int) -> None:
        if count and self.reason is None:
            with contextlib.suppress(Closed):  # what has come can be read all the same
                self._client.send(Op.TUNNEL_ALLOW, id=self.number, space=count)

    def handle_allow(self, space: int) -> None:
        with self._changed:
            self._space += space
            self._changed.notify_all()

    def handle_chunk(self, size: int, chunk: bytes) -> None:
        if size:
            self._grant(len(self._message))  # of a message that was given up halfway
            self._message, self._size = bytearray(), size
        self._message += chunk
        assert len(self._message) <= self._size, "more than the whole message"
        if len(self._message) == self._size:
            self._messages.put(bytes(self._message))
            self._message, self._size = bytearray(), 0

    def handle_close(self, reason: str) -> None:
        with self._changed:
            self.reason = reason
            self._changed.notify_all()
        self._messages.put(None)
