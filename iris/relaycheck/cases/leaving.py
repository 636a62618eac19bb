"""How a connection ends."""

# ruff: noqa: D103  # a case's words say what it's about

import time

from iris.relay_protocol.schema import VERSION, Op
from iris.relaycheck.harness import Bench, case
from iris.relaycheck.peer import SILENCE, Failure
from iris.relaycheck.reader import GENEROUS


@case("node.close.graceful", 'a close is answered by a close with the reason "", and the end')
def graceful(bench: Bench) -> None:
    bench.plain().leave()
    bench.service().leave()


@case("node.close.at-once", "an init and a close in one piece are both answered")
def at_once(bench: Bench) -> None:
    for _ in range(20):
        peer = bench.connect()
        peer.say_bytes(
            GENEROUS.client(Op.INIT, version=VERSION, cluster="") + GENEROUS.client(Op.CLOSE)
        )
        peer.expect(Op.INIT)
        peer.expect(Op.CLOSE, reason="")
        peer.ended()


@case("node.close.half", "who hangs up its own direction after a close gets the answer")
def half(bench: Bench) -> None:
    peer = bench.plain()
    peer.say(Op.CLOSE)
    peer.half_close()
    peer.expect(Op.CLOSE, reason="")
    peer.ended()


@case("node.close.left", "a service that has left is asked no more")
def left(bench: Bench) -> None:
    service, client = bench.pair()
    service.leave()
    bench.request(client, timeout=300)
    if not client.expect(Op.REPLY).timed_out:
        raise Failure("somebody answers")


@case("node.close.in-hand", "a close is answered after the work in hand is done")
def in_hand(bench: Bench) -> None:
    service, client = bench.pair()
    bench.request(client)
    asked = service.expect(Op.REQUEST)
    service.say(Op.CLOSE)
    service.quiet()
    service.say(Op.REPLY, id=asked.id, success=True, result=b"done")
    client.expect(Op.REPLY, id=0, success=True, result=b"done")
    service.expect(Op.CLOSE, reason="")
    service.ended()


@case("node.close.replies", "replies right before a close aren't lost")
def replies(bench: Bench) -> None:
    service, client = bench.pair()
    for number in range(30):
        bench.request(client, number)
    asked = [service.expect(Op.REQUEST) for _ in range(30)]
    packets = [
        GENEROUS.client(Op.REPLY, id=each.id, success=True, result=b"done") for each in asked
    ]
    service.say_bytes(b"".join(packets) + GENEROUS.client(Op.CLOSE))
    for _ in range(30):
        client.expect(Op.REPLY, success=True, result=b"done")
    service.expect(Op.CLOSE, reason="")
    service.ended()


@case("node.close.said", "what was said right before a close takes effect")
def said(bench: Bench) -> None:
    service, client = bench.pair()
    client.say_bytes(
        GENEROUS.client(Op.BROADCAST, cluster=bench.name, message=b"bye")
        + GENEROUS.client(Op.CLOSE)
    )
    service.expect(Op.BROADCAST, message=b"bye")
    client.expect(Op.CLOSE, reason="")
    client.ended()


@case(
    "node.close.asked",
    "a close doesn't wait for requests that others owe an answer, beyond what was asked for",
)
def asked(bench: Bench) -> None:
    service, client = bench.pair()
    bench.request(client, timeout=30_000)
    service.expect(Op.REQUEST)
    client.say(Op.CLOSE)
    with bench.within(0.0, 4.0):
        while (packet := client.listen()) is not None and packet.op is not Op.CLOSE:
            pass
        if packet is None:
            raise Failure("the close isn't answered")


@case("node.close.subscribed", "who leaves with subscriptions leaves")
def subscribed(bench: Bench) -> None:
    peer = bench.plain()
    for i in range(20):
        peer.say(Op.SUBSCRIBE, topic=f"{bench.name}-{i}")
    peer.leave()


@case("node.close.many", "of thirty that leave at the same time each gets its answer")
def many(bench: Bench) -> None:
    peers = [bench.plain() for _ in range(30)]
    for peer in peers:
        peer.say(Op.CLOSE)
    for peer in peers:
        peer.expect(Op.CLOSE, reason="")
        peer.ended()


@case("node.vanish.member", "who vanishes is no member any more")
def member(bench: Bench) -> None:
    service, other, client = bench.service(), bench.service(), bench.plain()
    service.hang_up()
    time.sleep(SILENCE)
    for number in range(10):
        bench.request(client, number, timeout=1_000)
        other.say(Op.REPLY, id=other.expect(Op.REQUEST).id, success=True, result=b"here")
        client.expect(Op.REPLY, id=number, success=True)


@case(
    "node.vanish.packet",
    "who vanishes in the middle of a packet does no harm, and the packet nothing",
)
def packet(bench: Bench) -> None:
    service, client = bench.pair()
    client.say_bytes(GENEROUS.client(Op.BROADCAST, cluster=bench.name, message=b"whole")[:-1])
    client.hang_up()
    service.quiet()
    service.sync()


@case("node.vanish.caller", "a reply to who has vanished does no harm")
def caller(bench: Bench) -> None:
    service, client = bench.pair()
    bench.request(client)
    asked = service.expect(Op.REQUEST)
    client.hang_up()
    time.sleep(0.05)
    service.say(Op.REPLY, id=asked.id, success=True, result=b"to whom?")
    service.sync()
