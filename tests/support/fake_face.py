"""A face of the binding's core that notes what it is told."""

from concurrent.futures import Future
from io import BytesIO
from typing import Any

from iris.client.errors import Closed
from iris.client.protocol import ClientProtocol
from iris.relay_protocol.schema import DEFAULT, VERSION, Op

BUFFER = 1 << 20  # bytes that a tunnel's end grants


class FakeEnd:
    """A tunnel's end."""

    def __init__(self, number: int, chunk_limit: int) -> None:
        self.number, self.chunk_limit = number, chunk_limit
        self.heard: list[object] = []

    def handle_allow(self, space: int) -> None:
        self.heard.append(space)

    def handle_chunk(self, size: int, chunk: bytes) -> None:
        self.heard.append((size, chunk))

    def handle_close(self, error: Closed) -> None:
        self.heard.append(error.reason)


class FakeFace:
    """A shell without a socket, and the intake of a service."""

    def __init__(self, cluster: str = "", *, attached: bool = True) -> None:
        self.written = bytearray()
        self.heard: list[tuple[Any, ...]] = []
        self.broken: Closed | None = None  # raised by what is written
        self.attached: Future[None] = Future()
        self.core: ClientProtocol[FakeEnd] = ClientProtocol(
            self, attached=self.attached, cluster=cluster, tunnel_buffer=BUFFER
        )
        if cluster:
            self.core.intake = self
        if attached:
            self.node(Op.INIT, version=VERSION)

    def node(self, op: Op, **body: Any) -> None:
        """Have the node say something."""
        self.core.feed(DEFAULT.node(op, **body))

    def said(self) -> list[tuple[Op, dict[str, Any]]]:
        """What was written since the last time, in packets."""
        stream, packets = BytesIO(bytes(self.written)), []
        while stream.tell() < len(self.written):
            packet = DEFAULT.from_client.parse_stream(stream)
            packets.append(
                (
                    packet.op,
                    {
                        key: value
                        for key, value in packet.body.items()
                        if key not in ("_io", "magic")
                    },
                )
            )
        self.written.clear()
        return packets

    def write_soon(self, *buffers: bytes | memoryview) -> None:
        if self.broken is not None:
            raise self.broken
        for data in buffers:
            self.written += data

    def new_tunnel(self, number: int, chunk_limit: int) -> FakeEnd:
        return FakeEnd(number, chunk_limit)

    def handle_broadcast(self, message: bytes) -> None:
        self.heard.append(("broadcast", message))

    def handle_request(self, number: int, request: bytes, timeout: float) -> None:
        self.heard.append(("request", number, request, timeout))

    def handle_offer(self, build_id: int, chunk_limit: int) -> None:
        self.heard.append(("offer", build_id, chunk_limit))
