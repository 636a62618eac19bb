"""Messages that have no way to go right now, and will have in a moment.

No counterpart in Go, which drops them. `DeferredMessages` is the core, not thread-safe; time is
counted in ticks. Bounded by messages and by bytes. `Deferral` is the shell with the timer.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from iris.config import Limits, ScribeConfig
from iris.metrics import Counter, Family
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.node_id import NodeId
from iris.proto.wire.trees import Header
from iris.runtime.timer import Timer, TimerEntry


@dataclass(slots=True, eq=False)
class Deferred:
    """One message, and for how many more ticks it is worth sending."""

    header: Header
    payload: Payload | None
    left: int


class DeferredMessages:
    """Messages by topic, each topic's in order."""

    def __init__(self, *, messages: int, size: int) -> None:
        self._by_topic: dict[NodeId, deque[Deferred]] = {}
        self._limit = messages
        self._messages, self._size = messages, size  # still free; size in bytes of payload

    def __len__(self) -> int:
        return self._limit - self._messages

    def topics(self) -> list[NodeId]:
        """List the topics that have a message."""
        return list(self._by_topic)

    def add(self, topic: NodeId, message: Deferred) -> bool:
        """Keep a message; False when there is no room."""
        size = len(message.payload or ())
        if not self._messages or size > self._size:
            return False
        self._messages -= 1
        self._size -= size
        self._by_topic.setdefault(topic, deque()).append(message)
        return True

    def take(self, topic: NodeId) -> list[Deferred]:
        """Take out a topic's messages, oldest first."""
        taken = list(self._by_topic.pop(topic, ()))
        for message in taken:
            self._free(message)
        return taken

    def tick(self) -> int:
        """Drop the messages whose time is up. Returns: how many."""
        expired = 0
        for topic, messages in list(self._by_topic.items()):
            kept: deque[Deferred] = deque()
            for message in messages:
                message.left -= 1
                if message.left > 0:
                    kept.append(message)
                else:
                    self._free(message)
            expired += len(messages) - len(kept)
            if kept:
                self._by_topic[topic] = kept
            else:
                del self._by_topic[topic]
        return expired

    def _free(self, message: Deferred) -> None:
        self._messages += 1
        self._size += len(message.payload or ())


def without_hop(header: Header) -> Header:
    """Drop the previous hop, so that routing restarts from the origin."""
    if header.prev is None:
        return header
    return Header(header.meta, header.op, header.sender, header.topic)


class Deferral:
    """What a node defers: anycasts until there is a tree, publishes until there is a parent.

    Lock order: scribe -> deferral -> timer; nothing is sent with the lock held.
    """

    def __init__(
        self,
        send: Callable[[NodeId, Message], None],
        anycast_timeout: Callable[[object], float],
        *,
        config: ScribeConfig,
        limits: Limits,
        timer: Timer,
        undeliverable: Family[Counter],
    ) -> None:
        """Route anycasts anew with `send`, for as long as `anycast_timeout` of their `meta` says.

        Args:
            undeliverable: counts what is dropped, by cause.
        """
        self._send, self._anycast_timeout = send, anycast_timeout
        self._timer, self._period = timer, config.defer_retry
        self._max_ticks = ceil(config.defer_time / config.defer_retry)
        self._undeliverable = undeliverable
        self._lock = threading.Lock()
        bounds = {"messages": limits.deferred_messages, "size": limits.deferred_bytes}
        self._anycasts, self._publishes = DeferredMessages(**bounds), DeferredMessages(**bounds)
        self._retry_timer: TimerEntry | None = None
        self._closed = False
        self._retried = threading.local()  # `left`: ticks left to what this thread sends again

    def __len__(self) -> int:
        with self._lock:
            return len(self._anycasts) + len(self._publishes)

    def topics(self) -> list[NodeId]:
        """List the topics of deferred anycasts."""
        with self._lock:
            return self._anycasts.topics()

    def defer_publish(self, topic: NodeId, header: Header, payload: Payload | None) -> None:
        """Keep a publish, for `take_publishes`."""
        self._keep(self._publishes, topic, Deferred(header, payload, self._max_ticks))

    def take_publishes(self, topic: NodeId) -> list[Deferred]:
        """Take out a topic's publishes, oldest first."""
        with self._lock:
            return self._publishes.take(topic)

    def defer_anycast(self, topic: NodeId, header: Header, payload: Payload | None) -> None:
        """Keep an anycast, to route it anew in a moment, from its origin."""
        left: int | None = getattr(self._retried, "left", None)
        if left is None:
            left = min(self._max_ticks, ceil(self._anycast_timeout(header.meta) / self._period))
        self._keep(self._anycasts, topic, Deferred(without_hop(header), payload, left))

    def retry_anycasts(self, topic: NodeId) -> None:
        """Route a topic's anycasts anew, oldest first.

        Those that still have no way to go are deferred for the time that they had left.
        """
        with self._lock:
            deferred = self._anycasts.take(topic)
        for message in deferred:
            self._retried.left = message.left
            try:
                self._send(topic, Message(message.header, message.payload))
            finally:
                self._retried.left = None

    def close(self) -> None:
        """Stop retrying; what is deferred is lost."""
        with self._lock:
            self._closed = True
            if self._retry_timer is not None:
                self._timer.cancel(self._retry_timer)

    def _keep(self, queue: DeferredMessages, topic: NodeId, message: Deferred) -> None:
        with self._lock:
            if message.left <= 0:
                self._undeliverable["expired"].inc()
            elif self._closed or not queue.add(topic, message):
                self._undeliverable["not deferred"].inc()
            elif self._retry_timer is None:
                self._retry_timer = self._timer.after(self._period, self._tick)

    def _tick(self) -> None:
        with self._lock:
            self._undeliverable["expired"].inc(self._anycasts.tick() + self._publishes.tick())
            topics = self._anycasts.topics()
        for topic in topics:
            self.retry_anycasts(topic)
        with self._lock:
            again = not self._closed and (self._anycasts or self._publishes)
            self._retry_timer = self._timer.after(self._period, self._tick) if again else None
