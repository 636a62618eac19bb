"""A tunnel between a client and the Iris layer: who may send how much, and who is told of its end.

Core.

Counterpart of Go's service/relay/tunnel.go, whose queues are gone: what the client sends goes to the
Iris layer at once, bounded by the allowance; what comes for the client waits here only while the
client's allowance doesn't cover it, bounded by the Iris layer's window.

Lock order: tunnel -> send buffer, inside of a batch, so that nothing is sent (and nobody called back)
with the lock held.
"""

import threading
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from iris.config import Config
from iris.errors import LimitReached, MessageTooBig, ProtocolError, StateError
from iris.proto.iris.tunnel import Tunnel
from iris.relay_protocol import node_packets as codec
from iris.runtime.batch import Batch

NOT_BUILT = "the tunnel couldn't be built"


class ClientSide(Protocol):
    """What a tunnel needs of its client. Never waits, never raises."""

    def send(self, *buffers: bytes) -> None:
        """Write one packet."""

    @property
    def relieved(self) -> bool:
        """Whether the client has taken most of what waits for it."""

    def when_relieved(self, callback: Callable[[], None]) -> None:
        """Call back once it is relieved: now, or later from any thread."""

    def forget_tunnel(self, number: int) -> None:
        """Its number may be used again."""


class State(Enum):
    """Of one end of a tunnel, as its client sees it."""

    BUILDING = auto()
    OPEN = auto()
    CLOSED = auto()


STEPS = {
    (State.BUILDING, "open"): State.OPEN,
    (State.BUILDING, "close"): State.CLOSED,
    (State.OPEN, "close"): State.CLOSED,
}


class RelayTunnel:
    """One end of a tunnel; the Iris layer's `TunnelConsumer`.

    `transfer`, `allow` and `close` are the client's packets.
    """

    def __init__(self, number: int, client: ClientSide, config: Config, *, accepted: bool) -> None:
        """Begin to build. accepted.

        The client confirmed an offer, so it knows of the tunnel before it is built.
        """
        self._number, self._client, self._accepted = number, client, accepted
        self._chunk_limit, self._buffer, self._message_size = (
            config.relay.chunk_limit,
            config.relay.tunnel_buffer,
            config.limits.message_size,
        )
        self._lock = threading.Lock()  # guards all below
        self._state = State.BUILDING
        self._tunnel: Tunnel | None = None
        # from the client
        self._granted = 0  # bytes that may be on their way at a time
        self._unsent = 0  # bytes on their way, not given back to the client yet
        self._left = 0  # bytes of the begun message that are still to come
        self._size = 0  # the begun message's, until a chunk took it along
        # to the client
        self._allowance = 0  # bytes
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._held_up = False  # what waits does so until the client is relieved
        self._unfinished = 0  # bytes of the begun message that are still to come
        self._end: str | None = None  # why no more will come
        self._owed = 0  # bytes that count as consumed once the client has taken what waits for it
        self._relief_due = False
        # a thread is in `_relieved`, and was called back once more
        self._relieving = self._relieved_again = False

    def _step(self, event: str) -> None:
        state = STEPS.get((self._state, event))
        if state is None:
            raise StateError(f"{event} isn't possible for a tunnel that is {self._state.name}")
        self._state = state

    # The Iris layer's side

    def built(self, tunnel: Tunnel | None) -> None:
        """Take the tunnel that was asked for, or None when it can't be had."""
        number, send = self._number, self._client.send
        with Batch():
            with self._lock:
                wanted = self._state is State.BUILDING
                if wanted and tunnel is None:
                    self._step("close")
                    self._client.forget_tunnel(number)
                    send(
                        codec.tunnel_close(number, NOT_BUILT)
                        if self._accepted
                        else codec.tunnel_timed_out(number)
                    )
                self._tunnel = tunnel
            if tunnel is None:
                return
            if wanted:
                tunnel.start(self)  # what comes right away waits until the client knows
            passed = 0
            with self._lock:
                wanted = self._state is State.BUILDING
                if wanted:
                    self._step("open")
                    if not self._accepted:
                        send(codec.tunnel_built(number, self._chunk_limit))
                    self._granted = self._buffer
                    send(codec.tunnel_allow(number, self._buffer))
                    passed = self._deliver()
            if wanted:
                self._pass_on(passed)
            else:
                tunnel.close()  # the client closed it while it was built

    def handle_chunk(self, size: int, chunk: bytes) -> None:
        """Data for the client: now if its allowance covers it, else later."""
        with Batch():
            with self._lock:
                if self._state is State.CLOSED:
                    return
                self._waiting.append((size, chunk))
                passed = self._deliver()
            self._pass_on(passed)

    def handle_credit(self, count: int) -> None:
        """The client may send so much more."""
        with Batch(), self._lock:
            self._unsent -= count
            if self._state is State.OPEN:
                self._client.send(codec.tunnel_allow(self._number, count))

    def handle_close(self, reason: str) -> None:
        """The other end closed, or it broke: the client is told after all data that came."""
        with Batch():
            with self._lock:
                if self._state is State.CLOSED:
                    return
                self._end = reason
                passed = self._deliver()
            self._pass_on(passed)

    def _deliver(self) -> int:
        """Send what may be sent, and the end after the last. Returns: bytes of it."""
        assert self._lock.locked()
        self._held_up = False
        if self._state is not State.OPEN:
            return 0
        number, waiting, send = self._number, self._waiting, self._client.send
        passed = 0
        while waiting:
            size, chunk = waiting[0]
            length = len(chunk)
            # A begun message is always finished. One that was abandoned halfway is given back by
            # the client only when the next begins.
            if length > self._allowance and not self._unfinished:
                break
            # many tunnels together are more than what may wait for it
            if not self._client.relieved:
                self._held_up = True
                break
            waiting.popleft()
            self._allowance -= length
            self._unfinished = max(0, (size or self._unfinished) - length)
            passed += length
            send(codec.tunnel_transfer(number, size, length), chunk)
        if self._end is not None and not waiting:
            self._step("close")
            self._client.forget_tunnel(number)
            send(codec.tunnel_close(number, self._end))
        return passed

    def _pass_on(self, count: int) -> None:
        """Let more come for `count` bytes, and send what is held up, once the client has taken most
        of what waits for it.
        """
        with self._lock:
            self._owed += count
            if self._relief_due or not (self._owed or self._held_up):
                return
            self._relief_due = True
        self._client.when_relieved(self._relieved)

    def _relieved(self) -> None:
        """The client has room.

        A loop, for what is passed on here may bring the next chunk at once, and that the next one.
        """
        with self._lock:
            if self._relieving:
                self._relieved_again = True
                return
            self._relieving = True
        while True:
            with Batch():
                with self._lock:
                    count, self._owed, self._relieved_again = self._owed, 0, False
                    tunnel = self._tunnel
                    passed = self._deliver()
                if tunnel is not None and count:
                    tunnel.consumed(count)
            with self._lock:
                self._owed += passed
                if not (self._owed or self._held_up):
                    self._relief_due = self._relieving = False
                    return
            self._client.when_relieved(self._relieved)
            with self._lock:
                if not self._relieved_again:  # but later
                    self._relieving = False
                    return

    # The client's side

    def transfer(self, size: int, chunk: bytes) -> None:
        """Pass on a chunk. Raises.

        ProtocolError for one beyond the allowance, or beyond its message.
        """
        length = len(chunk)
        with self._lock:
            if self._state is State.CLOSED:
                return
            if size:
                if size > self._message_size:
                    raise MessageTooBig(size, self._message_size)
                if self._unsent + length > self._granted:
                    raise ProtocolError("a tunnel's message begins beyond the allowance")
                self._left = self._size = size
            if length > self._left:
                raise ProtocolError("a tunnel's chunk goes beyond its message")
            self._left -= length
            self._unsent += length
            tunnel = self._tunnel
            if length:
                size, self._size = self._size, 0
        if tunnel is None or not length or self._end is not None:
            # nobody takes it; an empty chunk carries nothing, but is answered
            self.handle_credit(length)
            return
        try:
            tunnel.send(size, chunk)
        # countless tiny chunks cost more than they count; this one is lost
        except LimitReached as exc:
            self._close(str(exc))

    def allow(self, space: int) -> None:
        """The client takes so many bytes more."""
        with Batch():
            with self._lock:
                self._allowance += space
                passed = self._deliver()
            self._pass_on(passed)

    def close(self) -> None:
        """The client wants no more of it.

        Ignored while it doesn't know of the tunnel, and after the end.
        """
        self._close("")

    def _close(self, reason: str) -> None:
        with Batch():
            with self._lock:
                if self._state is State.CLOSED or (
                    self._state is State.BUILDING and not self._accepted
                ):
                    return
                tunnel = self._leave()
                self._client.send(codec.tunnel_close(self._number, reason))
            if tunnel is not None:
                if reason:
                    tunnel.break_off()
                else:
                    tunnel.close()

    def abandon(self) -> None:
        """The client is gone, and its connection with all tunnels that were built."""
        with self._lock:
            if self._state is not State.CLOSED:
                self._leave()

    def _leave(self) -> Tunnel | None:
        assert self._lock.locked()
        self._step("close")
        self._waiting.clear()
        self._client.forget_tunnel(self._number)
        return self._tunnel
