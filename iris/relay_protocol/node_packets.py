"""Writers of the packets that the node sends. Pure.

Counterpart of the writing half of Go's service/relay/proto.go; tests/property/test_relay_writers.py
compares them with the schemas. Not here: init, deny and close, which the schemas write.
"""

from functools import lru_cache
from typing import Final

from iris.relay_protocol.varint import string, varint

_SHORT: Final = 128  # characters; longer names aren't cached: applications choose them
_LONG: Final = 16_384  # bytes; a payload beyond it is sent uncopied

# Broadcasts and events are tuples of buffers to write, a single one when they are short.


def broadcast(data: bytes) -> tuple[bytes, ...]:
    """Encode a broadcast to the cluster."""
    return _for_many(b"\x03", data)


def publish(topic: str, data: bytes) -> tuple[bytes, ...]:
    """Encode an event of a topic."""
    return _for_many(_topic(topic) if len(topic) <= _SHORT else b"\x08" + string(topic), data)


def _for_many(head: bytes, data: bytes) -> tuple[bytes, ...]:
    head += varint(len(data))
    return (head, data) if len(data) > _LONG else (head + data,)


@lru_cache(maxsize=16_384)
def _topic(name: str) -> bytes:
    return b"\x08" + string(name)


# These end in the length of a payload, which the caller writes next, uncopied.


def request(number: int, size: int) -> bytes:
    """Begin a request; its `size` bytes follow, then the timeout in milliseconds as a varint."""
    return b"\x04" + varint(number) + varint(size)


def reply(number: int, size: int) -> bytes:
    """Begin a reply; its `size` bytes follow."""
    return b"\x05" + varint(number) + b"\x00\x01" + varint(size)


def tunnel_transfer(number: int, size: int, chunk_size: int) -> bytes:
    """Begin a chunk; `size` is that of its message, in later chunks 0."""
    return b"\x0c" + varint(number) + varint(size) + varint(chunk_size)


# These are complete packets.


def fault(number: int, text: str) -> bytes:
    """Report that a request failed."""
    return b"\x05" + varint(number) + b"\x00\x00" + string(text)


def timed_out(number: int) -> bytes:
    """Report that a request timed out."""
    return b"\x05" + varint(number) + b"\x01"


def tunnel_init(build_id: int, chunk_limit: int) -> bytes:
    """Offer a tunnel to a service."""
    return b"\x09" + varint(build_id) + varint(chunk_limit)


def tunnel_built(number: int, chunk_limit: int) -> bytes:
    """Confirm a tunnel that the client asked for."""
    return b"\x0a" + varint(number) + b"\x00" + varint(chunk_limit)


def tunnel_timed_out(number: int) -> bytes:
    """Report that a tunnel wasn't built in time."""
    return b"\x0a" + varint(number) + b"\x01"


def tunnel_allow(number: int, space: int) -> bytes:
    """Grant credit for `space` more bytes."""
    return b"\x0b" + varint(number) + varint(space)


def tunnel_close(number: int, reason: str) -> bytes:
    """Report the end of a tunnel; reason "" is graceful."""
    return b"\x0d" + varint(number) + string(reason)
