"""All topic trees, as far as they touch this node: which nodes are parent or child, and which gone.

Counterpart of the handlers of Go's proto/scribe/events.go and of heart.go. Core: events go in, what
has to be sent comes out in `actions`, in order. Not thread-safe; beats are counted, not timed.

What it does beyond Go, on the same wire:
* A child is accepted only by a node that is closer to the topic; others forward its subscription
  (prefix routing takes such detours). Go's node accepts it, the child rejects it as a parent, and
  the two never get together.
* A child that subscribes again has missed the answer: it is sent again. The subscription isn't
  rewritten, so no node gets into two subtrees.
* `unsubscribe` to a node that isn't the sender's parent means "we are no neighbours": it answers
  reports of nodes that aren't, and a leaving parent sends it to its children. A child that gets it
  from its parent looks for a new one at once. Go's node ignores it, or drops a stale child.
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
_REPORT_TOPICS = 1 << 14  # in one report, lest that of very many exceeds what a link takes
_ROOT_CHECK = 8  # beats after which a root checks whether it still is one, besides ring changes


class Send(NamedTuple):
    """Route this to `dest`."""

    dest: NodeId
    header: Header
    payload: Payload | None = None


class FlushUpstream(NamedTuple):
    """The way up is known (a parent, or there is none): what was deferred for it can go."""

    topic: NodeId


class RetryAnycasts(NamedTuple):
    """There is a tree now: anycasts that were deferred for one can go."""

    topic: NodeId


Action = Send | FlushUpstream | RetryAnycasts


class SubscribeDecision(Enum):
    """What happens to a subscription on its way through this node."""

    FORWARD = "as it is"
    REWRITE = "as this node's own"
    CONSUME = "no further"


def _neighbour_key(topic: int, node: NodeId) -> NodeId:
    """Name a neighbour in one topic for the failure detector."""
    return NodeId(topic << BITS | node)


class Trees:
    """Every topic that this node has a part in."""

    def __init__(self, owner: NodeId, *, max_missed: int, rng: random.Random) -> None:
        self.owner = owner
        self.topics: dict[NodeId, Topic] = {}
        self.actions: deque[Action] = deque()
        self.leaving = False
        self.heart: FailureDetector[NodeId] = FailureDetector(max_missed)
        self._rng = rng
        self._beats = 0

    # What this node does

    def join(self, topic_id: NodeId, name: str) -> None:
        """Subscribe this node. Raises: StateError when it is subscribed, or leaving."""
        if self.leaving:
            raise StateError("this node is shutting down")
        topic = self.topics.get(topic_id)
        if topic is not None and topic.name is not None:
            raise StateError(f"already subscribed to {topic.name!r}")
        if topic is None:
            topic = self._create(topic_id)
            self._seek_parent(topic)
        topic.join(name)
        self.actions.append(RetryAnycasts(topic_id))

    def quit(self, topic_id: NodeId) -> None:
        """Unsubscribe this node. Raises: StateError when it isn't subscribed, unless leaving."""
        topic = self.topics.get(topic_id)
        if topic is None or topic.name is None:
            if self.leaving:
                return
            raise StateError("not subscribed")
        topic.quit()
        self._prune(topic)

    def leave(self) -> None:
        """Leave all trees while the ring still carries messages.

        A root stays one until the ring has another.
        """
        self.leaving = True
        for topic in list(self.topics.values()):
            if topic.name is not None:
                topic.quit()
            if topic.parent is not None:  # let the children look for another parent
                for child in list(topic.children):
                    self._drop(topic, child)
                    self._send(child, Op.UNSUBSCRIBE, topic.id)
            self._prune(topic)

    # Packets of other nodes

    def subscribe(self, topic_id: NodeId, child: NodeId, *, root: bool) -> SubscribeDecision:
        """Handle a subscription, which ends here (`root`) or passes on its way to the topic.

        Returns: how it goes on, unless it ends here.
        """
        if child == self.owner:
            topic = self.topics.get(topic_id)
            if topic is not None and topic.parent is None:
                self._become_root(topic) if root else self._resign_root(topic)
            return SubscribeDecision.FORWARD
        closer = remoteness(child, topic_id) < remoteness(self.owner, topic_id)
        if closer or (self.leaving and not root):
            return SubscribeDecision.FORWARD  # if it ends here, the child tries again
        topic = self.topics.get(topic_id)
        if topic is None:
            topic = self._create(topic_id)
            self.actions.append(RetryAnycasts(topic_id))
        if child in topic.children:
            self.heart.ping(_neighbour_key(topic_id, child))
        else:
            topic.subscribe(child)
            self.heart.monitor(_neighbour_key(topic_id, child))
        self._send_report(child, Report([topic_id], [topic.balancer.capacity(child)]))
        if topic.parent is None and not root:
            self._resign_root(topic)
            return SubscribeDecision.REWRITE
        if topic.parent is None and not topic.is_root:
            self._seek_parent(topic)  # the way of a child's subscription isn't evidence enough
        return SubscribeDecision.CONSUME

    def unsubscribe(self, topic_id: NodeId, node: NodeId) -> None:
        """Remove a neighbour that leaves, says that it isn't one, or can't be reached."""
        topic = self.topics.get(topic_id)
        if topic is not None:
            self._lose(topic, node)

    def report(self, sender: NodeId, report: Report) -> None:
        """Handle a node's capacities in the topics in which it considers this one a neighbour."""
        for topic_id, capacity in zip(map(NodeId, report.tops), report.caps, strict=True):
            topic = self.topics.get(topic_id)
            if topic is not None and (sender == topic.parent or sender in topic.children):
                self.heart.ping(_neighbour_key(topic_id, sender))
                topic.balancer.update(sender, capacity)
            elif topic and topic.parent is None and topic.above(sender) and not self.leaving:
                topic.set_parent(sender)
                self.heart.monitor(_neighbour_key(topic_id, sender))
                topic.balancer.update(sender, capacity)
                self.actions.append(FlushUpstream(topic_id))
            else:
                self.reject_neighbour(sender, topic_id)

    def reject_neighbour(self, node: NodeId, topic_id: NodeId) -> None:
        """Send to a node that this one isn't its neighbour."""
        self._send(node, Op.UNSUBSCRIBE, topic_id)

    # Changes of the ring, and time

    def lose(self, node: NodeId) -> None:
        """Remove a node that is gone from all trees."""
        for topic in list(self.topics.values()):
            self._lose(topic, node)

    def seek_parents(self) -> None:
        """Look for closer nodes for topics without a parent, since the ring has changed."""
        for topic in self.topics.values():
            if topic.parent is None:
                self._seek_parent(topic)

    def beat(self, cpu_usage: float) -> None:
        """Remove silent neighbours, report capacities to the others, look for missing parents."""
        self._beats += 1
        for key in self.heart.tick():
            self.unsubscribe(NodeId(key >> BITS), NodeId(key & _ID_MASK))
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
            certain = topic.is_root and (self._beats + topic_id) % _ROOT_CHECK
            if topic.parent is None and not certain:
                self._seek_parent(topic)

    # Steps

    def _create(self, topic_id: NodeId) -> Topic:
        topic = self.topics[topic_id] = Topic(topic_id, self.owner, self._rng)
        return topic

    def _seek_parent(self, topic: Topic) -> None:
        if not self.leaving:
            self.actions.append(Send(topic.id, Header(op=Op.SUBSCRIBE, sender=self.owner)))

    def _become_root(self, topic: Topic) -> None:
        topic.is_root = True
        if not topic.upstream_open:
            self.actions.append(FlushUpstream(topic.id))

    def _resign_root(self, topic: Topic) -> None:
        if topic.is_root:
            topic.is_root = topic.upstream_open = False

    def _lose(self, topic: Topic, node: NodeId) -> None:
        if node == topic.parent:
            self.heart.unmonitor(_neighbour_key(topic.id, node))
            topic.set_parent(None)
            self._seek_parent(topic)
        elif node in topic.children:
            self._drop(topic, node)
            self._prune(topic)

    def _drop(self, topic: Topic, child: NodeId) -> None:
        self.heart.unmonitor(_neighbour_key(topic.id, child))
        topic.unsubscribe(child)

    def _prune(self, topic: Topic) -> None:
        """Leave the tree and forget the topic, if it isn't needed here."""
        if not topic.empty:
            return
        if topic.parent is not None:
            self.heart.unmonitor(_neighbour_key(topic.id, topic.parent))
            self._send(topic.parent, Op.UNSUBSCRIBE, topic.id)
        del self.topics[topic.id]

    def _send(self, dest: NodeId, op: Op, topic_id: NodeId) -> None:
        self.actions.append(Send(dest, Header(op=op, sender=self.owner, topic=topic_id)))

    def _send_report(self, dest: NodeId, report: Report) -> None:
        self.actions.append(Send(dest, Header(op=Op.REPORT, sender=self.owner, report=report)))
