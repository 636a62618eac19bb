"""A frontend of the binding's core that records its calls."""

from concurrent.futures import Future
from io import BytesIO
from typing import Any

from iris.client.base_node_connection import BaseNodeConnection
from iris.client.errors import Closed
from iris.relay_protocol.schema import DEFAULT, VERSION, Op


class FakePool:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def start(self) -> None:
        pass

    def submit(self, item: Any, size: int) -> bool:
        self.items.append(item)
        return True

    def close(self) -> list[Any]:
        return self.items


class FakeEnd:
    """A tunnel's end."""

    def __init__(self, number: int, chunk_limit: int) -> None:
        self.number, self.chunk_limit = number, chunk_limit
        self.calls: list[object] = []

    def handle_allow(self, space: int) -> None:
        self.calls.append(space)

    def handle_chunk(self, size: int, chunk: bytes) -> None:
        self.calls.append((size, chunk))

    def handle_close(self, error: Closed) -> None:
        self.calls.append(error.reason)


class FakeFrontend(BaseNodeConnection[FakeEnd, FakePool]):
    """A frontend without a socket, and the dispatcher of a service."""

    def __init__(self, cluster: str = "", *, attached: bool = True) -> None:
        self.attached: Future[None] = Future()
        super().__init__("fake", cluster, self.attached, None)
        self.written = bytearray()
        self.pools: list[FakePool] = []
        self.calls: list[tuple[Any, ...]] = []
        self.broken: Closed | None = None  # raised by write_soon
        if cluster:
            self.protocol.dispatcher = self
        if attached:
            self.node(Op.INIT, version=VERSION)

    def node(self, op: Op, **body: Any) -> None:
        """Feed a packet of the node."""
        self.protocol.feed(DEFAULT.node(op, **body))

    def packets(self) -> list[tuple[Op, dict[str, Any]]]:
        """Return the packets that were written since the last call."""
        stream, packets = BytesIO(bytes(self.written)), []
        while stream.tell() < len(self.written):
            packet = DEFAULT.from_client.parse_stream(stream)
            skipped = ("_io", "magic")
            body = {key: value for key, value in packet.body.items() if key not in skipped}
            packets.append((packet.op, body))
        self.written.clear()
        return packets

    def write_soon(self, packet: tuple[bytes | memoryview, ...]) -> None:
        if self.broken is not None:
            raise self.broken
        self.written += b"".join(packet)

    def make_pool(self, *_: object) -> FakePool:
        self.pools.append(FakePool())
        return self.pools[-1]

    def new_tunnel(self, number: int, chunk_limit: int) -> FakeEnd:
        return FakeEnd(number, chunk_limit)

    def handle_broadcast(self, message: bytes) -> None:
        self.calls.append(("broadcast", message))

    def handle_request(self, number: int, request: bytes, timeout: float) -> None:
        self.calls.append(("request", number, request, timeout))

    def handle_tunnel_offer(self, build_id: int, chunk_limit: int) -> None:
        self.calls.append(("offer", build_id, chunk_limit))
