"""How a connection ends."""

# ruff: noqa: D103  # a case's description says what it checks

import socket
import time

from iris.relay_protocol.schema import VERSION, Op
from iris.relaycheck.fake_client import QUIET_TIME, Failure, FakeClient, packet
from iris.relaycheck.harness import Harness
from iris.relaycheck.registry import case, pair_case, plain_case


@pair_case("close.graceful", 'a close is answered by a close with the reason "", and the end')
def graceful(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    client.leave()
    service.leave()


@case("close.at-once", "an init and a close in one piece are both answered")
def at_once(harness: Harness) -> None:
    for _ in range(20):
        client = harness.connect()
        client.send_bytes(packet(Op.INIT, version=VERSION, cluster="") + packet(Op.CLOSE))
        client.expect(Op.INIT)
        client.expect_close()


@plain_case("close.half", "a close is answered even if the client has ended its sending direction")
def half(harness: Harness, client: FakeClient) -> None:
    client.send(Op.CLOSE)
    client.sock.shutdown(socket.SHUT_WR)
    client.expect_close()


@pair_case("close.left", "a service that has left gets no requests")
def left(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    service.leave()
    harness.request(client, timeout=300)
    if not client.expect(Op.REPLY).timed_out:
        raise Failure("the request is answered")


@pair_case("close.in-hand", "a close is answered after in-flight requests are answered")
def in_flight(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    id = harness.in_flight(service, client)
    service.send(Op.CLOSE)
    service.expect_silence()
    service.reply(id, b"done")
    client.expect(Op.REPLY, id=0, success=True, result=b"done")
    service.expect_close()


@pair_case("close.replies", "replies right before a close aren't lost")
def replies(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    for number in range(30):
        harness.request(client, number)
    ids = [service.expect(Op.REQUEST).id for _ in range(30)]
    packets = [packet(Op.REPLY, id=id, success=True, result=b"done") for id in ids]
    service.send_bytes(b"".join(packets) + packet(Op.CLOSE))
    for _ in range(30):
        client.expect(Op.REPLY, success=True, result=b"done")
    service.expect_close()


@pair_case("close.said", "a packet right before a close takes effect")
def last_packet(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    broadcast = packet(Op.BROADCAST, cluster=harness.name, message=b"bye")
    client.send_bytes(broadcast + packet(Op.CLOSE))
    service.expect(Op.BROADCAST, message=b"bye")
    client.expect_close()


@pair_case("close.asked", "a close doesn't wait for the answers to the client's own requests")
def own_request(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    harness.in_flight(service, client, 30_000)
    client.send(Op.CLOSE)
    with harness.within(0.0, 4.0):
        client.skip_to(Op.CLOSE)


@plain_case("close.subscribed", "a client may leave with subscriptions")
def subscribed(harness: Harness, client: FakeClient) -> None:
    for i in range(20):
        client.send(Op.SUBSCRIBE, topic=f"{harness.name}-{i}")
    client.leave()


@case("close.many", "thirty clients that leave at the same time each get an answer")
def many(harness: Harness) -> None:
    clients = [harness.plain() for _ in range(30)]
    for client in clients:
        client.send(Op.CLOSE)
    for client in clients:
        client.expect_close()


@pair_case("vanish.member", "a service that vanishes isn't a member any more")
def member(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    other = harness.service()
    service.disconnect()
    time.sleep(QUIET_TIME)
    for number in range(10):
        harness.request(client, number, timeout=1_000)
        other.answer(b"here")
        client.expect(Op.REPLY, id=number, success=True)


@pair_case(
    "vanish.packet",
    "a client that vanishes in the middle of a packet does no harm, and the packet has no effect",
)
def partial_packet(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    client.send_bytes(packet(Op.BROADCAST, cluster=harness.name, message=b"whole")[:-1])
    client.disconnect()
    service.expect_silence()
    service.sync()


@pair_case("vanish.caller", "a reply to a client that has vanished does no harm")
def caller(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    id = harness.in_flight(service, client)
    client.disconnect()
    time.sleep(0.05)
    service.reply(id, b"late")
    service.sync()
