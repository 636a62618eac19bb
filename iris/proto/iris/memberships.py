"""Memberships: which connections of this node are members of which topic.

Core; counterpart of the subscription tables of Go's proto/iris/overlay.go. Message paths read
`members` without a lock, since a topic's tuple is replaced as a whole. Scribe is called without a
lock too: one thread per topic at a time, until scribe and the table agree.
"""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

M = TypeVar("M")


class Memberships(Generic[M]):
    """Map topics to local members: subscribe on the first join, unsubscribe on the last leave.

    `subscribe` and `unsubscribe` are scribe's, called in turns for a topic, never twice in a row.
    """

    def __init__(
        self, subscribe: Callable[[str], None], unsubscribe: Callable[[str], None]
    ) -> None:
        self._subscribe, self._unsubscribe = subscribe, unsubscribe
        self.members: dict[str, tuple[M, ...]] = {}
        self._subscribed: set[str] = set()  # topics, as far as scribe knows
        self._syncing: set[str] = set()  # topics that a thread is calling scribe about
        # guards all of the above; held across no call
        self._changed = threading.Condition(threading.Lock())

    def join(self, topic: str, member: M) -> None:
        """Add a member that isn't one yet. On return, scribe is subscribed to the topic."""
        with self._changed:
            self.members[topic] = (*self.members.get(topic, ()), member)
        self._sync_subscription(topic, wait=True)

    def leave(self, topic: str, member: M) -> None:
        """Remove a member, if it is one."""
        with self._changed:
            rest = tuple(other for other in self.members.get(topic, ()) if other is not member)
            if rest:
                self.members[topic] = rest
            else:
                self.members.pop(topic, None)
        self._sync_subscription(topic, wait=False)  # a thread that is syncing sees the change

    def _sync_subscription(self, topic: str, *, wait: bool) -> None:
        with self._changed:
            if topic in self._syncing:
                # no join comes from inside of a call of scribe, so the other thread gets on
                if wait:
                    self._changed.wait_for(lambda: topic not in self._syncing)
                return
            self._syncing.add(topic)
        try:
            while (change := self._next_change(topic)) is not None:
                change(topic)
        except BaseException:
            with self._changed:
                self._syncing.discard(topic)
                self._changed.notify_all()
            raise

    def _next_change(self, topic: str) -> Callable[[str], None] | None:
        """Pick the next call to scribe; None, and the end of syncing, without any."""
        with self._changed:
            wanted = topic in self.members
            if wanted == (topic in self._subscribed):
                self._syncing.discard(topic)
                self._changed.notify_all()
                return None
            if wanted:
                self._subscribed.add(topic)
                return self._subscribe
            self._subscribed.discard(topic)
            return self._unsubscribe
