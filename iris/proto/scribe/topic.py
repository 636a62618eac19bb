"""One topic as this node sees it: its place in the tree, and its neighbours there.

Counterpart of Go's proto/scribe/topic/topic.go. Core, not thread-safe. Go doesn't demand that a
parent is strictly closer to the topic than its child; here it is, seen from both, so no churn can
bend a tree into a ring (a message in a ring would circulate for ever: nothing counts hops).
"""

import random

from iris.balancer import Balancer
from iris.proto.wire.node_id import NodeId, delta

# anycasts a beat that a subscriber is trusted with beyond what it took; shares of equal hosts stray
# by some 5 %
HEAD_START = 8
IDLE_USAGE = 0.25  # of the CPU; below it the head start isn't scaled up any further


def remoteness(node: NodeId, topic: NodeId) -> int:
    """Rank a node by its way to a topic, differently from every other node.

    Of two equally far ones the one below the topic comes first, as in the ring's routing.
    """
    way = delta(node, topic)
    return way << 1 if way >= 0 else -way << 1 | 1


class Topic:
    """A tree's part on the node `owner`; `neighbours` are its parent and its children."""

    __slots__ = (
        "_own_remoteness", "balancer", "children", "id", "is_root", "name", "neighbours", "owner",
        "parent", "taken", "upstream_open",
    )  # fmt: skip

    def __init__(self, topic: NodeId, owner: NodeId, rng: random.Random) -> None:
        self.id, self.owner = topic, owner
        self._own_remoteness = remoteness(owner, topic)
        self.balancer: Balancer[NodeId] = Balancer(rng)
        self.parent: NodeId | None = None
        self.children: dict[NodeId, None] = {}  # a set that keeps its order
        self.neighbours: tuple[NodeId, ...] = ()
        self.name: str | None = None  # as the local subscriber calls it; None without one
        self.is_root = False  # this node is the rendezvous, as far as the ring knows
        # what has to go up goes at once: this is the root, or the parent got all that was deferred
        self.upstream_open = False
        self.taken = 0  # anycasts that the local subscriber got in this beat

    def above(self, node: NodeId) -> bool:
        """Whether `node` is closer to the topic: it may be the parent, and never a child."""
        return remoteness(node, self.id) < self._own_remoteness

    @property
    def empty(self) -> bool:
        """Whether neither this node nor one below subscribes."""
        return not self.children and self.name is None

    def subscribe(self, child: NodeId) -> None:
        """Add a child. Raises: StateError when it is one."""
        self.balancer.register(child)
        self.children[child] = None
        self._update_neighbours()

    def unsubscribe(self, child: NodeId) -> None:
        """Remove a child. Raises: StateError when it is none."""
        self.balancer.unregister(child)
        del self.children[child]
        self._update_neighbours()

    def join(self, name: str) -> None:
        """Add the local subscriber. Raises: StateError when there is one."""
        self.balancer.register(self.owner)
        self.name, self.taken = name, 0

    def quit(self) -> None:
        """Remove the local subscriber. Raises: StateError when there is none."""
        self.balancer.unregister(self.owner)
        self.name = None

    def set_parent(self, parent: NodeId | None) -> None:
        """Change the parent; what is deferred has to go to the new one first."""
        if self.parent is not None:
            self.balancer.unregister(self.parent)
        if parent is not None:
            self.balancer.register(parent)
        self.parent, self.is_root, self.upstream_open = parent, False, False
        self._update_neighbours()

    def _update_neighbours(self) -> None:
        self.neighbours = (*self.children,)
        if self.parent is not None:
            self.neighbours += (self.parent,)

    def multicast(self, prev: int | None) -> tuple[NodeId, ...] | None:
        """Choose the neighbours that get a publish, besides the local subscriber.

        `prev`, which it came from, may be among them. Without an open way up the parent isn't: what
        doesn't come from it is deferred. Returns: None when `prev` isn't a neighbour.
        """
        if prev is not None and prev != self.parent and prev not in self.children:
            return None
        return self.neighbours if self.upstream_open else (*self.children,)

    def anycast(self, prev: int | None) -> NodeId | None:
        """Pick a neighbour by weight; return to `prev` only as a last resort.

        `owner` stands for the local subscriber.
        """
        node = self.balancer.pick(prev)
        if node == self.owner:
            self.taken += 1
        return node

    def cycle(self, cpu_usage: float) -> None:
        """End a beat: set the local subscriber's capacity to what it took, scaled up to a full CPU.

        The head start keeps chance from deciding: without it, a node that happened to take more is
        given more, and in the end all of it. On an idle machine it is scaled up less, so that Go
        nodes, which have none, still get their share.

        Args:
            cpu_usage: the busy share of the CPUs, 0 < cpu_usage <= 1.
        """
        if self.name is not None:
            head_start = HEAD_START / max(cpu_usage, IDLE_USAGE)
            self.balancer.update(self.owner, int(self.taken / cpu_usage + head_start))
        self.taken = 0
