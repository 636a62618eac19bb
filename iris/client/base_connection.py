"""What the connections of both APIs share: their subscriptions, and their state."""

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from iris.client.base_node_connection import QUEUE_FULL, BaseNodeConnection, P
from iris.client.limits import TopicLimits

N = TypeVar("N", bound=BaseNodeConnection[Any, Any])


class BaseConnection(Generic[N, P]):
    """One program's connection, made around its node connection."""

    def __init__(self, node: N) -> None:
        self._node, self._protocol = node, node.protocol
        self._lock = threading.Lock()  # guards _topics, together with the protocol's subscriptions
        self._topics: dict[str, P] = {}

    @property
    def in_flight(self) -> int:
        """The number of requests and tunnel requests without a result."""
        return self._protocol.in_flight

    def _subscribe(
        self, topic: str, handler: Callable[[bytes], Any], limits: TopicLimits | None
    ) -> P:
        limits = limits or TopicLimits()
        node, memory = self._node, limits.event_memory
        pool: P = node.new_pool("topic", handler, limits.event_threads, memory)

        def deliver(event: bytes) -> None:
            if not pool.submit(event, len(event)):
                node.log_dropped(f"event of '{topic}'", QUEUE_FULL, memory)

        with self._lock:
            try:
                self._protocol.subscribe(topic, deliver)
            except BaseException:
                node.drop_pool(pool)
                raise
            self._topics[topic] = pool
        pool.start()
        return pool

    def _unsubscribe(self, topic: str, only: P | None = None) -> None:
        with self._lock:
            pool = self._topics.get(topic)
            if only is not None and pool is not only:
                return  # it has ended, and there may be another one of that topic
            self._protocol.unsubscribe(topic)
            del self._topics[topic]
        self._node.drop_pool(pool)

    @property
    def closed(self) -> bool:
        """Whether it has ended, for any reason."""
        return self._protocol.ended is not None

    def abort(self) -> None:
        """Disconnect at once, so that no peer takes this program's tunnels for complete.

        Use it when a stream cannot be finished. Idempotent, never raises; all that waits for this
        connection raises `Closed`.
        """
        self._node.abort()
