"""Requests, broadcasts and topics."""

# ruff: noqa: D103  # a case's words say what it's about

from iris.relay_protocol.schema import Op
from iris.relaycheck.harness import Bench, case
from iris.relaycheck.peer import Failure

MIB = 1 << 20


@case("node.request.reply", "a request reaches a member, and its reply who asked")
def reply(bench: Bench) -> None:
    service, client = bench.pair()
    bench.request(client, 0, b"question")
    asked = service.expect(Op.REQUEST, request=b"question")
    service.say(Op.REPLY, id=asked.id, success=True, result=b"answer")
    client.expect(Op.REPLY, id=0, timed_out=False, success=True, result=b"answer")


@case("node.request.empty", "an empty request is one, and an empty reply is one")
def empty(bench: Bench) -> None:
    service, client = bench.pair()
    bench.request(client, 0, b"")
    asked = service.expect(Op.REQUEST, request=b"")
    service.say(Op.REPLY, id=asked.id, success=True, result=b"")
    client.expect(Op.REPLY, id=0, timed_out=False, success=True, result=b"")


@case("node.request.fault", "a fault reaches who asked, with its text")
def fault(bench: Bench) -> None:
    service, client = bench.pair()
    bench.request(client)
    service.say(Op.REPLY, id=service.expect(Op.REQUEST).id, success=False, result="ü, no")
    client.expect(Op.REPLY, id=0, timed_out=False, success=False, result="ü, no")


@case("node.request.empty-fault", "an empty fault is a fault")
def empty_fault(bench: Bench) -> None:
    service, client = bench.pair()
    bench.request(client, timeout=1_000)
    service.say(Op.REPLY, id=service.expect(Op.REQUEST).id, success=False, result="")
    client.expect(Op.REPLY, id=0, timed_out=False, success=False, result="")


@case("node.request.big", "a request and a reply of 2 MiB come whole")
def big(bench: Bench) -> None:
    service, client = bench.pair()
    data = bytes(range(256)) * (2 * MIB // 256)
    bench.request(client, 0, data)
    asked = service.expect(Op.REQUEST)
    if asked.request != data:
        raise Failure("the request comes changed")
    service.say(Op.REPLY, id=asked.id, success=True, result=data[::-1])
    if client.expect(Op.REPLY, id=0, success=True).result != data[::-1]:
        raise Failure("the reply comes changed")


@case("node.request.timeout", "a request that isn't answered times out at its deadline")
def timeout(bench: Bench) -> None:
    service, client = bench.pair()
    with bench.within(0.4, 1.4):
        bench.request(client, timeout=400)
        if not 0 < service.expect(Op.REQUEST).timeout <= 400:
            raise Failure("the service is told another timeout")
        client.expect(Op.REPLY, id=0, timed_out=True)


@case("node.request.nobody", "a request that nobody serves times out at its deadline")
def nobody(bench: Bench) -> None:
    client = bench.plain()
    with bench.within(0.3, 1.3):
        bench.request(client, timeout=300)
        client.expect(Op.REPLY, id=0, timed_out=True)


@case("node.request.zero", "a timeout of 0 is answered at once")
def zero(bench: Bench) -> None:
    client = bench.plain()
    with bench.within(0.0, 0.5):
        bench.request(client, timeout=0)
        client.expect(Op.REPLY, id=0, timed_out=True)


@case("node.request.late", "a reply after the timeout is ignored")
def late(bench: Bench) -> None:
    service, client = bench.pair()
    bench.request(client, timeout=100)
    asked = service.expect(Op.REQUEST)
    client.expect(Op.REPLY, id=0, timed_out=True)
    service.say(Op.REPLY, id=asked.id, success=True, result=b"late")
    client.quiet()
    service.sync()


@case("node.request.double", "a second reply is ignored")
def double(bench: Bench) -> None:
    service, client = bench.pair()
    bench.request(client)
    asked = service.expect(Op.REQUEST)
    for result in (b"first", b"second"):
        service.say(Op.REPLY, id=asked.id, success=True, result=result)
    client.expect(Op.REPLY, id=0, result=b"first")
    client.quiet()
    service.sync()


@case("node.request.unasked", "a reply to nothing is ignored")
def unasked(bench: Bench) -> None:
    service = bench.service()
    service.say(Op.REPLY, id=12_345, success=True, result=b"")
    service.sync()


@case("node.request.order", "replies come when they are given, in any order")
def order(bench: Bench) -> None:
    service, client = bench.pair()
    for number in range(5):
        bench.request(client, number, b"%d" % number)
    asked = [service.expect(Op.REQUEST) for _ in range(5)]
    for each in reversed(asked):
        service.say(Op.REPLY, id=each.id, success=True, result=each.request)
        client.expect(Op.REPLY, id=int(each.request), result=each.request)


@case("node.request.same-id", "an id may be used again, even before its answer")
def same_id(bench: Bench) -> None:
    service, client = bench.pair()
    for _ in range(2):
        bench.request(client, 7)
    for _ in range(2):
        service.say(Op.REPLY, id=service.expect(Op.REQUEST).id, success=True, result=b"ok")
    for _ in range(2):
        client.expect(Op.REPLY, id=7, result=b"ok")
    client.quiet()


@case("node.request.big-id", "an id may have 63 bits")
def big_id(bench: Bench) -> None:
    client = bench.plain()
    bench.request(client, (1 << 63) - 1, timeout=0)
    client.expect(Op.REPLY, id=(1 << 63) - 1, timed_out=True)


@case("node.request.self", "a service may ask its own cluster")
def itself(bench: Bench) -> None:
    service = bench.service()
    bench.request(service, 4)
    service.say(Op.REPLY, id=service.expect(Op.REQUEST).id, success=True, result=b"me")
    service.expect(Op.REPLY, id=4, result=b"me")


@case("node.request.vanish", "who asked a service that vanishes knows at once")
def vanish(bench: Bench) -> None:
    service, client = bench.pair()
    bench.request(client, timeout=4_000)
    service.expect(Op.REQUEST)
    service.hang_up()
    with bench.within(0.0, 2.0):
        client.expect(Op.REPLY, id=0)


@case("node.request.many", "of a thousand requests at once each has its own answer")
def many(bench: Bench) -> None:
    service, client = bench.pair()
    for number in range(1_000):
        bench.request(client, number, b"%d" % number)
    for _ in range(1_000):
        asked = service.expect(Op.REQUEST)
        service.say(Op.REPLY, id=asked.id, success=True, result=asked.request)
    for _ in range(1_000):
        got = client.expect(Op.REPLY, timed_out=False)
        if got.result != b"%d" % got.id:
            raise Failure(f"request {got.id} has the answer to {got.result!r}")


@case("node.broadcast.all", "a broadcast reaches every member, and nobody else")
def to_all(bench: Bench) -> None:
    members, other, client = (
        [bench.service() for _ in range(3)],
        bench.service(bench.name + "x"),
        bench.plain(),
    )
    client.say(Op.BROADCAST, cluster=bench.name, message=b"all")
    for member in members:
        member.expect(Op.BROADCAST, message=b"all")
    other.quiet()


@case("node.broadcast.own", "a member gets its own broadcast, once")
def own(bench: Bench) -> None:
    member = bench.service()
    member.say(Op.BROADCAST, cluster=bench.name, message=b"mine")
    member.expect(Op.BROADCAST, message=b"mine")
    member.quiet()


@case("node.broadcast.empty", "an empty broadcast is one; one to nobody does no harm")
def empty_broadcast(bench: Bench) -> None:
    member, client = bench.pair()
    client.say(Op.BROADCAST, cluster=bench.name + "nobody", message=b"")
    client.say(Op.BROADCAST, cluster=bench.name, message=b"")
    member.expect(Op.BROADCAST, message=b"")


@case("node.broadcast.order", "a thousand broadcasts of one client keep their order")
def broadcast_order(bench: Bench) -> None:
    member, client = bench.pair()
    client.say_bytes(b"".join(_numbered(bench.name, i) for i in range(1_000)))
    for i in range(1_000):
        member.expect(Op.BROADCAST, message=b"%d" % i)


def _numbered(cluster: str, number: int) -> bytes:
    name, data = cluster.encode(), b"%d" % number
    return b"\x03" + bytes([len(name)]) + name + bytes([len(data)]) + data


@case("node.topic.all", "an event reaches every subscriber, its own sender too, and nobody else")
def topic(bench: Bench) -> None:
    peers = [bench.plain() for _ in range(3)]
    for peer in peers[:2]:
        bench.subscribed(peer, bench.name)
    peers[0].say(Op.PUBLISH, topic=bench.name, event=b"news")
    for peer in peers[:2]:
        peer.expect_event(bench.name, b"news")
    peers[2].quiet()


@case("node.topic.empty", "an empty event is one; a topic may be empty, or have colons")
def empty_event(bench: Bench) -> None:
    for name in (bench.name, bench.name + ":a:", ""):
        peer = bench.plain()
        bench.subscribed(peer, name)
        peer.say(Op.PUBLISH, topic=name, event=b"")
        while peer.expect(Op.PUBLISH, topic=name).event:
            pass


@case("node.topic.order", "a thousand events of one client keep their order")
def event_order(bench: Bench) -> None:
    peer, client = bench.plain(), bench.plain()
    bench.subscribed(peer, bench.name)
    for i in range(1_000):
        client.say(Op.PUBLISH, topic=bench.name, event=b"%d" % i)
    for i in range(1_000):
        peer.expect_event(bench.name, b"%d" % i)


@case("node.topic.unsubscribe", "no events come after an unsubscribe has taken effect")
def unsubscribe(bench: Bench) -> None:
    peer, client = bench.plain(), bench.plain()
    bench.subscribed(peer, bench.name)
    peer.say(Op.UNSUBSCRIBE, topic=bench.name)
    peer.quiet()
    client.say(Op.PUBLISH, topic=bench.name, event=b"news")
    peer.quiet()


@case("node.topic.again", "who unsubscribed may subscribe again; both keep their order")
def again(bench: Bench) -> None:
    peer = bench.plain()
    for _ in range(20):
        peer.say(Op.SUBSCRIBE, topic=bench.name)
        peer.say(Op.UNSUBSCRIBE, topic=bench.name)
    bench.subscribed(peer, bench.name)


@case("node.topic.twice", "subscribing twice ends the connection")
def twice(bench: Bench) -> None:
    peer = bench.plain()
    for _ in range(2):
        peer.say(Op.SUBSCRIBE, topic=bench.name)
    peer.refused()


@case("node.topic.unknown", "unsubscribing without a subscription ends the connection")
def unknown(bench: Bench) -> None:
    peer = bench.plain()
    peer.say(Op.UNSUBSCRIBE, topic=bench.name)
    peer.refused()
