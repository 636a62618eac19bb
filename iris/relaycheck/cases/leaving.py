"""How a connection ends."""

# ruff: noqa: D103  # a case's description says what it checks

import time

from iris.relay_protocol.schema import VERSION, Op
from iris.relaycheck.fake_client import QUIET_TIME, Failure
from iris.relaycheck.harness import Harness
from iris.relaycheck.reader import GENEROUS
from iris.relaycheck.registry import case


@case("node.close.graceful", 'a close is answered by a close with the reason "", and the end')
def graceful(harness: Harness) -> None:
    harness.plain().leave()
    harness.service().leave()


@case("node.close.at-once", "an init and a close in one piece are both answered")
def at_once(harness: Harness) -> None:
    for _ in range(20):
        client = harness.connect()
        client.send_bytes(
            GENEROUS.client(Op.INIT, version=VERSION, cluster="") + GENEROUS.client(Op.CLOSE)
        )
        client.expect(Op.INIT)
        client.expect(Op.CLOSE, reason="")
        client.expect_end()


@case("node.close.half", "a close is answered even if the client has ended its sending direction")
def half(harness: Harness) -> None:
    client = harness.plain()
    client.send(Op.CLOSE)
    client.half_close()
    client.expect(Op.CLOSE, reason="")
    client.expect_end()


@case("node.close.left", "a service that has left gets no requests")
def left(harness: Harness) -> None:
    service, client = harness.pair()
    service.leave()
    harness.request(client, timeout=300)
    if not client.expect(Op.REPLY).timed_out:
        raise Failure("the request is answered")


@case("node.close.in-hand", "a close is answered after in-flight requests are answered")
def unanswered(harness: Harness) -> None:
    service, client = harness.pair()
    harness.request(client)
    asked = service.expect(Op.REQUEST)
    service.send(Op.CLOSE)
    service.expect_silence()
    service.reply(asked.id, b"done")
    client.expect(Op.REPLY, id=0, success=True, result=b"done")
    service.expect(Op.CLOSE, reason="")
    service.expect_end()


@case("node.close.replies", "replies right before a close aren't lost")
def replies(harness: Harness) -> None:
    service, client = harness.pair()
    for number in range(30):
        harness.request(client, number)
    asked = [service.expect(Op.REQUEST) for _ in range(30)]
    packets = [
        GENEROUS.client(Op.REPLY, id=each.id, success=True, result=b"done") for each in asked
    ]
    service.send_bytes(b"".join(packets) + GENEROUS.client(Op.CLOSE))
    for _ in range(30):
        client.expect(Op.REPLY, success=True, result=b"done")
    service.expect(Op.CLOSE, reason="")
    service.expect_end()


@case("node.close.said", "a packet right before a close takes effect")
def said(harness: Harness) -> None:
    service, client = harness.pair()
    client.send_bytes(
        GENEROUS.client(Op.BROADCAST, cluster=harness.name, message=b"bye")
        + GENEROUS.client(Op.CLOSE)
    )
    service.expect(Op.BROADCAST, message=b"bye")
    client.expect(Op.CLOSE, reason="")
    client.expect_end()


@case("node.close.asked", "a close doesn't wait for the answers to the client's own requests")
def asked(harness: Harness) -> None:
    service, client = harness.pair()
    harness.request(client, timeout=30_000)
    service.expect(Op.REQUEST)
    client.send(Op.CLOSE)
    with harness.within(0.0, 4.0):
        while (packet := client.receive_packet()) is not None and packet.op is not Op.CLOSE:
            pass
        if packet is None:
            raise Failure("the close isn't answered")


@case("node.close.subscribed", "a client may leave with subscriptions")
def subscribed(harness: Harness) -> None:
    client = harness.plain()
    for i in range(20):
        client.send(Op.SUBSCRIBE, topic=f"{harness.name}-{i}")
    client.leave()


@case("node.close.many", "thirty clients that leave at the same time each get an answer")
def many(harness: Harness) -> None:
    clients = [harness.plain() for _ in range(30)]
    for client in clients:
        client.send(Op.CLOSE)
    for client in clients:
        client.expect(Op.CLOSE, reason="")
        client.expect_end()


@case("node.vanish.member", "a service that vanishes isn't a member any more")
def member(harness: Harness) -> None:
    service, other, client = harness.service(), harness.service(), harness.plain()
    service.disconnect()
    time.sleep(QUIET_TIME)
    for number in range(10):
        harness.request(client, number, timeout=1_000)
        other.answer(b"here")
        client.expect(Op.REPLY, id=number, success=True)


@case(
    "node.vanish.packet",
    "a client that vanishes in the middle of a packet does no harm, and the packet has no effect",
)
def packet(harness: Harness) -> None:
    service, client = harness.pair()
    client.send_bytes(GENEROUS.client(Op.BROADCAST, cluster=harness.name, message=b"whole")[:-1])
    client.disconnect()
    service.expect_silence()
    service.sync()


@case("node.vanish.caller", "a reply to a client that has vanished does no harm")
def caller(harness: Harness) -> None:
    service, client = harness.pair()
    harness.request(client)
    asked = service.expect(Op.REQUEST)
    client.disconnect()
    time.sleep(0.05)
    service.reply(asked.id, b"late")
    service.sync()
