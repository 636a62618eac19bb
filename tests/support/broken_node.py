"""Nodes that are wrong in one way each: the stand-in of `relaycheck`, with a mistake.

`MISTAKES` has for each the seat, which cases to try, and the id that has to be named: a case's that
fails, or a rule's that is broken.
"""

from dataclasses import dataclass
from typing import Any

from iris.relay_protocol.schema import VERSION, Op
from iris.relaycheck.fake_session import Refused, Seat


@dataclass(frozen=True)
class Mistake:
    seat: type[Seat]
    only: str
    named: str


class SpeaksFirst(Seat):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.write(Op.INIT, version=VERSION)


class LetsAnyVersionIn(Seat):
    def on_init(self, body: Any) -> None:
        body.version = VERSION
        super().on_init(body)


class DeniesInOtherWords(Seat):
    def deny(self, reason: str) -> None:
        super().deny("wrong version")


class StaysAfterADeny(Seat):
    def deny(self, reason: str) -> None:
        self.write(Op.DENY, reason=reason)
        self.over = True


class AnswersTwice(Seat):
    def answer(self, number: int, **body: Any) -> None:
        super().answer(number, **body)
        super().answer(number, **body)


class ForgetsDeadlines(Seat):
    def write(self, op: Op, **body: Any) -> None:
        if not (op is Op.REPLY and body["timed_out"]):
            super().write(op, **body)


class TakesEmptyRepliesForTimeouts(Seat):
    def answer(self, number: int, *, success: bool, result: Any) -> None:
        if success and not result:
            self.write(Op.REPLY, id=number, timed_out=True)
        else:
            super().answer(number, success=success, result=result)


class TakesEmptyFaultsForTimeouts(Seat):
    def answer(self, number: int, *, success: bool, result: Any) -> None:
        if not success and not result:
            self.write(Op.REPLY, id=number, timed_out=True)
        else:
            super().answer(number, success=success, result=result)


class PassesLateRepliesOn(Seat):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.all: dict[int, Any] = {}

    def ask(self, caller: Seat | None, number: int, request: bytes, timeout: int) -> None:
        self.all[self._calls] = caller, number
        super().ask(caller, number, request, timeout)

    def on_reply(self, body: Any) -> None:
        if body.id not in self.in_hand and body.id in self.all:
            self.in_hand[body.id] = self.all[body.id]
        super().on_reply(body)


class BroadcastsToEverybody(Seat):
    everybody: list[Seat] = []  # noqa: RUF012

    def on_init(self, body: Any) -> None:
        super().on_init(body)
        self.everybody.append(self)

    def on_broadcast(self, body: Any) -> None:
        for seat in self.everybody:
            seat.write(Op.BROADCAST, message=body.message)


class SwapsBroadcasts(Seat):
    held: Any = None

    def on_broadcast(self, body: Any) -> None:
        if self.held is None:
            self.held = body
        else:
            super().on_broadcast(body)
            super().on_broadcast(self.held)
            self.held = None


class IgnoresTopics(Seat):
    def on_publish(self, body: Any) -> None:
        self.write(Op.PUBLISH, topic=body.topic + "x", event=body.event)
        super().on_publish(body)


class ToleratesASecondSubscription(Seat):
    def on_subscribe(self, body: Any) -> None:
        if body.topic not in self.topics:
            super().on_subscribe(body)


class HangsUpWithoutAWord(Seat):
    def refuse(self, reason: str) -> None:
        self.gone()
        self.hang_up()


class ClosesBeforeTheWorkIsDone(Seat):
    def settle(self) -> None:
        if self.leaving:
            self.finish("")


class ClosesWithAReason(Seat):
    def settle(self) -> None:
        if self.leaving and not self.in_hand:
            self.finish("bye")


class GrantsLess(Seat):
    def write(self, op: Op, **body: Any) -> None:
        if op is Op.TUNNEL_ALLOW:
            body["space"] = min(body["space"], 1 << 20)
        super().write(op, **body)


class IgnoresAllowances(Seat):
    def write(self, op: Op, **body: Any) -> None:
        super().write(op, **body)
        if (
            op in (Op.TUNNEL_CONFIRM, Op.TUNNEL_ALLOW)
            and (end := self.tunnels.get(body["id"])) is not None
        ):
            end.allowance = 1 << 30


class GivesNothingBack(Seat):
    def write(self, op: Op, **body: Any) -> None:
        if not (op is Op.TUNNEL_ALLOW and body["space"] != 4 << 20):
            super().write(op, **body)


class ClosesBeforeTheData(Seat):
    def on_tunnel_close(self, body: Any) -> None:
        end = self.tunnels.get(body.id)
        if end is not None and end.other is not None:
            end.other.waiting.clear()
        super().on_tunnel_close(body)


class ConfirmsNoClose(Seat):
    def on_tunnel_close(self, body: Any) -> None:
        if (end := self.tunnels.pop(body.id, None)) is not None:
            end.drop("")


class AnnouncesAnotherLimit(Seat):
    def write(self, op: Op, **body: Any) -> None:
        if "chunk_limit" in body:
            body["chunk_limit"] = 1_024
        super().write(op, **body)


class DeliversEmptyChunks(Seat):
    def on_tunnel_transfer(self, body: Any) -> None:
        end = self.tunnels.get(body.id)
        if end is not None and end.other is not None and not body.chunk:
            end.other.seat.write(Op.TUNNEL_TRANSFER, id=end.other.number, size=0, chunk=b"")
        super().on_tunnel_transfer(body)


class ConfirmsBeforeTheAcceptor(Seat):
    def offer(self, initiator: Seat | None, number: int, timeout: float) -> None:
        if initiator is not None:
            initiator.write(Op.TUNNEL_CONFIRM, id=number, timed_out=False, chunk_limit=65_536)
        super().offer(initiator, number, timeout)


class HangsAfterAnUnknownConfirm(Seat):
    stuck = False

    def handle(self, packet: Any) -> None:
        if packet.op is Op.TUNNEL_CONFIRM and packet.body.build_id not in self.offers:
            self.stuck = True
        elif not (self.stuck and packet.op is Op.TUNNEL_INIT):
            super().handle(packet)


class LosesCutPackets(Seat):
    def feed(self, data: bytes) -> None:
        super().feed(data)
        if self.attached and not self.over and self._reader.rest:
            self._reader._buffer.clear()


class ForgetsTheOtherEnd(Seat):
    def drop_tunnels(self) -> None:
        self.tunnels.clear()


class TakesAVanishedEndForAClosedOne(Seat):
    def gone(self) -> None:
        self.leaving = True
        super().gone()


class ForgetsWhoAsked(Seat):
    def gone(self) -> None:
        self.in_hand.clear()
        super().gone()


class TakesChunksOfAnySize(Seat):
    def on_tunnel_transfer(self, body: Any) -> None:
        body.chunk = body.chunk[:65_536]
        super().on_tunnel_transfer(body)


class LosesAbandonedAllowance(Seat):
    def on_tunnel_transfer(self, body: Any) -> None:
        end = self.tunnels.get(body.id)
        before = end.left if end is not None else 0
        super().on_tunnel_transfer(body)
        if before and body.size and end is not None:
            raise Refused("the message before isn't finished")


MISTAKES = {
    mistake.seat.__name__: mistake
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
