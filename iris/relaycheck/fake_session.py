"""A small node in memory, alone in its network.

What `relaycheck binding` shows to a binding's program. Core, with a timer for deadlines.

It keeps to the rules, as `relaycheck node` says of it; scenarios make exceptions. All of it is
guarded by one lock, `StandIn.lock`, which whoever calls a seat holds; the timer's callbacks take it
themselves.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from iris.relay_protocol.schema import VERSION, Op
from iris.relaycheck.peer import LIMIT, WINDOW
from iris.relaycheck.reader import GENEROUS, Malformed, Packet, Reader
from iris.relaycheck.rules import Side
from iris.runtime.timer import Timer

CONFIRM_TIMEOUT = 3.0  # seconds


class Refused(Exception):
    """The client breaks the rules; the text says which."""


class StandIn:
    """The clusters and topics of all seats. With `echo`, it serves itself what nobody else does."""

    def __init__(self, timer: Timer, *, echo: bool) -> None:
        self.lock = threading.RLock()
        self.timer, self.echo = timer, echo
        self.clusters: dict[str, deque[Seat]] = defaultdict(deque)
        self.topics: dict[str, list[Seat]] = defaultdict(list)

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back later, with the lock held; at once if it is 0."""
        if seconds <= 0:
            callback()
            return

        def locked() -> None:
            with self.lock:
                callback()

        self.timer.after(seconds, locked)

    def member(self, cluster: str) -> "Seat | None":
        """The next one's turn."""
        members = self.clusters[cluster]
        if not members:
            return None
        members.rotate(-1)
        return members[-1]


@dataclass
class End:
    """One end of a tunnel."""

    seat: "Seat"
    number: int
    other: "End | None" = None  # None: it is echoed
    open: bool = True
    used: int = 0  # bytes that the client sent and didn't get back
    left: int = 0  # bytes of the message that the client has begun
    allowance: int = 0  # bytes, granted by the client
    unfinished: int = 0  # bytes of the message that the client is being sent
    waiting: deque[tuple[int, bytes]] = field(default_factory=deque)
    last: str | None = None  # reason of the close that follows what waits

    def take(self, size: int, chunk: bytes) -> None:
        """The client sends a chunk. Raises: Refused."""
        if len(chunk) > LIMIT:
            raise Refused(f"a chunk of {len(chunk)} bytes, limit {LIMIT}")
        if size:
            if self.used + len(chunk) > WINDOW:
                raise Refused("a message begins beyond the allowance")
            self.left = size
        if len(chunk) > self.left:
            raise Refused("a chunk goes beyond its message")
        self.left -= len(chunk)
        self.used += len(chunk)
        target = self.other or self
        if not chunk or not target.open:
            self.give_back(len(chunk))
            return
        target.waiting.append((size, chunk))
        target.deliver()

    def give_back(self, count: int) -> None:
        """The client may send so much more."""
        self.used -= count
        if self.open:
            self.seat.write(Op.TUNNEL_ALLOW, id=self.number, space=count)

    def deliver(self) -> None:
        """Send the client what its allowance covers, and the close after the last."""
        while self.open and self.waiting:
            size, chunk = self.waiting[0]
            if len(chunk) > self.allowance and not self.unfinished:
                return
            self.waiting.popleft()
            self.allowance -= len(chunk)
            self.unfinished = max(0, (size or self.unfinished) - len(chunk))
            self.seat.write(Op.TUNNEL_TRANSFER, id=self.number, size=size, chunk=chunk)
            (self.other or self).give_back(len(chunk))
        if self.open and self.last is not None:
            self.end(self.last)

    def end(self, reason: str) -> None:
        """Tell the client that it is over."""
        self.open = False
        self.seat.tunnels.pop(self.number, None)
        self.seat.write(Op.TUNNEL_CLOSE, id=self.number, reason=reason)

    def close(self) -> None:
        """The client closes it."""
        self.end("")
        self.drop("")

    def drop(self, reason: str) -> None:
        """The client wants no more of it, or is gone."""
        self.open = False
        if self.other is not None and self.other.open:
            self.other.last = reason
            self.other.deliver()


@dataclass
class _Offer:
    """A tunnel that a member hasn't confirmed."""

    seat: "Seat | None"  # who wants it; None: the stand-in itself
    number: int
    open: bool = True


class Seat:
    """One attached client. `write` is where all that it is told passes."""

    def __init__(
        self, node: StandIn, number: int, send: Callable[[bytes], None], hang_up: Callable[[], None]
    ) -> None:
        self.node, self.number = node, number
        self.send, self.hang_up = send, hang_up
        self.cluster = ""
        self.attached = self.over = self.leaving = False
        self.topics: set[str] = set()
        self.tunnels: dict[int, End] = {}
        self.offers: dict[int, _Offer] = {}
        # by number: who asked, and with which id
        self.in_hand: dict[int, tuple[Seat | None, int]] = {}
        self._calls = self._builds = 0
        self._reader = Reader(Side.CLIENT)

    def write(self, op: Op, **body: Any) -> None:
        """Tell the client, unless it was told the last thing."""
        if not self.over:
            self.send(GENEROUS.node(op, **body))

    def feed(self, data: bytes) -> None:
        """Take what the client says."""
        try:
            for packet in self._reader.feed(data):
                if not self.over:
                    self.handle(packet)
        except (Malformed, Refused) as exc:
            self.refuse(str(exc))

    def refuse(self, reason: str) -> None:
        """End it for breaking the rules."""
        if self.attached:
            self.finish(reason)
        else:
            self.gone()
            self.hang_up()

    def finish(self, reason: str) -> None:
        """The last packet, and the end."""
        if not self.over:
            self.write(Op.CLOSE, reason=reason)
            self.gone()
            self.hang_up()

    def gone(self) -> None:
        """The client is no more: whoever waits for it is told. Idempotent."""
        self.over = True
        self.leave()
        for topic in self.topics:
            self.node.topics[topic].remove(self)
        self.topics.clear()
        while self.in_hand:
            _, (caller, number) = self.in_hand.popitem()
            if caller is not None:
                caller.answer(number, success=False, result="the service went away")
        self.drop_tunnels()

    def left(self) -> None:
        """The client hung up."""

    def leave(self) -> None:
        """It is no member any more."""
        if self.cluster and self in (members := self.node.clusters[self.cluster]):
            members.remove(self)

    def drop_tunnels(self) -> None:
        """Close them at their other ends."""
        for end in list(self.tunnels.values()):
            self.tunnels.pop(end.number, None)
            end.drop("" if self.leaving else "the other end is gone")

    # What it says

    def handle(self, packet: Packet) -> None:
        """Carry out a packet. Raises: Refused."""
        if (packet.op is Op.INIT) is self.attached:
            raise Refused("an init comes first, and once")
        getattr(self, f"on_{packet.op.name.lower()}")(packet.body)

    def on_init(self, body: Any) -> None:
        """Let it in, or not."""
        if body.version != VERSION:
            self.deny(f"Unsupported protocol. Client: {body.version}. Iris: {VERSION}.")
            return
        self.attached, self.cluster = True, body.cluster
        if self.cluster:
            self.node.clusters[self.cluster].append(self)
        self.write(Op.INIT, version=VERSION)

    def deny(self, reason: str) -> None:
        """Don't let it in."""
        self.write(Op.DENY, reason=reason)
        self.over = True
        self.hang_up()

    def on_close(self, body: Any) -> None:
        """Leave, and say so when the work in hand is done."""
        self.leaving = True
        self.leave()
        self.drop_tunnels()
        self.settle()

    def settle(self) -> None:
        """Finish, if it wants to leave and has nothing in hand."""
        if self.leaving and not self.in_hand:
            self.finish("")

    def on_broadcast(self, body: Any) -> None:
        """Tell all members."""
        for member in list(self.node.clusters[body.cluster]):
            member.write(Op.BROADCAST, message=body.message)

    def on_request(self, body: Any) -> None:
        """Ask a member, or answer, or wait for the deadline."""
        member, seconds = self.node.member(body.cluster), body.timeout / 1_000
        if member is not None:
            member.ask(self, body.id, body.request, body.timeout)
        elif self.node.echo:
            self.answer(body.id, success=True, result=body.request)
        else:
            self.node.after(seconds, lambda: self.write(Op.REPLY, id=body.id, timed_out=True))

    def ask(self, caller: "Seat | None", number: int, request: bytes, timeout: int) -> None:
        """It is asked, and has until the deadline."""
        call, self._calls = self._calls, self._calls + 1
        self.in_hand[call] = caller, number
        self.write(Op.REQUEST, id=call, request=request, timeout=timeout)

        def expire() -> None:
            if self.in_hand.pop(call, None) is not None:
                if caller is not None:
                    caller.write(Op.REPLY, id=number, timed_out=True)
                self.settle()

        self.node.after(timeout / 1_000, expire)

    def answer(self, number: int, *, success: bool, result: Any) -> None:
        """Its request is answered."""
        self.write(Op.REPLY, id=number, timed_out=False, success=success, result=result)

    def on_reply(self, body: Any) -> None:
        """Pass the reply on, unless it is too late."""
        entry = self.in_hand.pop(body.id, None)
        if entry is None:
            return
        caller, number = entry
        if caller is not None:
            caller.answer(number, success=body.success, result=body.result)
        self.settle()

    def on_subscribe(self, body: Any) -> None:
        """From now on, events of the topic come."""
        if body.topic in self.topics:
            raise Refused("it has subscribed already")
        self.topics.add(body.topic)
        self.node.topics[body.topic].append(self)

    def on_unsubscribe(self, body: Any) -> None:
        """From now on, they don't."""
        if body.topic not in self.topics:
            raise Refused("it hasn't subscribed")
        self.topics.remove(body.topic)
        self.node.topics[body.topic].remove(self)

    def on_publish(self, body: Any) -> None:
        """Tell all subscribers."""
        for seat in list(self.node.topics[body.topic]):
            seat.write(Op.PUBLISH, topic=body.topic, event=body.event)

    def on_tunnel_init(self, body: Any) -> None:
        """Offer it to a member, or echo it, or wait for the deadline."""
        if body.id in self.tunnels:
            raise Refused("it has a tunnel of that id")
        member, seconds = self.node.member(body.cluster), body.timeout / 1_000
        if member is not None:
            member.offer(self, body.id, seconds)
        elif self.node.echo:
            self.built(body.id, None)
        else:
            self.node.after(
                seconds, lambda: self.write(Op.TUNNEL_CONFIRM, id=body.id, timed_out=True)
            )

    def offer(self, initiator: "Seat | None", number: int, timeout: float) -> None:
        """It is offered a tunnel, and has 3 s."""
        build_id, self._builds = self._builds, self._builds + 1
        offer = self.offers[build_id] = _Offer(initiator, number)
        self.write(Op.TUNNEL_INIT, build_id=build_id, chunk_limit=LIMIT)

        def expire() -> None:
            self.offers.pop(build_id, None)
            if offer.open and initiator is not None:
                initiator.write(Op.TUNNEL_CONFIRM, id=number, timed_out=True)
            offer.open = False

        self.node.after(min(timeout, CONFIRM_TIMEOUT), expire)

    def on_tunnel_confirm(self, body: Any) -> None:
        """It takes the tunnel."""
        if body.id in self.tunnels:
            raise Refused("it has a tunnel of that id")
        offer = self.offers.pop(body.build_id, None)
        if offer is None or (offer.seat is not None and offer.seat.over):
            self.write(Op.TUNNEL_CLOSE, id=body.id, reason="that tunnel isn't offered any more")
            return
        offer.open = False
        own = self.tunnels[body.id] = End(self, body.id)
        if offer.seat is not None:
            own.other = offer.seat.built(offer.number, own)
        self.write(Op.TUNNEL_ALLOW, id=body.id, space=WINDOW)

    def built(self, number: int, other: "End | None") -> End:
        """The tunnel that it wanted is there."""
        end = self.tunnels[number] = End(self, number, other)
        self.write(Op.TUNNEL_CONFIRM, id=number, timed_out=False, chunk_limit=LIMIT)
        self.write(Op.TUNNEL_ALLOW, id=number, space=WINDOW)
        return end

    def on_tunnel_allow(self, body: Any) -> None:
        """More may be sent to it."""
        if (end := self.tunnels.get(body.id)) is not None:
            end.allowance += body.space
            end.deliver()

    def on_tunnel_transfer(self, body: Any) -> None:
        """Pass a chunk on."""
        if (end := self.tunnels.get(body.id)) is not None:
            end.take(body.size, body.chunk)

    def on_tunnel_close(self, body: Any) -> None:
        """Close it at both ends."""
        if (end := self.tunnels.get(body.id)) is not None:
            end.close()
