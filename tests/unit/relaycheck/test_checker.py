"""The checker, on traces of conversations that are right and ones that aren't."""

import json
from collections.abc import Sequence, Sized
from pathlib import Path
from typing import Any

import pytest

from iris.relay_protocol.schema import DEFAULT, VERSION, Op, Side
from iris.relaycheck.checker import ConformanceChecker
from iris.relaycheck.reader import GENEROUS
from iris.relaycheck.rules import RULES

TRANSCRIPT = Path(__file__).parents[2] / "golden" / "relay_transcript.json"
MIB = 1 << 20


def c(op: Op, **body: Any) -> tuple[Side, bytes]:
    return Side.CLIENT, GENEROUS.client(op, **body)


def n(op: Op, **body: Any) -> tuple[Side, bytes]:
    return Side.NODE, GENEROUS.node(op, **body)


Trace = Sequence[tuple[Side, bytes] | tuple[Side, None] | float]

PLAIN = [c(Op.INIT, version=VERSION, cluster=""), n(Op.INIT, version=VERSION)]
SERVICE = [c(Op.INIT, version=VERSION, cluster="c"), n(Op.INIT, version=VERSION)]
CLIENT_GONE, NODE_GONE = (Side.CLIENT, None), (Side.NODE, None)
BYE: Trace = [c(Op.CLOSE), n(Op.CLOSE, reason=""), NODE_GONE, CLIENT_GONE]
ASK = c(Op.REQUEST, id=7, cluster="x", request=b"?", timeout=1_000)
ANSWER = n(Op.REPLY, id=7, timed_out=False, success=True, result=b"!")
SUBSCRIBE, UNSUBSCRIBE, EVENT = (
    c(Op.SUBSCRIBE, topic="t"),
    c(Op.UNSUBSCRIBE, topic="t"),
    n(Op.PUBLISH, topic="t", event=b""),
)
CALL, REPLY = (
    n(Op.REQUEST, id=3, request=b"", timeout=5),
    c(Op.REPLY, id=3, success=False, result="no"),
)
WANT = c(Op.TUNNEL_INIT, id=0, cluster="x", timeout=1_000)
BUILT = n(Op.TUNNEL_CONFIRM, id=0, timed_out=False, chunk_limit=65_536)
REFUSED = n(Op.TUNNEL_CONFIRM, id=0, timed_out=True)
WINDOW, GRANT = n(Op.TUNNEL_ALLOW, id=0, space=4 * MIB), c(Op.TUNNEL_ALLOW, id=0, space=100)
TUNNEL: Trace = [*PLAIN, WANT, BUILT, WINDOW, GRANT]
OFFER, CONFIRM = (
    n(Op.TUNNEL_INIT, build_id=9, chunk_limit=65_536),
    c(Op.TUNNEL_CONFIRM, build_id=9, id=0),
)
LEAVE, LEFT = c(Op.TUNNEL_CLOSE, id=0), n(Op.TUNNEL_CLOSE, id=0, reason="")


def chunk(side: Any, size: int, length: int) -> tuple[Side, bytes]:
    packet: tuple[Side, bytes] = side(Op.TUNNEL_TRANSFER, id=0, size=size, chunk=bytes(length))
    return packet


def run(trace: Trace, step: int = 1 << 30) -> list[tuple[Side, str]]:
    checker, now, found = ConformanceChecker(), 0.0, []
    for each in trace:
        if isinstance(each, float):
            now += each
            continue
        side, data = each
        if data is None:
            found += checker.end(side, now)
            continue
        for at in range(0, len(data), step):
            found += checker.feed(side, data[at : at + step], now)
    return [(violation.side, violation.rule) for violation in found]


LEGAL: dict[str, Trace] = {
    "attach and leave": [*PLAIN, *BYE],
    "a client vanishes": [*PLAIN, CLIENT_GONE, NODE_GONE],
    "replies may have any order, and an id is used again": [
        *PLAIN,
        ASK,
        ASK,
        ANSWER,
        ANSWER,
        ASK,
        ANSWER,
        *BYE,
    ],
    "a request is answered after its client's close": [
        *PLAIN,
        ASK,
        c(Op.CLOSE),
        ANSWER,
        n(Op.CLOSE, reason=""),
        NODE_GONE,
    ],
    "a service answers": [*SERVICE, CALL, n(Op.BROADCAST, message=b""), REPLY, *BYE],
    "a reply follows a service's close": [
        *SERVICE,
        CALL,
        c(Op.CLOSE),
        REPLY,
        n(Op.CLOSE, reason=""),
        NODE_GONE,
    ],
    "an event of a topic just unsubscribed": [
        *PLAIN,
        SUBSCRIBE,
        EVENT,
        UNSUBSCRIBE,
        EVENT,
        SUBSCRIBE,
        *BYE,
    ],
    "the node closes with a reason": [
        *PLAIN,
        n(Op.CLOSE, reason="stopping"),
        NODE_GONE,
        ASK,
        CLIENT_GONE,
    ],
    "a tunnel": [
        *TUNNEL,
        chunk(c, 5, 5),
        n(Op.TUNNEL_ALLOW, id=0, space=5),
        chunk(n, 9, 4),
        chunk(n, 0, 5),
        LEAVE,
        LEFT,
        *BYE,
    ],
    "a tunnel that can't be had, and its id again": [
        *PLAIN,
        WANT,
        REFUSED,
        WANT,
        BUILT,
        WINDOW,
        *BYE,
    ],
    "an accepted tunnel": [
        *SERVICE,
        OFFER,
        CONFIRM,
        GRANT,
        WINDOW,
        chunk(c, 1, 1),
        LEFT,
        LEAVE,
        GRANT,
        *BYE,
    ],
    "an accepted tunnel that isn't built": [
        *SERVICE,
        OFFER,
        CONFIRM,
        GRANT,
        n(Op.TUNNEL_CLOSE, id=0, reason="gone"),
        *BYE,
    ],
    "the node finishes a message beyond the allowance": [
        *TUNNEL,
        chunk(n, 300, 100),
        chunk(n, 0, 200),
        *BYE,
    ],
    "a message is abandoned": [
        *TUNNEL,
        chunk(n, 300, 100),
        chunk(n, 10, 10),
        chunk(c, 100, 10),
        chunk(c, 5, 5),
        *BYE,
    ],
    "an empty chunk": [*TUNNEL, chunk(c, 0, 0), n(Op.TUNNEL_ALLOW, id=0, space=0), *BYE],
    "both close a tunnel at the same time": [*TUNNEL, LEFT, chunk(c, 5, 5), LEAVE, *BYE],
    "both close a connection at the same time": [
        *PLAIN,
        n(Op.CLOSE, reason="stop"),
        c(Op.CLOSE),
        c(Op.CLOSE),
        NODE_GONE,
    ],
}

ILLEGAL: dict[str, tuple[Trace, Side, str]] = {
    "opcode of the other side": ([*PLAIN, (Side.CLIENT, b"\x01")], Side.CLIENT, "value.opcode"),
    "opcode of nobody": ([*PLAIN, (Side.NODE, b"\x0e")], Side.NODE, "value.opcode"),
    "bool of a client": (
        [*SERVICE, CALL, (Side.CLIENT, b"\x05\x03\x02\x00")],
        Side.CLIENT,
        "value.bool",
    ),
    "bool of a node": ([*PLAIN, ASK, (Side.NODE, b"\x05\x07\x02")], Side.NODE, "value.bool"),
    "long varint": ([*PLAIN, (Side.CLIENT, b"\x0d" + b"\x80" * 10)], Side.CLIENT, "value.varint"),
    "big varint": (
        [*PLAIN, (Side.CLIENT, b"\x0d" + b"\xff" * 9 + b"\x02")],
        Side.CLIENT,
        "value.varint",
    ),
    "length": ([*PLAIN, (Side.NODE, b"\x02" + b"\xff" * 9 + b"\x01")], Side.NODE, "value.length"),
    "utf8": ([*PLAIN, (Side.CLIENT, b"\x06\x01\xff")], Side.CLIENT, "value.utf8"),
    "half a packet": (
        [*PLAIN, (Side.CLIENT, b"\x06\x05a"), CLIENT_GONE],
        Side.CLIENT,
        "value.whole",
    ),
    "half a packet of a node": (
        [*PLAIN, (Side.NODE, b"\x02\x05a"), NODE_GONE],
        Side.NODE,
        "value.whole",
    ),
    "request first": ([ASK], Side.CLIENT, "open.first"),
    "no opcode first": ([(Side.CLIENT, b"GET /")], Side.CLIENT, "open.first"),
    "node first": ([PLAIN[1]], Side.NODE, "open.first"),
    "node answers an init by something else": ([PLAIN[0], ANSWER], Side.NODE, "open.first"),
    "magic": ([(Side.CLIENT, b"\x00\x11iris-client-MAGIC")], Side.CLIENT, "open.magic"),
    "another length of magic": ([(Side.CLIENT, b"\x00\x05iris-")], Side.CLIENT, "open.magic"),
    "magic of a node": (
        [PLAIN[0], (Side.NODE, b"\x00\x10iris-relay-MAGIC")],
        Side.NODE,
        "open.magic",
    ),
    "init twice": ([*PLAIN, PLAIN[0]], Side.CLIENT, "open.once"),
    "node's init twice": ([*PLAIN, PLAIN[1]], Side.NODE, "open.once"),
    "no answer": ([PLAIN[0], NODE_GONE], Side.NODE, "open.answer"),
    "version": ([c(Op.INIT, version="v2", cluster="")], Side.CLIENT, "open.version"),
    "node's version": ([PLAIN[0], n(Op.INIT, version="v2")], Side.NODE, "open.version"),
    "no deny": ([c(Op.INIT, version="v2", cluster=""), NODE_GONE], Side.NODE, "open.deny"),
    "let in": (
        [c(Op.INIT, version="v2", cluster=""), n(Op.INIT, version=VERSION)],
        Side.NODE,
        "open.deny",
    ),
    "deny's text": (
        [c(Op.INIT, version="v2", cluster=""), n(Op.DENY, reason="no")],
        Side.NODE,
        "open.deny",
    ),
    "after a deny": (
        [PLAIN[0], n(Op.DENY, reason="full"), n(Op.CLOSE, reason="")],
        Side.NODE,
        "open.denied",
    ),
    "close twice": ([*PLAIN, c(Op.CLOSE), c(Op.CLOSE)], Side.CLIENT, "close.once"),
    "close's reason": ([*PLAIN, c(Op.CLOSE), n(Op.CLOSE, reason="why")], Side.NODE, "close.answer"),
    "close unanswered": ([*PLAIN, c(Op.CLOSE), NODE_GONE], Side.NODE, "close.answer"),
    "after a close": (
        [*PLAIN, ASK, c(Op.CLOSE), n(Op.CLOSE, reason=""), ANSWER],
        Side.NODE,
        "close.last",
    ),
    "no close": ([*PLAIN, NODE_GONE], Side.NODE, "close.word"),
    "node's request id": ([*SERVICE, CALL, CALL], Side.NODE, "request.number"),
    "reply to nothing": ([*SERVICE, REPLY], Side.CLIENT, "request.reply"),
    "reply twice": ([*SERVICE, CALL, REPLY, REPLY], Side.CLIENT, "request.twice"),
    "answer twice": ([*PLAIN, ASK, ANSWER, ANSWER], Side.NODE, "request.answer"),
    "answer to nothing": ([*PLAIN, ANSWER], Side.NODE, "request.answer"),
    "no answer to a request": ([*PLAIN, ASK, 3.0, CLIENT_GONE], Side.NODE, "request.owed"),
    "request for a plain client": ([*PLAIN, CALL], Side.NODE, "service.only"),
    "broadcast for a plain client": (
        [*PLAIN, n(Op.BROADCAST, message=b"")],
        Side.NODE,
        "service.only",
    ),
    "offer for a plain client": ([*PLAIN, OFFER], Side.NODE, "service.only"),
    "subscribe twice": ([*PLAIN, SUBSCRIBE, SUBSCRIBE], Side.CLIENT, "topic.twice"),
    "unsubscribe": ([*PLAIN, SUBSCRIBE, UNSUBSCRIBE, UNSUBSCRIBE], Side.CLIENT, "topic.unknown"),
    "event of another topic": ([*PLAIN, EVENT], Side.NODE, "topic.event"),
    "tunnel id": ([*PLAIN, WANT, WANT], Side.CLIENT, "tunnel.id"),
    "tunnel id of an accepted one": ([*SERVICE, WANT, OFFER, CONFIRM], Side.CLIENT, "tunnel.id"),
    "built twice": ([*TUNNEL, BUILT], Side.NODE, "tunnel.answer"),
    "built unasked": ([*PLAIN, REFUSED], Side.NODE, "tunnel.answer"),
    "never built": ([*PLAIN, WANT, 3.0, CLIENT_GONE], Side.NODE, "tunnel.owed"),
    "another limit": (
        [*PLAIN, WANT, n(Op.TUNNEL_CONFIRM, id=0, timed_out=False, chunk_limit=5)],
        Side.NODE,
        "tunnel.limit",
    ),
    "an offer's limit": (
        [*SERVICE, n(Op.TUNNEL_INIT, build_id=1, chunk_limit=0)],
        Side.NODE,
        "tunnel.limit",
    ),
    "build id twice": ([*SERVICE, OFFER, OFFER], Side.NODE, "offer.number"),
    "confirm of nothing": ([*SERVICE, CONFIRM], Side.CLIENT, "offer.known"),
    "confirm twice": (
        [*SERVICE, OFFER, CONFIRM, c(Op.TUNNEL_CONFIRM, build_id=9, id=1)],
        Side.CLIENT,
        "offer.known",
    ),
    "late confirm": ([*SERVICE, OFFER, 5.0, CONFIRM], Side.CLIENT, "offer.owed"),
    "no confirm": ([*SERVICE, OFFER, 5.0, CLIENT_GONE], Side.CLIENT, "offer.owed"),
    "unknown tunnel": ([*PLAIN, GRANT], Side.CLIENT, "tunnel.unknown"),
    "data too early": ([*PLAIN, WANT, chunk(c, 1, 1)], Side.CLIENT, "tunnel.unknown"),
    "unknown tunnel of a node": ([*PLAIN, WANT, WINDOW], Side.NODE, "tunnel.unknown"),
    "data after a close": ([*TUNNEL, LEAVE, chunk(c, 1, 1)], Side.CLIENT, "tunnel.closed"),
    "data after a node's close": ([*TUNNEL, LEFT, chunk(n, 1, 1)], Side.NODE, "tunnel.closed"),
    "close after a node's close": ([*TUNNEL, LEFT, LEFT], Side.NODE, "tunnel.closed"),
    "tunnel close unanswered": ([*TUNNEL, LEAVE, 9.0, CLIENT_GONE], Side.NODE, "tunnel.close"),
    "first allowance": (
        [*PLAIN, WANT, BUILT, n(Op.TUNNEL_ALLOW, id=0, space=5)],
        Side.NODE,
        "allow.first",
    ),
    "too much given back": (
        [*TUNNEL, chunk(c, 5, 5), n(Op.TUNNEL_ALLOW, id=0, space=6)],
        Side.NODE,
        "allow.excess",
    ),
    "chunk limit": ([*TUNNEL, chunk(c, 65_537, 65_537)], Side.CLIENT, "chunk.limit"),
    "allowance of a node": ([*TUNNEL, chunk(n, 101, 101)], Side.NODE, "chunk.allowance"),
    "no allowance at all": (
        [*PLAIN, WANT, BUILT, WINDOW, chunk(n, 1, 1)],
        Side.NODE,
        "chunk.allowance",
    ),
    "allowance of a client": (
        [*PLAIN, WANT, BUILT, chunk(c, 1, 1)],
        Side.CLIENT,
        "chunk.allowance",
    ),
    "continuation of nothing": ([*TUNNEL, chunk(c, 0, 1)], Side.CLIENT, "chunk.begin"),
    "continuation after the end": (
        [*TUNNEL, chunk(n, 2, 2), chunk(n, 0, 1)],
        Side.NODE,
        "chunk.begin",
    ),
    "more than its size": ([*TUNNEL, chunk(c, 5, 6)], Side.CLIENT, "chunk.size"),
    "empty chunk of a node": ([*TUNNEL, chunk(n, 0, 0)], Side.NODE, "chunk.empty"),
}


@pytest.mark.parametrize("name", LEGAL)
@pytest.mark.parametrize("step", [1, 1 << 30])
def test_what_is_right_is_never_objected_to(name: str, step: int) -> None:
    assert run(LEGAL[name], step) == []


@pytest.mark.parametrize("name", ILLEGAL)
def test_what_is_wrong_is_named_with_its_side_whatever_way_it_is_cut(name: str) -> None:
    trace, side, rule = ILLEGAL[name]
    found = run(trace)
    assert [
        each for each in found if each != (Side.CLIENT, "open.version") or rule == "open.version"
    ][:1] == [(side, rule)]
    if sum(len(each[1] or b"") for each in trace if not isinstance(each, float)) < 5_000:
        assert run(trace, 1) == found


def test_every_rule_is_broken_by_a_trace() -> None:
    assert {rule for _, _, rule in ILLEGAL.values()} == set(RULES)


def test_a_whole_allowance_can_be_used_and_no_byte_more() -> None:
    whole = [chunk(c, 4 * MIB, 65_536), *[chunk(c, 0, 65_536)] * 63]
    assert run([*TUNNEL, *whole]) == []
    assert run([*TUNNEL, *whole, chunk(c, 1, 1)]) == [(Side.CLIENT, "chunk.allowance")]


def test_a_long_conversation_is_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iris.relaycheck.checker._REMEMBERED", 10)
    checker, found = ConformanceChecker(), []
    for side, data in SERVICE:
        checker.feed(side, data)
    for number in range(100):
        for side, data in (
            c(Op.REQUEST, id=number, cluster="x", request=b"?", timeout=1_000),
            n(Op.REPLY, id=number, timed_out=True),
            n(Op.REQUEST, id=number, request=b"", timeout=5),
            c(Op.REPLY, id=number, success=True, result=b""),
        ):
            found += checker.feed(side, data)
    assert found == []
    assert max(len(value) for value in vars(checker).values() if isinstance(value, Sized)) < 50
    rules = [
        violation.rule
        for number in (95, 5)
        for violation in checker.feed(*c(Op.REPLY, id=number, success=True, result=b""))
    ]
    assert rules == ["request.twice", "request.reply"]


def test_a_violation_says_where_it_is() -> None:
    checker = ConformanceChecker(5)
    for side, data in PLAIN:
        checker.feed(side, data)
    (violation,) = checker.feed(
        Side.CLIENT, DEFAULT.client(Op.CLOSE) + DEFAULT.client(Op.UNSUBSCRIBE, topic="tt")
    )
    assert (violation.connection, violation.offset, violation.data) == (
        5,
        len(PLAIN[0][1]) + 1,
        b"\x07\x02tt",
    )
    assert "topic.unknown" in str(violation)


def test_nothing_is_said_about_answers_to_who_broke_the_rules() -> None:
    assert run([*PLAIN, UNSUBSCRIBE, n(Op.CLOSE, reason="no such subscription"), NODE_GONE]) == [
        (Side.CLIENT, "topic.unknown")
    ]


def test_a_recorded_conversation_of_a_go_node_is_right() -> None:
    checkers: dict[int, ConformanceChecker] = {}
    found = []
    for event in json.loads(TRANSCRIPT.read_text())["events"]:
        side = Side.CLIENT if event["dir"].startswith("client") else Side.NODE
        checker = checkers.setdefault(event["conn"], ConformanceChecker(event["conn"]))
        data, now = bytes.fromhex(event.get("bytes", "")), event["t_ms"] / 1_000
        found += checker.feed(side, data, now) if data else checker.end(side, now)
    assert found == []
    assert len(checkers) == 2
