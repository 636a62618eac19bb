"""Requests, broadcasts and topics."""

# ruff: noqa: D103  # a case's description says what it checks

from iris.relay_protocol.schema import Op
from iris.relaycheck.fake_client import Failure, FakeClient, packet
from iris.relaycheck.harness import Harness
from iris.relaycheck.registry import add_rejected, case, pair_case, plain_case, service_case

MIB = 1 << 20


def _add_exchange(id: str, description: str, request: bytes, result: bytes | str) -> None:
    @pair_case(f"request.{id}", description)
    def exchange(harness: Harness, service: FakeClient, client: FakeClient) -> None:
        harness.request(client, 0, request, timeout=2_000)
        service.answer(result, request)
        success = isinstance(result, bytes)
        client.expect(Op.REPLY, id=0, timed_out=False, success=success, result=result)


_REACHES = "a request reaches a member, and its reply the caller"
_add_exchange("reply", _REACHES, b"question", b"answer")
_add_exchange("empty", "an empty request is delivered, and an empty reply too", b"", b"")
_add_exchange("fault", "a fault reaches the caller, with its text", b"?", "ü, no")
_add_exchange("empty-fault", "an empty fault is a fault", b"?", "")


@pair_case("request.big", "a request and a reply of 2 MiB arrive unchanged")
def big(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    data = bytes(range(256)) * (2 * MIB // 256)
    harness.request(client, 0, data)
    service.answer(data[::-1], data)
    if client.expect(Op.REPLY, id=0, success=True).result != data[::-1]:
        raise Failure("the reply arrives changed")


@pair_case("request.timeout", "a request that isn't answered times out at its deadline")
def timeout(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    with harness.within(0.4, 1.4):
        harness.request(client, timeout=400)
        if not 0 < service.expect(Op.REQUEST).timeout <= 400:
            raise Failure("the service gets another timeout")
        client.expect(Op.REPLY, id=0, timed_out=True)


@plain_case("request.nobody", "a request to a cluster without members times out at its deadline")
def nobody(harness: Harness, client: FakeClient) -> None:
    with harness.within(0.3, 1.3):
        harness.request(client, timeout=300)
        client.expect(Op.REPLY, id=0, timed_out=True)


@plain_case("request.zero", "a timeout of 0 is answered at once")
def zero(harness: Harness, client: FakeClient) -> None:
    with harness.within(0.0, 0.5):
        harness.request(client, timeout=0)
        client.expect(Op.REPLY, id=0, timed_out=True)


@pair_case("request.late", "a reply after the timeout is ignored")
def late(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    id = harness.in_flight(service, client, 100)
    client.expect(Op.REPLY, id=0, timed_out=True)
    service.reply(id, b"late")
    client.expect_silence()
    service.sync()


@pair_case("request.double", "a second reply is ignored")
def double(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    id = harness.in_flight(service, client)
    for result in (b"first", b"second"):
        service.reply(id, result)
    client.expect(Op.REPLY, id=0, result=b"first")
    client.expect_silence()
    service.sync()


@service_case("request.unasked", "a reply to an unknown request is ignored")
def unasked(harness: Harness, service: FakeClient) -> None:
    service.reply(12_345, b"")
    service.sync()


@pair_case("request.order", "replies are delivered at once, in any order")
def order(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    for number in range(5):
        harness.request(client, number, b"%d" % number)
    for each in reversed([service.expect(Op.REQUEST) for _ in range(5)]):
        service.reply(each.id, each.request)
        client.expect(Op.REPLY, id=int(each.request), result=each.request)


@pair_case("request.same-id", "an id may be reused, even before its answer")
def same_id(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    for _ in range(2):
        harness.request(client, 7)
    for _ in range(2):
        service.answer(b"ok")
    for _ in range(2):
        client.expect(Op.REPLY, id=7, result=b"ok")
    client.expect_silence()


@plain_case("request.big-id", "an id may have 63 bits")
def big_id(harness: Harness, client: FakeClient) -> None:
    harness.request(client, (1 << 63) - 1, timeout=0)
    client.expect(Op.REPLY, id=(1 << 63) - 1, timed_out=True)


@service_case("request.self", "a service may send requests to its own cluster")
def itself(harness: Harness, service: FakeClient) -> None:
    harness.request(service, 4)
    service.answer(b"me")
    service.expect(Op.REPLY, id=4, result=b"me")


@pair_case("request.vanish", "the requests of a service that vanishes fail at once")
def vanish(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    harness.in_flight(service, client, 4_000)
    service.disconnect()
    with harness.within(0.0, 2.0):
        client.expect(Op.REPLY, id=0)


@pair_case("request.many", "a thousand concurrent requests each get their own answer")
def many(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    for number in range(1_000):
        harness.request(client, number, b"%d" % number)
    for _ in range(1_000):
        request = service.expect(Op.REQUEST)
        service.reply(request.id, request.request)
    for _ in range(1_000):
        got = client.expect(Op.REPLY, timed_out=False)
        if got.result != b"%d" % got.id:
            raise Failure(f"request {got.id} has the answer to {got.result!r}")


@case("broadcast.all", "a broadcast reaches every member, and no other client")
def to_all(harness: Harness) -> None:
    members, client = [harness.service() for _ in range(3)], harness.plain()
    other = harness.service(harness.name + "x")
    client.send(Op.BROADCAST, cluster=harness.name, message=b"all")
    for member in members:
        member.expect(Op.BROADCAST, message=b"all")
    other.expect_silence()


@service_case("broadcast.own", "a member gets its own broadcast, once")
def own(harness: Harness, member: FakeClient) -> None:
    member.send(Op.BROADCAST, cluster=harness.name, message=b"mine")
    member.expect(Op.BROADCAST, message=b"mine")
    member.expect_silence()


@pair_case("broadcast.empty", "an empty broadcast is delivered; one to no members does no harm")
def empty_broadcast(harness: Harness, member: FakeClient, client: FakeClient) -> None:
    client.send(Op.BROADCAST, cluster=harness.name + "nobody", message=b"")
    client.send(Op.BROADCAST, cluster=harness.name, message=b"")
    member.expect(Op.BROADCAST, message=b"")


@pair_case("broadcast.order", "a thousand broadcasts of one client keep their order")
def broadcast_order(harness: Harness, member: FakeClient, client: FakeClient) -> None:
    name, numbers = harness.name, range(1_000)
    broadcasts = [packet(Op.BROADCAST, cluster=name, message=b"%d" % i) for i in numbers]
    client.send_bytes(b"".join(broadcasts))
    for i in numbers:
        member.expect(Op.BROADCAST, message=b"%d" % i)


@case("topic.all", "an event reaches every subscriber, its sender included, and no other client")
def topic(harness: Harness) -> None:
    subscribers = [harness.plain() for _ in range(3)]
    for subscriber in subscribers[:2]:
        harness.subscribed(subscriber, harness.name)
    subscribers[0].send(Op.PUBLISH, topic=harness.name, event=b"news")
    for subscriber in subscribers[:2]:
        subscriber.expect_event(harness.name, b"news")
    subscribers[2].expect_silence()


@case("topic.empty", "an empty event is delivered; a topic may be empty, or have colons")
def empty_event(harness: Harness) -> None:
    for name in (harness.name, harness.name + ":a:", ""):
        subscriber = harness.plain()
        harness.subscribed(subscriber, name)
        subscriber.send(Op.PUBLISH, topic=name, event=b"")
        while subscriber.expect(Op.PUBLISH, topic=name).event:
            pass


@case("topic.order", "a thousand events of one client keep their order")
def event_order(harness: Harness) -> None:
    subscriber, client = harness.plain(), harness.plain()
    harness.subscribed(subscriber, harness.name)
    for i in range(1_000):
        client.send(Op.PUBLISH, topic=harness.name, event=b"%d" % i)
    for i in range(1_000):
        subscriber.expect_event(harness.name, b"%d" % i)


@case("topic.unsubscribe", "no events arrive after an unsubscribe has taken effect")
def unsubscribe(harness: Harness) -> None:
    subscriber, client = harness.plain(), harness.plain()
    harness.subscribed(subscriber, harness.name)
    subscriber.send(Op.UNSUBSCRIBE, topic=harness.name)
    subscriber.expect_silence()
    client.send(Op.PUBLISH, topic=harness.name, event=b"news")
    subscriber.expect_silence()


@plain_case(
    "topic.again", "a client may subscribe again; subscribes and unsubscribes keep their order"
)
def again(harness: Harness, subscriber: FakeClient) -> None:
    for _ in range(20):
        subscriber.send(Op.SUBSCRIBE, topic=harness.name)
        subscriber.send(Op.UNSUBSCRIBE, topic=harness.name)
    harness.subscribed(subscriber, harness.name)


_SUBSCRIBE, _UNSUBSCRIBE = (packet(op, topic="t") for op in (Op.SUBSCRIBE, Op.UNSUBSCRIBE))
add_rejected("topic.twice", "subscribing twice", _SUBSCRIBE * 2)
add_rejected("topic.unknown", "unsubscribing without a subscription", _UNSUBSCRIBE)
