"""Bindings that are wrong in one way each: python tests/support/broken_binding.py PORT MISTAKE.

"nothing" is wrong about the first one.

`MISTAKES` has for each the scenario in which it shows, and the id that has to be named: a rule's
that is finding, or the scenario's.
"""

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from iris.relay_protocol.schema import VERSION, Op
from iris.relaycheck.reader import GENEROUS
from tests.support.client import Raw

CHUNK = 65_536
packet = GENEROUS.client
Mistake = Callable[[int], None]
MISTAKES: dict[str, tuple[Mistake, str, str]] = {}


def mistake(
    name: str, named: str, scenario: str = "binding.plain$"
) -> Callable[[Mistake], Mistake]:
    def add(function: Mistake) -> Mistake:
        MISTAKES[name] = function, scenario, named
        return function

    return add


def leave(raw: Raw) -> None:
    raw.send(Op.CLOSE)
    end(raw)


def end(raw: Raw) -> None:
    """Do nothing more until the node has hung up."""
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            raw.recv()
    raw.close()


def says(name: str, data: bytes, named: str, cluster: str = "") -> None:
    """A mistake that is made right after attaching."""

    def run(port: int) -> None:
        raw = Raw(port).init(cluster)
        raw.send_bytes(data)
        end(raw)

    MISTAKES[name] = run, "binding.plain$", named


def greets(name: str, data: bytes, named: str) -> None:
    """A mistake that is made instead of attaching."""

    def run(port: int) -> None:
        raw = Raw(port)
        raw.send_bytes(data)
        end(raw)

    MISTAKES[name] = run, "binding.plain$", named


def tunnel(port: int) -> Raw:
    raw = Raw(port).init()
    raw.send(Op.TUNNEL_INIT, id=0, cluster="echo", timeout=1_000)
    raw.expect(Op.TUNNEL_CONFIRM)
    raw.send(Op.TUNNEL_ALLOW, id=0, space=CHUNK)
    return raw


def sends(name: str, data: bytes, named: str) -> None:
    """A mistake that is made with a tunnel."""

    def run(port: int) -> None:
        raw = tunnel(port)
        raw.expect(Op.TUNNEL_ALLOW)
        raw.send_bytes(data)
        leave(raw)

    MISTAKES[name] = run, "binding.plain$", named


@mistake("nothing", "")
def nothing(port: int) -> None:
    raw = tunnel(port)
    raw.expect(Op.TUNNEL_ALLOW)
    raw.send(Op.TUNNEL_TRANSFER, id=0, size=1, chunk=b"x")
    raw.send(Op.TUNNEL_CLOSE, id=0)
    leave(raw)


INIT = packet(Op.INIT, version=VERSION, cluster="")
SUBSCRIBE, UNSUBSCRIBE, CLOSE = (
    packet(Op.SUBSCRIBE, topic="t"),
    packet(Op.UNSUBSCRIBE, topic="t"),
    packet(Op.CLOSE),
)
WANT, LEAVE = (
    packet(Op.TUNNEL_INIT, id=0, cluster="echo", timeout=1_000),
    packet(Op.TUNNEL_CLOSE, id=0),
)


def chunk(size: int, length: int) -> bytes:
    return packet(Op.TUNNEL_TRANSFER, id=0, size=size, chunk=bytes(length))


greets("magic", INIT.replace(b"client", b"CLIENT"), "open.magic")
greets("another version", packet(Op.INIT, version="v1.0", cluster=""), "open.version")
greets("no init", SUBSCRIBE, "open.first")
says("a second init", INIT, "open.once")
says("opcode", b"\x0e", "value.opcode")
says("deny", b"\x01", "value.opcode")
says("bool", b"\x05\x00\x02\x00", "value.bool")
says("varint", b"\x0d" + b"\x80" * 10, "value.varint")
says("length", b"\x06" + b"\xff" * 9 + b"\x01", "value.length")
says("text", b"\x06\x01\xff", "value.utf8")
says(
    "a reply to nothing",
    packet(Op.REPLY, id=77, success=True, result=b"") + CLOSE,
    "request.reply",
    "c",
)
says("subscribing twice", SUBSCRIBE * 2, "topic.twice")
says("unsubscribing", UNSUBSCRIBE, "topic.unknown")
says("an id twice", WANT + WANT, "tunnel.id")
says("data too early", WANT + chunk(1, 1) + CLOSE, "tunnel.unknown")
says(
    "a confirm of nothing", packet(Op.TUNNEL_CONFIRM, build_id=9, id=0) + CLOSE, "offer.known", "c"
)
sends("data after a close", LEAVE + chunk(1, 1), "tunnel.closed")
sends("a long chunk", chunk(CHUNK + 1, CHUNK + 1), "chunk.limit")
sends("a continuation of nothing", chunk(0, 1), "chunk.begin")
sends("a chunk beyond its message", chunk(3, 4), "chunk.size")


@mistake("half a packet", "value.whole")
def half_a_packet(port: int) -> None:
    raw = Raw(port).init()
    raw.send_bytes(SUBSCRIBE[:-1])
    raw.close()


@mistake("closing twice", "close.once", "binding.requests$")
def closing_twice(port: int) -> None:
    raw = Raw(port).init("c")
    raw.expect(Op.BROADCAST)
    raw.send_bytes(CLOSE * 2)
    end(raw)


@mistake("replying twice", "request.twice", "binding.requests$")
def replying_twice(port: int) -> None:
    raw = Raw(port).init("c")
    raw.expect(Op.BROADCAST)
    raw.send_bytes(packet(Op.REPLY, id=raw.expect(Op.REQUEST).id, success=True, result=b"") * 2)
    leave(raw)


@mistake("no replies", "binding.requests", "binding.requests$")
def no_replies(port: int) -> None:
    end(Raw(port).init("c"))


@mistake("ignoring the allowance", "chunk.allowance", "binding.ungranted$")
def ignoring_the_allowance(port: int) -> None:
    raw = tunnel(port)
    raw.send_bytes(chunk(1, 1))
    leave(raw)


@mistake("confirming nothing", "offer.owed", "binding.offers$")
def confirming_nothing(port: int) -> None:
    end(Raw(port).init("c"))


def stays(port: int) -> None:
    raw = Raw(port)
    raw.send_bytes(INIT)
    with contextlib.suppress(Exception):
        raw.recv()
    end(raw)


MISTAKES["staying after a deny"] = stays, "binding.deny$", "binding.deny"
MISTAKES["any version"] = stays, "binding.version$", "binding.version"


@mistake("hanging", "binding.drop", "binding.drop$")
def hanging(port: int) -> None:
    raw = Raw(port).init()
    raw.send_bytes(SUBSCRIBE)
    time.sleep(60.0)


@mistake("failing", "binding.joined", "binding.joined$")
def failing(port: int) -> None:
    leave(Raw(port).init())
    sys.exit(1)


if __name__ == "__main__":
    MISTAKES[sys.argv[2]][0](int(sys.argv[1]))
