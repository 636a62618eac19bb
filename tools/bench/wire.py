"""The packets that drivers exchange with a node: prepared ones to send, a fast reader.

Whole batches at a time, so that little time is theirs. Core.

All messages of one figure have one payload, which makes most packets of a kind equally long;
regular expressions, `struct` and joins then handle a batch in C. What comes is checked to the last
byte all the same, and `Failure` raised for anything else. Written by hand rather than with the
schemas of iris/relay_protocol, which take too long for a driver; tests/unit/tools_bench compares
them.
"""

import re
import struct

from iris.relay_protocol.varint import varint

VERSION = "v1.0-draft2"
VARINT = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
_UNFINISHED = re.compile(rb"[\x80-\xff]{0,9}")  # a number without its end
# of a request, up to what must be there, or all that has come
_FRONT = re.compile(rb"\x04(?:%b|[\x80-\xff]{0,9}\Z)" % VARINT)
FIRST_ID, LAST_ID = 0x80, 0x3FFF  # of requests: those that take two bytes

Buffer = bytes | bytearray | memoryview


class Failure(Exception):
    """The node did what it must not, or stopped doing what it must; the figure is worth nothing."""


def binary(data: bytes) -> bytes:
    """Write bytes behind their length."""
    return varint(len(data)) + data


def init(cluster: str) -> bytes:
    """Attach; "" as a plain client."""
    return (
        b"\x00" + binary(b"iris-client-magic") + binary(VERSION.encode()) + binary(cluster.encode())
    )


WELCOME = b"\x00" + binary(b"iris-relay-magic") + binary(VERSION.encode())  # the node's answer
CLOSE, CLOSED = b"\x02", b"\x02\x00"  # leave; the node's answer


def request(number: int, cluster: str, payload: bytes, timeout: int) -> bytes:
    """Ask a cluster; timeout in milliseconds."""
    return b"\x04" + varint(number) + binary(cluster.encode()) + binary(payload) + varint(timeout)


class Echo:
    """Answers requests that carry `payload` with the same."""

    def __init__(self, payload: bytes) -> None:
        self._payload, size = payload, varint(len(payload))
        self._packet = re.compile(
            rb"\x04(%b)%b(.{%d})%b|(.+)" % (VARINT, re.escape(size), len(payload), VARINT),
            re.DOTALL,
        )
        self._body = size + payload
        self._glue = b"\x01" + size + payload + b"\x05"  # between the ids of two answers

    def take(self, data: Buffer) -> tuple[bytes, int]:
        """Answer all whole requests. Returns: (answers, how many bytes of `data` they took).

        Raises: Failure.
        """
        # each match begins where the one before ended, and the last takes what isn't whole
        found = self._packet.findall(data)
        rest = len(found[-1][2]) if found else 0
        if rest:
            self._check(found.pop()[2])
        if not found:
            return b"", 0
        ids, payloads, _ = zip(*found, strict=True)
        if payloads.count(self._payload) != len(payloads):
            raise Failure("a request came with another payload")
        return b"\x05" + self._glue.join(ids) + self._glue[:-1], len(data) - rest

    def _check(self, tail: bytes) -> None:
        """Check that this can be the front of a request, in case no more comes. Raises: Failure."""
        front = _FRONT.match(tail)
        body, size = tail[front.end() :] if front else b"", len(self._body)
        if not front or not (
            self._body.startswith(body[:size]) and _UNFINISHED.fullmatch(body[size:])
        ):
            raise Failure(
                f"the service got no request of {len(self._payload)} bytes: {tail[:16].hex(' ')}"
            )


class Asker:
    """Keeps a number of requests in flight: each answer lets the next follow, under the same id."""

    def __init__(self, cluster: str, payload: bytes, in_flight: int, timeout: int) -> None:
        ids = range(FIRST_ID, FIRST_ID + in_flight)
        if ids[-1] > LAST_ID:
            raise ValueError(f"{in_flight} requests in flight have no ids of two bytes")
        self._requests = {
            _key(number): request(number, cluster, payload, timeout) for number in ids
        }
        self._expected = b"\x00\x01" + binary(payload)
        self._reply = struct.Struct(f"<BH{len(self._expected)}s")
        self._sent = dict[int, int]()  # when each was, in ns
        self._keys = list(self._requests)
        self.latencies: list[int] = []  # ns

    @property
    def stride(self) -> int:
        """Bytes of an answer."""
        return self._reply.size

    @property
    def pending(self) -> int:
        """How many requests are without an answer."""
        return len(self._sent)

    def take(self, replies: Buffer, now: int) -> None:
        """Note whole answers, which came now. Raises: Failure."""
        sent, expected, keys, latencies = self._sent, self._expected, list[int](), self.latencies
        for op, key, result in self._reply.iter_unpack(replies):
            if op != 0x05 or result != expected or key not in sent:
                raise Failure(
                    "not an answer to a pending request: "
                    + bytes((op, *key.to_bytes(2, "little"), *result[:13])).hex(" ")
                )
            latencies.append(now - sent.pop(key))
            keys.append(key)
        self._keys = keys

    def check(self, part: Buffer) -> None:
        """Check that this can be the front of an answer, in case no more comes. Raises: Failure."""
        if part and (part[0] != 0x05 or not self._expected.startswith(bytes(part[3:]))):
            raise Failure(f"not an answer: {bytes(part[:16]).hex(' ')}")

    def ask(self, now: int) -> bytes:
        """The next requests, as many as were just answered; all of them at first."""
        self._sent.update(dict.fromkeys(self._keys, now))
        return b"".join(map(self._requests.__getitem__, self._keys))


def _key(number: int) -> int:
    """An id as the two bytes of its varint are read."""
    return int.from_bytes(varint(number), "little")


def payload(size: int) -> bytes:
    """What a figure's messages carry.

    The same in all processes, and with parts that look like packets.
    """
    pattern = b"\x04\x80\x01\x40\x05\x80\x01\x00\x01\x40\x0b\x00\x40" + bytes(range(256))
    return (pattern * (1 + size // len(pattern)))[:size]
