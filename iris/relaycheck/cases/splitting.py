"""How a stream is cut into segments makes no difference."""

# ruff: noqa: D103  # a case's description says what it checks

from functools import partial
from typing import Any

from iris.relay_protocol.schema import VERSION, Op
from iris.relaycheck.fake_client import CLIENT_CREDIT, Failure, FakeClient, packet
from iris.relaycheck.harness import Harness
from iris.relaycheck.registry import add, pair_case
from iris.relaycheck.tunnel import NODE_WINDOW


class _Exchange:
    """An exchange for each packet that a client sends; each repetition cuts it a byte later."""

    def __init__(self, harness: Harness) -> None:
        self.harness, self.cluster = harness, harness.name
        self.service, self.client = harness.pair()
        self.number, self.size = 0, 2  # of repetitions; of the packet, in bytes

    def cut(self, client: FakeClient, op: Op, **body: Any) -> None:
        """Send a packet in two segments."""
        data = packet(op, **body)
        self.size = len(data)
        client.send_bytes(data, self.number + 1)

    def init(self) -> None:
        client = self.harness.connect()
        self.cut(client, Op.INIT, version=VERSION, cluster="c")
        client.expect(Op.INIT)

    def broadcast(self) -> None:
        self.cut(self.client, Op.BROADCAST, cluster=self.cluster, message=b"to all")
        self.service.expect(Op.BROADCAST, message=b"to all")

    def request(self) -> None:
        body = {"cluster": self.cluster, "request": b"what?", "timeout": 5_000}
        self.cut(self.client, Op.REQUEST, id=self.number, **body)
        self.service.answer(b"that", b"what?")
        self.client.expect(Op.REPLY, id=self.number, result=b"that")

    def reply(self) -> None:
        self.harness.request(self.client, self.number)
        id = self.service.expect(Op.REQUEST).id
        success = bool(self.number % 2)
        result = b"yes" if success else "no"
        self.cut(self.service, Op.REPLY, id=id, success=success, result=result)
        self.client.expect(Op.REPLY, id=self.number, success=success, result=result)

    def subscribe(self) -> None:
        topic = f"{self.cluster}{self.number:03}"
        self.cut(self.client, Op.SUBSCRIBE, topic=topic)
        self.client.send(Op.UNSUBSCRIBE, topic=topic)
        self.client.sync()

    def unsubscribe(self) -> None:
        self.client.send(Op.SUBSCRIBE, topic=self.cluster)
        self.cut(self.client, Op.UNSUBSCRIBE, topic=self.cluster)
        self.client.sync()

    def publish(self) -> None:
        if self.number == 0:
            self.harness.subscribed(self.service, self.cluster)
        self.cut(self.client, Op.PUBLISH, topic=self.cluster, event=b"news")
        self.service.expect_event(self.cluster, b"news")

    def tunnel_init(self) -> None:
        id = self.number
        self.cut(self.client, Op.TUNNEL_INIT, id=id, cluster=self.cluster, timeout=5_000)
        offer = self.service.expect(Op.TUNNEL_INIT)
        self.service.send(Op.TUNNEL_CONFIRM, build_id=offer.build_id, id=id)
        self.client.expect(Op.TUNNEL_CONFIRM, id=id, timed_out=False)
        self.client.await_grant(id, NODE_WINDOW)

    def tunnel_confirm(self) -> None:
        build_id = self.harness.offer(self.service, self.client, self.number)
        self.cut(self.service, Op.TUNNEL_CONFIRM, build_id=build_id, id=self.number)
        self.client.expect(Op.TUNNEL_CONFIRM, id=self.number, timed_out=False)

    def tunnel_allow(self) -> None:
        if self.number == 0:
            self.harness.build(self.service, self.client, grant=0)
        self.client.transfer(0, b"message")
        self.cut(self.service, Op.TUNNEL_ALLOW, id=0, space=len(b"message"))
        self.service.receive(0, b"message")

    def tunnel_transfer(self) -> None:
        if self.number == 0:
            self.harness.build(self.service, self.client)
        self.cut(self.client, Op.TUNNEL_TRANSFER, id=0, size=7, chunk=b"message")
        self.service.receive(0, b"message")

    def tunnel_close(self) -> None:
        id = self.number + 300  # of two bytes
        self.harness.build(self.service, self.client, id)
        self.cut(self.client, Op.TUNNEL_CLOSE, id=id)
        self.client.expect(Op.TUNNEL_CLOSE, id=id)
        self.service.expect(Op.TUNNEL_CLOSE, id=id, reason="")


def _repeat(name: str, harness: Harness) -> None:
    exchange = _Exchange(harness)
    while exchange.number + 1 < exchange.size:
        getattr(exchange, name)()
        exchange.number += 1


for _name in (op.name.lower() for op in Op if hasattr(_Exchange, op.name.lower())):
    _description = f"a packet {_name.replace('_', ' ')} may be cut at any byte"
    add(f"split.{_name.replace('_', '-')}", _description, partial(_repeat, _name))


def _session(size: int, harness: Harness) -> None:
    """Send a whole session in segments of so many bytes."""
    service, client, topic = harness.service(), harness.connect(), harness.name
    packets = [
        packet(Op.INIT, version=VERSION, cluster=""),
        packet(Op.BROADCAST, cluster=harness.name, message=b"all"),
        packet(Op.SUBSCRIBE, topic=topic),
        packet(Op.UNSUBSCRIBE, topic=topic),
        packet(Op.SUBSCRIBE, topic=topic),
        packet(Op.REQUEST, id=1, cluster="relaycheck: nobody", request=bytes(300), timeout=0),
        packet(Op.TUNNEL_INIT, id=2, cluster="relaycheck: nobody", timeout=0),
        packet(Op.CLOSE),
    ]
    data = b"".join(packets)
    for at in range(0, len(data), size):
        client.send_bytes(data[at : at + size])
    service.expect(Op.BROADCAST, message=b"all")
    client.expect(Op.INIT)
    received = (client.receive_packet(), client.receive_packet())
    if {each.op for each in received if each} != {Op.REPLY, Op.TUNNEL_CONFIRM}:
        raise Failure("a request and a tunnel to no members aren't answered")
    client.expect_close()


add("split.bytes", "a session may arrive byte by byte", partial(_session, 1))
add("split.joined", "a session may arrive in one segment", partial(_session, 1 << 20))


@pair_case("split.tunnel", "a tunnel's confirm, credit, data and close may arrive in one segment")
def tunnel(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    build_id = harness.offer(service, client)
    credit = packet(Op.TUNNEL_ALLOW, id=0, space=CLIENT_CREDIT)
    service.send_bytes(packet(Op.TUNNEL_CONFIRM, build_id=build_id, id=0) + credit)
    client.expect(Op.TUNNEL_CONFIRM, id=0, timed_out=False)
    client.await_grant(0, NODE_WINDOW)
    client.send_bytes(
        credit
        + packet(Op.TUNNEL_TRANSFER, id=0, size=6, chunk=b"one")
        + packet(Op.TUNNEL_TRANSFER, id=0, size=0, chunk=b"two")
        + packet(Op.TUNNEL_CLOSE, id=0)
    )
    service.receive(0, b"onetwo")
    service.expect(Op.TUNNEL_CLOSE, id=0, reason="")
    client.expect(Op.TUNNEL_CLOSE, id=0)
