"""All messages of three Go nodes, from joining to leaving, survive our types unchanged."""

import base64
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from iris.gobber import Decoder, Encoder
from iris.gobber.types import BIG_INT, BYTES, GobType, PointerTo, registered_struct, struct_info
from iris.proto.wire import clusters as _clusters  # noqa: F401  # registers its types, as do the others
from iris.proto.wire import ring as _ring  # noqa: F401
from iris.proto.wire import session as _session  # noqa: F401
from iris.proto.wire import trees as _trees  # noqa: F401
from iris.proto.wire.link import (
    ClosePacket,  # noqa: F401
    Header,
)

TRACE = Path(__file__).with_name("cluster_trace.jsonl")


def build(struct: type, fields: dict[str, Any]) -> object:
    """Make the recorded struct; a name that our type lacks is an error."""
    known = {field.name: field for field in struct_info(struct).fields}
    values = {
        known[name].attribute: convert(known[name].type, value)
        for name, value in fields.items()
        if name != "type"
    }
    return struct(**values)


def convert(kind: GobType, value: Any) -> Any:
    if isinstance(value, dict) and "type" in value:
        struct = registered_struct("*" + value["type"])
        assert struct is not None, value["type"]
        return build(struct, value)
    if isinstance(kind, PointerTo) and value is not None:
        return build(kind.struct, value)
    if kind is BYTES:
        return base64.b64decode(value)
    return int(value) if kind is BIG_INT and value is not None else value


def test_every_message_of_the_trace_survives_our_codec() -> None:
    encoders: defaultdict[str, Encoder] = defaultdict(Encoder)
    decoders: defaultdict[str, Decoder] = defaultdict(lambda: Decoder(max_size=1 << 20))
    seen = 0
    for line in TRACE.read_text().splitlines():
        recorded = json.loads(line)
        direction = (
            f"{recorded['node']} {recorded['local']} {recorded['remote']} {recorded['what']}"
        )
        header = Header(convert(BYTES, recorded["meta"]))
        assert decoders[direction].decode(encoders[direction].encode(header), Header) == header
        seen += 1
    assert seen == 448
