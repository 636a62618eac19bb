"""How a stream is cut into segments makes no difference."""

# ruff: noqa: D103  # a case's description says what it checks

import itertools
from collections.abc import Callable

from iris.relay_protocol.schema import VERSION, Op
from iris.relaycheck.fake_client import CLIENT_CREDIT, NODE_WINDOW, Failure, FakeClient
from iris.relaycheck.harness import Harness
from iris.relaycheck.reader import GENEROUS
from iris.relaycheck.registry import add, case

Send = Callable[[FakeClient, bytes], None]
packet = GENEROUS.client


class _Exchange:
    """Clients that are used again and again."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.service, self.client = harness.pair()

    def init(self, send: Send, number: int) -> None:
        client = self.harness.connect()
        send(client, packet(Op.INIT, version=VERSION, cluster="c"))
        client.expect(Op.INIT)

    def broadcast(self, send: Send, number: int) -> None:
        send(self.client, packet(Op.BROADCAST, cluster=self.harness.name, message=b"to all"))
        self.service.expect(Op.BROADCAST, message=b"to all")

    def request(self, send: Send, number: int) -> None:
        send(
            self.client,
            packet(
                Op.REQUEST, id=number, cluster=self.harness.name, request=b"what?", timeout=5_000
            ),
        )
        asked = self.service.expect(Op.REQUEST, request=b"what?")
        self.service.reply(asked.id, b"that")
        self.client.expect(Op.REPLY, id=number, result=b"that")

    def reply(self, send: Send, number: int) -> None:
        self.harness.request(self.client, number)
        asked = self.service.expect(Op.REQUEST)
        send(
            self.service,
            packet(
                Op.REPLY,
                id=asked.id,
                success=bool(number % 2),
                result=b"yes" if number % 2 else "no",
            ),
        )
        self.client.expect(
            Op.REPLY, id=number, success=bool(number % 2), result=b"yes" if number % 2 else "no"
        )

    def subscribe(self, send: Send, number: int) -> None:
        topic = f"{self.harness.name}{number:03}"
        send(self.client, packet(Op.SUBSCRIBE, topic=topic))
        self.client.send(Op.UNSUBSCRIBE, topic=topic)
        self.client.sync()

    def unsubscribe(self, send: Send, number: int) -> None:
        self.client.send(Op.SUBSCRIBE, topic=self.harness.name)
        send(self.client, packet(Op.UNSUBSCRIBE, topic=self.harness.name))
        self.client.sync()

    def publish(self, send: Send, number: int) -> None:
        if number == 0:
            self.harness.subscribed(self.service, self.harness.name)
        send(self.client, packet(Op.PUBLISH, topic=self.harness.name, event=b"news"))
        self.service.expect_event(self.harness.name, b"news")

    def tunnel_init(self, send: Send, number: int) -> None:
        send(
            self.client, packet(Op.TUNNEL_INIT, id=number, cluster=self.harness.name, timeout=5_000)
        )
        offer = self.service.expect(Op.TUNNEL_INIT)
        self.service.send(Op.TUNNEL_CONFIRM, build_id=offer.build_id, id=number)
        self.client.expect(Op.TUNNEL_CONFIRM, id=number, timed_out=False)
        self.client.await_grant(number, NODE_WINDOW)

    def tunnel_confirm(self, send: Send, number: int) -> None:
        self.client.send(Op.TUNNEL_INIT, id=number, cluster=self.harness.name, timeout=5_000)
        offer = self.service.expect(Op.TUNNEL_INIT)
        send(self.service, packet(Op.TUNNEL_CONFIRM, build_id=offer.build_id, id=number))
        self.client.expect(Op.TUNNEL_CONFIRM, id=number, timed_out=False)

    def tunnel_allow(self, send: Send, number: int) -> None:
        if number == 0:
            self.harness.build(self.service, self.client, grant=0)
        self.client.transfer(0, b"message")
        send(self.service, packet(Op.TUNNEL_ALLOW, id=0, space=len(b"message")))
        self.service.receive(0, b"message")

    def tunnel_transfer(self, send: Send, number: int) -> None:
        if number == 0:
            self.harness.build(self.service, self.client)
        send(self.client, packet(Op.TUNNEL_TRANSFER, id=0, size=7, chunk=b"message"))
        self.service.receive(0, b"message")

    def tunnel_close(self, send: Send, number: int) -> None:
        number += 300  # an id of two bytes
        self.harness.build(self.service, self.client, number)
        send(self.client, packet(Op.TUNNEL_CLOSE, id=number))
        self.client.expect(Op.TUNNEL_CLOSE, id=number)
        self.service.expect(Op.TUNNEL_CLOSE, id=number, reason="")


def _make(op: Op) -> None:
    name = op.name.lower()

    def run(harness: Harness) -> None:
        exchange = getattr(_Exchange(harness), name)
        cut, size = itertools.count(1), [2]

        def send(client: FakeClient, data: bytes) -> None:
            size[0] = len(data)
            client.send_bytes(data, next(cut))

        number = 0
        while number + 1 < size[0]:
            exchange(send, number)
            number += 1

    add(
        f"node.split.{name.replace('_', '-')}",
        f"a packet {name.replace('_', ' ')} may be cut at any byte",
        run,
    )


for _op in Op:
    if hasattr(_Exchange, _op.name.lower()):
        _make(_op)


@case("node.split.bytes", "a session may arrive byte by byte")
def bytewise(harness: Harness) -> None:
    service, client = harness.service(), harness.connect()
    for byte in _session(harness):
        client.send_bytes(bytes([byte]))
    _follow(service, client)


@case("node.split.joined", "a session may arrive in one segment")
def joined(harness: Harness) -> None:
    service, client = harness.service(), harness.connect()
    client.send_bytes(_session(harness))
    _follow(service, client)


def _session(harness: Harness) -> bytes:
    topic = harness.name
    return b"".join(
        [
            packet(Op.INIT, version=VERSION, cluster=""),
            packet(Op.BROADCAST, cluster=harness.name, message=b"all"),
            packet(Op.SUBSCRIBE, topic=topic),
            packet(Op.UNSUBSCRIBE, topic=topic),
            packet(Op.SUBSCRIBE, topic=topic),
            packet(Op.REQUEST, id=1, cluster="relaycheck: nobody", request=bytes(300), timeout=0),
            packet(Op.TUNNEL_INIT, id=2, cluster="relaycheck: nobody", timeout=0),
            packet(Op.CLOSE),
        ]
    )


def _follow(service: FakeClient, client: FakeClient) -> None:
    service.expect(Op.BROADCAST, message=b"all")
    client.expect(Op.INIT)
    got = [
        packet.op
        for packet in (client.receive_packet(), client.receive_packet())
        if packet is not None
    ]
    if sorted(got) != [Op.REPLY, Op.TUNNEL_CONFIRM]:  # in any order
        raise Failure("a request and a tunnel to no members aren't answered")
    client.expect(Op.CLOSE, reason="")
    client.expect_end()


@case("node.split.tunnel", "a tunnel's confirm, credit, data and close may arrive in one segment")
def tunnel(harness: Harness) -> None:
    service, client = harness.pair()
    harness.request_tunnel(client)
    offer = service.expect(Op.TUNNEL_INIT)
    service.send_bytes(
        packet(Op.TUNNEL_CONFIRM, build_id=offer.build_id, id=0)
        + packet(Op.TUNNEL_ALLOW, id=0, space=CLIENT_CREDIT)
    )
    client.expect(Op.TUNNEL_CONFIRM, id=0, timed_out=False)
    client.await_grant(0, NODE_WINDOW)
    client.send_bytes(
        packet(Op.TUNNEL_ALLOW, id=0, space=CLIENT_CREDIT)
        + packet(Op.TUNNEL_TRANSFER, id=0, size=6, chunk=b"one")
        + packet(Op.TUNNEL_TRANSFER, id=0, size=0, chunk=b"two")
        + packet(Op.TUNNEL_CLOSE, id=0)
    )
    service.receive(0, b"onetwo")
    service.expect(Op.TUNNEL_CLOSE, id=0, reason="")
    client.expect(Op.TUNNEL_CLOSE, id=0)
