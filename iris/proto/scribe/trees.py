"""All topic trees, as far as they touch this node.

Who becomes a child, who the parent, who is gone.

Answers to the handlers of Go's proto/scribe/events.go and to heart.go. Core: what happens goes in,
what has to be sent comes out in `actions`, in order. Not thread-safe; beats are counted, not timed.

What it does beyond Go, on the same wire:
* A child is taken only by a node that is closer to the topic; others let its subscription pass
  (prefix routing takes such detours). Go's
  node takes it, the child refuses it as a parent, and the two never get together.
* A child that subscribes again has lost its parent out of sight: it is told again. It doesn't
  cascade, so nobody gets into two subtrees.
* `unsubscribe` to one who isn't the sender's parent says "we are no neighbours": it answers reports
  of strangers, and a leaving parent says
  it to its children. A child that hears it from its parent looks for a new one at once. Go's node
  ignores it, or drops a stale child.
"""

import random
from collections import deque
from enum import Enum
from typing import NamedTuple

from iris.balancer import MAX_CAPACITY
from iris.errors import StateError
from iris.heart import FailureDetector
from iris.proto.scribe.topic import Topic, remoteness
from iris.proto.wire.message import Payload
from iris.proto.wire.node_id import BITS, NodeId
from iris.proto.wire.trees import Header, Op, Report

_ID_MASK = (1 << BITS) - 1
# in one report; in more, that of very many topics would exceed what a link takes as a head
_REPORT_TOPICS = 1 << 14
# beats between two looks of a root at whether it still is one; changes of the ring come on top
_ROOT_CHECK = 8


class Send(NamedTuple):
    """Route this to `dest`."""

    dest: NodeId
    header: Header
    payload: Payload | None = None


class Settle(NamedTuple):
    """The way up is known (a parent, or there is none): what waited for it can go."""

    topic: NodeId


class Place(NamedTuple):
    """There is a tree now: anycasts that waited for one can go."""

    topic: NodeId


Action = Send | Settle | Place


class SubscribeDecision(Enum):
    """What becomes of a subscription that this node was about to forward."""

    PASS = "as it is"
    CASCADE = "as this node's own"
    STOP = "no further"


def _tie(topic: int, node: NodeId) -> NodeId:
    """What the heart calls a neighbour in one topic."""
    return NodeId(topic << BITS | node)


class Trees:
    """Every topic that this node has a part in."""

    def __init__(self, owner: NodeId, *, max_missed: int, rng: random.Random) -> None:
        self.owner = owner
        self.topics: dict[NodeId, Topic] = {}
        self.actions: deque[Action] = deque()
        self.leaving = False
        self._heart: FailureDetector[NodeId] = FailureDetector(max_missed)
        self._rng = rng
        self._beats = 0

    # What this node wants.

    def join(self, topic_id: NodeId, name: str) -> None:
        """Subscribe this node. Raises.

        StateError when it is subscribed, under whatever name, or leaving.
        """
        if self.leaving:
            raise StateError("the node is leaving")
        topic = self.topics.get(topic_id)
        if topic is not None and topic.name is not None:
            raise StateError(f"subscribed to {topic.name!r} already")
        if topic is None:
            topic = self._create(topic_id)
            self._seek(topic)
        topic.join(name)
        self.actions.append(Place(topic_id))

    def quit(self, topic_id: NodeId) -> None:
        """Unsubscribe this node. Raises: StateError when it isn't subscribed, unless it is leaving."""
        topic = self.topics.get(topic_id)
        if topic is None or topic.name is None:
            if self.leaving:
                return
            raise StateError("not subscribed")
        topic.quit()
        self._prune(topic)

    def leave(self) -> None:
        """Get out of all trees while the ring still carries messages.

        A root stays one until the ring has another.
        """
        self.leaving = True
        for topic in list(self.topics.values()):
            if topic.name is not None:
                topic.quit()
            if topic.parent is not None:  # hand the children over
                for child in list(topic.children):
                    self._drop(topic, child)
                    self._send(child, Op.UNSUBSCRIBE, topic.id)
            self._prune(topic)

    # What others want.

    def subscribe(self, topic_id: NodeId, child: NodeId, *, root: bool) -> SubscribeDecision:
        """A subscription came by. `root`: the ring ends it here.

        Otherwise it is on its way, and the result says how it goes on.
        """
        if child == self.owner:
            topic = self.topics.get(topic_id)
            if topic is not None and topic.parent is None:
                self._root(topic) if root else self._uproot(topic)
            return SubscribeDecision.PASS
        if (self.leaving and not root) or remoteness(child, topic_id) < remoteness(
            self.owner, topic_id
        ):
            return (
                SubscribeDecision.PASS
            )  # where it ends, the two see different rings: the child tries again
        topic = self.topics.get(topic_id)
        if topic is None:
            topic = self._create(topic_id)
            self.actions.append(Place(topic_id))
        if child in topic.children:
            self._heart.ping(_tie(topic_id, child))
        else:
            topic.subscribe(child)
            self._heart.monitor(_tie(topic_id, child))
        self._send_report(child, Report([topic_id], [topic.balancer.capacity(child)]))
        if topic.parent is None and not root:
            self._uproot(topic)
            return SubscribeDecision.CASCADE
        if topic.parent is None and not topic.rooted:
            self._seek(topic)  # the way that a child's took isn't evidence enough
        return SubscribeDecision.STOP

    def unsubscribe(self, topic_id: NodeId, node: NodeId) -> None:
        """A neighbour goes, or says that it isn't one, or can't be reached."""
        topic = self.topics.get(topic_id)
        if topic is not None:
            self._lose(topic, node)

    def report(self, sender: NodeId, report: Report) -> None:
        """A node tells its capacity in topics that it shares with this one, so it thinks."""
        for topic_id, capacity in zip(map(NodeId, report.tops), report.caps, strict=True):
            topic = self.topics.get(topic_id)
            if topic is not None and (sender == topic.parent or sender in topic.children):
                self._heart.ping(_tie(topic_id, sender))
                topic.balancer.update(sender, capacity)
            elif (
                topic is not None
                and topic.parent is None
                and topic.above(sender)
                and not self.leaving
            ):
                topic.reown(sender)
                self._heart.monitor(_tie(topic_id, sender))
                topic.balancer.update(sender, capacity)
                self.actions.append(Settle(topic_id))
            else:
                self.disown(sender, topic_id)

    def disown(self, node: NodeId, topic_id: NodeId) -> None:
        """Tell a node that this one isn't its neighbour."""
        self._send(node, Op.UNSUBSCRIBE, topic_id)

    # What happens to the ring.

    def lose(self, node: NodeId) -> None:
        """A node is gone: out of all trees with it."""
        for topic in list(self.topics.values()):
            self._lose(topic, node)

    def look_up(self) -> None:
        """The ring has changed: a topic without a parent may have a closer node now."""
        for topic in self.topics.values():
            if topic.parent is None:
                self._seek(topic)

    def beat(self, cpu_usage: float) -> None:
        """Bury who was silent for too long, tell the neighbours what can be reached through here,
        look for missing parents.
        """
        self._beats += 1
        for tie in self._heart.tick():
            self.unsubscribe(NodeId(tie >> BITS), NodeId(tie & _ID_MASK))
        reports: dict[NodeId, Report] = {}
        for topic_id, topic in self.topics.items():
            topic.cycle(cpu_usage)
            for node in topic.neighbours:
                report = reports.get(node)
                if report is None or len(report.tops) >= _REPORT_TOPICS:
                    report = reports[node] = Report()
                    self._send_report(node, report)
                report.tops.append(topic_id)
                report.caps.append(min(topic.balancer.capacity(node), MAX_CAPACITY))
            if topic.parent is None and not (
                topic.rooted and (self._beats + topic_id) % _ROOT_CHECK
            ):
                self._seek(topic)

    # Pieces.

    def _create(self, topic_id: NodeId) -> Topic:
        topic = self.topics[topic_id] = Topic(topic_id, self.owner, self._rng)
        return topic

    def _seek(self, topic: Topic) -> None:
        if not self.leaving:
            self.actions.append(Send(topic.id, Header(op=Op.SUBSCRIBE, sender=self.owner)))

    def _root(self, topic: Topic) -> None:
        topic.rooted = True
        if not topic.settled:
            self.actions.append(Settle(topic.id))

    def _uproot(self, topic: Topic) -> None:
        if topic.rooted:
            topic.rooted = topic.settled = False

    def _lose(self, topic: Topic, node: NodeId) -> None:
        if node == topic.parent:
            self._heart.unmonitor(_tie(topic.id, node))
            topic.reown(None)
            self._seek(topic)
        elif node in topic.children:
            self._drop(topic, node)
            self._prune(topic)

    def _drop(self, topic: Topic, child: NodeId) -> None:
        self._heart.unmonitor(_tie(topic.id, child))
        topic.unsubscribe(child)

    def _prune(self, topic: Topic) -> None:
        """Leave the tree and forget the topic, if nobody needs it here."""
        if not topic.empty:
            return
        if topic.parent is not None:
            self._heart.unmonitor(_tie(topic.id, topic.parent))
            self._send(topic.parent, Op.UNSUBSCRIBE, topic.id)
        del self.topics[topic.id]

    def _send(self, dest: NodeId, op: Op, topic_id: NodeId) -> None:
        self.actions.append(Send(dest, Header(op=op, sender=self.owner, topic=topic_id)))

    def _send_report(self, dest: NodeId, report: Report) -> None:
        self.actions.append(Send(dest, Header(op=Op.REPORT, sender=self.owner, report=report)))
