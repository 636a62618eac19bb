"""A small node in memory, alone in its network, for `relaycheck binding`. Core, with a timer.

It passes `relaycheck node`; scenarios make exceptions. One lock guards everything, `FakeNode.lock`,
which callers of a session hold; the timer's callbacks take it themselves.
"""

# ruff: noqa: D102  # on_subscribe and the like process that packet of the client's

import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from iris.relay_protocol.schema import VERSION, Op, Side
from iris.relaycheck.reader import GENEROUS, Malformed, Packet, Reader
from iris.relaycheck.tunnel import CHUNK_LIMIT, CONFIRM_TIMEOUT, NODE_WINDOW
from iris.runtime.timer import Timer

Send = Callable[[bytes | None], None]  # None: disconnect


class Violated(Exception):
    """The client violates the protocol; the text says how."""


class FakeNode:
    """The clusters and topics of all sessions; with `echo`, it serves clusters without members."""

    def __init__(self, timer: Timer, *, echo: bool) -> None:
        self.lock = threading.RLock()
        self.timer, self.echo = timer, echo
        self.clusters: dict[str, deque[FakeSession]] = defaultdict(deque)
        self.topics: dict[str, set[FakeSession]] = defaultdict(set)

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
        members.rotate(-1)
        return members[-1] if members else None

    def leave_cluster(self, session: "FakeSession") -> None:
        """Remove a session from the members of its cluster. Idempotent."""
        if session in (members := self.clusters[session.cluster]):
            members.remove(session)


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

    def drop(self, reason: str) -> None:
        """Close the other end: the client has closed this one, or is gone."""
        self.open = False
        if self.other is not None and self.other.open:
            self.other.last = reason
            self.other.deliver()


class FakeSession:
    """One client. Every packet to it passes through `write`."""

    def __init__(self, node: FakeNode, number: int, send: Send) -> None:
        self.node, self.number, self.send = node, number, send
        self.cluster = ""
        self.attached = self.over = self.leaving = False
        self.tunnels: dict[int, End] = {}
        # offered tunnels, by build id, and unanswered requests: the other client, and its id;
        # None: the node itself
        self.offers: dict[int, tuple[FakeSession | None, int]] = {}
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
            self.finish(str(exc))

    def finish(self, reason: str) -> None:
        """Send the last packet, a close, and disconnect; a client that isn't attached gets none."""
        if self.over:
            return
        if self.attached:
            self.write(Op.CLOSE, reason=reason)
        self.release()
        self.send(None)

    def release(self) -> None:
        """Release what the client holds, and fail what waits for it. Idempotent."""
        self.over = True
        self.node.leave_cluster(self)
        for subscribers in self.node.topics.values():
            subscribers.discard(self)
        while self.unanswered:
            _, (caller, number) = self.unanswered.popitem()
            if caller is not None:
                caller.answer(number, success=False, result="service disconnected")
        self.drop_tunnels()

    def disconnected(self) -> None:
        """Process the end of the client's stream; one that has sent a close still gets its own."""
        if not self.leaving:
            self.release()
            self.send(None)

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
        if packet.op in (Op.TUNNEL_ALLOW, Op.TUNNEL_TRANSFER, Op.TUNNEL_CLOSE):
            if (end := self.tunnels.get(packet.body.id)) is not None:
                self.on_tunnel_packet(packet.op, end, packet.body)
        else:
            getattr(self, f"on_{packet.op.name.lower()}")(packet.body)

    def on_init(self, body: Any) -> None:
        if body.version != VERSION:
            self.deny(f"Unsupported protocol. Client: {body.version}. Iris: {VERSION}.")
            return
        self.attached, self.cluster = True, body.cluster
        if self.cluster:
            self.node.clusters[self.cluster].append(self)
        self.write(Op.INIT, version=VERSION)

    def deny(self, reason: str) -> None:
        self.write(Op.DENY, reason=reason)
        self.over = True
        self.send(None)

    def on_close(self, body: Any) -> None:
        self.leaving = True
        self.node.leave_cluster(self)
        self.drop_tunnels()
        self.finish_if_idle()

    def finish_if_idle(self) -> None:
        """Close, if the client wants to leave and all its requests are answered."""
        if self.leaving and not self.unanswered:
            self.finish("")

    def on_broadcast(self, body: Any) -> None:
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
            self.node.after(seconds, partial(self.write, Op.REPLY, id=body.id, timed_out=True))

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
        if self in self.node.topics[body.topic]:
            raise Violated("subscribed already")
        self.node.topics[body.topic].add(self)

    def on_unsubscribe(self, body: Any) -> None:
        if self not in self.node.topics[body.topic]:
            raise Violated("not subscribed")
        self.node.topics[body.topic].remove(self)

    def on_publish(self, body: Any) -> None:
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
            expired = partial(self.write, Op.TUNNEL_CONFIRM, id=body.id, timed_out=True)
            self.node.after(seconds, expired)

    def offer(self, initiator: "FakeSession | None", number: int, timeout: float) -> None:
        """Offer a tunnel, to be confirmed within 3 s."""
        build_id, self._builds = self._builds, self._builds + 1
        self.offers[build_id] = initiator, number
        self.write(Op.TUNNEL_INIT, build_id=build_id, chunk_limit=CHUNK_LIMIT)

        def expire() -> None:
            if self.offers.pop(build_id, None) is not None and initiator is not None:
                initiator.write(Op.TUNNEL_CONFIRM, id=number, timed_out=True)

        self.node.after(min(timeout, CONFIRM_TIMEOUT), expire)

    def on_tunnel_confirm(self, body: Any) -> None:
        """Build an offered tunnel."""
        if body.id in self.tunnels:
            raise Violated(f"tunnel {body.id} exists already")
        initiator, number = self.offers.pop(body.build_id, (None, None))
        if number is None or (initiator is not None and initiator.over):
            self.write(Op.TUNNEL_CLOSE, id=body.id, reason="tunnel offer expired")
            return
        own = self.tunnels[body.id] = End(self, body.id)
        if initiator is not None:
            own.other = initiator.built(number, own)
        self.write(Op.TUNNEL_ALLOW, id=body.id, space=NODE_WINDOW)

    def built(self, number: int, other: "End | None") -> End:
        """Confirm a tunnel that the client requested."""
        end = self.tunnels[number] = End(self, number, other)
        self.write(Op.TUNNEL_CONFIRM, id=number, timed_out=False, chunk_limit=CHUNK_LIMIT)
        self.write(Op.TUNNEL_ALLOW, id=number, space=NODE_WINDOW)
        return end

    def on_tunnel_packet(self, op: Op, end: End, body: Any) -> None:
        """Process a packet of a live tunnel."""
        if op is Op.TUNNEL_ALLOW:
            end.credit += body.space
            end.deliver()
        elif op is Op.TUNNEL_TRANSFER:
            end.take(body.size, body.chunk)
        else:
            end.end("")
            end.drop("")
