"""How a connection begins."""

# ruff: noqa: D103  # a case's words say what it's about

import socket

from iris.relay_protocol.schema import VERSION, Op
from iris.relaycheck.harness import Bench, case
from iris.relaycheck.peer import PATIENCE, Failure


@case("node.open.plain", "a plain client is attached")
def plain(bench: Bench) -> None:
    bench.plain().sync()


@case("node.open.service", "a service is attached, and a member from then on")
def service(bench: Bench) -> None:
    service, client = bench.pair()
    bench.request(client)
    service.expect(Op.REQUEST, request=b"?")


@case("node.open.ipv6", "the node listens on [::1] too")
def ipv6(bench: Bench) -> None:
    if bench.host != "127.0.0.1" or not _has_ipv6():
        return
    bench.connect("::1").init().sync()


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@case("node.open.silent", "the node says nothing before the client's init")
def silent(bench: Bench) -> None:
    bench.connect().quiet()


@case("node.open.version", "another version is denied in words, and hung up on")
def version(bench: Bench) -> None:
    for wanted in ("v1.0-draft1", "v1.0-draft22", ""):
        peer = bench.connect()
        peer.say(Op.INIT, version=wanted, cluster=bench.name)
        peer.expect(Op.DENY, reason=f"Unsupported protocol. Client: {wanted}. Iris: {VERSION}.")
        peer.ended()


@case("node.open.denied", "who is denied is no member of the cluster")
def denied(bench: Bench) -> None:
    peer, client = bench.connect(), bench.plain()
    peer.say(Op.INIT, version="v0", cluster=bench.name)
    bench.request(client, timeout=100)
    client.expect(Op.REPLY, timed_out=True)


@case("node.open.magic", "a wrong magic ends the connection")
def magic(bench: Bench) -> None:
    for text in (b"iris-client-magiC", b"iris-relay-magic", b""):
        peer = bench.connect()
        peer.say_bytes(b"\x00" + bytes([len(text)]) + text + b"\x0bv1.0-draft2\x00")
        peer.ended()


@case("node.open.byte", "a wrong first byte ends the connection")
def byte(bench: Bench) -> None:
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x01", b"\xff"):
        peer = bench.connect()
        peer.say_bytes(data)
        peer.ended()


@case("node.open.first", "a packet before the init ends the connection")
def first(bench: Bench) -> None:
    peer = bench.connect()
    peer.say(Op.PUBLISH, topic="t", event=b"")
    peer.ended()


@case("node.open.once", "a second init ends the connection")
def once(bench: Bench) -> None:
    peer = bench.plain()
    peer.say(Op.INIT, version=VERSION, cluster="")
    peer.refused()


@case("node.open.length", "a magic of 2^63 bytes ends the connection, without waiting for them")
def length(bench: Bench) -> None:
    peer = bench.connect()
    peer.say_bytes(b"\x00" + b"\x80" * 9 + b"\x01")
    peer.ended()


@case("node.open.names", "a cluster's name may have colons and any character")
def names(bench: Bench) -> None:
    name = f"{bench.name}:a:b ü\u4e16 \x00\n"
    service, client = bench.service(name), bench.plain()
    client.say(Op.REQUEST, id=0, cluster=name, request=b"", timeout=5_000)
    service.expect(Op.REQUEST)


@case("node.open.slow", "who attaches slowly, or never, keeps nobody else waiting")
def slow(bench: Bench) -> None:
    for _ in range(3):
        bench.connect().say_bytes(b"\x00\x11iris-")
    with bench.within(0.0, 2.0):
        bench.plain()


@case("node.open.vanish", "who vanishes in the middle of its init does no harm")
def vanish(bench: Bench) -> None:
    peer = bench.connect()
    peer.say_bytes(b"\x00\x11iris-")
    peer.hang_up()
    bench.plain().sync()


@case("node.open.many", "fifty clients attach at the same time")
def many(bench: Bench) -> None:
    peers = [bench.connect() for _ in range(50)]
    for peer in peers:
        peer.say(Op.INIT, version=VERSION, cluster="")
    with bench.within(0.0, PATIENCE):
        for peer in peers:
            if peer.expect(Op.INIT).version != VERSION:
                raise Failure("another version")
