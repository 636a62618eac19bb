"""Where the microseconds of a message go, piece by piece, in one process and without a network.

`python -m tools.bench --costs`. Shell.

Each piece is run again and again as the node runs it: the relay's packets in one read of 64, what
goes through a socket in batches as they leave a node, the least of several rounds. What a message
costs a whole node is more: cold caches, threads that wait for each other.
"""

import hmac
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from iris.config import Config
from iris.proto.link.classic import ClassicCodec, derive_links
from iris.proto.scribe.overlay import Overlay as Scribe
from iris.proto.wire.clusters import Header as ClusterHeader
from iris.proto.wire.clusters import Op
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.node_id import NodeId
from iris.proto.wire.ring import Header as RingHeader
from iris.relay_protocol import node_packets
from iris.relay_protocol.parser import Parser
from iris.relay_protocol.schema import DEFAULT, VERSION, Side
from iris.relay_protocol.schema import Op as RelayOp
from iris.runtime.batch import BATCH, Batch
from iris.runtime.send_buffer import SendBuffer
from iris.runtime.timer import Timer

_ROUNDS = 7
_READ = 64  # packets in one read
_NOW, _THERE = NodeId(1 << 38), NodeId(1 << 39)

# what it is, what is run, how many messages one run is
Piece = tuple[str, Callable[[], object], int]


def measure(size: int, seconds: float = 0.05) -> Iterator[tuple[str, float]]:
    """Yield each piece with its µs per message, for payloads of `size` bytes.

    `seconds` are one round's.
    """
    timer = Timer()
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as server,
        closing(socket.create_connection(server.getsockname())) as near,
    ):
        far, _ = server.accept()
        with closing(far):
            for name, run, count in _pieces(size, timer, near, far):
                yield name, min(_round(run, seconds) for _ in range(_ROUNDS)) / count


def _round(run: Callable[[], object], seconds: float) -> float:
    """µs of one run."""
    runs, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        run()
        runs += 1
    return took / runs * 1e6


class _Sink:
    """A ring that only the way to another node leads out of, and the application above scribe that
    nothing reaches.
    """

    node_id = _NOW
    handle_publish = handle_direct = staticmethod(lambda *_: None)
    anycast_timeout = staticmethod(lambda _: 0.0)

    def handle_balance(self, *_: object) -> bool:
        return True

    def send(self, dest: NodeId, message: Message) -> None:
        self.header = RingHeader(message.meta, 0, dest)


def _pieces(size: int, timer: Timer, near: socket.socket, far: socket.socket) -> Iterator[Piece]:
    config, data = Config(), os.urandom(size)
    parser = Parser(Side.CLIENT, config.limits, config.relay)
    list(parser.feed(DEFAULT.client(RelayOp.INIT, version=VERSION, cluster="")))
    request = DEFAULT.client(
        RelayOp.REQUEST, id=300, cluster="cluster", request=data, timeout=5_000
    )
    yield "relay: parse a request", lambda read=request * _READ: list(parser.feed(read)), _READ  # type: ignore[misc]
    yield "relay: the head of a reply", lambda: node_packets.reply(300, size), 1
    yield "timer: set a deadline and cancel it", lambda: timer.cancel(timer.after(5.0, _nothing)), 1
    lock = threading.Lock()
    yield "lock, uncontended", lambda: _hold(lock), 1

    sink = _Sink()
    scribe = Scribe(
        sink,
        config=config.scribe,
        limits=config.limits,
        timer=timer,
        rng=random.Random(1),
        cpu_usage=lambda: 1.0,
    )
    scribe.attach(sink)
    meta = ClusterHeader(Op.REQUEST, 3, 0, 70_000, False, 5_000_000_000)
    yield (
        "scribe: send an anycast on its way",
        lambda: scribe.balance("c#1-cluster", Message(meta, Payload.of(data))),
        1,
    )

    sealed = Payload.of(data)
    text, key, iv = sealed.seal()
    yield "payload: seal", lambda: Payload.of(data).seal(), 1
    yield "payload: open", lambda: Payload.sealed(text, key, iv).open(), 1
    stream, mac, head = (
        Cipher(AES(key), CTR(iv)).encryptor(),
        hmac.new(key, digestmod="md5"),
        bytes(140),
    )
    yield "  of a link's seal and of its open: AES of a head", lambda: stream.update(head), 1
    yield "  of a link's seal and of its open: MAC", lambda: _authenticate(mac, head + data), 1

    (server,), (client,) = (
        list(derive_links(b"secret", server=side))[:1] for side in (True, False)
    )
    sender, receiver = (ClassicCodec(keys, config.limits) for keys in (server, client))
    receiver.raise_bounds()
    message = Message(sink.header, sealed)
    packets: list[bytes] = [b"".join(sender.seal(message)) for _ in range(2)]
    for packet in packets:
        receiver.feed(packet)
        receiver.open()
    yield "link: seal a packet", lambda: packets.append(b"".join(sender.seal(message))), 1
    packets += [b"".join(sender.seal(message)) for _ in packets]  # opening is faster
    waiting = iter(packets[2:])

    def take() -> None:  # in the order in which they were sealed
        receiver.feed(next(waiting))
        receiver.open()

    yield "link: open a packet", take, 1
    buffer = SendBuffer(near, name="costs", limit=1 << 30)
    packet = packets[0]

    def batch() -> None:
        with Batch():
            for _ in range(BATCH):
                buffer.write(packet)
        got = 0
        while got < BATCH * len(packet):
            got += len(far.recv(65_536))

    def single() -> None:
        buffer.write(packet)
        far.recv(65_536)

    yield f"send buffer and socket: write, send and receive, {BATCH} at a time", batch, BATCH
    yield "send buffer and socket: one at a time", single, 1
    buffer.close()


def _nothing() -> None:
    """What is due when a deadline passes that is always cancelled."""


def _authenticate(mac: hmac.HMAC, data: bytes) -> bytes:
    mac.update(data)
    return mac.digest()


def _hold(lock: threading.Lock) -> None:
    with lock:
        pass
