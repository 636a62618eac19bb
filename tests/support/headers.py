"""Headers as tests/golden writes them (JSON, zero fields left out, big integers in decimal), turned
into our types.
"""

from typing import Any

from iris.proto.wire import clusters as iris
from iris.proto.wire import ring as pastry
from iris.proto.wire import session as session
from iris.proto.wire import trees as scribe
from iris.proto.wire.link import Header


def _report(recorded: dict[str, Any]) -> scribe.Report:
    return scribe.Report([int(topic) for topic in recorded["tops"]], recorded["caps"])


_CLASSES: dict[str, type] = {
    "session.linkRequest": session.LinkRequest,
    "pastry.initPacket": pastry.InitPacket,
    "pastry.header": pastry.Header,
    "scribe.header": scribe.Header,
    "iris.header": iris.Header,
    "iris.authPacket": iris.AuthPacket,
    "iris.dataHeader": iris.DataHeader,
}
_RENAMED = {"req_time_ns": "req_time", "tun_time_ns": "tun_time"}
_BIG = {"dest", "sender", "topic", "prev", "id"}  # strings there


def meta(recorded: dict[str, Any]) -> Any:
    """What a header's Meta holds."""
    fields: dict[str, Any] = {}
    for name, value in recorded.items():
        if name == "type":
            continue
        if name == "meta":
            value = meta(value)
        elif name == "state":
            value = pastry.State(**value)
        elif name == "report":
            value = _report(value)
        elif name == "tun_key":
            value = bytes.fromhex(value)
        elif name in _BIG:
            value = int(value)
        fields[_RENAMED.get(name, name)] = value
    return _CLASSES[recorded["type"]](**fields)


def header(recorded: dict[str, Any]) -> Header:
    """A whole case."""
    return Header(
        meta(recorded["meta"]),
        bytes.fromhex(recorded.get("key", "")),
        bytes.fromhex(recorded.get("iv", "")),
    )
