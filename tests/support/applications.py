"""Fake applications for iris connections: they take notes of what they get."""

import threading
from collections.abc import Callable

from iris.proto.iris.base import Delivery
from iris.proto.iris.requests import Call
from iris.proto.iris.tunnel import Tunnel, TunnelOffer


class Application:
    """A handler; `answer` and `on_tunnel`, if set, react at once."""

    def __init__(
        self,
        answer: Callable[[Call], None] | None = None,
        on_tunnel: Callable[[TunnelOffer], None] | None = None,
    ) -> None:
        self.answer, self.on_tunnel = answer, on_tunnel
        self.broadcasts: list[bytes] = []
        self.events: list[tuple[str, bytes]] = []
        self.calls: list[Call] = []
        self.offers: list[TunnelOffer] = []

    def handle_broadcast(self, message: Delivery) -> None:
        self.broadcasts.append(message.data)

    def handle_event(self, topic: str, event: Delivery) -> None:
        self.events.append((topic, event.data))

    def handle_request(self, call: Call) -> None:
        if self.answer is not None:
            self.answer(call)
        else:
            self.calls.append(call)

    def handle_tunnel(self, offer: TunnelOffer) -> None:
        if self.on_tunnel is not None:
            self.on_tunnel(offer)
        else:
            self.offers.append(offer)


def echo() -> Application:
    """A service that sends every request back."""
    return Application(lambda call: call.reply(call.data))


class TunnelEnd:
    """The owner of one end of a tunnel: consumes everything at once, unless slow.

    What it waits for has a Condition.
    """

    def __init__(self, tunnel: Tunnel, *, slow: bool = False) -> None:
        self.tunnel, self.slow = tunnel, slow
        self.chunks: list[tuple[int, bytes]] = []
        self.closed: list[str] = []
        self.credit = self.unconsumed = self.most_unconsumed = 0
        self._changed = threading.Condition()
        tunnel.start(self)

    def handle_chunk(self, size: int, chunk: bytes) -> None:
        with self._changed:
            assert not self.closed, "data after the close"
            self.chunks.append((size, chunk))
            self.unconsumed += len(chunk)
            self.most_unconsumed = max(self.most_unconsumed, self.unconsumed)
            self._changed.notify_all()
        if not self.slow:
            self.consume()

    def handle_credit(self, count: int) -> None:
        with self._changed:
            self.credit += count
            self._changed.notify_all()

    def handle_close(self, reason: str) -> None:
        with self._changed:
            self.closed.append(reason)
            self._changed.notify_all()

    def consume(self) -> None:
        """Pass on all that came."""
        with self._changed:
            count, self.unconsumed = self.unconsumed, 0
        self.tunnel.consumed(count)

    def wait(self, condition: Callable[["TunnelEnd"], bool], timeout: float = 10.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), timeout)

    @property
    def data(self) -> bytes:
        return b"".join(chunk for _, chunk in self.chunks)
