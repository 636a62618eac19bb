"""How a connection begins."""

# ruff: noqa: D103  # a case's description says what it checks

import socket

from iris.relay_protocol.schema import VERSION, Op
from iris.relaycheck.fake_client import RESPONSE_TIMEOUT, Failure, FakeClient, packet
from iris.relaycheck.harness import Harness
from iris.relaycheck.registry import add, add_rejected, case, pair_case


@case("open.plain", "a plain client is attached")
def plain(harness: Harness) -> None:
    harness.plain().sync()


@pair_case("open.service", "a service is attached, and a member from then on")
def service(harness: Harness, service: FakeClient, client: FakeClient) -> None:
    harness.request(client)
    service.expect(Op.REQUEST, request=b"?")


@case("open.ipv6", "the node listens on [::1] too")
def ipv6(harness: Harness) -> None:
    if harness.host == "127.0.0.1" and _has_ipv6():
        harness.connect("::1").init().sync()


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@case("open.silent", "the node sends nothing before the client's init")
def silent(harness: Harness) -> None:
    harness.connect().expect_silence()


@case("open.version", "another version is denied with the text that names both versions")
def version(harness: Harness) -> None:
    for wanted in ("v1.0-draft1", "v1.0-draft22", ""):
        client = harness.connect()
        client.send(Op.INIT, version=wanted, cluster=harness.name)
        client.expect(Op.DENY, reason=f"Unsupported protocol. Client: {wanted}. Iris: {VERSION}.")
        client.expect_end()


@case("open.denied", "a denied client isn't a member of the cluster")
def denied(harness: Harness) -> None:
    refused, client = harness.connect(), harness.plain()
    refused.send(Op.INIT, version="v0", cluster=harness.name)
    harness.request(client, timeout=100)
    client.expect(Op.REPLY, timed_out=True)


def _add_disconnected(id: str, description: str, *openings: bytes) -> None:
    def run(harness: Harness) -> None:
        for data in openings:
            client = harness.connect()
            client.send_bytes(data)
            client.expect_end()

    add(f"open.{id}", f"{description} ends the connection", run)


_MAGICS = b"\x11iris-client-magiC", b"\x10iris-relay-magic", b"\x00"
_inits = [b"\x00" + magic + b"\x0bv1.0-draft2\x00" for magic in _MAGICS]
_add_disconnected("magic", "a wrong magic", *_inits)
_add_disconnected("byte", "a wrong first byte", b"GET / HTTP/1.1\r\n\r\n", b"\x01", b"\xff")
_add_disconnected("first", "a packet before the init", packet(Op.PUBLISH, topic="t", event=b""))
_add_disconnected("length", "a magic of 2^63 bytes", b"\x00" + b"\x80" * 9 + b"\x01")
add_rejected("open.once", "a second init", packet(Op.INIT, version=VERSION, cluster=""))


@case("open.names", "a cluster's name may have colons and any character")
def names(harness: Harness) -> None:
    name = f"{harness.name}:a:b ü\u4e16 \x00\n"
    service, client = harness.service(name), harness.plain()
    client.send(Op.REQUEST, id=0, cluster=name, request=b"", timeout=5_000)
    service.expect(Op.REQUEST)


@case("open.slow", "a client that attaches slowly, or never, delays no other")
def slow(harness: Harness) -> None:
    for _ in range(3):
        harness.connect().send_bytes(b"\x00\x11iris-")
    with harness.within(0.0, 2.0):
        harness.plain()


@case("open.vanish", "a client that vanishes in the middle of its init does no harm")
def vanish(harness: Harness) -> None:
    client = harness.connect()
    client.send_bytes(b"\x00\x11iris-")
    client.disconnect()
    harness.plain().sync()


@case("open.many", "fifty clients attach at the same time")
def many(harness: Harness) -> None:
    clients = [harness.connect() for _ in range(50)]
    for client in clients:
        client.send(Op.INIT, version=VERSION, cluster="")
    with harness.within(0.0, RESPONSE_TIMEOUT):
        for client in clients:
            if client.expect(Op.INIT).version != VERSION:
                raise Failure("the node answers with another version")
