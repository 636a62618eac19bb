"""Tunnels: building, data, credit, closing."""

# ruff: noqa: D103  # a case's description says what it checks

import time

from iris.relay_protocol.schema import Op
from iris.relaycheck.fake_client import Failure, FakeClient, packet
from iris.relaycheck.harness import Harness
from iris.relaycheck.registry import case, pair_case, plain_case, tunnel_case, ungranted_case
from iris.relaycheck.tunnel import CHUNK_LIMIT, NODE_WINDOW

MIB = 1 << 20
MESSAGE = bytes(range(251)) * 1_000  # four chunks


@tunnel_case(
    "tunnel.build",
    "a tunnel is offered to a member, whose confirm builds it; both ends get 4 MiB of credit",
)
def build(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    client.expect_silence(0.1)
    service.expect_silence(0.1)
    if client.granted[0] != NODE_WINDOW or service.granted[0] != NODE_WINDOW:
        raise Failure("another credit than 4 MiB is granted")


@plain_case("tunnel.nobody", "a tunnel to a cluster without members times out at its deadline")
def nobody(harness: Harness, client: FakeClient) -> None:
    with harness.within(0.3, 1.3):
        harness.request_tunnel(client, 3, 300)
        client.expect(Op.TUNNEL_CONFIRM, id=3, timed_out=True)


@plain_case("tunnel.zero", "a tunnel with a timeout of 0 is answered at once")
def zero(harness: Harness, client: FakeClient) -> None:
    with harness.within(0.0, 0.5):
        harness.request_tunnel(client, 0, 0)
        client.expect(Op.TUNNEL_CONFIRM, id=0, timed_out=True)


@pair_case("tunnel.unconfirmed", "a tunnel that is never confirmed times out")
def unconfirmed(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    harness.offer(service, client, timeout=600)
    client.expect(Op.TUNNEL_CONFIRM, id=0, timed_out=True)


@pair_case("tunnel.confirm-timeout", "the acceptor has 3 s, whatever the initiator's timeout")
def confirm_timeout(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    harness.offer(service, client, timeout=4_500)
    with harness.within(2.0, 5.0):
        client.expect(Op.TUNNEL_CONFIRM, timeout=5.5, id=0, timed_out=True)


@pair_case("tunnel.slow-confirm", "an acceptor may confirm after a second")
def slow_confirm(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    build_id = harness.offer(service, client)
    time.sleep(1.0)
    service.send(Op.TUNNEL_CONFIRM, build_id=build_id, id=0)
    client.expect(Op.TUNNEL_CONFIRM, id=0, timed_out=False)
    service.await_grant(0, NODE_WINDOW)


@plain_case(
    "tunnel.unknown-confirm", "a confirm of an unknown offer doesn't prevent further tunnels"
)
def unknown_confirm(harness: Harness, client: FakeClient) -> None:
    client.send(Op.TUNNEL_CONFIRM, build_id=99, id=99)
    client.send(Op.TUNNEL_INIT, id=1, cluster=harness.name + "nobody", timeout=100)
    client.skip_to(Op.TUNNEL_CONFIRM, Op.CLOSE, timeout=2.0)


@case("tunnel.order", "messages arrive unchanged and in order, both ways")
def order(harness: Harness) -> None:
    ends = harness.tunnel()
    messages = [MESSAGE, b"x", MESSAGE[:CHUNK_LIMIT], MESSAGE[: CHUNK_LIMIT + 1]]
    messages += [b"%d" % i for i in range(300)]
    for source, target in (ends, ends[::-1]):
        for message in messages:
            source.transfer(0, message)
        for message in messages:
            target.receive(0, message)


@tunnel_case("tunnel.cross", "both ends may send at the same time")
def cross(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    for _ in range(5):
        service.transfer(0, MESSAGE)
        client.transfer(0, MESSAGE[::-1])
    for _ in range(5):
        client.receive(0, MESSAGE)
        service.receive(0, MESSAGE[::-1])


@pair_case("tunnel.many", "ten tunnels of two clients stay apart")
def many(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    for number in range(10):
        harness.build(service, client, number)
    for number in range(10):
        client.transfer(number, bytes([number]) * 100)
        service.receive(number, bytes([number]) * 100)


@tunnel_case("tunnel.empty", "an empty chunk isn't delivered")
def empty(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    client.send(Op.TUNNEL_TRANSFER, id=0, size=0, chunk=b"")
    client.transfer(0, b"message")
    service.receive(0, b"message")


@tunnel_case("allow.back", "credit is given back for all forwarded data")
def given_back(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    for _ in range(8):
        client.transfer(0, MESSAGE)
        service.receive(0, MESSAGE)
    client.await_grant(0, NODE_WINDOW + 8 * len(MESSAGE))


@tunnel_case("allow.big", "a message may be bigger than the window, as credit is given back")
def big(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    size, chunk = 6 * MIB, bytes(CHUNK_LIMIT)
    for sent in range(0, size, CHUNK_LIMIT):
        client.await_grant(0, sent + CHUNK_LIMIT)
        client.send(Op.TUNNEL_TRANSFER, id=0, size=0 if sent else size, chunk=chunk)
    service.receive(0, bytes(size))


@ungranted_case("allow.none", "no message is delivered without enough credit")
def none(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    client.transfer(0, b"message")
    service.expect_silence()
    service.send(Op.TUNNEL_ALLOW, id=0, space=6)
    service.expect_silence()
    service.send(Op.TUNNEL_ALLOW, id=0, space=1)
    service.receive(0, b"message")


@case("allow.exhausted", "the node waits when the credit is exhausted")
def exhausted(harness: Harness) -> None:
    service, client = harness.tunnel(grant=100)
    client.transfer(0, bytes(100))
    client.transfer(0, b"next")
    service.receive(0, bytes(100))
    service.expect_silence()
    service.send(Op.TUNNEL_ALLOW, id=0, space=100)
    service.receive(0, b"next")


@case("allow.finish", "a message that was begun is finished, whatever the credit")
def finish(harness: Harness) -> None:
    service, client = harness.tunnel(grant=CHUNK_LIMIT)
    client.transfer(0, MESSAGE)
    service.receive(0, MESSAGE)


@ungranted_case(
    "allow.beyond", "a message that a client begins beyond its credit ends the connection"
)
def beyond(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    for _ in range(NODE_WINDOW // CHUNK_LIMIT):
        client.transfer(0, bytes(CHUNK_LIMIT))
    client.await_grant(0, NODE_WINDOW)
    while client.receive_packet(0.2) is not None:
        pass
    for _ in range(2 * NODE_WINDOW // CHUNK_LIMIT):
        client.transfer(0, bytes(CHUNK_LIMIT))
    client.expect_rejection()


@tunnel_case("abandon.next", "an abandoned message doesn't affect the next one")
def abandon(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    client.send(Op.TUNNEL_TRANSFER, id=0, size=3 * CHUNK_LIMIT, chunk=bytes(CHUNK_LIMIT))
    client.transfer(0, MESSAGE)
    service.expect(Op.TUNNEL_TRANSFER, size=3 * CHUNK_LIMIT)
    service.receive(0, MESSAGE)


@tunnel_case("abandon.allowance", "the credit of an abandoned message is given back")
def abandoned_allowance(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    for _ in range(10):
        client.send(Op.TUNNEL_TRANSFER, id=0, size=3 * CHUNK_LIMIT, chunk=bytes(CHUNK_LIMIT))
        service.expect(Op.TUNNEL_TRANSFER, size=3 * CHUNK_LIMIT)
    client.transfer(0, b"next")
    service.receive(0, b"next")
    client.await_grant(0, NODE_WINDOW + 10 * CHUNK_LIMIT + 4)


@tunnel_case("tunnel-close.initiator", "a close reaches the other end, and is answered by a close")
def close_initiator(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    _close(client, service)


@tunnel_case("tunnel-close.acceptor", "the acceptor may close as well")
def close_acceptor(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    _close(service, client)


def _expect_closes(closing: FakeClient, other: FakeClient, number: int = 0) -> None:
    other.expect(Op.TUNNEL_CLOSE, id=number, reason="")
    closing.expect(Op.TUNNEL_CLOSE, id=number, reason="")


def _close(closing: FakeClient, other: FakeClient) -> None:
    closing.send(Op.TUNNEL_CLOSE, id=0)
    _expect_closes(closing, other)
    closing.sync()


@tunnel_case("tunnel-close.data", "a close follows all data")
def close_data(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    messages = [MESSAGE] * 8
    for message in messages:
        client.transfer(0, message)
    client.send(Op.TUNNEL_CLOSE, id=0)
    for message in messages:
        service.receive(0, message)
    _expect_closes(client, service)


@ungranted_case("tunnel-close.waiting", "a close follows data that waits for credit")
def close_waiting(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    client.transfer(0, b"one")
    client.transfer(0, b"two")
    client.send(Op.TUNNEL_CLOSE, id=0)
    service.expect_silence()
    service.send(Op.TUNNEL_ALLOW, id=0, space=100)
    service.receive(0, b"one")
    service.receive(0, b"two")
    service.expect(Op.TUNNEL_CLOSE, id=0, reason="")


@pair_case(
    "tunnel-close.early",
    "a tunnel that is closed as soon as it is built is closed at the other end",
)
def early(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    for number in range(10):
        harness.handshake(service, client, number)
        client.send(Op.TUNNEL_CLOSE, id=number)
        client.expect(Op.TUNNEL_CLOSE, id=number)
        service.expect(Op.TUNNEL_CLOSE, id=number, reason="")


@tunnel_case("tunnel-close.repeated", "an unknown or repeated close isn't answered")
def repeated(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    client.send(Op.TUNNEL_CLOSE, id=55)
    client.send_bytes(packet(Op.TUNNEL_CLOSE, id=0) * 3)
    client.expect(Op.TUNNEL_CLOSE, id=0)
    client.expect_silence()
    service.expect(Op.TUNNEL_CLOSE, id=0)
    service.expect_silence(0.1)


@case("tunnel-close.both", "both ends may close at the same time, and each gets one close")
def both(harness: Harness) -> None:
    ends = harness.tunnel()
    for end in ends:
        end.send(Op.TUNNEL_CLOSE, id=0)
    for end in ends:
        end.expect(Op.TUNNEL_CLOSE, id=0)
        end.expect_silence(0.1)


@tunnel_case("tunnel-close.again", "the id of a closed tunnel may be reused")
def again(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    _close(client, service)
    harness.build(service, client)
    client.transfer(0, b"again")
    service.receive(0, b"again")


@tunnel_case("tunnel-close.late", "packets of a closed tunnel are ignored")
def late(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    _close(client, service)
    service.transfer(0, b"late")
    service.send(Op.TUNNEL_ALLOW, id=0, space=5)
    service.sync()


@tunnel_case(
    "tunnel-close.vanish",
    "when the acceptor vanishes, the other end gets a close with a reason",
)
def vanish(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    service.disconnect()
    _broken(client)


@tunnel_case(
    "tunnel-close.vanish-initiator",
    "when the initiator vanishes, the other end gets a close with a reason",
)
def vanish_initiator(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    client.disconnect()
    _broken(service)


@tunnel_case(
    "tunnel-close.dropped",
    "when one end violates the protocol, the other end gets a close with a reason, after all data",
)
def dropped(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    client.transfer(0, b"before")
    client.send_bytes(b"\x0e")
    service.receive(0, b"before")
    _broken(service)
    client.expect_rejection()


def _broken(other: FakeClient) -> None:
    if not other.expect(Op.TUNNEL_CLOSE, id=0).reason:
        raise Failure("the close has no reason")


@tunnel_case("tunnel-close.leave", "when one end leaves, its tunnels are closed without a reason")
def leave(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    client.send(Op.CLOSE)
    service.expect(Op.TUNNEL_CLOSE, id=0, reason="")
    client.skip_to(Op.CLOSE)
