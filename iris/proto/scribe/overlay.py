"""Topic trees over the ring: multicast, anycast and direct messages for the layer above.

Counterpart of Go's proto/scribe/overlay.go and events.go. Shell around `Trees`: holds the one lock
for moments, sends, owns the beat. No thread of its own: messages run on the thread that brought
them, beats and retries on the timer's.

Beyond Go: an anycast without a way to go is deferred, and so is what has to go up a tree that looks
for a parent; joins, graceful leaves and changes of the root cost no request.

Lock order: scribe -> deferral -> timer. Neither the ring nor the application is called with the
lock held.
"""

import logging
import random
import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Final, cast

from iris.config import Limits, ScribeConfig
from iris.metrics import Metrics
from iris.proto.scribe.base import Application, Ring
from iris.proto.scribe.deferred import Deferral, without_hop
from iris.proto.scribe.topic import Topic
from iris.proto.scribe.trees import RetryAnycasts, Send, SubscribeDecision, Trees
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.node_id import NodeId, resolve, valid_id
from iris.proto.wire.trees import Header, Op, Report
from iris.runtime.timer import Timer, TimerEntry

_log = logging.getLogger(__name__)

_SUBSCRIBE: Final = int(Op.SUBSCRIBE)
_UNSUBSCRIBE: Final = int(Op.UNSUBSCRIBE)
_PUBLISH: Final = int(Op.PUBLISH)
_BALANCE: Final = int(Op.BALANCE)
_REPORT: Final = int(Op.REPORT)
_DIRECT: Final = int(Op.DIRECT)
_REROUTES = 1_024  # anycasts a beat sent on at once after leaving a tree; more are deferred

_cached_resolve: Final = lru_cache(maxsize=16_384)(resolve)
_CACHED_LENGTH: Final = 128  # characters: applications choose names, and share the memory


def _resolve(topic: str) -> NodeId:
    return _cached_resolve(topic) if len(topic) <= _CACHED_LENGTH else resolve(topic)


class Overlay:
    """Pastry's application, and what the layer above sends through."""

    def __init__(
        self,
        app: Application,
        *,
        config: ScribeConfig,
        limits: Limits,
        timer: Timer,
        rng: random.Random,
        cpu_usage: Callable[[], float],
        metrics: Metrics | None = None,
    ) -> None:
        """Make it without a ring; `attach` comes next.

        Args:
            cpu_usage: called once a beat for the busy share of the CPUs since the last call,
                0 < share <= 1.
        """
        self._app, self._config, self._timer, self._rng = app, config, timer, rng
        self._cpu_usage = cpu_usage
        self._undeliverable = (metrics or Metrics()).undeliverable
        self._deferral = Deferral(
            lambda dest, message: self._ring_send(dest, message),
            app.anycast_timeout,
            config=config,
            limits=limits,
            timer=timer,
            undeliverable=self._undeliverable,
        )
        self._lock = threading.Lock()
        self._draining = 0  # ident of the thread that is sending what `Trees` decided, or 0
        self._reroutes = _REROUTES  # left in this beat
        self._seeking_due = False
        self._beat_timer: TimerEntry | None = None
        self._closed = False

    def attach(self, ring: Ring) -> None:
        """Set the ring, before anything else."""
        self.node_id = ring.node_id
        self._ring_send = ring.send
        self._trees = Trees(ring.node_id, max_missed=self._config.max_missed, rng=self._rng)
        self._topics = cast("dict[object, Topic]", self._trees.topics)

    def start(self) -> None:
        """Start the beats."""
        self._beat_timer = self._timer.after(self._config.beat_period, self._beat)

    def leave(self) -> None:
        """Leave all trees, while the ring still carries messages; those that come are forwarded."""
        with self._lock:
            self._trees.leave()
        self._drain()

    def close(self) -> None:
        """Stop the beats, and drop what is deferred."""
        with self._lock:
            self._closed = True
            if self._beat_timer is not None:
                self._timer.cancel(self._beat_timer)
        self._deferral.close()

    @property
    def topics(self) -> dict[NodeId, Topic]:
        """A snapshot of the topics in whose trees this node is."""
        with self._lock:
            return dict(self._trees.topics)

    @property
    def deferred(self) -> int:
        """The number of messages that wait for a tree or for a parent."""
        return len(self._deferral)

    # From the layer above

    def subscribe(self, topic: str) -> None:
        """Subscribe to a topic: effective on return, and on its way to the root.

        Raises: StateError when already subscribed.
        """
        with self._lock:
            self._trees.join(_resolve(topic), topic)
        self._drain()

    def unsubscribe(self, topic: str) -> None:
        """Unsubscribe; deliveries under way may still come.

        Raises: StateError when not subscribed.
        """
        with self._lock:
            self._trees.quit(_resolve(topic))
        self._drain()

    def publish(self, topic: str, message: Message) -> None:
        """Multicast to all subscribers of a topic, this node included."""
        key = _resolve(topic)
        header = Header(message.meta, _PUBLISH, self.node_id, key)
        payload = _payload(message)
        if not self._multicast(header, payload):
            self._ring_send(key, Message(header, payload))

    def balance(self, topic: str, message: Message) -> None:
        """Anycast to one subscriber of a topic, maybe this node."""
        key = _resolve(topic)
        header = Header(message.meta, _BALANCE, self.node_id, key)
        payload = _payload(message)
        if not self._anycast(header, payload):
            self._ring_send(key, Message(header, payload))

    def direct(self, node: NodeId, message: Message) -> None:
        """Send to one node."""
        header = Header(message.meta, _DIRECT, self.node_id)
        self._ring_send(node, Message(header, _payload(message)))

    # From the ring

    def forward(self, message: Message, key: NodeId, hop: NodeId) -> bool:
        """See a message on its way to `key`, and maybe replace its `meta`; False: it ends here."""
        header = message.meta
        if not isinstance(header, Header):
            return self._discard("malformed")
        op = header.op
        if op in (_BALANCE, _PUBLISH):
            if header.prev is not None:
                return True  # inside of a tree that we have no part in
            if header.topic != key or not valid_id(header.sender):
                return self._discard("malformed")
            take = self._anycast if op == _BALANCE else self._multicast
            return not take(header, message.payload)
        return op != _SUBSCRIBE or self._pass_subscription(message, header.sender, key)

    def deliver(self, message: Message, key: NodeId) -> None:
        """Take a message whose `key` this node is the closest to; another may have been meant."""
        header, payload = message.meta, message.payload
        if not isinstance(header, Header) or not valid_id(header.sender):
            self._discard("malformed")
            return
        op, precise = header.op, key == self.node_id
        if op == _BALANCE:
            topic, prev = header.topic, header.prev
            if not valid_id(topic) or not (valid_id(prev) or (prev is None and topic == key)):
                self._discard("malformed")
            elif prev is not None and not precise:
                self._misrouted(topic, header, payload, key)
            elif not self._anycast(header, payload):
                self._unplaced(topic, header, payload)
        elif op == _PUBLISH:
            if not precise and (header.prev is not None or header.topic != key):
                self._discard("wrong node")
            elif not self._multicast(header, payload):
                self._discard("no subscriber")  # or a node in between just left
        elif op == _SUBSCRIBE:
            with self._lock:
                self._trees.subscribe(key, header.sender, root=True)
            self._drain()
        elif not precise:
            self._discard("wrong node")  # the right one is gone
        elif op == _DIRECT:
            self._app.handle_direct(header.sender, Message(header.meta, payload))
        else:
            self._tree_packet(header.sender, header)

    def peer_lost(self, peer: NodeId) -> None:
        """Remove a node that is gone from all trees."""
        with self._lock:
            self._trees.lose(peer)
        self._drain()

    def table_changed(self) -> None:
        """Look for missing parents, since routes have changed; once for a burst of changes."""
        with self._lock:
            if self._seeking_due or self._closed:
                return
            self._seeking_due = True
        self._timer.after(0.0, self._seek_parents)

    def _seek_parents(self) -> None:
        with self._lock:
            self._seeking_due = False
            self._trees.seek_parents()
        self._drain()
        for topic in self._deferral.topics():
            self._deferral.retry_anycasts(topic)

    def _discard(self, cause: str) -> bool:
        """Count a message as undeliverable. Returns: False."""
        self._undeliverable[cause].inc()
        return False

    # Tree packets

    def _pass_subscription(self, message: Message, sender: int | None, key: NodeId) -> bool:
        if not valid_id(sender):
            return self._discard("malformed")
        if sender == self.node_id and self._draining != threading.get_ident():
            return False  # not being sent right now: the ring led it in a circle
        with self._lock:
            decision = self._trees.subscribe(key, sender, root=False)
        self._drain()
        if decision is SubscribeDecision.REWRITE:
            message.meta = Header(op=_SUBSCRIBE, sender=self.node_id)
        return decision is not SubscribeDecision.CONSUME

    def _tree_packet(self, sender: NodeId, header: Header) -> None:
        report, topic = header.report, header.topic
        if header.op == _REPORT and report is not None and _valid(report):
            with self._lock:
                self._trees.report(sender, report)
        elif header.op == _UNSUBSCRIBE and valid_id(topic):
            with self._lock:
                self._trees.unsubscribe(topic, sender)
        else:
            self._discard("malformed")
            return
        self._drain()

    def _beat(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._beat_timer = self._timer.after(self._config.beat_period, self._beat)
        usage = self._cpu_usage()
        with self._lock:
            self._reroutes = _REROUTES
            self._trees.beat(usage)
        self._drain()

    def _drain(self) -> None:
        """Carry out what `Trees` decided, in order, by one thread for all that come meanwhile."""
        actions = self._trees.actions
        if not actions:
            return
        with self._lock:
            if self._draining:
                return
            self._draining = threading.get_ident()
        while True:
            with self._lock:
                if not actions:
                    self._draining = 0
                    return
                action = actions.popleft()
            try:
                if isinstance(action, Send):
                    self._ring_send(action.dest, Message(action.header, action.payload))
                elif isinstance(action, RetryAnycasts):
                    self._deferral.retry_anycasts(action.topic)
                else:
                    self._flush_upstream(action.topic)
            except Exception:
                _log.exception("%s failed", type(action).__name__)  # our bug; the others count

    # Multicast

    def _multicast(self, header: Header, payload: Payload | None) -> bool:
        """Send a publish to the neighbours but `prev`; False: this node isn't in the tree."""
        prev = header.prev
        with self._lock:
            topic = self._topics.get(header.topic)
            if topic is None:
                return False
            nodes = topic.multicast(prev)
            if nodes is None:  # the neighbours that we have get it from elsewhere
                self._undeliverable["not a neighbour"].inc()
                return True
            name = topic.name
            onward = Header(header.meta, _PUBLISH, header.sender, header.topic, self.node_id)
            if not topic.upstream_open and (prev is None or prev != topic.parent):
                self._deferral.defer_publish(topic.id, onward, payload)
        for node in nodes:
            if node != prev:
                self._ring_send(node, Message(onward, payload))
        if name is not None:
            self._app.handle_publish(header.sender, name, Message(header.meta, payload))  # type: ignore[arg-type]
        return True

    def _flush_upstream(self, topic_id: NodeId) -> None:
        """Send deferred publishes to the parent; once none is left, newer ones go at once."""
        while True:
            with self._lock:
                topic = self._topics.get(topic_id)
                parent = topic.parent if topic is not None else None
                known = topic is None or topic.is_root or parent is not None
                deferred = self._deferral.take_publishes(topic_id) if known else []
                if parent is None or not deferred:
                    if topic is not None:
                        topic.upstream_open = known
                    return
            for message in deferred:
                self._ring_send(parent, Message(message.header, message.payload))

    # Anycast

    def _anycast(self, header: Header, payload: Payload | None) -> bool:
        """Pass an anycast to a neighbour by weight; False: this node isn't in the tree."""
        prev = header.prev
        with self._lock:
            topic = self._topics.get(header.topic)
            if topic is None:
                return False
            node = topic.anycast(prev)
            name = topic.name
        if node == self.node_id:
            if self._app.handle_balance(header.sender, name, Message(header.meta, payload)):  # type: ignore[arg-type]
                return True
            with self._lock:
                node = topic.balancer.pick_other((self.node_id, prev))
        if node is None:  # but the one it came from, which has been rejected, or will be
            self._deferral.defer_anycast(topic.id, header, payload)
        else:
            onward = Header(header.meta, _BALANCE, header.sender, header.topic, self.node_id)
            self._ring_send(node, Message(onward, payload))
        return True

    def _misrouted(
        self, topic: NodeId, header: Header, payload: Payload | None, meant: NodeId
    ) -> None:
        """Route an anycast anew that was meant for a tree neighbour which has left the ring."""
        if header.prev != self.node_id:
            self._deferral.defer_anycast(topic, header, payload)
            return
        with self._lock:  # our own neighbour
            self._trees.unsubscribe(topic, meant)
            self._trees.actions.append(Send(topic, without_hop(header), payload))
        self._drain()

    def _unplaced(self, topic: NodeId, header: Header, payload: Payload | None) -> None:
        """Find a way for an anycast without a tree here: not yet, or this node has just left it."""
        prev = header.prev
        if prev is None or self._reroutes <= 0:
            self._deferral.defer_anycast(topic, header, payload)
            return
        with self._lock:
            self._reroutes -= 1
            self._trees.reject_neighbour(NodeId(prev), topic)
            self._trees.actions.append(Send(topic, without_hop(header), payload))
        self._drain()


def _valid(report: Report) -> bool:
    return len(report.tops) == len(report.caps) and all(map(valid_id, report.tops))


def _payload(message: Message) -> Payload:
    """Return the payload of a message, empty rather than none.

    WIRE: a key always, even without data (Go link.go); tests/golden/session.json.
    """
    return message.payload if message.payload is not None else Payload.of(b"")
