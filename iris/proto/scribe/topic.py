"""One topic as this node sees it: its place in the tree, and who is next to it there.

Counterpart of Go's proto/scribe/topic/topic.go. Core, not thread-safe. What Go doesn't demand: a parent
is strictly closer to the topic than its child, seen from both, so no churn can bend a tree into a
ring (a message in a ring would circulate for ever: nothing counts hops).
"""

import random

from iris.balancer import Balancer
from iris.proto.wire.node_id import NodeId, delta

# anycasts a beat that a subscriber is trusted with beyond what it took; shares of equal hosts stray
# by some 5 %
HEAD_START = 8
IDLE_USAGE = 0.25  # of the CPU; below it the head start isn't scaled up any further


def remoteness(node: NodeId, topic: NodeId) -> int:
    """Order nodes by their way to a topic. Never equal for two nodes.

    The one below the topic comes first, as in the ring's routing.
    """
    way = delta(node, topic)
    return way << 1 if way >= 0 else -way << 1 | 1


class Topic:
    """A tree's part on the node `owner`. `neighbours` are the parent and the children, not `owner`.

    Ready to be sent to.
    """

    __slots__ = (
        "_own_remoteness",
        "balancer",
        "children",
        "id",
        "name",
        "neighbours",
        "owner",
        "parent",
        "rooted",
        "settled",
        "taken",
    )

    def __init__(self, topic: NodeId, owner: NodeId, rng: random.Random) -> None:
        self.id, self.owner = topic, owner
        self._own_remoteness = remoteness(owner, topic)
        self.balancer: Balancer[NodeId] = Balancer(rng)
        self.parent: NodeId | None = None
        self.children: dict[NodeId, None] = {}  # a set that keeps its order
        self.neighbours: tuple[NodeId, ...] = ()
        self.name: str | None = None  # as the local subscriber calls it; None without one
        self.rooted = False  # this node is the rendezvous, as far as the ring knows
        # what has to go up can go at once: there is nothing above, or a parent that got all that
        # waited
        self.settled = False
        self.taken = 0  # anycasts that the local subscriber got in this beat

    def above(self, node: NodeId) -> bool:
        """Whether `node` is closer to the topic than this one.

        It may be the parent, and never a child.
        """
        return remoteness(node, self.id) < self._own_remoteness

    @property
    def empty(self) -> bool:
        """Nobody here or below needs it."""
        return not self.children and self.name is None

    def subscribe(self, child: NodeId) -> None:
        """Take a child. Raises: StateError when it is one."""
        self.balancer.register(child)
        self.children[child] = None
        self._rewire()

    def unsubscribe(self, child: NodeId) -> None:
        """Let a child go. Raises: StateError when it is none."""
        self.balancer.unregister(child)
        del self.children[child]
        self._rewire()

    def join(self, name: str) -> None:
        """Take the local subscriber. Raises: StateError when there is one."""
        self.balancer.register(self.owner)
        self.name, self.taken = name, 0

    def quit(self) -> None:
        """Let the local subscriber go. Raises: StateError when there is none."""
        self.balancer.unregister(self.owner)
        self.name = None

    def reown(self, parent: NodeId | None) -> None:
        """Change the parent. What waits to go up isn't with the new one yet."""
        if self.parent is not None:
            self.balancer.unregister(self.parent)
        if parent is not None:
            self.balancer.register(parent)
        self.parent, self.rooted, self.settled = parent, False, False
        self._rewire()

    def _rewire(self) -> None:
        self.neighbours = (
            (*self.children,) if self.parent is None else (*self.children, self.parent)
        )

    def multicast(self, prev: int | None) -> tuple[NodeId, ...] | None:
        """To whom a publish goes on, besides the local subscriber.

        `prev`, whom it came from, may be among them. None: a stranger sent it.

        Unsettled, the way up is left out: what doesn't come from the parent has to wait for it.
        """
        if prev is not None and prev != self.parent and prev not in self.children:
            return None
        return self.neighbours if self.settled else (*self.children,)

    def anycast(self, prev: int | None) -> NodeId | None:
        """Choose who gets a message that came from `prev`; `owner` is the local subscriber.

        Straight back only if nobody else is here.
        """
        node = self.balancer.pick(prev)
        if node == self.owner:
            self.taken += 1
        return node

    def cycle(self, cpu_usage: float) -> None:
        """A beat is over.

        The local subscriber's capacity is what it took, scaled up from the CPU usage (0 < usage <=
        1) to a full CPU.

        The head start keeps chance from deciding: without it, who happened to take more is given
        more, and in the end all of it. On an idle machine it is scaled up less, so that Go nodes,
        which have none, still get their share.
        """
        if self.name is not None:
            self.balancer.update(
                self.owner, int(self.taken / cpu_usage + HEAD_START / max(cpu_usage, IDLE_USAGE))
            )
        self.taken = 0
