"""A small node in memory, alone in its network, for `relaycheck binding`. Core, with a timer.

It passes `relaycheck node`; scenarios make exceptions. One lock guards everything, `FakeNode.lock`,
which callers of a session hold; the timer's callbacks take it themselves.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from iris.relay_protocol.schema import VERSION, Op, Side
from iris.relaycheck.reader import GENEROUS, Malformed, Packet, Reader
from iris.relaycheck.tunnel import CHUNK_LIMIT, CONFIRM_TIMEOUT, NODE_WINDOW
from iris.runtime.timer import Timer


class Violated(Exception):
    """The client violates the protocol; the text says how."""


class FakeNode:
    """The clusters and topics of all sessions; with `echo`, it serves clusters without members."""

    def __init__(self, timer: Timer, *, echo: bool) -> None:
        self.lock = threading.RLock()
        self.timer, self.echo = timer, echo
        self.clusters: dict[str, deque[FakeSession]] = defaultdict(deque)
        self.topics: dict[str, list[FakeSession]] = defaultdict(list)

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back in so many seconds, with the lock held; at once if it is 0."""
        if seconds <= 0:
            callback()
            return

        def locked() -> None:
            with self.lock:
                callback()

        self.timer.after(seconds, locked)

    def member(self, cluster: str) -> "FakeSession | None":
        """Return the next member in turn."""
        members = self.clusters[cluster]
        if not members:
            return None
        members.rotate(-1)
        return members[-1]


@dataclass
class End:
    """One end of a tunnel."""

    session: "FakeSession"
    number: int
    other: "End | None" = None  # None: the node echoes
    open: bool = True
    used: int = 0  # bytes that the client sent and got no new credit for
    left: int = 0  # bytes of the message that the client is sending
    credit: int = 0  # bytes, granted by the client
    unfinished: int = 0  # bytes of the message that the client is receiving
    waiting: deque[tuple[int, bytes]] = field(default_factory=deque)
    last: str | None = None  # reason of the close after `waiting`

    def take(self, size: int, chunk: bytes) -> None:
        """Take a chunk of the client's. Raises: Violated."""
        if len(chunk) > CHUNK_LIMIT:
            raise Violated(f"a chunk of {len(chunk)} bytes, limit {CHUNK_LIMIT}")
        if size:
            if self.used + len(chunk) > NODE_WINDOW:
                raise Violated("a message begins beyond the credit")
            self.left = size
        if len(chunk) > self.left:
            raise Violated("a chunk exceeds its message")
        self.left -= len(chunk)
        self.used += len(chunk)
        target = self.other or self
        if not chunk or not target.open:
            self.grant(len(chunk))
            return
        target.waiting.append((size, chunk))
        target.deliver()

    def grant(self, count: int) -> None:
        """Grant the client credit."""
        self.used -= count
        if self.open:
            self.session.write(Op.TUNNEL_ALLOW, id=self.number, space=count)

    def deliver(self) -> None:
        """Send the client what its credit covers, and finally the close."""
        while self.open and self.waiting:
            size, chunk = self.waiting[0]
            if len(chunk) > self.credit and not self.unfinished:
                return
            self.waiting.popleft()
            self.credit -= len(chunk)
            self.unfinished = max(0, (size or self.unfinished) - len(chunk))
            self.session.write(Op.TUNNEL_TRANSFER, id=self.number, size=size, chunk=chunk)
            (self.other or self).grant(len(chunk))
        if self.open and self.last is not None:
            self.end(self.last)

    def end(self, reason: str) -> None:
        """Send the client a close."""
        self.open = False
        self.session.tunnels.pop(self.number, None)
        self.session.write(Op.TUNNEL_CLOSE, id=self.number, reason=reason)

    def close(self) -> None:
        """Handle the client's close."""
        self.end("")
        self.drop("")

    def drop(self, reason: str) -> None:
        """Close the other end: the client has closed this one, or is gone."""
        self.open = False
        if self.other is not None and self.other.open:
            self.other.last = reason
            self.other.deliver()


@dataclass
class _Offer:
    """A tunnel that a member hasn't confirmed."""

    session: "FakeSession | None"  # the initiator; None: the node itself
    number: int
    open: bool = True


class FakeSession:
    """One client. Every packet to it passes through `write`."""

    def __init__(
        self,
        node: FakeNode,
        number: int,
        send: Callable[[bytes], None],
        hang_up: Callable[[], None],
    ) -> None:
        self.node, self.number = node, number
        self.send, self.hang_up = send, hang_up
        self.cluster = ""
        self.attached = self.over = self.leaving = False
        self.topics: set[str] = set()
        self.tunnels: dict[int, End] = {}
        self.offers: dict[int, _Offer] = {}
        # by number: the caller, None for the node, and its id
        self.unanswered: dict[int, tuple[FakeSession | None, int]] = {}
        self._calls = self._builds = 0
        self._reader = Reader(Side.CLIENT)

    def write(self, op: Op, **body: Any) -> None:
        """Send a packet, unless the last one was sent."""
        if not self.over:
            self.send(GENEROUS.node(op, **body))

    def feed(self, data: bytes) -> None:
        """Take bytes of the client's."""
        try:
            for packet in self._reader.feed(data):
                if not self.over:
                    self.handle(packet)
        except (Malformed, Violated) as exc:
            self.reject(str(exc))

    def reject(self, reason: str) -> None:
        """Disconnect the client for a protocol violation."""
        if self.attached:
            self.finish(reason)
        else:
            self.release()
            self.hang_up()

    def finish(self, reason: str) -> None:
        """Send the last packet, a close, and disconnect."""
        if not self.over:
            self.write(Op.CLOSE, reason=reason)
            self.release()
            self.hang_up()

    def release(self) -> None:
        """Release what the client holds, and fail what waits for it. Idempotent."""
        self.over = True
        self.leave_cluster()
        for topic in self.topics:
            self.node.topics[topic].remove(self)
        self.topics.clear()
        while self.unanswered:
            _, (caller, number) = self.unanswered.popitem()
            if caller is not None:
                caller.answer(number, success=False, result="service disconnected")
        self.drop_tunnels()

    def disconnected(self) -> None:
        """The client disconnected."""

    def leave_cluster(self) -> None:
        """Stop being a member."""
        if self.cluster and self in (members := self.node.clusters[self.cluster]):
            members.remove(self)

    def drop_tunnels(self) -> None:
        """Close all tunnels at their other ends."""
        for end in list(self.tunnels.values()):
            self.tunnels.pop(end.number, None)
            end.drop("" if self.leaving else "the other end is gone")

    # The client's packets

    def handle(self, packet: Packet) -> None:
        """Process a packet. Raises: Violated."""
        if (packet.op is Op.INIT) is self.attached:
            raise Violated("the first packet must be an init, and no other")
        getattr(self, f"on_{packet.op.name.lower()}")(packet.body)

    def on_init(self, body: Any) -> None:
        """Attach the client, or deny it."""
        if body.version != VERSION:
            self.deny(f"Unsupported protocol. Client: {body.version}. Iris: {VERSION}.")
            return
        self.attached, self.cluster = True, body.cluster
        if self.cluster:
            self.node.clusters[self.cluster].append(self)
        self.write(Op.INIT, version=VERSION)

    def deny(self, reason: str) -> None:
        """Deny the client."""
        self.write(Op.DENY, reason=reason)
        self.over = True
        self.hang_up()

    def on_close(self, body: Any) -> None:
        """Leave, and close once all requests are answered."""
        self.leaving = True
        self.leave_cluster()
        self.drop_tunnels()
        self.finish_if_idle()

    def finish_if_idle(self) -> None:
        """Close, if the client wants to leave and all its requests are answered."""
        if self.leaving and not self.unanswered:
            self.finish("")

    def on_broadcast(self, body: Any) -> None:
        """Deliver to all members."""
        for member in list(self.node.clusters[body.cluster]):
            member.write(Op.BROADCAST, message=body.message)

    def on_request(self, body: Any) -> None:
        """Deliver to a member, or echo, or time out."""
        member, seconds = self.node.member(body.cluster), body.timeout / 1_000
        if member is not None:
            member.deliver_request(self, body.id, body.request, body.timeout)
        elif self.node.echo:
            self.answer(body.id, success=True, result=body.request)
        else:
            self.node.after(seconds, lambda: self.write(Op.REPLY, id=body.id, timed_out=True))

    def deliver_request(
        self, caller: "FakeSession | None", number: int, request: bytes, timeout: int
    ) -> None:
        """Send a request, to be answered within `timeout` ms."""
        call, self._calls = self._calls, self._calls + 1
        self.unanswered[call] = caller, number
        self.write(Op.REQUEST, id=call, request=request, timeout=timeout)

        def expire() -> None:
            if self.unanswered.pop(call, None) is not None:
                if caller is not None:
                    caller.write(Op.REPLY, id=number, timed_out=True)
                self.finish_if_idle()

        self.node.after(timeout / 1_000, expire)

    def answer(self, number: int, *, success: bool, result: Any) -> None:
        """Answer a request of the client's."""
        self.write(Op.REPLY, id=number, timed_out=False, success=success, result=result)

    def on_reply(self, body: Any) -> None:
        """Forward a reply, unless it is too late."""
        entry = self.unanswered.pop(body.id, None)
        if entry is None:
            return
        caller, number = entry
        if caller is not None:
            caller.answer(number, success=body.success, result=body.result)
        self.finish_if_idle()

    def on_subscribe(self, body: Any) -> None:
        """Subscribe."""
        if body.topic in self.topics:
            raise Violated("subscribed already")
        self.topics.add(body.topic)
        self.node.topics[body.topic].append(self)

    def on_unsubscribe(self, body: Any) -> None:
        """Unsubscribe."""
        if body.topic not in self.topics:
            raise Violated("not subscribed")
        self.topics.remove(body.topic)
        self.node.topics[body.topic].remove(self)

    def on_publish(self, body: Any) -> None:
        """Deliver to all subscribers."""
        for session in list(self.node.topics[body.topic]):
            session.write(Op.PUBLISH, topic=body.topic, event=body.event)

    def on_tunnel_init(self, body: Any) -> None:
        """Offer a tunnel to a member, or echo it, or time out."""
        if body.id in self.tunnels:
            raise Violated(f"tunnel {body.id} exists already")
        member, seconds = self.node.member(body.cluster), body.timeout / 1_000
        if member is not None:
            member.offer(self, body.id, seconds)
        elif self.node.echo:
            self.built(body.id, None)
        else:
            self.node.after(
                seconds, lambda: self.write(Op.TUNNEL_CONFIRM, id=body.id, timed_out=True)
            )

    def offer(self, initiator: "FakeSession | None", number: int, timeout: float) -> None:
        """Offer a tunnel, to be confirmed within 3 s."""
        build_id, self._builds = self._builds, self._builds + 1
        offer = self.offers[build_id] = _Offer(initiator, number)
        self.write(Op.TUNNEL_INIT, build_id=build_id, chunk_limit=CHUNK_LIMIT)

        def expire() -> None:
            self.offers.pop(build_id, None)
            if offer.open and initiator is not None:
                initiator.write(Op.TUNNEL_CONFIRM, id=number, timed_out=True)
            offer.open = False

        self.node.after(min(timeout, CONFIRM_TIMEOUT), expire)

    def on_tunnel_confirm(self, body: Any) -> None:
        """Build an offered tunnel."""
        if body.id in self.tunnels:
            raise Violated(f"tunnel {body.id} exists already")
        offer = self.offers.pop(body.build_id, None)
        if offer is None or (offer.session is not None and offer.session.over):
            self.write(Op.TUNNEL_CLOSE, id=body.id, reason="tunnel offer expired")
            return
        offer.open = False
        own = self.tunnels[body.id] = End(self, body.id)
        if offer.session is not None:
            own.other = offer.session.built(offer.number, own)
        self.write(Op.TUNNEL_ALLOW, id=body.id, space=NODE_WINDOW)

    def built(self, number: int, other: "End | None") -> End:
        """Confirm a tunnel that the client requested."""
        end = self.tunnels[number] = End(self, number, other)
        self.write(Op.TUNNEL_CONFIRM, id=number, timed_out=False, chunk_limit=CHUNK_LIMIT)
        self.write(Op.TUNNEL_ALLOW, id=number, space=NODE_WINDOW)
        return end

    def on_tunnel_allow(self, body: Any) -> None:
        """Take credit."""
        if (end := self.tunnels.get(body.id)) is not None:
            end.credit += body.space
            end.deliver()

    def on_tunnel_transfer(self, body: Any) -> None:
        """Forward a chunk."""
        if (end := self.tunnels.get(body.id)) is not None:
            end.take(body.size, body.chunk)

    def on_tunnel_close(self, body: Any) -> None:
        """Close both ends."""
        if (end := self.tunnels.get(body.id)) is not None:
            end.close()
