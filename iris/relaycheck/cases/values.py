"""Invalid values: each ends the connection, with a reason."""

# ruff: noqa: D103  # a case's description says what it checks

from iris.relay_protocol.schema import Op
from iris.relaycheck.fake_client import FakeClient
from iris.relaycheck.harness import Harness
from iris.relaycheck.registry import add_rejected, pair_case, plain_case, tunnel_case
from iris.relaycheck.tunnel import CHUNK_LIMIT

LONG = b"\x80" * 10 + b"\x00"  # a varint of eleven bytes
BIG = b"\xff" * 9 + b"\x02"  # one of 65 bits
HUGE = b"\x80" * 9 + b"\x01"  # 2^63
NAME = b"\x01c"
NOT_UTF8 = b"\x02\xc3("

MALFORMED: dict[str, tuple[str, bytes]] = {
    "opcode": ("an unknown opcode", b"\x0e"),
    "opcode-high": ("the opcode 0xff", b"\xff"),
    "deny": ("a deny by a client", b"\x01\x10iris-relay-magic\x00"),
    "reply.bool": ("a reply whose bool is 2", b"\x05\x00\x02\x00"),
    "reply.bool-high": ("a reply whose bool is 255", b"\x05\x00\xff\x00"),
    "reply.fault-utf8": ("a fault that isn't UTF-8", b"\x05\x00\x00" + NOT_UTF8),
    "reply.varint": ("a reply's id of eleven bytes", b"\x05" + LONG),
    "request.varint": ("a request's id of eleven bytes", b"\x04" + LONG),
    "request.bits": ("a request's id of 65 bits", b"\x04" + BIG + NAME + b"\x00\x00"),
    "request.timeout": ("a request's timeout of eleven bytes", b"\x04\x00" + NAME + b"\x00" + LONG),
    "request.utf8": ("a request's cluster that isn't UTF-8", b"\x04\x00" + NOT_UTF8 + b"\x00\x00"),
    "request.length": ("a request of 2^63 bytes", b"\x04\x00" + NAME + HUGE),
    "broadcast.varint": ("a broadcast's length of eleven bytes", b"\x03" + NAME + LONG),
    "broadcast.length": ("a broadcast of 2^63 bytes", b"\x03" + NAME + HUGE),
    "broadcast.name": ("a cluster's name of 2^63 bytes", b"\x03" + HUGE),
    "broadcast.utf8": ("a broadcast's cluster that isn't UTF-8", b"\x03" + NOT_UTF8 + b"\x00"),
    "subscribe.utf8": ("a topic that isn't UTF-8", b"\x06" + NOT_UTF8),
    "subscribe.length": ("a topic of 2^63 bytes", b"\x06" + HUGE),
    "unsubscribe.utf8": ("an unsubscribed topic that isn't UTF-8", b"\x07" + NOT_UTF8),
    "publish.utf8": ("an event's topic that isn't UTF-8", b"\x08" + NOT_UTF8 + b"\x00"),
    "publish.length": ("an event of 2^63 bytes", b"\x08" + NAME + HUGE),
    "tunnel-init.varint": ("a tunnel's id of eleven bytes", b"\x09" + LONG),
    "tunnel-init.utf8": ("a tunnel's cluster that isn't UTF-8", b"\x09\x00" + NOT_UTF8 + b"\x00"),
    "tunnel-confirm.varint": ("a build id of eleven bytes", b"\x0a" + LONG),
    "tunnel-allow.varint": ("a credit of eleven bytes", b"\x0b\x00" + LONG),
    "tunnel-transfer.varint": ("a message's size of eleven bytes", b"\x0c\x00" + LONG),
    "tunnel-transfer.length": ("a chunk of 2^63 bytes", b"\x0c\x00\x01" + HUGE),
    "tunnel-close.varint": ("a closed tunnel's id of eleven bytes", b"\x0d" + LONG),
}


for _id, (_description, _data) in MALFORMED.items():
    add_rejected(f"value.{_id}", _description, _data)


@tunnel_case("value.chunk", "a chunk beyond the chunk limit ends the connection")
def chunk(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    client.send(Op.TUNNEL_TRANSFER, id=0, size=CHUNK_LIMIT + 1, chunk=bytes(CHUNK_LIMIT + 1))
    client.expect_rejection()


@plain_case("value.long", "a varint may be longer than necessary, within ten bytes")
def long(harness: Harness, client: FakeClient) -> None:
    client.send_bytes(b"\x04\x85\x80\x80\x00" + b"\x81\x00n" + b"\x80\x00" + b"\x80\x00")
    client.expect(Op.REPLY, id=5, timed_out=True)


@pair_case("value.others", "a client that violates the protocol doesn't affect others")
def others(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    bad = harness.plain()
    bad.send_bytes(b"\x0e")
    bad.expect_rejection()
    harness.request(client)
    service.expect(Op.REQUEST)
