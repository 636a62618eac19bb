"""Packets of our topic trees have the fields that Go's have, for each op, and no others."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from iris.proto.wire.message import Message
from iris.proto.wire.node_id import resolve
from iris.proto.wire.trees import Header, Op
from tests.support.ring import Ring

GOLDEN = Path(__file__).parent
FIELDS = ("sender", "topic", "prev", "report")

Shape = tuple[int, frozenset[str]]


def scribe_headers(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if value.get("type") == "scribe.header":
            yield {name.lower(): content for name, content in value.items()}
        for content in value.values():
            yield from scribe_headers(content)
    elif isinstance(value, list):
        for content in value:
            yield from scribe_headers(content)


def go_shapes() -> set[Shape]:
    recorded = [
        json.loads(line) for line in (GOLDEN / "cluster_trace.jsonl").read_text().splitlines()
    ]
    recorded.append(json.loads((GOLDEN / "headers.json").read_text()))
    return {
        (header.get("op", 0), frozenset(name for name in FIELDS if header.get(name) is not None))
        for header in scribe_headers(recorded)
    }


def our_shapes() -> set[Shape]:
    key = resolve("t")
    ring = Ring([key + 1, key + 100, key + 200])
    one, two, three = ring.nodes.values()
    for node in (two, three):
        for sender in (one, two, three):
            sender.publish("t")
            sender.balance("t")
            sender.scribe.direct(one.node_id, Message(None))
        node.scribe.subscribe("t")
        ring.beat(2)
    two.publish("t")
    two.balance("t")
    two.scribe.unsubscribe("t")
    ring.beat()
    headers = [header for *_, header in ring.log if isinstance(header, Header)]
    return {
        (int(header.op), frozenset(name for name in FIELDS if getattr(header, name) is not None))
        for header in headers
    }


def test_headers_have_the_fields_that_a_go_node_fills() -> None:
    shapes = our_shapes()
    assert {op for op, _ in shapes} == set(Op)
    assert shapes == go_shapes()
