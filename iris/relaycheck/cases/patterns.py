"""Requests, broadcasts and topics."""

# ruff: noqa: D103  # a case's description says what it checks

from iris.relay_protocol.schema import Op
from iris.relaycheck.fake_client import Failure
from iris.relaycheck.harness import Harness
from iris.relaycheck.reader import GENEROUS
from iris.relaycheck.registry import add_rejected, case

MIB = 1 << 20


@case("node.request.reply", "a request reaches a member, and its reply the caller")
def reply(harness: Harness) -> None:
    service, client = harness.pair()
    harness.request(client, 0, b"question")
    service.answer(b"answer", b"question")
    client.expect(Op.REPLY, id=0, timed_out=False, success=True, result=b"answer")


@case("node.request.empty", "an empty request is delivered, and an empty reply too")
def empty(harness: Harness) -> None:
    service, client = harness.pair()
    harness.request(client, 0, b"")
    service.answer(b"", b"")
    client.expect(Op.REPLY, id=0, timed_out=False, success=True, result=b"")


@case("node.request.fault", "a fault reaches the caller, with its text")
def fault(harness: Harness) -> None:
    service, client = harness.pair()
    harness.request(client)
    service.answer("ü, no")
    client.expect(Op.REPLY, id=0, timed_out=False, success=False, result="ü, no")


@case("node.request.empty-fault", "an empty fault is a fault")
def empty_fault(harness: Harness) -> None:
    service, client = harness.pair()
    harness.request(client, timeout=1_000)
    service.answer("")
    client.expect(Op.REPLY, id=0, timed_out=False, success=False, result="")


@case("node.request.big", "a request and a reply of 2 MiB arrive unchanged")
def big(harness: Harness) -> None:
    service, client = harness.pair()
    data = bytes(range(256)) * (2 * MIB // 256)
    harness.request(client, 0, data)
    asked = service.expect(Op.REQUEST)
    if asked.request != data:
        raise Failure("the request arrives changed")
    service.reply(asked.id, data[::-1])
    if client.expect(Op.REPLY, id=0, success=True).result != data[::-1]:
        raise Failure("the reply arrives changed")


@case("node.request.timeout", "a request that isn't answered times out at its deadline")
def timeout(harness: Harness) -> None:
    service, client = harness.pair()
    with harness.within(0.4, 1.4):
        harness.request(client, timeout=400)
        if not 0 < service.expect(Op.REQUEST).timeout <= 400:
            raise Failure("the service gets another timeout")
        client.expect(Op.REPLY, id=0, timed_out=True)


@case("node.request.nobody", "a request to a cluster without members times out at its deadline")
def nobody(harness: Harness) -> None:
    client = harness.plain()
    with harness.within(0.3, 1.3):
        harness.request(client, timeout=300)
        client.expect(Op.REPLY, id=0, timed_out=True)


@case("node.request.zero", "a timeout of 0 is answered at once")
def zero(harness: Harness) -> None:
    client = harness.plain()
    with harness.within(0.0, 0.5):
        harness.request(client, timeout=0)
        client.expect(Op.REPLY, id=0, timed_out=True)


@case("node.request.late", "a reply after the timeout is ignored")
def late(harness: Harness) -> None:
    service, client = harness.pair()
    harness.request(client, timeout=100)
    asked = service.expect(Op.REQUEST)
    client.expect(Op.REPLY, id=0, timed_out=True)
    service.reply(asked.id, b"late")
    client.expect_silence()
    service.sync()


@case("node.request.double", "a second reply is ignored")
def double(harness: Harness) -> None:
    service, client = harness.pair()
    harness.request(client)
    asked = service.expect(Op.REQUEST)
    for result in (b"first", b"second"):
        service.reply(asked.id, result)
    client.expect(Op.REPLY, id=0, result=b"first")
    client.expect_silence()
    service.sync()


@case("node.request.unasked", "a reply to an unknown request is ignored")
def unasked(harness: Harness) -> None:
    service = harness.service()
    service.reply(12_345, b"")
    service.sync()


@case("node.request.order", "replies are delivered at once, in any order")
def order(harness: Harness) -> None:
    service, client = harness.pair()
    for number in range(5):
        harness.request(client, number, b"%d" % number)
    asked = [service.expect(Op.REQUEST) for _ in range(5)]
    for each in reversed(asked):
        service.reply(each.id, each.request)
        client.expect(Op.REPLY, id=int(each.request), result=each.request)


@case("node.request.same-id", "an id may be reused, even before its answer")
def same_id(harness: Harness) -> None:
    service, client = harness.pair()
    for _ in range(2):
        harness.request(client, 7)
    for _ in range(2):
        service.answer(b"ok")
    for _ in range(2):
        client.expect(Op.REPLY, id=7, result=b"ok")
    client.expect_silence()


@case("node.request.big-id", "an id may have 63 bits")
def big_id(harness: Harness) -> None:
    client = harness.plain()
    harness.request(client, (1 << 63) - 1, timeout=0)
    client.expect(Op.REPLY, id=(1 << 63) - 1, timed_out=True)


@case("node.request.self", "a service may send requests to its own cluster")
def itself(harness: Harness) -> None:
    service = harness.service()
    harness.request(service, 4)
    service.answer(b"me")
    service.expect(Op.REPLY, id=4, result=b"me")


@case("node.request.vanish", "the requests of a service that vanishes fail at once")
def vanish(harness: Harness) -> None:
    service, client = harness.pair()
    harness.request(client, timeout=4_000)
    service.expect(Op.REQUEST)
    service.disconnect()
    with harness.within(0.0, 2.0):
        client.expect(Op.REPLY, id=0)


@case("node.request.many", "a thousand concurrent requests each get their own answer")
def many(harness: Harness) -> None:
    service, client = harness.pair()
    for number in range(1_000):
        harness.request(client, number, b"%d" % number)
    for _ in range(1_000):
        asked = service.expect(Op.REQUEST)
        service.reply(asked.id, asked.request)
    for _ in range(1_000):
        got = client.expect(Op.REPLY, timed_out=False)
        if got.result != b"%d" % got.id:
            raise Failure(f"request {got.id} has the answer to {got.result!r}")


@case("node.broadcast.all", "a broadcast reaches every member, and no other client")
def to_all(harness: Harness) -> None:
    members, other, client = (
        [harness.service() for _ in range(3)],
        harness.service(harness.name + "x"),
        harness.plain(),
    )
    client.send(Op.BROADCAST, cluster=harness.name, message=b"all")
    for member in members:
        member.expect(Op.BROADCAST, message=b"all")
    other.expect_silence()


@case("node.broadcast.own", "a member gets its own broadcast, once")
def own(harness: Harness) -> None:
    member = harness.service()
    member.send(Op.BROADCAST, cluster=harness.name, message=b"mine")
    member.expect(Op.BROADCAST, message=b"mine")
    member.expect_silence()


@case("node.broadcast.empty", "an empty broadcast is delivered; one to no members does no harm")
def empty_broadcast(harness: Harness) -> None:
    member, client = harness.pair()
    client.send(Op.BROADCAST, cluster=harness.name + "nobody", message=b"")
    client.send(Op.BROADCAST, cluster=harness.name, message=b"")
    member.expect(Op.BROADCAST, message=b"")


@case("node.broadcast.order", "a thousand broadcasts of one client keep their order")
def broadcast_order(harness: Harness) -> None:
    member, client = harness.pair()
    client.send_bytes(
        b"".join(
            GENEROUS.client(Op.BROADCAST, cluster=harness.name, message=b"%d" % i)
            for i in range(1_000)
        )
    )
    for i in range(1_000):
        member.expect(Op.BROADCAST, message=b"%d" % i)


@case(
    "node.topic.all", "an event reaches every subscriber, its sender included, and no other client"
)
def topic(harness: Harness) -> None:
    subscribers = [harness.plain() for _ in range(3)]
    for subscriber in subscribers[:2]:
        harness.subscribed(subscriber, harness.name)
    subscribers[0].send(Op.PUBLISH, topic=harness.name, event=b"news")
    for subscriber in subscribers[:2]:
        subscriber.expect_event(harness.name, b"news")
    subscribers[2].expect_silence()


@case("node.topic.empty", "an empty event is delivered; a topic may be empty, or have colons")
def empty_event(harness: Harness) -> None:
    for name in (harness.name, harness.name + ":a:", ""):
        subscriber = harness.plain()
        harness.subscribed(subscriber, name)
        subscriber.send(Op.PUBLISH, topic=name, event=b"")
        while subscriber.expect(Op.PUBLISH, topic=name).event:
            pass


@case("node.topic.order", "a thousand events of one client keep their order")
def event_order(harness: Harness) -> None:
    subscriber, client = harness.plain(), harness.plain()
    harness.subscribed(subscriber, harness.name)
    for i in range(1_000):
        client.send(Op.PUBLISH, topic=harness.name, event=b"%d" % i)
    for i in range(1_000):
        subscriber.expect_event(harness.name, b"%d" % i)


@case("node.topic.unsubscribe", "no events arrive after an unsubscribe has taken effect")
def unsubscribe(harness: Harness) -> None:
    subscriber, client = harness.plain(), harness.plain()
    harness.subscribed(subscriber, harness.name)
    subscriber.send(Op.UNSUBSCRIBE, topic=harness.name)
    subscriber.expect_silence()
    client.send(Op.PUBLISH, topic=harness.name, event=b"news")
    subscriber.expect_silence()


@case(
    "node.topic.again", "a client may subscribe again; subscribes and unsubscribes keep their order"
)
def again(harness: Harness) -> None:
    subscriber = harness.plain()
    for _ in range(20):
        subscriber.send(Op.SUBSCRIBE, topic=harness.name)
        subscriber.send(Op.UNSUBSCRIBE, topic=harness.name)
    harness.subscribed(subscriber, harness.name)


add_rejected(
    "node.topic.twice", "subscribing twice", GENEROUS.client(Op.SUBSCRIBE, topic="relaycheck") * 2
)
add_rejected(
    "node.topic.unknown",
    "unsubscribing without a subscription",
    GENEROUS.client(Op.UNSUBSCRIBE, topic="relaycheck"),
)
