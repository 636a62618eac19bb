"""The writers of either side's packets against the construct schemas."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from iris.relay_protocol import client_packets, node_packets
from iris.relay_protocol.schema import DEFAULT, VERSION, Op
from iris.relay_protocol.varint import varint
from tests.property.test_relay_parser import names, numbers, payloads


@given(st.data())
@settings(max_examples=300)
def test_what_the_node_writes_is_what_the_schema_writes(data: st.DataObject) -> None:
    number, other, payload, text = (
        data.draw(numbers),
        data.draw(numbers),
        data.draw(payloads),
        data.draw(names),
    )
    size = len(payload)
    pairs: dict[Any, tuple[Op, dict[str, Any]]] = {
        b"".join(node_packets.broadcast(payload)): (Op.BROADCAST, {"message": payload}),
        node_packets.request(number, size) + payload + varint(other): (
            Op.REQUEST,
            {"id": number, "request": payload, "timeout": other},
        ),
        node_packets.reply(number, size) + payload: (
            Op.REPLY,
            {"id": number, "timed_out": False, "success": True, "result": payload},
        ),
        node_packets.fault(number, text): (
            Op.REPLY,
            {"id": number, "timed_out": False, "success": False, "result": text},
        ),
        node_packets.timed_out(number): (Op.REPLY, {"id": number, "timed_out": True}),
        b"".join(node_packets.publish(text, payload)): (
            Op.PUBLISH,
            {"topic": text, "event": payload},
        ),
        b"".join(node_packets.publish(text + "x", payload)): (
            Op.PUBLISH,
            {"topic": text + "x", "event": payload},
        ),
        node_packets.tunnel_init(number, other): (
            Op.TUNNEL_INIT,
            {"build_id": number, "chunk_limit": other},
        ),
        node_packets.tunnel_built(number, other): (
            Op.TUNNEL_CONFIRM,
            {"id": number, "timed_out": False, "chunk_limit": other},
        ),
        node_packets.tunnel_timed_out(number): (
            Op.TUNNEL_CONFIRM,
            {"id": number, "timed_out": True},
        ),
        node_packets.tunnel_allow(number, other): (Op.TUNNEL_ALLOW, {"id": number, "space": other}),
        node_packets.tunnel_transfer(number, other, size) + payload: (
            Op.TUNNEL_TRANSFER,
            {"id": number, "size": other, "chunk": payload},
        ),
        node_packets.tunnel_close(number, text): (Op.TUNNEL_CLOSE, {"id": number, "reason": text}),
    }
    for written, (op, fields) in pairs.items():
        assert written == DEFAULT.node(op, **fields)


@given(st.data())
@settings(max_examples=300)
def test_what_an_application_writes_is_what_the_schema_writes(data: st.DataObject) -> None:
    number, other, payload = data.draw(numbers), data.draw(numbers), data.draw(payloads)
    text, name = data.draw(names), data.draw(st.text(min_size=1, max_size=60))
    pairs: dict[Any, tuple[Op, dict[str, Any]]] = {
        client_packets.broadcast(name, payload): (
            Op.BROADCAST,
            {"cluster": name, "message": payload},
        ),
        client_packets.request(number, name, payload, varint(other)): (
            Op.REQUEST,
            {"id": number, "cluster": name, "request": payload, "timeout": other},
        ),
        client_packets.reply(number, payload): (
            Op.REPLY,
            {"id": number, "success": True, "result": payload},
        ),
        client_packets.publish(name, payload): (Op.PUBLISH, {"topic": name, "event": payload}),
        (client_packets.fault(number, text),): (
            Op.REPLY,
            {"id": number, "success": False, "result": text},
        ),
        (client_packets.subscribe(name),): (Op.SUBSCRIBE, {"topic": name}),
        (client_packets.unsubscribe(name),): (Op.UNSUBSCRIBE, {"topic": name}),
        (client_packets.tunnel_init(number, name, varint(other)),): (
            Op.TUNNEL_INIT,
            {"id": number, "cluster": name, "timeout": other},
        ),
        (client_packets.tunnel_confirm(number, other),): (
            Op.TUNNEL_CONFIRM,
            {"build_id": number, "id": other},
        ),
        (client_packets.tunnel_allow(number, other),): (
            Op.TUNNEL_ALLOW,
            {"id": number, "space": other},
        ),
        (client_packets.tunnel_transfer(number, other, len(payload)), payload): (
            Op.TUNNEL_TRANSFER,
            {"id": number, "size": other, "chunk": payload},
        ),
        (client_packets.tunnel_close(number),): (Op.TUNNEL_CLOSE, {"id": number}),
        (client_packets.init(name),): (Op.INIT, {"version": VERSION, "cluster": name}),
        (client_packets.CLOSE,): (Op.CLOSE, {}),
    }
    for written, (op, fields) in pairs.items():
        assert b"".join(written) == DEFAULT.client(op, **fields)
