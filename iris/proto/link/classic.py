"""The classic codec: key schedule, encryption and authentication of one link, both directions.

Core; counterpart of the computing half of Go's proto/link/link.go and of the key derivation in
proto/session/session.go. A packet is three gob messages of a []byte each: the encrypted header, the
payload, encrypted under a key that is in the header, and the MAC. `packet_schema` declares it;
`PacketSplitter` is the same for the hot path, and tests/property/test_link_packet.py holds them
together.
"""

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import construct
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import MD5
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from iris.config import KIB, MIB, Limits
from iris.errors import AuthenticationError, ProtocolError
from iris.gobber.framing import BYTES_ID, BYTES_MESSAGE, GobUint, bytes_prefix, peek_bytes
from iris.proto.link.base import LinkCodec
from iris.proto.link.header_templates import HeaderDecoder, HeaderEncoder
from iris.proto.wire.message import Message, Payload
from iris.runtime.send_buffer import Buffer

# Go config.HkdfSalt, config.HkdfInfo
_SALT, _INFO = b"iris.proto.session.hkdf.salt", b"iris.proto.session.hkdf.info"
_LINKS = 2  # of a session: control, data

HEADER_LIMIT = 4 * MIB  # bytes, from an authenticated peer; the largest are reports of many topics
_PAYLOAD_SLACK = 64 * KIB  # bytes that a payload may have beyond what an application sends

_BYTES_ID_FF: Final = BYTES_ID + b"\xff"
_OVERHEAD: Final = len(BYTES_ID) + 9  # bytes of a []byte's gob message beside its content, at most
_MAC_SIZE: Final = 16
_MAC_PREFIX: Final = bytes_prefix(_MAC_SIZE)
_JOIN_SIZE: Final = 16 * KIB  # bytes; a smaller payload is copied together with header and MAC
# bytes; smaller reads are joined, as an object has some 50 bytes beside its content
_MIN_CHUNK: Final = 1 * KIB

HALF_KEYS = construct.Struct(
    "key" / construct.Bytes(16), "iv" / construct.Bytes(16), "mac_key" / construct.Bytes(16)
)
_HALVES = construct.Struct("server" / HALF_KEYS, "client" / HALF_KEYS)  # by sender


@dataclass(frozen=True, repr=False)
class LinkKeys:
    """Key material of one link, seen from one end: two parsed `HALF_KEYS`."""

    incoming: construct.Container
    outgoing: construct.Container


def derive_links(secret: bytes, *, server: bool) -> Iterator[LinkKeys]:
    """Derive the keys of a session's control link, then of its data link.

    A tunnel's link has the first ones. Source: tests/golden/session.json.
    """
    size = _HALVES.sizeof()
    material = HKDF(algorithm=MD5(), length=_LINKS * size, salt=_SALT, info=_INFO).derive(secret)
    for at in range(0, len(material), size):
        halves = _HALVES.parse(material[at : at + size])
        incoming, outgoing = halves.client, halves.server
        yield LinkKeys(incoming, outgoing) if server else LinkKeys(outgoing, incoming)


def packet_schema(bounds: "Bounds") -> construct.Construct:
    """Declare a packet: what `PacketSplitter` finds and `ClassicCodec.seal` writes."""

    def bounded(limit: int) -> construct.Construct:
        size = construct.ExprValidator(GobUint, lambda size, context: size <= limit + _OVERHEAD)
        return construct.ExprValidator(
            construct.Prefixed(size, BYTES_MESSAGE.subcon), lambda data, context: len(data) <= limit
        )

    return construct.Struct(
        "header" / bounded(bounds.header),
        "payload" / bounded(bounds.payload),
        construct.Const(_MAC_PREFIX),
        "mac" / construct.Bytes(_MAC_SIZE),
    )


@dataclass(slots=True)
class Bounds:
    """Bytes that a packet may announce."""

    header: int
    payload: int


class PacketSplitter:
    """Cut a stream into packets; what is incomplete waits for the next `feed`."""

    __slots__ = ("_at", "_bounds", "_chunks", "_data", "_have", "_need")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._data, self._at = b"", 0
        self._chunks: list[bytes] = []  # received after `_data`
        # bytes that are here, and bytes without which parsing again is pointless
        self._have, self._need = 0, 1

    def feed(self, data: bytes) -> None:
        """Append received bytes."""
        if not self._have:
            self._data, self._at = data, 0
        elif self._chunks and len(self._chunks[-1]) + len(data) <= _MIN_CHUNK:
            self._chunks[-1] += data
        else:
            self._chunks.append(data)
        self._have += len(data)

    def next(self) -> tuple[bytes, bytes, bytes] | None:
        """Take the next packet's header, payload and MAC; None when it isn't complete.

        Raises: ProtocolError as soon as it shows, also for a length beyond the bounds.
        """
        if self._have < self._need:
            return None
        # copied once per packet, whatever its size: all of it is here by now
        if self._chunks:
            self._data, self._at = b"".join((memoryview(self._data)[self._at :], *self._chunks)), 0
            self._chunks.clear()
        data, at = self._data, self._at
        header, header_end = self._find(data, at, self._bounds.header)
        if not header:
            return None
        payload, payload_end = self._find(data, header_end, self._bounds.payload)
        if not payload:
            return None
        mac = payload_end + len(_MAC_PREFIX)
        end = mac + _MAC_SIZE
        if (
            not data.startswith(_MAC_PREFIX, payload_end)
            and data[payload_end:mac] != _MAC_PREFIX[: len(data) - payload_end]
        ):
            raise ProtocolError("packet without a MAC")
        if end > len(data):
            self._need = end - at
            return None
        self._at = end
        self._have -= end - at
        self._need = 1
        return data[header:header_end], data[payload:payload_end], data[mac:end]

    def _find(self, data: bytes, at: int, limit: int) -> tuple[int, int]:
        """Where the []byte at `at` starts and ends; (0, 0) until a byte behind it is here.

        Then `_need` is set to how much is needed to try again.
        """
        try:
            size = data[at]
            # the first three branches are what the last one finds for sizes of one byte, around
            # 0x80, and of two
            if (
                size < 0x80
                and data.startswith(BYTES_ID, at + 1)
                and data[at + 3] == size - 3 <= limit
            ):
                start, end = at + 4, at + 1 + size
            elif (
                size == 0xFF
                and data.startswith(BYTES_ID, at + 2)
                and 0x80 <= data[at + 1] == data[at + 4] + 3 < min(limit + 4, 0x83)
            ):
                start, end = at + 5, at + 2 + data[at + 1]
            elif (
                size == 0xFF
                and data.startswith(_BYTES_ID_FF, at + 2)
                and 0x80 <= data[at + 5] == data[at + 1] - 4 <= limit
            ):
                start, end = at + 6, at + 2 + data[at + 1]
            else:
                start, end = peek_bytes(data, at, max_size=limit) or (0, 0)
        except IndexError:
            start = end = 0
        if end < len(data) and start:
            return start, end
        self._need = end + 1 - self._at if start else self._have + 1
        return 0, 0


def _cipher(half: construct.Container) -> CipherContext:
    return Cipher(AES(half.key), CTR(half.iv)).encryptor()


class ClassicCodec(LinkCodec):
    """Key streams, MACs and gob streams, which run on from packet to packet."""

    def __init__(self, keys: LinkKeys, limits: Limits) -> None:
        """Begin both directions."""
        incoming, outgoing = keys.incoming, keys.outgoing
        self._encode = HeaderEncoder().encode
        self._encrypt = _cipher(outgoing).update
        self._out_mac = hmac.new(outgoing.mac_key, digestmod="md5")
        self._bounds = Bounds(limits.unauthenticated_size, limits.unauthenticated_size)
        self._message_size = limits.message_size
        self._splitter = PacketSplitter(self._bounds)
        self._decode = HeaderDecoder(max_size=HEADER_LIMIT, max_types=limits.gob_types).decode
        self._decrypt = _cipher(incoming).update
        self._in_mac = hmac.new(incoming.mac_key, digestmod="md5")

    def raise_bounds(self) -> None:
        """See `LinkCodec.raise_bounds`."""
        self._bounds.header = HEADER_LIMIT
        self._bounds.payload = self._message_size + _PAYLOAD_SLACK

    def prepare(self, payload: Payload) -> None:
        """Encrypt the payload, unless it is encrypted already."""
        payload.seal()

    def seal(self, message: Message) -> tuple[Buffer, ...]:
        """See `LinkCodec.seal`."""
        payload = message.payload
        if payload is None:
            data = key = iv = b""
        else:
            data, key, iv = payload.seal()
        header = self._encrypt(self._encode(message.meta, key, iv))
        front, middle = _bytes_prefix(len(header)), _bytes_prefix(len(data))
        mac = self._out_mac
        if len(data) < _JOIN_SIZE:
            mac.update(header + data)
            return (b"".join((front, header, middle, data, _MAC_PREFIX, mac.digest())),)
        mac.update(header)
        mac.update(data)
        return b"".join((front, header, middle)), data, _MAC_PREFIX + mac.digest()

    def feed(self, data: bytes) -> None:
        """See `LinkCodec.feed`."""
        self._splitter.feed(data)

    def open(self) -> Message | None:
        """See `LinkCodec.open`; AuthenticationError for a wrong MAC."""
        packet = self._splitter.next()
        if packet is None:
            return None
        header, data, received_mac = packet
        mac = self._in_mac
        if len(data) < _JOIN_SIZE:
            mac.update(header + data)
        else:
            mac.update(header)
            mac.update(data)
        if not hmac.compare_digest(mac.digest(), received_mac):
            raise AuthenticationError("wrong MAC")
        meta, key, iv = self._decode(self._decrypt(header))
        if key or iv:
            return Message(meta, Payload.sealed(data, key, iv))
        if data:
            raise ProtocolError("payload without a key")
        return Message(meta)


_PREFIXES: Final = tuple(bytes_prefix(size) for size in range(1024))


def _bytes_prefix(size: int) -> bytes:
    return _PREFIXES[size] if size < len(_PREFIXES) else bytes_prefix(size)
