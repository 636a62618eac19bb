"""Who on this node is a member of which topic, and telling scribe of a topic's first member and of
its last.

Core; answers to the subscription tables of Go's proto/iris/overlay.go. Messages read `members`
without a lock, for a topic's tuple is replaced as a whole. Scribe is told without a lock too: one
thread at a time speaks for a topic, until scribe and the table agree.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

M = TypeVar("M")


class Memberships(Generic[M]):
    """Topics of all members.

    `subscribe` and `unsubscribe` are scribe's, called in turns for a topic, never twice in a row.
    """

    def __init__(
        self, subscribe: Callable[[str], None], unsubscribe: Callable[[str], None]
    ) -> None:
        self._subscribe, self._unsubscribe = subscribe, unsubscribe
        self.members: dict[str, tuple[M, ...]] = {}
        self._subscribed: set[str] = set()  # topics that scribe was told of
        self._settling: set[str] = set()  # topics that a thread speaks to scribe about right now
        # guards all of the above; held across no call
        self._changed = threading.Condition(threading.Lock())

    def join(self, topic: str, member: M) -> None:
        """Add one that isn't a member yet. On return scribe knows the topic, whoever told it."""
        with self._changed:
            self.members[topic] = (*self.members.get(topic, ()), member)
        self._settle(topic, wait=True)

    def leave(self, topic: str, member: M) -> None:
        """Remove one; nothing happens when it is no member."""
        with self._changed:
            rest = tuple(other for other in self.members.get(topic, ()) if other is not member)
            if rest:
                self.members[topic] = rest
            else:
                self.members.pop(topic, None)
        self._settle(topic, wait=False)  # whoever is at it sees the change

    def _settle(self, topic: str, *, wait: bool) -> None:
        with self._changed:
            if topic in self._settling:
                # nobody joins from inside of a call by scribe, so the other thread gets on
                if wait:
                    self._changed.wait_for(lambda: topic not in self._settling)
                return
            self._settling.add(topic)
        try:
            while (tell := self._difference(topic)) is not None:
                tell(topic)
        except BaseException:
            with self._changed:
                self._settling.discard(topic)
                self._changed.notify_all()
            raise

    def _difference(self, topic: str) -> Callable[[str], None] | None:
        """What scribe must be told next; None when it knows, and the topic is settled."""
        with self._changed:
            wanted = topic in self.members
            if wanted == (topic in self._subscribed):
                self._settling.discard(topic)
                self._changed.notify_all()
                return None
            if wanted:
                self._subscribed.add(topic)
                return self._subscribe
            self._subscribed.discard(topic)
            return self._unsubscribe
