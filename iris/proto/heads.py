"""Heads of link packets, written and read: the gob stream, and beside it a template for what clusters say to each other.

Core. Nearly every head holds the same three headers inside each other (ring, topic tree, cluster), so most of its bytes are the same in
each: names, type ids, lengths. `HeadEncoder` and `HeadDecoder` know that shape. Whatever differs from it in anything, also what is
malformed, is left to the gob codec, which alone decides what is right; tests/property/test_heads.py holds the two together.
Not for several threads at a time.
"""

from functools import lru_cache
from typing import Final

from iris.gobber import Decoder, Encoder
from iris.gobber.encoder import registered_name
from iris.gobber.framing import LEAST, encode_int, encode_uint, read_int, read_uint
from iris.gobber.types import struct_info
from iris.gobber.writers import encode_big, known_big
from iris.proto.iris.wire import Header as ClusterHeader
from iris.proto.pastry.wire import Header as RingHeader
from iris.proto.scribe.wire import Header as TreeHeader
from iris.proto.wire import Header

_UINTS: Final = tuple(encode_uint(value) for value in range(0x80))
_META: Final = b"\x01"  # the metadata is the first field of a header
_END: Final = b"\x00"
_time: Final = lru_cache(maxsize=256)(encode_int)  # nearly all requests have one of few timeouts
_BIG: Final = 1 << 64  # below it, an id's encoding is remembered
_SHORT: Final = 16  # bytes of a key or an iv
_KEY: Final = b"\x01\x10"  # the next field, and that length

_CHAIN: Final = (RingHeader, TreeHeader, ClusterHeader)


class HeadEncoder:
    """Writes the heads of one direction of a link."""

    def __init__(self, encoder: Encoder | None = None) -> None:
        self._encoder = encoder or Encoder()
        self._fronts: tuple[bytes, bytes, bytes] | None = None  # what stands before the length of each header

    def encode(self, meta: object, key: bytes, iv: bytes) -> bytes:
        """Write a head, and whatever definitions this stream hasn't seen. Raises: StateError for what isn't as declared."""
        fronts = self._fronts
        routed = meta.__class__ is RingHeader and meta.meta.__class__ is TreeHeader and meta.meta.meta.__class__ is ClusterHeader
        if fronts is not None and routed:
            data = _write(meta, key, iv, fronts)  # type: ignore[arg-type]
            if data is not None:
                return data
        head = Header(meta, key, iv)
        data = self._encoder.encode(head)
        if routed and fronts is None:
            self._learn(self._encoder.encode(head))  # the same again, now that all types are known
        return data

    def _learn(self, data: bytes) -> None:
        ring, tree, cluster = (self._encoder.known[cls][0] for cls in _CHAIN)
        start = read_uint(data, 0)[1]
        self._fronts = data[start : data.index(ring) + len(ring)], _META + tree, _META + cluster


def _write(ring: RingHeader, key: bytes, iv: bytes, fronts: tuple[bytes, bytes, bytes]) -> bytes | None:
    """The head, or None when it is none of the usual ones."""
    tree: TreeHeader = ring.meta  # type: ignore[assignment]
    cluster: ClusterHeader = tree.meta  # type: ignore[assignment]
    dest, sender = ring.dest, tree.sender
    if ring.op or ring.state is not None or dest is None or sender is None or tree.report is not None or not tree.op:
        return None
    if cluster.tun_id or cluster.tun_key or cluster.tun_addrs or cluster.tun_time or len(key) != _SHORT or len(iv) != _SHORT:
        return None
    inner = _write_cluster(cluster)
    before = fronts[2] + _uint(len(inner)) + inner + b"\x01" + _uint(tree.op) + b"\x01" + _big(sender)
    if tree.topic is not None:
        before += b"\x01" + _big(tree.topic)
    if tree.prev is not None:
        before += (b"\x02" if tree.topic is None else b"\x01") + _big(tree.prev)
    inner = before + _END
    inner = b"".join([fronts[1], _uint(len(inner)), inner, b"\x02", _big(dest), _END])
    inner = b"".join([fronts[0], _uint(len(inner)), inner, _KEY, key, _KEY, iv, _END])
    return _uint(len(inner)) + inner


def _write_cluster(header: ClusterHeader) -> bytes:
    op, src, dest, req_id, req_time = header.op, header.src, header.dest, header.req_id, header.req_time
    out = b""
    last = 0
    if op:
        out = b"\x01" + _uint(op)
        last = 1
    if src:
        out += _UINTS[2 - last] + _uint(src)
        last = 2
    if dest:
        out += _UINTS[3 - last] + _uint(dest)
        last = 3
    if req_id:
        out += _UINTS[4 - last] + _uint(req_id)
        last = 4
    if header.req_fail:
        out += _UINTS[5 - last] + b"\x01"
        last = 5
    if req_time:
        out += _UINTS[6 - last] + _time(req_time)
    return out + _END


def _uint(value: int) -> bytes:
    return _UINTS[value] if 0 <= value < 0x80 else encode_uint(value)


def _big(value: int) -> bytes:
    data: bytes = known_big(value) if -_BIG < value < _BIG else encode_big(value)
    return data


class HeadDecoder:
    """Reads the heads of one direction of a link."""

    def __init__(self, *, max_size: int, max_types: int) -> None:
        """Arguments: bytes of one head with its definitions; definitions in the whole stream."""
        self._decoder = Decoder(max_size=max_size, max_types=max_types)
        self._fronts: tuple[bytes, bytes, bytes] | None = None  # what stands before the length of each header, as this sender numbers types
        self._regular = True  # as far as is known, this sender declares the headers as everybody does

    def decode(self, data: bytes) -> tuple[object, bytes, bytes]:
        """Read a head: metadata, key and iv of the payload. Raises: GobError for anything malformed, and then nothing more may be read."""
        fronts = self._fronts
        if fronts is not None:
            try:
                return _read(data, fronts)
            except (_Unusual, IndexError):
                pass  # gob knows what it is, and whether it's right
        header = self._decoder.decode(data, Header)
        if fronts is None and self._regular and header.meta.__class__ is RingHeader:
            self._learn(data)
        return header.meta, header.key, header.iv

    def _learn(self, data: bytes) -> None:
        """Remember how this sender writes the headers, once a head has them all and no definitions. `data` was found to be right."""
        start = read_uint(data, 0)[1]
        at, fronts = start, []
        number, end = read_int(data, start)
        holder: type = Header
        for cls in _CHAIN:
            if not self._declared(number, holder):
                return
            before = _META + registered_name(cls)
            if not data.startswith(before, end):
                return  # of another kind
            number, end = read_int(data, end + len(before))
            fronts.append(data[at:end])
            at = end = read_uint(data, end)[1]
            holder = cls
        if self._declared(number, holder):
            self._fronts = fronts[0], fronts[1], fronts[2]

    def _declared(self, number: int, cls: type) -> bool:
        """Whether the sender's type has the fields of our class, in the same order."""
        if number < 0:
            return False  # it is being defined right here
        definition = self._decoder.types[number].struct
        assert definition is not None  # or nothing would have been read
        self._regular = [field.name for field in definition.fields] == [field.name for field in struct_info(cls).fields]
        return self._regular


class _Unusual(Exception):
    """The template doesn't fit."""


def _read(data: bytes, fronts: tuple[bytes, bytes, bytes]) -> tuple[RingHeader, bytes, bytes]:
    """The head, if it is a usual one. Raises: _Unusual, or IndexError."""
    at = _enter(data, 0, len(data))
    ring_at, ring_end = _contents(data, at, fronts[0])
    tree_at, tree_end = _contents(data, ring_at, fronts[1])
    at, cluster_end = _contents(data, tree_at, fronts[2])
    cluster = _read_cluster(data, at, cluster_end)
    tree = _read_tree(data, cluster_end, tree_end, cluster)
    if data[tree_end] != 2:  # to the third field
        raise _Unusual
    dest, at = _read_big(data, tree_end + 1)
    if data[at] or at + 1 != ring_end:
        raise _Unusual
    at = ring_end
    if data[at] == 0 and at + 1 == len(data):
        return RingHeader(tree, 0, dest), b"", b""
    iv_at = at + 2 + _SHORT
    if len(data) != iv_at + 3 + _SHORT or not data.startswith(_KEY, at) or not data.startswith(_KEY, iv_at) or data[-1]:
        raise _Unusual
    return RingHeader(tree, 0, dest), data[at + 2 : iv_at], data[iv_at + 2 : -1]


def _enter(data: bytes, at: int, end: int) -> int:
    """Where what has its length at `at` begins, if it goes up to `end`."""
    size, at = _read_uint(data, at)
    if at + size != end:
        raise _Unusual
    return at


def _contents(data: bytes, at: int, front: bytes) -> tuple[int, int]:
    """Where the value behind `front` begins and ends."""
    if not data.startswith(front, at):
        raise _Unusual
    size, at = _read_uint(data, at + len(front))
    return at, at + size


def _read_cluster(data: bytes, at: int, end: int) -> ClusterHeader:
    op = src = dest = req_id = req_time = 0
    req_fail = False
    delta = field = data[at]
    at += 1
    if delta and field == 1:
        op, at = _read_uint(data, at)
        delta = data[at]
        field += delta
        at += 1
    if delta and field == 2:
        src, at = _read_uint(data, at)
        delta = data[at]
        field += delta
        at += 1
    if delta and field == 3:
        dest, at = _read_uint(data, at)
        delta = data[at]
        field += delta
        at += 1
    if delta and field == 4:
        req_id, at = _read_uint(data, at)
        delta = data[at]
        field += delta
        at += 1
    if delta and field == 5:
        if data[at] != 1:
            raise _Unusual
        req_fail = True
        delta = data[at + 1]
        field += delta
        at += 2
    if delta and field == 6:
        number, at = _read_uint(data, at)
        req_time = (number >> 1) ^ -(number & 1)
        delta = data[at]
        at += 1
    if delta or at != end:
        raise _Unusual
    return ClusterHeader(op, src, dest, req_id, req_fail, req_time)


def _read_tree(data: bytes, at: int, end: int, cluster: ClusterHeader) -> TreeHeader:
    op = 0
    sender: int | None = None
    topic: int | None = None
    prev: int | None = None
    delta = data[at]
    field = 1 + delta
    at += 1
    if delta and field == 2:
        op, at = _read_uint(data, at)
        delta = data[at]
        field += delta
        at += 1
    if delta and field == 3:
        sender, at = _read_big(data, at)
        delta = data[at]
        field += delta
        at += 1
    if delta and field == 4:
        topic, at = _read_big(data, at)
        delta = data[at]
        field += delta
        at += 1
    if delta and field == 5:
        prev, at = _read_big(data, at)
        delta = data[at]
        at += 1
    if delta or at != end:
        raise _Unusual
    return TreeHeader(cluster, op, sender, topic, prev)


def _read_uint(data: bytes, at: int) -> tuple[int, int]:
    first = data[at]
    if first < 0x80:
        return first, at + 1
    end = at + 0x101 - first
    value = int.from_bytes(data[at + 1 : end], "big")
    if value < LEAST[first]:
        raise _Unusual
    return value, end


def _read_big(data: bytes, at: int) -> tuple[int, int]:
    """A positive number of any size; those of one length byte are usual."""
    size = data[at]
    if size >= 0x80 or size < 2 or data[at + 1] != 2 or data[at + 2] == 0:
        raise _Unusual
    end = at + 1 + size
    return int.from_bytes(data[at + 2 : end], "big"), end
