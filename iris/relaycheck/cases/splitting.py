"""How a stream is cut into segments means nothing."""

# ruff: noqa: D103  # a case's words say what it's about

import itertools
from collections.abc import Callable

from iris.relay_protocol.schema import VERSION, Op
from iris.relaycheck.harness import Bench, add, case
from iris.relaycheck.peer import GRANT, WINDOW, Failure, Peer
from iris.relaycheck.reader import GENEROUS

Send = Callable[[Peer, bytes], None]
packet = GENEROUS.client


def _init(bench: Bench, send: Send, number: int) -> None:
    peer = bench.connect()
    send(peer, packet(Op.INIT, version=VERSION, cluster="c"))
    peer.expect(Op.INIT)


class _Exchange:
    """Peers that are used again and again."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.service, self.client = bench.pair()

    def broadcast(self, send: Send, number: int) -> None:
        send(self.client, packet(Op.BROADCAST, cluster=self.bench.name, message=b"to all"))
        self.service.expect(Op.BROADCAST, message=b"to all")

    def request(self, send: Send, number: int) -> None:
        send(
            self.client,
            packet(Op.REQUEST, id=number, cluster=self.bench.name, request=b"what?", timeout=5_000),
        )
        asked = self.service.expect(Op.REQUEST, request=b"what?")
        self.service.say(Op.REPLY, id=asked.id, success=True, result=b"that")
        self.client.expect(Op.REPLY, id=number, result=b"that")

    def reply(self, send: Send, number: int) -> None:
        self.bench.request(self.client, number)
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
        topic = f"{self.bench.name}{number:03}"
        send(self.client, packet(Op.SUBSCRIBE, topic=topic))
        self.client.say(Op.UNSUBSCRIBE, topic=topic)
        self.client.sync()

    def unsubscribe(self, send: Send, number: int) -> None:
        self.client.say(Op.SUBSCRIBE, topic=self.bench.name)
        send(self.client, packet(Op.UNSUBSCRIBE, topic=self.bench.name))
        self.client.sync()

    def publish(self, send: Send, number: int) -> None:
        if number == 0:
            self.bench.subscribed(self.service, self.bench.name)
        send(self.client, packet(Op.PUBLISH, topic=self.bench.name, event=b"news"))
        self.service.expect_event(self.bench.name, b"news")

    def tunnel_init(self, send: Send, number: int) -> None:
        send(self.client, packet(Op.TUNNEL_INIT, id=number, cluster=self.bench.name, timeout=5_000))
        offer = self.service.expect(Op.TUNNEL_INIT)
        self.service.say(Op.TUNNEL_CONFIRM, build_id=offer.build_id, id=number)
        self.client.expect(Op.TUNNEL_CONFIRM, id=number, timed_out=False)
        self.client.await_grant(number, WINDOW)

    def tunnel_confirm(self, send: Send, number: int) -> None:
        self.client.say(Op.TUNNEL_INIT, id=number, cluster=self.bench.name, timeout=5_000)
        offer = self.service.expect(Op.TUNNEL_INIT)
        send(self.service, packet(Op.TUNNEL_CONFIRM, build_id=offer.build_id, id=number))
        self.client.expect(Op.TUNNEL_CONFIRM, id=number, timed_out=False)

    def tunnel_allow(self, send: Send, number: int) -> None:
        if number == 0:
            self.bench.build(self.service, self.client, grant=0)
        self.client.transfer(0, b"message")
        send(self.service, packet(Op.TUNNEL_ALLOW, id=0, space=len(b"message")))
        self.service.receive(0, b"message")

    def tunnel_transfer(self, send: Send, number: int) -> None:
        if number == 0:
            self.bench.build(self.service, self.client)
        send(self.client, packet(Op.TUNNEL_TRANSFER, id=0, size=7, chunk=b"message"))
        self.service.receive(0, b"message")

    def tunnel_close(self, send: Send, number: int) -> None:
        number += 300  # an id of two bytes
        self.bench.build(self.service, self.client, number)
        send(self.client, packet(Op.TUNNEL_CLOSE, id=number))
        self.client.expect(Op.TUNNEL_CLOSE, id=number)
        self.service.expect(Op.TUNNEL_CLOSE, id=number, reason="")


def _make(op: Op) -> None:
    name = op.name.lower()

    def run(bench: Bench) -> None:
        exchange = getattr(_Exchange(bench), name, None)
        cut, size = itertools.count(1), [2]

        def send(peer: Peer, data: bytes) -> None:
            size[0] = len(data)
            peer.say_bytes(data, next(cut))

        number = 0
        while number + 1 < size[0]:
            if exchange is None:
                _init(bench, send, number)
            else:
                exchange(send, number)
            number += 1

    add(
        f"node.split.{name.replace('_', '-')}",
        f"a {name.replace('_', ' ')} that is cut at any byte is the same packet",
        run,
    )


for _op in sorted(set(Op) - {Op.DENY, Op.CLOSE}):
    _make(_op)


@case("node.split.bytes", "a whole session that comes byte by byte is the same session")
def bytewise(bench: Bench) -> None:
    service, client = bench.service(), bench.connect()
    for byte in _session(bench):
        client.say_bytes(bytes([byte]))
    _follow(service, client)


@case("node.split.joined", "a whole session that comes at once is the same session")
def joined(bench: Bench) -> None:
    service, client = bench.service(), bench.connect()
    client.say_bytes(_session(bench))
    _follow(service, client)


def _session(bench: Bench) -> bytes:
    topic = bench.name
    return b"".join(
        [
            packet(Op.INIT, version=VERSION, cluster=""),
            packet(Op.BROADCAST, cluster=bench.name, message=b"all"),
            packet(Op.SUBSCRIBE, topic=topic),
            packet(Op.UNSUBSCRIBE, topic=topic),
            packet(Op.SUBSCRIBE, topic=topic),
            packet(Op.REQUEST, id=1, cluster="relaycheck: nobody", request=bytes(300), timeout=0),
            packet(Op.TUNNEL_INIT, id=2, cluster="relaycheck: nobody", timeout=0),
            packet(Op.CLOSE),
        ]
    )


def _follow(service: Peer, client: Peer) -> None:
    service.expect(Op.BROADCAST, message=b"all")
    client.expect(Op.INIT)
    got = [packet.op for packet in (client.listen(), client.listen()) if packet is not None]
    if sorted(got) != [Op.REPLY, Op.TUNNEL_CONFIRM]:  # in any order
        raise Failure("a request and a tunnel that nobody serves aren't answered")
    client.expect(Op.CLOSE, reason="")
    client.ended()


@case(
    "node.split.tunnel",
    "a tunnel's confirm, allowance, data and close that come at once are the same",
)
def tunnel(bench: Bench) -> None:
    service, client = bench.pair()
    client.say(Op.TUNNEL_INIT, id=0, cluster=bench.name, timeout=5_000)
    offer = service.expect(Op.TUNNEL_INIT)
    service.say_bytes(
        packet(Op.TUNNEL_CONFIRM, build_id=offer.build_id, id=0)
        + packet(Op.TUNNEL_ALLOW, id=0, space=GRANT)
    )
    client.expect(Op.TUNNEL_CONFIRM, id=0, timed_out=False)
    client.await_grant(0, WINDOW)
    client.say_bytes(
        packet(Op.TUNNEL_ALLOW, id=0, space=GRANT)
        + packet(Op.TUNNEL_TRANSFER, id=0, size=6, chunk=b"one")
        + packet(Op.TUNNEL_TRANSFER, id=0, size=0, chunk=b"two")
        + packet(Op.TUNNEL_CLOSE, id=0)
    )
    service.receive(0, b"onetwo")
    service.expect(Op.TUNNEL_CLOSE, id=0, reason="")
    client.expect(Op.TUNNEL_CLOSE, id=0)
