"""The relay's core without a socket.

A client on a recording send buffer, attached to a node of `FakeNetwork`, on its virtual clock.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

from iris.config import Config
from iris.errors import LinkClosed
from iris.metrics import Metrics
from iris.proto.iris.base import Handler
from iris.proto.iris.connection import Connection
from iris.relay_protocol.schema import DEFAULT, VERSION, Op
from iris.runtime.rate_limited_log import RateLimitedLogger
from iris.runtime.send_buffer import Buffer, SendBuffer
from iris.service.relay.base import Shared
from iris.service.relay.session import ClientSession
from tests.support.fake_scribe import FakeNetwork

Got = tuple[Any, ...]


class RecordingSendBuffer(SendBuffer):
    """Takes notes of packets; `size` is the test's to set."""

    def __init__(self, limit: int) -> None:
        self.limit, self.size = limit, 0
        self.corked, self.finished = True, False
        self.data = bytearray()
        self.buffers: list[Buffer] = []  # all that were written
        self.waiting: list[tuple[int, Callable[[], None]]] = []

    def full(self, more: int) -> bool:
        return self.size > 0 and self.size + more > self.limit

    def write_all(self, buffers: tuple[Buffer, ...]) -> None:
        if self.finished:
            raise LinkClosed("send buffer closed")
        self.buffers += buffers
        for data in buffers:
            self.data += data

    def finish(self, *buffers: Buffer) -> None:
        self.write_all(buffers)
        self.finished = True

    def uncork(self, first: Buffer) -> None:
        assert self.corked
        self.corked = False
        self.data[:0] = first

    def on_drained_to(self, mark: int, callback: Callable[[], None]) -> None:
        if self.size <= mark:
            callback()
        else:
            self.waiting.append((mark, callback))

    def drain(self) -> None:
        """The client takes all there is."""
        self.size = 0
        waiting, self.waiting = self.waiting, []
        for _, callback in waiting:
            callback()

    def take(self) -> list[Got]:
        """The packets since the last time, as tuples of op and fields."""
        if self.corked:
            return []
        stream, packets = BytesIO(bytes(self.data)), []
        while stream.tell() < len(self.data):
            packet = DEFAULT.from_node.parse_stream(stream)
            packets.append(
                (
                    packet.op,
                    *(value for key, value in packet.body.items() if key not in ("_io", "magic")),
                )
            )
        self.data.clear()
        return packets


class Attached:
    """A client and what it got. `do` carries out one of its packets."""

    def __init__(
        self,
        network: FakeNetwork,
        cluster: str = "",
        *,
        node: int = 1,
        config: Config | None = None,
        connect: Callable[[str, Handler], Connection] | None = None,
        init: bool = True,
    ) -> None:
        self.config = config or Config()
        self.send_buffer = RecordingSendBuffer(self.config.limits.client_send_buffer)
        self.metrics, self.ends = Metrics(), 0

        def clock() -> float:
            return network.timer.now

        warnings = RateLimitedLogger(logging.getLogger(__name__), clock=clock)
        self.session = ClientSession(
            7,
            self.send_buffer,
            Shared(self.config, network.timer, clock, self.metrics, warnings),
            connect=connect or network[node].connect,
            on_end=self._ended,
        )
        if init:
            self.do(Op.INIT, VERSION, cluster)
            assert self.got()[0] == (Op.INIT, VERSION)

    def _ended(self) -> None:
        self.ends += 1

    def do(self, op: Op, *fields: Any) -> None:
        self.session.handlers[op](*fields)

    def got(self) -> list[Got]:
        """The packets since the last time."""
        return self.send_buffer.take()


def with_limits(**limits: int) -> Config:
    """Settings that differ in these."""
    return replace(Config(), limits=replace(Config().limits, **limits))
