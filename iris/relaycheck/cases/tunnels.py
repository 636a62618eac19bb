"""Tunnels: how they are built, what they carry and when, how they end."""

# ruff: noqa: D103  # a case's words say what it's about

import time

from iris.relay_protocol.schema import Op
from iris.relaycheck.harness import Bench, case
from iris.relaycheck.peer import LIMIT, WINDOW, Failure, Peer
from iris.relaycheck.reader import GENEROUS

MIB = 1 << 20
MESSAGE = bytes(range(251)) * 1_000  # four chunks


@case(
    "node.tunnel.build", "an init is an offer to a member, its confirm the tunnel; both get 4 MiB"
)
def build(bench: Bench) -> None:
    service, client = bench.tunnel()
    client.quiet(0.1)
    service.quiet(0.1)
    if client.granted[0] != WINDOW or service.granted[0] != WINDOW:
        raise Failure("another allowance than 4 MiB is granted")


@case("node.tunnel.nobody", "a tunnel that nobody serves times out at its deadline")
def nobody(bench: Bench) -> None:
    client = bench.plain()
    with bench.within(0.3, 1.3):
        client.say(Op.TUNNEL_INIT, id=3, cluster=bench.name, timeout=300)
        client.expect(Op.TUNNEL_CONFIRM, id=3, timed_out=True)


@case("node.tunnel.zero", "a tunnel with a timeout of 0 is answered at once")
def zero(bench: Bench) -> None:
    client = bench.plain()
    with bench.within(0.0, 0.5):
        client.say(Op.TUNNEL_INIT, id=0, cluster=bench.name, timeout=0)
        client.expect(Op.TUNNEL_CONFIRM, id=0, timed_out=True)


@case(
    "node.tunnel.unconfirmed",
    "who wants a tunnel that is never confirmed is told that it timed out",
)
def unconfirmed(bench: Bench) -> None:
    service, client = bench.pair()
    client.say(Op.TUNNEL_INIT, id=0, cluster=bench.name, timeout=600)
    service.expect(Op.TUNNEL_INIT)
    client.expect(Op.TUNNEL_CONFIRM, id=0, timed_out=True)


@case("node.tunnel.confirm-timeout", "the acceptor has 3 s, even if who wants the tunnel has more")
def confirm_timeout(bench: Bench) -> None:
    service, client = bench.pair()
    client.say(Op.TUNNEL_INIT, id=0, cluster=bench.name, timeout=4_500)
    service.expect(Op.TUNNEL_INIT)
    with bench.within(2.0, 5.0):
        client.expect(Op.TUNNEL_CONFIRM, timeout=5.5, id=0, timed_out=True)


@case("node.tunnel.slow-confirm", "an acceptor may take a second")
def slow_confirm(bench: Bench) -> None:
    service, client = bench.pair()
    client.say(Op.TUNNEL_INIT, id=0, cluster=bench.name, timeout=5_000)
    offer = service.expect(Op.TUNNEL_INIT)
    time.sleep(1.0)
    service.say(Op.TUNNEL_CONFIRM, build_id=offer.build_id, id=0)
    client.expect(Op.TUNNEL_CONFIRM, id=0, timed_out=False)
    service.await_grant(0, WINDOW)


@case("node.tunnel.unknown-confirm", "after a confirm of nothing tunnels can be had all the same")
def unknown_confirm(bench: Bench) -> None:
    peer = bench.plain()
    peer.say(Op.TUNNEL_CONFIRM, build_id=99, id=99)
    peer.say(Op.TUNNEL_INIT, id=1, cluster=bench.name + "nobody", timeout=100)
    while (packet := peer.listen(2.0)) is not None:
        if packet.op in (Op.TUNNEL_CONFIRM, Op.CLOSE):
            return
    raise Failure("no tunnel can be had any more")


@case("node.tunnel.order", "messages come whole and in order, both ways")
def order(bench: Bench) -> None:
    ends = bench.tunnel()
    messages = [
        MESSAGE,
        b"x",
        MESSAGE[:LIMIT],
        MESSAGE[: LIMIT + 1],
        *(b"%d" % i for i in range(300)),
    ]
    for source, target in (ends, ends[::-1]):
        for message in messages:
            source.transfer(0, message)
        for message in messages:
            target.receive(0, message)


@case("node.tunnel.cross", "both ends may send at the same time")
def cross(bench: Bench) -> None:
    service, client = bench.tunnel()
    for _ in range(5):
        service.transfer(0, MESSAGE)
        client.transfer(0, MESSAGE[::-1])
    for _ in range(5):
        client.receive(0, MESSAGE)
        service.receive(0, MESSAGE[::-1])


@case("node.tunnel.many", "ten tunnels of two clients don't mix")
def many(bench: Bench) -> None:
    service, client = bench.pair()
    for number in range(10):
        bench.build(service, client, number)
    for number in range(10):
        client.transfer(number, bytes([number]) * 100)
        service.receive(number, bytes([number]) * 100)


@case("node.tunnel.empty", "an empty chunk isn't delivered")
def empty(bench: Bench) -> None:
    service, client = bench.tunnel()
    client.say(Op.TUNNEL_TRANSFER, id=0, size=0, chunk=b"")
    client.transfer(0, b"message")
    service.receive(0, b"message")


@case("node.allow.back", "allowance is given back for all that was taken")
def given_back(bench: Bench) -> None:
    service, client = bench.tunnel()
    for _ in range(8):
        client.transfer(0, MESSAGE)
        service.receive(0, MESSAGE)
    client.await_grant(0, WINDOW + 8 * len(MESSAGE))


@case(
    "node.allow.big", "a message that is bigger than the window passes, as allowance is given back"
)
def big(bench: Bench) -> None:
    service, client = bench.tunnel()
    message, sent = bytes(6 * MIB), 0
    while sent < len(message):
        client.await_grant(0, sent + LIMIT)
        client.say(
            Op.TUNNEL_TRANSFER,
            id=0,
            size=0 if sent else len(message),
            chunk=message[sent : sent + LIMIT],
        )
        sent += LIMIT
    service.receive(0, message)


@case("node.allow.none", "nothing is delivered without an allowance, and all with it")
def none(bench: Bench) -> None:
    service, client = bench.tunnel(grant=0)
    client.transfer(0, b"message")
    service.quiet()
    service.say(Op.TUNNEL_ALLOW, id=0, space=6)
    service.quiet()
    service.say(Op.TUNNEL_ALLOW, id=0, space=1)
    service.receive(0, b"message")


@case("node.allow.exhausted", "the node waits when the allowance is exhausted")
def exhausted(bench: Bench) -> None:
    service, client = bench.tunnel(grant=100)
    client.transfer(0, bytes(100))
    client.transfer(0, b"next")
    service.receive(0, bytes(100))
    service.quiet()
    service.say(Op.TUNNEL_ALLOW, id=0, space=100)
    service.receive(0, b"next")


@case("node.allow.finish", "a message that was begun is finished, allowance or not")
def finish(bench: Bench) -> None:
    service, client = bench.tunnel(grant=LIMIT)
    client.transfer(0, MESSAGE)
    service.receive(0, MESSAGE)


@case(
    "node.allow.beyond", "a message that a client begins beyond its allowance ends the connection"
)
def beyond(bench: Bench) -> None:
    _, client = bench.tunnel(grant=0)
    for _ in range(WINDOW // LIMIT):
        client.transfer(0, bytes(LIMIT))
    client.await_grant(0, WINDOW)
    while client.listen(0.2) is not None:
        pass
    for _ in range(2 * WINDOW // LIMIT):
        client.transfer(0, bytes(LIMIT))
    client.refused()


@case("node.abandon.next", "a message that is given up halfway doesn't harm the next one")
def abandon(bench: Bench) -> None:
    service, client = bench.tunnel()
    client.say(Op.TUNNEL_TRANSFER, id=0, size=3 * LIMIT, chunk=bytes(LIMIT))
    client.transfer(0, MESSAGE)
    service.expect(Op.TUNNEL_TRANSFER, size=3 * LIMIT)
    service.receive(0, MESSAGE)


@case("node.abandon.allowance", "the bytes of a message that is given up are given back")
def abandoned_allowance(bench: Bench) -> None:
    service, client = bench.tunnel()
    for _ in range(10):
        client.say(Op.TUNNEL_TRANSFER, id=0, size=3 * LIMIT, chunk=bytes(LIMIT))
        service.expect(Op.TUNNEL_TRANSFER, size=3 * LIMIT)
    client.transfer(0, b"next")
    service.receive(0, b"next")
    client.await_grant(0, WINDOW + 10 * LIMIT + 4)


@case("node.tunnel-close.initiator", "a close reaches the other end, and comes back to who closes")
def close_initiator(bench: Bench) -> None:
    service, client = bench.tunnel()
    _close(client, service)


@case("node.tunnel-close.acceptor", "the acceptor may close as well")
def close_acceptor(bench: Bench) -> None:
    service, client = bench.tunnel()
    _close(service, client)


def _close(closing: Peer, other: Peer) -> None:
    closing.say(Op.TUNNEL_CLOSE, id=0)
    closing.expect(Op.TUNNEL_CLOSE, id=0, reason="")
    other.expect(Op.TUNNEL_CLOSE, id=0, reason="")
    closing.sync()


@case("node.tunnel-close.data", "a close follows all data")
def close_data(bench: Bench) -> None:
    service, client = bench.tunnel()
    messages = [MESSAGE] * 8
    for message in messages:
        client.transfer(0, message)
    client.say(Op.TUNNEL_CLOSE, id=0)
    for message in messages:
        service.receive(0, message)
    service.expect(Op.TUNNEL_CLOSE, id=0, reason="")
    client.expect(Op.TUNNEL_CLOSE, id=0, reason="")


@case("node.tunnel-close.waiting", "a close follows data that waits for allowance")
def close_waiting(bench: Bench) -> None:
    service, client = bench.tunnel(grant=0)
    client.transfer(0, b"one")
    client.transfer(0, b"two")
    client.say(Op.TUNNEL_CLOSE, id=0)
    service.quiet()
    service.say(Op.TUNNEL_ALLOW, id=0, space=100)
    service.receive(0, b"one")
    service.receive(0, b"two")
    service.expect(Op.TUNNEL_CLOSE, id=0, reason="")


@case(
    "node.tunnel-close.early",
    "a tunnel that is closed as soon as it is built is closed at the other end",
)
def early(bench: Bench) -> None:
    service, client = bench.pair()
    for number in range(10):
        client.say(Op.TUNNEL_INIT, id=number, cluster=bench.name, timeout=5_000)
        offer = service.expect(Op.TUNNEL_INIT)
        service.say(Op.TUNNEL_CONFIRM, build_id=offer.build_id, id=number)
        client.expect(Op.TUNNEL_CONFIRM, id=number, timed_out=False)
        client.say(Op.TUNNEL_CLOSE, id=number)
        client.expect(Op.TUNNEL_CLOSE, id=number)
        service.expect(Op.TUNNEL_CLOSE, id=number, reason="")


@case("node.tunnel-close.repeated", "an unknown or repeated close has no answer")
def repeated(bench: Bench) -> None:
    service, client = bench.tunnel()
    client.say(Op.TUNNEL_CLOSE, id=55)
    client.say_bytes(GENEROUS.client(Op.TUNNEL_CLOSE, id=0) * 3)
    client.expect(Op.TUNNEL_CLOSE, id=0)
    client.quiet()
    service.expect(Op.TUNNEL_CLOSE, id=0)
    service.quiet(0.1)


@case("node.tunnel-close.both", "both ends may close at the same time, and each gets one close")
def both(bench: Bench) -> None:
    ends = bench.tunnel()
    for end in ends:
        end.say(Op.TUNNEL_CLOSE, id=0)
    for end in ends:
        end.expect(Op.TUNNEL_CLOSE, id=0)
        end.quiet(0.1)


@case("node.tunnel-close.again", "the id of a closed tunnel may be used again")
def again(bench: Bench) -> None:
    service, client = bench.tunnel()
    client.say(Op.TUNNEL_CLOSE, id=0)
    client.expect(Op.TUNNEL_CLOSE, id=0)
    service.expect(Op.TUNNEL_CLOSE, id=0)
    bench.build(service, client)
    client.transfer(0, b"again")
    service.receive(0, b"again")


@case("node.tunnel-close.late", "what is said of a tunnel that was closed is ignored")
def late(bench: Bench) -> None:
    service, client = bench.tunnel()
    client.say(Op.TUNNEL_CLOSE, id=0)
    client.expect(Op.TUNNEL_CLOSE, id=0)
    service.expect(Op.TUNNEL_CLOSE, id=0)
    service.transfer(0, b"late")
    service.say(Op.TUNNEL_ALLOW, id=0, space=5)
    service.sync()


@case(
    "node.tunnel-close.vanish",
    "when the acceptor vanishes, the other end gets a close with a reason",
)
def vanish(bench: Bench) -> None:
    service, client = bench.tunnel()
    service.hang_up()
    _broken(client)


@case(
    "node.tunnel-close.vanish-initiator",
    "when the initiator vanishes, the other end gets a close with a reason",
)
def vanish_initiator(bench: Bench) -> None:
    service, client = bench.tunnel()
    client.hang_up()
    _broken(service)


@case(
    "node.tunnel-close.dropped",
    "when one end breaks the rules, the other end gets a close with a reason, after all data",
)
def dropped(bench: Bench) -> None:
    service, client = bench.tunnel()
    client.transfer(0, b"before")
    client.say_bytes(b"\x0e")
    service.receive(0, b"before")
    _broken(service)
    client.refused()


def _broken(other: Peer) -> None:
    if not other.expect(Op.TUNNEL_CLOSE, id=0).reason:
        raise Failure("the close has no reason, as if the other end had asked for it")


@case("node.tunnel-close.leave", "when one end leaves, its tunnels are closed, without a reason")
def leave(bench: Bench) -> None:
    service, client = bench.tunnel()
    client.say(Op.CLOSE)
    service.expect(Op.TUNNEL_CLOSE, id=0, reason="")
    while (packet := client.listen()) is not None and packet.op is not Op.CLOSE:
        pass
    if packet is None:
        raise Failure("the close isn't answered")
