"""Heads of link packets, written and read.

The gob stream, and beside it templates for what clusters say to each other, and for tunnels.

Core. Nearly every head holds the same three headers inside each other (ring, topic tree, cluster),
or a tunnel's, so most of its bytes are the same in each: names, type ids, lengths. `HeadEncoder`
and `HeadDecoder` know these shapes. Whatever differs from them in anything, also what is malformed,
is left to the gob codec, which alone decides what is right; tests/property/test_heads.py holds the
two together. Not for several threads at a time.
"""

from functools import lru_cache
from typing import Final

from iris.gobber import Decoder, Encoder
from iris.gobber.encoder import registered_name
from iris.gobber.framing import LEAST, encode_int, encode_uint, read_int, read_uint
from iris.gobber.types import struct_info
from iris.gobber.writers import encode_big, known_big
from iris.proto.wire.clusters import DataHeader
from iris.proto.wire.clusters import Header as ClusterHeader
from iris.proto.wire.link import Header
from iris.proto.wire.ring import Header as RingHeader
from iris.proto.wire.trees import Header as TreeHeader

_UINTS: Final = tuple(encode_uint(value) for value in range(1_024))
_COUNT: Final = (b"", b"\xff", b"\xfe", b"\xfd")  # of the bytes of a number
_META: Final = b"\x01"  # the metadata is the first field of a header
_END: Final = b"\x00"
# nearly all requests have one of few timeouts, messages in tunnels one of few sizes
_int: Final = lru_cache(maxsize=256)(encode_int)
_BIG: Final = 1 << 64  # below it, an id's encoding is remembered
_SHORT: Final = 16  # bytes of a key or an iv
_KEY: Final = b"\x01\x10"  # the next field, and that length

_CHAIN: Final = (RingHeader, TreeHeader, ClusterHeader)


class HeadEncoder:
    """Writes the heads of one direction of a link."""

    def __init__(self, encoder: Encoder | None = None) -> None:
        self._encoder = encoder or Encoder()
        # what stands before the length of each header
        self._fronts: tuple[bytes, bytes, bytes] | None = None
        self._tunnel_front: bytes | None = None  # the same for a tunnel's

    def encode(self, meta: object, key: bytes, iv: bytes) -> bytes:
        """Write a head, and whatever definitions this stream hasn't seen. Raises.

        StateError for what isn't as declared.
        """
        if isinstance(meta, DataHeader):
            return self._encode_tunnel(meta, key, iv)
        fronts, routed = self._fronts, False
        if isinstance(meta, RingHeader):
            tree = meta.meta
            if isinstance(tree, TreeHeader):
                cluster = tree.meta
                if isinstance(cluster, ClusterHeader):
                    routed = True
                    if (
                        fronts is not None
                        and (data := _write(meta, tree, cluster, key, iv, fronts)) is not None
                    ):
                        return data
        head = Header(meta, key, iv)
        data = self._encoder.encode(head)
        if routed and fronts is None:
            inner = [_META + self._encoder.known[cls][0] for cls in _CHAIN[1:]]
            self._fronts = self._front(head, RingHeader), inner[0], inner[1]
        return data

    def _encode_tunnel(self, meta: DataHeader, key: bytes, iv: bytes) -> bytes:
        front = self._tunnel_front
        if front is not None and len(key) == _SHORT and len(iv) == _SHORT:
            inner = b"\x01" + _int(meta.size_or_cont) + _END if meta.size_or_cont else _END
            return _sized(b"".join([front, _uint(len(inner)), inner, _KEY, key, _KEY, iv, _END]))
        head = Header(meta, key, iv)
        data = self._encoder.encode(head)
        self._tunnel_front = self._front(head, DataHeader)
        return data

    def _front(self, head: Header, cls: type) -> bytes:
        """What stands before the length of a head's metadata, of that class, when all types are
        known.
        """
        data, name = self._encoder.encode(head), self._encoder.known[cls][0]
        return data[read_uint(data, 0)[1] : data.index(name) + len(name)]


def _write(
    ring: RingHeader,
    tree: TreeHeader,
    cluster: ClusterHeader,
    key: bytes,
    iv: bytes,
    fronts: tuple[bytes, bytes, bytes],
) -> bytes | None:
    """The head, or None when it is none of the usual ones."""
    dest, sender = ring.dest, tree.sender
    if (
        ring.op
        or ring.state is not None
        or dest is None
        or sender is None
        or tree.report is not None
        or not tree.op
    ):
        return None
    if not _is_short(sender) or not _is_short(tree.topic) or not _is_short(tree.prev):
        return None  # peers choose what passes through, and `_write_tree` remembers it
    if (
        cluster.tun_id
        or cluster.tun_key
        or cluster.tun_addrs
        or cluster.tun_time
        or len(key) != _SHORT
        or len(iv) != _SHORT
    ):
        return None
    inner = _write_cluster(cluster)
    inner = b"".join(
        [fronts[2], _uint(len(inner)), inner, _write_tree(tree.op, sender, tree.topic, tree.prev)]
    )
    inner = b"".join([fronts[1], _uint(len(inner)), inner, b"\x02", _big(dest), _END])
    inner = b"".join([fronts[0], _uint(len(inner)), inner, _KEY, key, _KEY, iv, _END])
    return _sized(inner)


def _is_short(value: int | None) -> bool:
    return value is None or 0 <= value < _BIG


def _sized(data: bytes) -> bytes:
    return _uint(len(data)) + data


@lru_cache(maxsize=16_384)  # messages that take the same way have it in common
def _write_tree(op: int, sender: int, topic: int | None, prev: int | None) -> bytes:
    """What follows the cluster's header in the tree's."""
    out = b"\x01" + _uint(op) + b"\x01" + _big(sender)
    if topic is not None:
        out += b"\x01" + _big(topic)
    if prev is not None:
        out += (b"\x02" if topic is None else b"\x01") + _big(prev)
    return out + _END


def _write_cluster(header: ClusterHeader) -> bytes:
    op, src, dest, req_id, req_time = (
        header.op,
        header.src,
        header.dest,
        header.req_id,
        header.req_time,
    )
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
        out += _UINTS[6 - last] + _int(req_time)
    return out + _END


def _uint(value: int) -> bytes:
    if 0 <= value < 1_024:
        return _UINTS[value]
    if 0 < value < 0x100_0000:  # as the next line, for what is usual
        width = 2 if value < 0x1_0000 else 3
        return _COUNT[width] + value.to_bytes(width, "big")
    return encode_uint(value)


def _big(value: int) -> bytes:
    data: bytes = known_big(value) if -_BIG < value < _BIG else encode_big(value)
    return data


class HeadDecoder:
    """Reads the heads of one direction of a link."""

    def __init__(self, *, max_size: int, max_types: int) -> None:
        """Arguments: bytes of one head with its definitions; definitions in the whole stream."""
        self._decoder = Decoder(max_size=max_size, max_types=max_types)
        # what stands before the length of each header, as this sender numbers types
        self._fronts: tuple[bytes, bytes, bytes] | None = None
        self._tunnel_front: bytes | None = None  # the same for a tunnel's
        # as far as is known, this sender declares the headers as everybody does
        self._regular = True

    def decode(self, data: bytes) -> tuple[object, bytes, bytes]:
        """Read a head: metadata, key and iv of the payload. Raises.

        GobError for anything malformed, and then nothing more may be read.
        """
        fronts, front = self._fronts, self._tunnel_front
        try:
            if fronts is not None:
                return _read(data, fronts)
            if front is not None:
                return _read_tunnel(data, front)
        except (_TemplateMiss, IndexError):
            pass  # gob knows what it is, and whether it's right
        header = self._decoder.decode(data, Header)
        if self._regular and fronts is None and front is None:
            if isinstance(header.meta, RingHeader):
                if (learnt := self._learn(data, _CHAIN)) is not None:
                    self._fronts = learnt[0], learnt[1], learnt[2]
            elif (
                isinstance(header.meta, DataHeader)
                and (learnt := self._learn(data, (DataHeader,))) is not None
            ):
                self._tunnel_front = learnt[0]
        return header.meta, header.key, header.iv

    def _learn(self, data: bytes, chain: tuple[type, ...]) -> list[bytes] | None:
        """How this sender writes the headers, once a head has them all and no definitions.

        `data` was found to be right.
        """
        start = read_uint(data, 0)[1]
        at, fronts = start, list[bytes]()
        number, end = read_int(data, start)
        holder: type = Header
        for cls in chain:
            if not self._declared(number, holder):
                return None
            before = _META + registered_name(cls)
            if not data.startswith(before, end):
                return None  # of another kind
            number, end = read_int(data, end + len(before))
            fronts.append(data[at:end])
            at = end = read_uint(data, end)[1]
            holder = cls
        return fronts if self._declared(number, holder) else None

    def _declared(self, number: int, cls: type) -> bool:
        """Whether the sender's type has the fields of our class, in the same order.

        Their types were compared when gob read the first.
        """
        if number < 0:
            return False  # it is being defined right here
        definition = self._decoder.types[number].struct
        assert definition is not None  # or nothing would have been read
        self._regular = [field.name for field in definition.fields] == [
            field.name for field in struct_info(cls).fields
        ]
        return self._regular


class _TemplateMiss(Exception):
    """The template doesn't fit."""


def _read(data: bytes, fronts: tuple[bytes, bytes, bytes]) -> tuple[RingHeader, bytes, bytes]:
    """The head, if it is a usual one. Raises: _TemplateMiss, or IndexError."""
    at = _enter(data, 0, len(data))
    ring_at, ring_end = _contents(data, at, fronts[0])
    tree_at, tree_end = _contents(data, ring_at, fronts[1])
    at, cluster_end = _contents(data, tree_at, fronts[2])
    cluster = _read_cluster(data, at, cluster_end)
    if cluster_end > tree_end:
        raise _TemplateMiss
    op, sender, topic, prev = _read_tree(data[cluster_end:tree_end])
    tree = TreeHeader(cluster, op, sender, topic, prev)
    if data[tree_end] != 2:  # to the third field
        raise _TemplateMiss
    dest, at = _read_big(data, tree_end + 1)
    if data[at] or at + 1 != ring_end:
        raise _TemplateMiss
    key, iv = _read_secrets(data, ring_end)
    return RingHeader(tree, 0, dest), key, iv


def _read_tunnel(data: bytes, front: bytes) -> tuple[DataHeader, bytes, bytes]:
    """The same for a tunnel's."""
    at, end = _contents(data, _enter(data, 0, len(data)), front)
    number = 0
    if data[at]:
        if data[at] != 1:
            raise _TemplateMiss
        number, at = _read_uint(data, at + 1)
    if data[at] or at + 1 != end:
        raise _TemplateMiss
    key, iv = _read_secrets(data, end)
    return DataHeader((number >> 1) ^ -(number & 1)), key, iv


def _read_secrets(data: bytes, at: int) -> tuple[bytes, bytes]:
    """The rest of a head: a key and an iv, or neither."""
    if data[at] == 0 and at + 1 == len(data):
        return b"", b""
    iv_at = at + 2 + _SHORT
    if (
        len(data) != iv_at + 3 + _SHORT
        or data[at] != 1
        or data[at + 1] != _SHORT
        or data[iv_at] != 1
        or data[iv_at + 1] != _SHORT
        or data[-1]
    ):
        raise _TemplateMiss
    return data[at + 2 : iv_at], data[iv_at + 2 : -1]


def _enter(data: bytes, at: int, end: int) -> int:
    """Where what has its length at `at` begins, if it goes up to `end`."""
    size, at = _read_uint(data, at)
    if at + size != end:
        raise _TemplateMiss
    return at


def _contents(data: bytes, at: int, front: bytes) -> tuple[int, int]:
    """Where the value behind `front` begins and ends."""
    if not data.startswith(front, at):
        raise _TemplateMiss
    size, at = _read_uint(data, at + len(front))
    end = at + size
    if end > len(data):
        raise _TemplateMiss
    return at, end


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
            raise _TemplateMiss
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
        raise _TemplateMiss
    return ClusterHeader(op, src, dest, req_id, req_fail, req_time)


@lru_cache(maxsize=16_384)
def _read_tree(data: bytes) -> tuple[int, int | None, int | None, int | None]:
    """What follows the cluster's header in the tree's: op, sender, topic, previous hop."""
    op = 0
    sender: int | None = None
    topic: int | None = None
    prev: int | None = None
    delta = data[0]
    field = 1 + delta
    at = 1
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
    if delta or at != len(data):
        raise _TemplateMiss
    return op, sender, topic, prev


def _read_uint(data: bytes, at: int) -> tuple[int, int]:
    first = data[at]
    if first < 0x80:
        return first, at + 1
    if first == 0xFE and data[at + 1]:  # as below, for the usual numbers
        return data[at + 1] << 8 | data[at + 2], at + 3
    end = at + 0x101 - first
    value = int.from_bytes(data[at + 1 : end], "big")
    if value < LEAST[first]:
        raise _TemplateMiss
    return value, end


def _read_big(data: bytes, at: int) -> tuple[int, int]:
    """A positive number of any size; those of one length byte are usual."""
    size = data[at]
    if size >= 0x80 or size < 2 or data[at + 1] != 2 or data[at + 2] == 0:
        raise _TemplateMiss
    end = at + 1 + size
    return int.from_bytes(data[at + 2 : end], "big"), end
