"""Messages that have nowhere to go right now, and will have in a moment.

No counterpart in Go, which drops them. Core, not thread-safe; time is counted in ticks. Bounded by
messages and by bytes.
"""

from collections import deque

from iris.proto.wire.message import Payload
from iris.proto.wire.node_id import NodeId
from iris.proto.wire.trees import Header


class Deferred:
    """One message, and how many ticks it is still worth anything."""

    __slots__ = ("header", "left", "payload")

    def __init__(self, header: Header, payload: Payload | None, left: int) -> None:
        self.header, self.payload, self.left = header, payload, left


class DeferredMessages:
    """Messages by topic, each topic's in order."""

    def __init__(self, *, messages: int, size: int) -> None:
        self._lots: dict[NodeId, deque[Deferred]] = {}
        self._messages, self._size = messages, size  # still free; size in bytes of payload

    def __bool__(self) -> bool:
        return bool(self._lots)

    def topics(self) -> list[NodeId]:
        """Those with a message."""
        return list(self._lots)

    def add(self, topic: NodeId, parked: Deferred) -> bool:
        """Park it; False when it is out of time, or there is no room."""
        size = len(parked.payload) if parked.payload is not None else 0
        if parked.left <= 0 or not self._messages or size > self._size:
            return False
        self._messages -= 1
        self._size -= size
        self._lots.setdefault(topic, deque()).append(parked)
        return True

    def take(self, topic: NodeId) -> list[Deferred]:
        """Take out what waits for a topic, oldest first."""
        taken = list(self._lots.pop(topic, ()))
        for parked in taken:
            self._free(parked)
        return taken

    def tick(self) -> int:
        """Forget what is out of time; tells how many."""
        expired = 0
        for topic, lot in list(self._lots.items()):
            kept: deque[Deferred] = deque()
            for parked in lot:
                parked.left -= 1
                if parked.left > 0:
                    kept.append(parked)
                else:
                    self._free(parked)
            expired += len(lot) - len(kept)
            if kept:
                self._lots[topic] = kept
            else:
                del self._lots[topic]
        return expired

    def _free(self, parked: Deferred) -> None:
        self._messages += 1
        self._size += len(parked.payload) if parked.payload is not None else 0
