"""Headers of link packets: the gob stream, and templates for what nearly all of them hold.

Core. Nearly every header holds the same three headers inside each other (ring, topic tree,
cluster), or a tunnel's, so most of its bytes are the same in each: names, type ids, lengths.
`HeaderEncoder` and `HeaderDecoder` know these layouts. Whatever differs from them in anything, also
what is malformed, is left to the gob codec, which alone decides what is right;
tests/property/test_header_templates.py holds the two together. Not thread-safe.

Written by hand: compiled, a request's header takes 0.9 µs each way. A loop over a table of fields
takes a tenth more; code generated from the declarations isn't compiled, and takes 1.8 and 3.3 µs.
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
_SHORT_ID: Final = 1 << 64  # below it, an id's encoding is remembered: peers choose longer ones
_KEY_SIZE: Final = 16  # bytes, of an iv as well
_KEY: Final = b"\x01\x10"  # the next field, and that length

_CHAIN: Final = (RingHeader, TreeHeader, ClusterHeader)


class HeaderEncoder:
    """Write the headers of one direction of a link."""

    def __init__(self, encoder: Encoder | None = None) -> None:
        self._encoder = encoder or Encoder()
        # what stands before the length of each nested header
        self._prefixes: tuple[bytes, bytes, bytes] | None = None
        self._tunnel_prefix: bytes | None = None

    def encode(self, meta: object, key: bytes, iv: bytes) -> bytes:
        """Write a header, after the definitions that this stream hasn't seen.

        Raises: StateError for what isn't as declared.
        """
        if isinstance(meta, DataHeader):
            return self._encode_tunnel(meta, key, iv)
        prefixes, routed = self._prefixes, False
        if isinstance(meta, RingHeader):
            tree = meta.meta
            if isinstance(tree, TreeHeader):
                cluster = tree.meta
                if isinstance(cluster, ClusterHeader):
                    routed = True
                    if (
                        prefixes is not None
                        and (data := _write(meta, tree, cluster, key, iv, prefixes)) is not None
                    ):
                        return data
        header = Header(meta, key, iv)
        data = self._encoder.encode(header)
        if routed and prefixes is None:
            inner = [_META + self._encoder.known[cls][0] for cls in _CHAIN[1:]]
            self._prefixes = self._prefix(header, RingHeader), inner[0], inner[1]
        return data

    def _encode_tunnel(self, meta: DataHeader, key: bytes, iv: bytes) -> bytes:
        prefix = self._tunnel_prefix
        if prefix is not None and len(key) == _KEY_SIZE and len(iv) == _KEY_SIZE:
            inner = b"\x01" + _int(meta.size_or_cont) + _END if meta.size_or_cont else _END
            return _sized(b"".join([prefix, _sized(inner), _KEY, key, _KEY, iv, _END]))
        header = Header(meta, key, iv)
        data = self._encoder.encode(header)
        self._tunnel_prefix = self._prefix(header, DataHeader)
        return data

    def _prefix(self, header: Header, cls: type) -> bytes:
        """What stands before the length of the metadata of that class, when all types are known."""
        data, name = self._encoder.encode(header), self._encoder.known[cls][0]
        return data[read_uint(data, 0)[1] : data.index(name) + len(name)]


def _write(
    ring: RingHeader,
    tree: TreeHeader,
    cluster: ClusterHeader,
    key: bytes,
    iv: bytes,
    prefixes: tuple[bytes, bytes, bytes],
) -> bytes | None:
    """Write a header by the template; None when it doesn't fit."""
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
        return None
    if (
        cluster.tun_id
        or cluster.tun_key
        or cluster.tun_addrs
        or cluster.tun_time
        or len(key) != _KEY_SIZE
        or len(iv) != _KEY_SIZE
    ):
        return None
    inner = _write_cluster(cluster)
    inner = b"".join(
        [prefixes[2], _uint(len(inner)), inner, _write_tree(tree.op, sender, tree.topic, tree.prev)]
    )
    inner = b"".join([prefixes[1], _uint(len(inner)), inner, b"\x02", _big(dest), _END])
    return _sized(b"".join([prefixes[0], _uint(len(inner)), inner, _KEY, key, _KEY, iv, _END]))


def _is_short(value: int | None) -> bool:
    return value is None or 0 <= value < _SHORT_ID


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
    out = b""
    last = 0
    if header.op:
        out = b"\x01" + _uint(header.op)
        last = 1
    if header.src:
        out += _UINTS[2 - last] + _uint(header.src)
        last = 2
    if header.dest:
        out += _UINTS[3 - last] + _uint(header.dest)
        last = 3
    if header.req_id:
        out += _UINTS[4 - last] + _uint(header.req_id)
        last = 4
    if header.req_fail:
        out += _UINTS[5 - last] + b"\x01"
        last = 5
    if header.req_time:
        out += _UINTS[6 - last] + _int(header.req_time)
    return out + _END


def _uint(value: int) -> bytes:
    if 0 <= value < 1_024:
        return _UINTS[value]
    if 0 < value < 0x100_0000:  # as the next line, for the usual numbers
        width = 2 if value < 0x1_0000 else 3
        return _COUNT[width] + value.to_bytes(width, "big")
    return encode_uint(value)


def _big(value: int) -> bytes:
    data: bytes = known_big(value) if -_SHORT_ID < value < _SHORT_ID else encode_big(value)
    return data


class HeaderDecoder:
    """Read the headers of one direction of a link."""

    def __init__(self, *, max_size: int, max_types: int) -> None:
        """Args: bytes of one header with its definitions; definitions in the whole stream."""
        self._decoder = Decoder(max_size=max_size, max_types=max_types)
        # what stands before the length of each nested header, as this sender numbers types
        self._prefixes: tuple[bytes, bytes, bytes] | None = None
        self._tunnel_prefix: bytes | None = None
        self._standard_layout = True  # as far as is known, this sender's fields are in our order

    def decode(self, data: bytes) -> tuple[object, bytes, bytes]:
        """Read a header. Returns: metadata, key and iv of the payload.

        Raises: GobError for anything malformed; nothing more may be read after that.
        """
        prefixes, prefix = self._prefixes, self._tunnel_prefix
        try:
            if prefixes is not None:
                return _read(data, prefixes)
            if prefix is not None:
                return _read_tunnel(data, prefix)
        except (_TemplateMiss, IndexError):
            pass  # gob knows what it is, and whether it's right
        header = self._decoder.decode(data, Header)
        if self._standard_layout and prefixes is None and prefix is None:
            if isinstance(header.meta, RingHeader):
                if (learnt := self._learn(data, _CHAIN)) is not None:
                    self._prefixes = learnt[0], learnt[1], learnt[2]
            elif (
                isinstance(header.meta, DataHeader)
                and (learnt := self._learn(data, (DataHeader,))) is not None
            ):
                self._tunnel_prefix = learnt[0]
        return header.meta, header.key, header.iv

    def _learn(self, data: bytes, chain: tuple[type, ...]) -> list[bytes] | None:
        """Find the prefixes in a valid header; None until one has the chain and no definitions."""
        at = start = read_uint(data, 0)[1]
        prefixes = list[bytes]()
        number, end = read_int(data, start)
        holder: type = Header
        for cls in chain:
            if not self._has_our_layout(number, holder):
                return None
            before = _META + registered_name(cls)
            if not data.startswith(before, end):
                return None  # of another kind
            number, end = read_int(data, end + len(before))
            prefixes.append(data[at:end])
            at = end = read_uint(data, end)[1]
            holder = cls
        return prefixes if self._has_our_layout(number, holder) else None

    def _has_our_layout(self, number: int, cls: type) -> bool:
        """Whether the sender's type has the fields of our class, in the same order.

        Their types were compared when gob read the first one.
        """
        if number < 0:
            return False  # it is being defined right here
        definition = self._decoder.types[number].struct
        assert definition is not None  # or nothing would have been read
        self._standard_layout = [field.name for field in definition.fields] == [
            field.name for field in struct_info(cls).fields
        ]
        return self._standard_layout


class _TemplateMiss(Exception):
    """The template doesn't fit."""


def _read(data: bytes, prefixes: tuple[bytes, bytes, bytes]) -> tuple[RingHeader, bytes, bytes]:
    """Read a header by the template. Raises: _TemplateMiss or IndexError when it doesn't fit."""
    at = _enter(data)
    ring_at, ring_end = _contents(data, at, prefixes[0])
    tree_at, tree_end = _contents(data, ring_at, prefixes[1])
    at, cluster_end = _contents(data, tree_at, prefixes[2])
    cluster = _read_cluster(data, at, cluster_end)
    if cluster_end > tree_end:
        raise _TemplateMiss
    op, sender, topic, prev = _read_tree(data[cluster_end:tree_end])
    if data[tree_end] != 2:  # to the third field
        raise _TemplateMiss
    dest, at = _read_big(data, tree_end + 1)
    if data[at] or at + 1 != ring_end:
        raise _TemplateMiss
    key, iv = _read_key(data, ring_end)
    return RingHeader(TreeHeader(cluster, op, sender, topic, prev), 0, dest), key, iv


def _read_tunnel(data: bytes, prefix: bytes) -> tuple[DataHeader, bytes, bytes]:
    """The same for a tunnel's."""
    at, end = _contents(data, _enter(data), prefix)
    number = 0
    if data[at]:
        if data[at] != 1:
            raise _TemplateMiss
        number, at = _read_uint(data, at + 1)
    if data[at] or at + 1 != end:
        raise _TemplateMiss
    key, iv = _read_key(data, end)
    return DataHeader((number >> 1) ^ -(number & 1)), key, iv


def _read_key(data: bytes, at: int) -> tuple[bytes, bytes]:
    """Read the rest of a header: a key and an iv, or neither."""
    if data[at] == 0 and at + 1 == len(data):
        return b"", b""
    iv_at = at + 2 + _KEY_SIZE
    if (
        len(data) != iv_at + 3 + _KEY_SIZE
        or data[at] != 1
        or data[at + 1] != _KEY_SIZE
        or data[iv_at] != 1
        or data[iv_at + 1] != _KEY_SIZE
        or data[-1]
    ):
        raise _TemplateMiss
    return data[at + 2 : iv_at], data[iv_at + 2 : -1]


def _enter(data: bytes) -> int:
    """Where a message begins behind its length, which must be all there is."""
    size, at = _read_uint(data, 0)
    if at + size != len(data):
        raise _TemplateMiss
    return at


def _contents(data: bytes, at: int, prefix: bytes) -> tuple[int, int]:
    """Where the value behind `prefix` begins and ends."""
    if not data.startswith(prefix, at):
        raise _TemplateMiss
    size, at = _read_uint(data, at + len(prefix))
    end = at + size
    if end > len(data):
        raise _TemplateMiss
    return at, end


def _read_cluster(data: bytes, at: int, end: int) -> ClusterHeader:
    op = src = dest = req_id = req_time = last = 0
    req_fail = False
    if data[at] == 1:
        op, at = _read_uint(data, at + 1)
        last = 1
    if data[at] == 2 - last:
        src, at = _read_uint(data, at + 1)
        last = 2
    if data[at] == 3 - last:
        dest, at = _read_uint(data, at + 1)
        last = 3
    if data[at] == 4 - last:
        req_id, at = _read_uint(data, at + 1)
        last = 4
    if data[at] == 5 - last and data[at + 1] == 1:
        req_fail, at = True, at + 2
        last = 5
    if data[at] == 6 - last:
        number, at = _read_uint(data, at + 1)
        req_time = (number >> 1) ^ -(number & 1)
    if data[at] or at + 1 != end:
        raise _TemplateMiss
    return ClusterHeader(op, src, dest, req_id, req_fail, req_time)


@lru_cache(maxsize=16_384)
def _read_tree(data: bytes) -> tuple[int, int | None, int | None, int | None]:
    """Read what follows the cluster's header in the tree's: op, sender, topic, previous hop."""
    op = 0
    ids: list[int | None] = [None, None, None]
    delta = data[0]
    field = 1 + delta
    at = 1
    while delta:
        if field == 2:
            op, at = _read_uint(data, at)
        else:
            ids[field - 3], at = _read_big(data, at)
        delta = data[at]
        field += delta
        at += 1
    if at != len(data):
        raise _TemplateMiss
    return op, ids[0], ids[1], ids[2]


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
    """Read a positive number of any size with one length byte."""
    size = data[at]
    if size >= 0x80 or size < 2 or data[at + 1] != 2 or data[at + 2] == 0:
        raise _TemplateMiss
    end = at + 1 + size
    return int.from_bytes(data[at + 2 : end], "big"), end
