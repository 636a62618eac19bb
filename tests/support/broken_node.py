"""Nodes that are wrong in one way each: the fake node of `relaycheck`, with a mistake.

`MISTAKES` has for each the session, which cases to try, and the id that has to be named: a case's
that fails, or a rule's that is violated.
"""

from dataclasses import dataclass
from typing import Any

from iris.relay_protocol.schema import VERSION, Op
from iris.relaycheck.fake_session import End, FakeSession, Violated


@dataclass(frozen=True)
class Mistake:
    session: type[FakeSession]
    only: str
    named: str


class SpeaksFirst(FakeSession):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.write(Op.INIT, version=VERSION)


class LetsAnyVersionIn(FakeSession):
    def on_init(self, body: Any) -> None:
        body.version = VERSION
        super().on_init(body)


class DeniesInOtherWords(FakeSession):
    def deny(self, reason: str) -> None:
        super().deny("wrong version")


class StaysAfterADeny(FakeSession):
    def deny(self, reason: str) -> None:
        self.write(Op.DENY, reason=reason)
        self.over = True


class AnswersTwice(FakeSession):
    def answer(self, number: int, **body: Any) -> None:
        super().answer(number, **body)
        super().answer(number, **body)


class ForgetsDeadlines(FakeSession):
    def write(self, op: Op, **body: Any) -> None:
        if not (op is Op.REPLY and body["timed_out"]):
            super().write(op, **body)


class TakesEmptyRepliesForTimeouts(FakeSession):
    def answer(self, number: int, *, success: bool, result: Any) -> None:
        if success and not result:
            self.write(Op.REPLY, id=number, timed_out=True)
        else:
            super().answer(number, success=success, result=result)


class TakesEmptyFaultsForTimeouts(FakeSession):
    def answer(self, number: int, *, success: bool, result: Any) -> None:
        if not success and not result:
            self.write(Op.REPLY, id=number, timed_out=True)
        else:
            super().answer(number, success=success, result=result)


class PassesLateRepliesOn(FakeSession):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.all: dict[int, Any] = {}

    def deliver_request(
        self, caller: FakeSession | None, number: int, request: bytes, timeout: int
    ) -> None:
        self.all[self._calls] = caller, number
        super().deliver_request(caller, number, request, timeout)

    def on_reply(self, body: Any) -> None:
        if body.id not in self.unanswered and body.id in self.all:
            self.unanswered[body.id] = self.all[body.id]
        super().on_reply(body)


class BroadcastsToEverybody(FakeSession):
    everybody: list[FakeSession] = []  # noqa: RUF012

    def on_init(self, body: Any) -> None:
        super().on_init(body)
        self.everybody.append(self)

    def on_broadcast(self, body: Any) -> None:
        for session in self.everybody:
            session.write(Op.BROADCAST, message=body.message)


class SwapsBroadcasts(FakeSession):
    held: Any = None

    def on_broadcast(self, body: Any) -> None:
        if self.held is None:
            self.held = body
        else:
            super().on_broadcast(body)
            super().on_broadcast(self.held)
            self.held = None


class IgnoresTopics(FakeSession):
    def on_publish(self, body: Any) -> None:
        self.write(Op.PUBLISH, topic=body.topic + "x", event=body.event)
        super().on_publish(body)


class ToleratesASecondSubscription(FakeSession):
    def on_subscribe(self, body: Any) -> None:
        if self not in self.node.topics[body.topic]:
            super().on_subscribe(body)


class HangsUpWithoutAWord(FakeSession):
    def finish(self, reason: str) -> None:
        self.release()
        self.send(None)


class ClosesBeforeTheWorkIsDone(FakeSession):
    def finish_if_idle(self) -> None:
        if self.leaving:
            self.finish("")


class ClosesWithAReason(FakeSession):
    def finish_if_idle(self) -> None:
        if self.leaving and not self.unanswered:
            self.finish("bye")


class GrantsLess(FakeSession):
    def write(self, op: Op, **body: Any) -> None:
        if op is Op.TUNNEL_ALLOW:
            body["space"] = min(body["space"], 1 << 20)
        super().write(op, **body)


class IgnoresAllowances(FakeSession):
    def write(self, op: Op, **body: Any) -> None:
        super().write(op, **body)
        if (
            op in (Op.TUNNEL_CONFIRM, Op.TUNNEL_ALLOW)
            and (end := self.tunnels.get(body["id"])) is not None
        ):
            end.credit = 1 << 30


class GivesNothingBack(FakeSession):
    def write(self, op: Op, **body: Any) -> None:
        if not (op is Op.TUNNEL_ALLOW and body["space"] != 4 << 20):
            super().write(op, **body)


class ClosesBeforeTheData(FakeSession):
    def on_tunnel_packet(self, op: Op, end: End, body: Any) -> None:
        if op is Op.TUNNEL_CLOSE and end.other is not None:
            end.other.waiting.clear()
        super().on_tunnel_packet(op, end, body)


class ConfirmsNoClose(FakeSession):
    def on_tunnel_packet(self, op: Op, end: End, body: Any) -> None:
        if op is Op.TUNNEL_CLOSE:
            del self.tunnels[end.number]
            end.drop("")
        else:
            super().on_tunnel_packet(op, end, body)


class AnnouncesAnotherLimit(FakeSession):
    def write(self, op: Op, **body: Any) -> None:
        if "chunk_limit" in body:
            body["chunk_limit"] = 1_024
        super().write(op, **body)


class DeliversEmptyChunks(FakeSession):
    def on_tunnel_packet(self, op: Op, end: End, body: Any) -> None:
        if op is Op.TUNNEL_TRANSFER and end.other is not None and not body.chunk:
            end.other.session.write(Op.TUNNEL_TRANSFER, id=end.other.number, size=0, chunk=b"")
        super().on_tunnel_packet(op, end, body)


class ConfirmsBeforeTheAcceptor(FakeSession):
    def offer(self, initiator: FakeSession | None, number: int, timeout: float) -> None:
        if initiator is not None:
            initiator.write(Op.TUNNEL_CONFIRM, id=number, timed_out=False, chunk_limit=65_536)
        super().offer(initiator, number, timeout)


class HangsAfterAnUnknownConfirm(FakeSession):
    stuck = False

    def handle(self, packet: Any) -> None:
        if packet.op is Op.TUNNEL_CONFIRM and packet.body.build_id not in self.offers:
            self.stuck = True
        elif not (self.stuck and packet.op is Op.TUNNEL_INIT):
            super().handle(packet)


class LosesCutPackets(FakeSession):
    def feed(self, data: bytes) -> None:
        super().feed(data)
        if self.attached and not self.over and self._reader.rest:
            self._reader._buffer.clear()


class ForgetsTheOtherEnd(FakeSession):
    def drop_tunnels(self) -> None:
        self.tunnels.clear()


class TakesAVanishedEndForAClosedOne(FakeSession):
    def release(self) -> None:
        self.leaving = True
        super().release()


class ForgetsWhoAsked(FakeSession):
    def release(self) -> None:
        self.unanswered.clear()
        super().release()


class TakesChunksOfAnySize(FakeSession):
    def on_tunnel_packet(self, op: Op, end: End, body: Any) -> None:
        if op is Op.TUNNEL_TRANSFER:
            body.chunk = body.chunk[:65_536]
        super().on_tunnel_packet(op, end, body)


class LosesAbandonedAllowance(FakeSession):
    def on_tunnel_packet(self, op: Op, end: End, body: Any) -> None:
        before = end.left
        super().on_tunnel_packet(op, end, body)
        if before and op is Op.TUNNEL_TRANSFER and body.size:
            raise Violated("the message before isn't finished")


MISTAKES = {
    mistake.session.__name__: mistake
    for mistake in (
        Mistake(SpeaksFirst, "open.silent", "open.first"),
        Mistake(LetsAnyVersionIn, "open.version", "open.deny"),
        Mistake(DeniesInOtherWords, "open.version", "node.open.version"),
        Mistake(StaysAfterADeny, "open.version", "node.open.version"),
        Mistake(AnswersTwice, "request.reply", "request.answer"),
        Mistake(ForgetsDeadlines, "request.(nobody|timeout)", "node.request.nobody"),
        Mistake(TakesEmptyRepliesForTimeouts, "request.empty$", "node.request.empty"),
        Mistake(TakesEmptyFaultsForTimeouts, "request.empty-fault", "node.request.empty-fault"),
        Mistake(PassesLateRepliesOn, "request.late", "request.answer"),
        Mistake(BroadcastsToEverybody, "node.broadcast.empty", "service.only"),
        Mistake(SwapsBroadcasts, "broadcast.order", "node.broadcast.order"),
        Mistake(IgnoresTopics, "topic.all", "topic.event"),
        Mistake(ToleratesASecondSubscription, "topic.twice", "node.topic.twice"),
        Mistake(HangsUpWithoutAWord, "value.opcode$", "close.word"),
        Mistake(ClosesBeforeTheWorkIsDone, "close.in-hand", "node.close.in-hand"),
        Mistake(ClosesWithAReason, "close.graceful", "close.answer"),
        Mistake(GrantsLess, "tunnel.build", "allow.first"),
        Mistake(IgnoresAllowances, "allow.none", "chunk.allowance"),
        Mistake(GivesNothingBack, "allow.back", "node.allow.back"),
        Mistake(ClosesBeforeTheData, "tunnel-close.waiting", "node.tunnel-close.waiting"),
        Mistake(ConfirmsNoClose, "tunnel-close.initiator", "node.tunnel-close.initiator"),
        Mistake(AnnouncesAnotherLimit, "tunnel.build", "tunnel.limit"),
        Mistake(DeliversEmptyChunks, "tunnel.empty", "chunk.empty"),
        Mistake(ConfirmsBeforeTheAcceptor, "tunnel.unconfirmed", "node.tunnel.unconfirmed"),
        Mistake(
            HangsAfterAnUnknownConfirm, "tunnel.unknown-confirm", "node.tunnel.unknown-confirm"
        ),
        Mistake(LosesCutPackets, "split.publish", "node.split.publish"),
        Mistake(ForgetsTheOtherEnd, "tunnel-close.vanish$", "node.tunnel-close.vanish"),
        Mistake(TakesAVanishedEndForAClosedOne, "tunnel-close.vanish$", "node.tunnel-close.vanish"),
        Mistake(ForgetsWhoAsked, "request.vanish", "node.request.vanish"),
        Mistake(TakesChunksOfAnySize, "value.chunk", "node.value.chunk"),
        Mistake(LosesAbandonedAllowance, "abandon", "node.abandon.next"),
    )
}
