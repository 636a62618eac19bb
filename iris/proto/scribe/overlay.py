"""Topic trees over the ring: multicast, anycast and direct messages for the layer above.

Counterpart of Go's proto/scribe/overlay.go and events.go. Shell around `Trees`: holds the one lock for
moments, sends, owns the beat. No thread of its own: messages run on the thread that brought them,
beats and retries on the timer's.

Beyond Go: an anycast that can't be placed right now is parked and tried again, and what has to go
up a tree waits for the parent that is being looked for, so joins, graceful leaves and changes of
the root cost no request.

Lock order: scribe -> timer. Neither the ring nor the application is called with the lock held.
"""

import logging
import random
import threading
from collections.abc import Callable
from functools import lru_cache
from math import ceil
from typing import Final, Protocol, TypeGuard, cast

from iris.config import Limits, ScribeConfig
from iris.proto.scribe.deferred import Deferred, DeferredMessages
from iris.proto.scribe.topic import Topic
from iris.proto.scribe.trees import Place, Send, SubscribeDecision, Trees
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.node_id import NodeId, resolve, valid_id
from iris.proto.wire.trees import Header, Op
from iris.runtime.timer import Timer, TimerEntry

_log = logging.getLogger(__name__)

_SUBSCRIBE: Final = int(Op.SUBSCRIBE)
_UNSUBSCRIBE: Final = int(Op.UNSUBSCRIBE)
_PUBLISH: Final = int(Op.PUBLISH)
_BALANCE: Final = int(Op.BALANCE)
_REPORT: Final = int(Op.REPORT)
_DIRECT: Final = int(Op.DIRECT)
# anycasts a beat that this node sends on at once after leaving a tree; what is beyond waits as if
# unplaceable
_REROUTES = 1_024

_known: Final = lru_cache(maxsize=16_384)(resolve)
# characters; longer names are worked out each time, for applications choose them and the memory is
# everybody's
_SHORT: Final = 128


def _resolve(topic: str) -> NodeId:
    return _known(topic) if len(topic) <= _SHORT else resolve(topic)


class Ring(Protocol):
    """What carries the messages: pastry's Overlay."""

    @property
    def node_id(self) -> NodeId:
        """This node."""

    def send(self, dest: NodeId, message: Message) -> None:
        """Route from here, in the calling thread; to self: delivered before it returns."""


class Application(Protocol):
    """Who the messages are for: iris' Overlay. Called from any thread.

    `meta` of the messages is its own header.
    """

    def handle_publish(self, sender: NodeId, topic: str, message: Message) -> None:
        """A multicast in a subscribed topic."""

    def handle_balance(self, sender: NodeId, topic: str, message: Message) -> bool:
        """An anycast in a subscribed topic. False.

        Nobody here takes it any more, it goes on in the tree.
        """

    def handle_direct(self, sender: NodeId, message: Message) -> None:
        """A message to this very node."""

    def patience(self, meta: object) -> float:
        """Seconds after which an anycast isn't worth delivering."""


class Overlay:
    """Pastry's application, and what the layer above talks to.

    `discarded` counts messages that couldn't be placed or made no sense.
    """

    def __init__(
        self,
        app: Application,
        *,
        config: ScribeConfig,
        limits: Limits,
        timer: Timer,
        rng: random.Random,
        cpu_usage: Callable[[], float],
    ) -> None:
        """Set up without a ring; `attach` comes next.

        Arguments: cpu_usage is asked once a beat for the busy share of the CPUs since it was asked
        last, 0 < share <= 1.
        """
        self._app, self._config, self._timer, self._rng, self._cpu_usage = (
            app,
            config,
            timer,
            rng,
            cpu_usage,
        )
        self._lock = threading.Lock()
        self._draining = 0  # ident of the thread that is sending what `Trees` decided; 0: nobody
        # for a tree to come
        self._anycasts = DeferredMessages(messages=limits.parked_messages, size=limits.parked_bytes)
        # publishes, for the parent to come
        self._upward = DeferredMessages(messages=limits.parked_messages, size=limits.parked_bytes)
        self._upward_ticks = ceil(config.park_time / config.park_retry)
        # `left`: ticks that the parked message had which this thread is trying to place
        self._retried = threading.local()
        self._reroutes = _REROUTES  # left in this beat
        self._look_up_due = False
        self._beat_deadline: TimerEntry | None = None
        self._parking_deadline: TimerEntry | None = None
        self._closed = False
        self.discarded = 0

    def attach(self, ring: Ring) -> None:
        """Get to know the ring, before anything else."""
        self.node_id = ring.node_id
        self._ring_send = ring.send
        self._trees = Trees(ring.node_id, max_missed=self._config.max_missed, rng=self._rng)
        self._topics = cast("dict[object, Topic]", self._trees.topics)

    def start(self) -> None:
        """Begin to beat."""
        self._beat_deadline = self._timer.after(self._config.beat_period, self._beat)

    def leave(self) -> None:
        """Get out of all trees, while the ring still carries messages.

        What comes all the same is sent on to those who stay.
        """
        with self._lock:
            self._trees.leave()
        self._drain()

    def close(self) -> None:
        """Stop beating. What is parked is lost."""
        with self._lock:
            self._closed = True
            for deadline in (self._beat_deadline, self._parking_deadline):
                if deadline is not None:
                    self._timer.cancel(deadline)

    # From above.

    def subscribe(self, topic: str) -> None:
        """Take part in a topic: effective on return, and on its way to the root. Raises.

        StateError when subscribed already.
        """
        with self._lock:
            self._trees.join(_resolve(topic), topic)
        self._drain()

    def unsubscribe(self, topic: str) -> None:
        """Take no part any more; deliveries that are under way may still come. Raises.

        StateError when not subscribed.
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
        """Anycast to one subscriber of a topic, maybe on this node."""
        key = _resolve(topic)
        header = Header(message.meta, _BALANCE, self.node_id, key)
        payload = _payload(message)
        if not self._anycast(header, payload):
            self._ring_send(key, Message(header, payload))

    def direct(self, node: NodeId, message: Message) -> None:
        """Send to one node."""
        self._ring_send(
            node, Message(Header(message.meta, _DIRECT, self.node_id), _payload(message))
        )

    # From the ring.

    def forward(self, message: Message, key: NodeId, hop: NodeId) -> bool:
        """A message passes on its way to `key`. False: it ends here.

        Else it goes on with the `meta` that it then has.
        """
        header = message.meta
        if not isinstance(header, Header):
            self.discarded += 1
            return False
        op = header.op
        if op in (_BALANCE, _PUBLISH):
            if header.prev is not None:
                return True  # inside of a tree that we have no part in
            if header.topic != key or not _is_id(header.sender):
                self.discarded += 1
                return False
            take = self._anycast if op == _BALANCE else self._multicast
            return not take(header, message.payload)
        return op != _SUBSCRIBE or self._pass_subscription(message, header.sender, key)

    def deliver(self, message: Message, key: NodeId) -> None:
        """A message is at its end.

        This is the node closest to `key`, not always the one that was meant.
        """
        header, payload = message.meta, message.payload
        if not isinstance(header, Header) or not _is_id(header.sender):
            self.discarded += 1
            return
        op, precise = header.op, key == self.node_id
        if op == _BALANCE:
            topic, prev = header.topic, header.prev
            if not _is_id(topic) or not (_is_id(prev) or (prev is None and topic == key)):
                self.discarded += 1
            elif prev is not None and not precise:
                self._misrouted(topic, header, payload, key)
            elif not self._anycast(header, payload):
                self._unplaced(topic, header, payload)
        elif op == _PUBLISH:
            if not (
                precise or (header.prev is None and header.topic == key)
            ) or not self._multicast(header, payload):
                self.discarded += 1  # nobody subscribes, or somebody in between just left
        elif op == _SUBSCRIBE:
            with self._lock:
                self._trees.subscribe(key, header.sender, root=True)
            self._drain()
        elif not precise:
            self.discarded += 1  # for a node that is gone
        elif op == _DIRECT:
            self._app.handle_direct(header.sender, Message(header.meta, payload))
        else:
            self._tree_packet(header.sender, header)

    def peer_lost(self, peer: NodeId) -> None:
        """A node is gone: the trees do without it at once."""
        with self._lock:
            self._trees.lose(peer)
        self._drain()

    def table_changed(self) -> None:
        """Routes are different now: topics without a parent look for one at once.

        Bursts are taken together.
        """
        with self._lock:
            if self._look_up_due or self._closed:
                return
            self._look_up_due = True
        self._timer.after(0.0, self._look_up)

    def _look_up(self) -> None:
        with self._lock:
            self._look_up_due = False
            self._trees.look_up()
            parked = self._anycasts.topics()
        self._drain()
        for topic in parked:
            self._retry(topic)

    # Tree packets.

    def _pass_subscription(self, message: Message, sender: int | None, key: NodeId) -> bool:
        if not _is_id(sender):
            self.discarded += 1
            return False
        if sender == self.node_id:
            if self._draining != threading.get_ident():
                return False  # not being sent right now: the ring led it in a circle
            sender = self.node_id
        with self._lock:
            onward = self._trees.subscribe(key, NodeId(sender), root=False)
        self._drain()
        if onward is SubscribeDecision.CASCADE:
            message.meta = Header(op=_SUBSCRIBE, sender=self.node_id)
        return onward is not SubscribeDecision.STOP

    def _tree_packet(self, sender: NodeId, header: Header) -> None:
        report, topic = header.report, header.topic
        if (
            header.op == _REPORT
            and report is not None
            and len(report.tops) == len(report.caps)
            and all(map(_is_id, report.tops))
        ):
            with self._lock:
                self._trees.report(sender, report)
        elif header.op == _UNSUBSCRIBE and _is_id(topic):
            with self._lock:
                self._trees.unsubscribe(topic, sender)
        else:
            self.discarded += 1
            return
        self._drain()

    def _beat(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._beat_deadline = self._timer.after(self._config.beat_period, self._beat)
        usage = self._cpu_usage()
        with self._lock:
            self._reroutes = _REROUTES
            self._trees.beat(usage)
        self._drain()

    def _drain(self) -> None:
        """Do what `Trees` decided, in order.

        One thread does it for all who come meanwhile, and for what follows from it.
        """
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
                elif isinstance(action, Place):
                    self._retry(action.topic)
                else:
                    self._settle(action.topic)
            except Exception:
                _log.exception("a tree packet couldn't be sent")  # our bug; the others still count

    # Multicast.

    def _multicast(self, header: Header, payload: Payload | None) -> bool:
        """Spread it from here; False: this node isn't in the tree."""
        prev = header.prev
        with self._lock:
            topic = self._topics.get(header.topic)
            if topic is None:
                return False
            nodes = topic.multicast(prev)
            # not a neighbour any more, or not yet: whoever is gets it from elsewhere
            if nodes is None:
                self.discarded += 1
                return True
            name = topic.name
            onward = Header(header.meta, _PUBLISH, header.sender, header.topic, self.node_id)
            if not topic.settled and (prev is None or prev != topic.parent):
                self._park(self._upward, topic.id, onward, payload, self._upward_ticks)
        for node in nodes:
            if node != prev:
                self._ring_send(node, Message(onward, payload))
        if name is not None:
            self._app.handle_publish(header.sender, name, Message(header.meta, payload))  # type: ignore[arg-type]
        return True

    def _settle(self, topic_id: NodeId) -> None:
        """Send up what waited. Only when nothing is left, newer ones may go without waiting.

        Order is kept.
        """
        while True:
            with self._lock:
                topic = self._topics.get(topic_id)
                waiting = (
                    self._upward.take(topic_id)
                    if topic is None or topic.rooted or topic.parent is not None
                    else []
                )
                if topic is None:
                    return
                parent = topic.parent
                if parent is None or not waiting:
                    topic.settled = topic.rooted or parent is not None
                    return
            for parked in waiting:
                self._ring_send(parent, Message(parked.header, parked.payload))

    # Anycast.

    def _anycast(self, header: Header, payload: Payload | None) -> bool:
        """Hand it on by weight; False: this node isn't in the tree."""
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
        if node is None:  # only the one it came from: that one has been told, or will be
            self._wait(topic.id, _virgin(header), payload)
        else:
            self._ring_send(
                node,
                Message(
                    Header(header.meta, _BALANCE, header.sender, header.topic, self.node_id),
                    payload,
                ),
            )
        return True

    def _misrouted(
        self, topic: NodeId, header: Header, payload: Payload | None, meant: NodeId
    ) -> None:
        """A tree neighbour that isn't in the ring any more should have got it."""
        if header.prev != self.node_id:
            self._wait(topic, _virgin(header), payload)
            return
        with self._lock:  # our own neighbour
            self._trees.unsubscribe(topic, meant)
            self._trees.actions.append(Send(topic, _virgin(header), payload))
        self._drain()

    def _unplaced(self, topic: NodeId, header: Header, payload: Payload | None) -> None:
        """There is no tree here: not yet, or this node has just left it and not everybody knows."""
        prev = header.prev
        if prev is None or self._reroutes <= 0:
            self._wait(topic, _virgin(header), payload)
            return
        with self._lock:
            self._reroutes -= 1
            self._trees.disown(NodeId(prev), topic)
            self._trees.actions.append(Send(topic, _virgin(header), payload))
        self._drain()

    def _wait(self, topic: NodeId, header: Header, payload: Payload | None) -> None:
        left: int | None = getattr(self._retried, "left", None)
        if left is None:
            left = ceil(
                min(self._config.park_time, self._app.patience(header.meta))
                / self._config.park_retry
            )
        with self._lock:
            self._park(self._anycasts, topic, header, payload, left)

    def _park(
        self,
        parking: DeferredMessages,
        topic: NodeId,
        header: Header,
        payload: Payload | None,
        left: int,
    ) -> None:
        assert self._lock.locked()
        if self._closed or not parking.add(topic, Deferred(header, payload, left)):
            self.discarded += 1
        elif self._parking_deadline is None:
            self._parking_deadline = self._timer.after(self._config.park_retry, self._tick_parking)

    def _tick_parking(self) -> None:
        with self._lock:
            self.discarded += self._anycasts.tick() + self._upward.tick()
            topics = self._anycasts.topics()
        for topic in topics:
            self._retry(topic)
        with self._lock:
            waiting = not self._closed and (self._anycasts or self._upward)
            self._parking_deadline = (
                self._timer.after(self._config.park_retry, self._tick_parking) if waiting else None
            )

    def _retry(self, topic: NodeId) -> None:
        """Route a topic's parked anycasts anew, oldest first.

        What still finds no place is parked for the time that it had left.
        """
        with self._lock:
            parked = self._anycasts.take(topic)
        for one in parked:
            self._retried.left = one.left
            try:
                self._ring_send(topic, Message(one.header, one.payload))
            finally:
                self._retried.left = None


def _payload(message: Message) -> Payload:
    """What this layer's messages carry. WIRE: a key always, even without data (Go link.go).

    Tests/golden/session.json.
    """
    return message.payload if message.payload is not None else Payload.of(b"")


def _virgin(header: Header) -> Header:
    """Take the message out of the tree: it begins anew."""
    return (
        header
        if header.prev is None
        else Header(header.meta, header.op, header.sender, header.topic)
    )


def _is_id(value: object) -> TypeGuard[NodeId]:
    return valid_id(value)
