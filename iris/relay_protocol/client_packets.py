"""Writers of the packets that an application sends, and the checks of its arguments. Pure.

Counterpart of the writing half of iris-go's proto.go; tests/property/test_relay_writers.py compares
them with the schemas. Arguments are checked first, so that the node has nothing to object to.
"""

from functools import lru_cache
from typing import Final

from iris.relay_protocol.node_packets import tunnel_allow, tunnel_transfer
from iris.relay_protocol.schema import DEFAULT, MESSAGE_SIZE, NAME_SIZE, VERSION, Op
from iris.relay_protocol.varint import string, varint

__all__ = ["CLOSE", "tunnel_allow", "tunnel_transfer"]

Buffer = bytes | bytearray | memoryview
ImmutableBytes = bytes | memoryview  # can't change any more
Buffers = tuple[ImmutableBytes, ...]  # of one packet

_SHORT: Final = 4_096  # bytes


def payload(data: Buffer) -> ImmutableBytes:
    """Check a payload; copy it unless it is bytes, or a view of bytes, which cannot change.

    Raises: TypeError when it isn't bytes-like; ValueError when it is too long.
    """
    if type(data) is bytes:
        checked: ImmutableBytes = data
    else:
        view = memoryview(data)
        constant = isinstance(view.obj, bytes) and view.contiguous
        checked = view.cast("B") if constant else bytes(view)
    if len(checked) > MESSAGE_SIZE:
        raise ValueError(f"message of {len(checked)} bytes, limit {MESSAGE_SIZE}")
    return checked


@lru_cache(maxsize=1024)
def name(text: str) -> bytes:
    """Encode a cluster's or topic's name behind its length. Raises: ValueError, TypeError."""
    data = str.encode(text)
    if not 0 < len(data) <= NAME_SIZE:
        raise ValueError(f"name of {len(data)} bytes, 1 to {NAME_SIZE} allowed")
    return varint(len(data)) + data


@lru_cache(maxsize=1024)
def milliseconds(timeout: float) -> bytes:
    """Encode a timeout in seconds. Raises: ValueError below 1 ms and from 1e9 s on."""
    if not 0.001 <= timeout < 1e9:
        raise ValueError(f"timeout of {timeout} s out of range")
    return varint(round(timeout * 1_000))


def init(cluster: str) -> bytes:
    """Attach as a member of a cluster, or of none with ""."""
    if cluster:
        name(cluster)
    return DEFAULT.client(Op.INIT, version=VERSION, cluster=cluster)


CLOSE = DEFAULT.client(Op.CLOSE)


def _packet(
    op: bytes, number: bytes, more: bytes, data: ImmutableBytes, tail: bytes = b""
) -> Buffers:
    """Join the buffers of a short packet; keep long data uncopied."""
    size = len(data)
    if size <= _SHORT:
        return (b"".join((op, number, more, varint(size), data, tail)),)
    return b"".join((op, number, more, varint(size))), data, tail


def broadcast(cluster: str, data: ImmutableBytes) -> Buffers:
    """Send a message to all members of a cluster."""
    return _packet(b"\x03", b"", name(cluster), data)


def request(number: int, cluster: str, data: ImmutableBytes, timeout: bytes) -> Buffers:
    """Send a request; `timeout` comes from `milliseconds`."""
    return _packet(b"\x04", varint(number), name(cluster), data, timeout)


def reply(number: int, data: ImmutableBytes) -> Buffers:
    """Reply to a request."""
    return _packet(b"\x05", varint(number), b"\x01", data)


def fault(number: int, text: str) -> bytes:
    """Fail a request."""
    return b"\x05" + varint(number) + b"\x00" + string(text)


def subscribe(topic: str) -> bytes:
    """Subscribe to a topic."""
    return b"\x06" + name(topic)


def unsubscribe(topic: str) -> bytes:
    """Unsubscribe from a topic."""
    return b"\x07" + name(topic)


def publish(topic: str, data: ImmutableBytes) -> Buffers:
    """Send an event to all subscribers of a topic."""
    return _packet(b"\x08", b"", name(topic), data)


def tunnel_init(number: int, cluster: str, timeout: bytes) -> bytes:
    """Ask for a tunnel to a cluster; `timeout` comes from `milliseconds`."""
    return b"\x09" + varint(number) + name(cluster) + timeout


def tunnel_confirm(build_id: int, number: int) -> bytes:
    """Accept an offered tunnel under the application's own number."""
    return b"\x0a" + varint(build_id) + varint(number)


def tunnel_close(number: int) -> bytes:
    """Close a tunnel."""
    return b"\x0d" + varint(number)
