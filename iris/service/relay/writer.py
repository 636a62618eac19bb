"""What is written to an application, and what happens to it when that reads too slowly. Core.

Nothing here waits or raises. When an application's send buffer has no room:

* broadcasts and events are dropped beyond two thirds of it;
* so are requests and offers of tunnels rejected; a service where that lasts is closed, so that
  others are asked instead;
* a reply becomes a fault beyond its limit;
* all else can't be lost: the application is closed.
"""

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from iris.errors import LinkClosed
from iris.relay_protocol import node_packets as packets
from iris.relay_protocol.schema import DEFAULT, Op
from iris.runtime.compiling import mypyc_attr
from iris.runtime.send_buffer import SendBuffer
from iris.service.relay.base import Shared

SLOW_CONSUMER: Final = "slow consumer: send buffer full"
# seconds; the logger limits lines further, but a call of it costs more than dropping a packet
_WARN_PERIOD: Final = 1.0


@lru_cache(maxsize=64)
def close_packet(reason: str) -> bytes:
    """Encode a close, the last packet to an application."""
    data: bytes = DEFAULT.node(Op.CLOSE, reason=reason)
    return data


@mypyc_attr(allow_interpreted_subclasses=True)
class ClientWriter:
    """Write packets to one application, from any thread."""

    def __init__(
        self, number: int, send_buffer: SendBuffer, shared: Shared, on_overflow: Callable[[], None]
    ) -> None:
        """on_overflow is called by the timer, after a close packet was written."""
        self.label = f"client {number}"  # for log lines
        self._send_buffer, self._shared, self.on_overflow = send_buffer, shared, on_overflow
        self._warnings = shared.warnings
        self._relay = shared.config.relay
        self._budget = send_buffer.limit * 2 // 3  # bytes, for what can be dropped or rejected
        self._full_since: float | None = None  # when the first of only rejections was
        self._warn_at = 0.0  # not before, about dropped packets

    def send(self, *buffers: bytes) -> None:
        """Write one packet that can't be lost."""
        buffer = self._send_buffer
        if buffer.size and buffer.full(sum(map(len, buffers))):
            self._overflow()
        else:
            self.write(buffers)

    def write(self, buffers: tuple[bytes, ...]) -> None:
        """Write one packet that there is room for."""
        try:
            self._send_buffer.write_all(buffers)
        except LinkClosed:
            return  # it is gone, or got its close packet; its reading thread cleans up

    def reply(self, number: int, data: bytes) -> None:
        """Write a reply, or a fault instead when there is no room for it."""
        if self._send_buffer.full(len(data)):
            self._shared.metrics.rejected["reply"].inc()
            self.send(packets.fault(number, "reply dropped: slow consumer"))
        else:
            self.write((packets.reply(number, len(data)), data))

    def write_droppable(self, packet: tuple[bytes, ...], size: int, pattern: str) -> None:
        """Write one packet with `size` bytes of payload, or drop it, counted as `pattern`."""
        if not self._over_budget(size):
            self.write(packet)
            return
        self._shared.metrics.dropped[pattern].inc()
        now = self._shared.clock()
        if now >= self._warn_at:
            self._warn_at = now + _WARN_PERIOD
            self.warn("slow consumer: dropping broadcasts and events until it reads what it got")

    def reject_if_full(self, size: int, pattern: str) -> bool:
        """Whether there is no room for a request or an offer, which is to be rejected then."""
        if not self._over_budget(size):
            self._full_since = None
            return False
        self._shared.metrics.rejected[pattern].inc()
        now = self._shared.clock()
        since = self._full_since  # read once: another thread may find room meanwhile
        if since is None:
            self._full_since = now
            self.warn("slow consumer: rejecting new requests")
        elif now - since >= self._relay.stall_timeout:
            self._overflow()
        return True

    def _over_budget(self, size: int) -> bool:
        """Whether `size` bytes more exceed the budget. An empty buffer takes any number."""
        waiting = self._send_buffer.size
        return waiting > 0 and waiting + size > self._budget

    def _overflow(self) -> None:
        if self.finish(SLOW_CONSUMER):
            # later: this may be another application's thread
            self._shared.timer.after(0, self.on_overflow)

    def finish(self, reason: str | None) -> bool:
        """Write a close packet (None: nothing), and refuse all others from now on.

        Returns: False when that was done before, or the connection is gone.
        """
        try:
            self._send_buffer.finish(*(() if reason is None else (close_packet(reason),)))
        except LinkClosed:
            return False
        return True

    def warn(self, text: str, *args: object) -> None:
        """Log a warning about this application, each text once in a while."""
        self._warnings.log(logging.WARNING, (self.label, text), f"%s: {text}", self.label, *args)

    @property
    def writable(self) -> bool:
        """Whether little enough is buffered that tunnels may write."""
        return self._send_buffer.size <= self._relay.tunnel_buffer

    def on_writable(self, callback: Callable[[], None]) -> None:
        """Call back once when it is writable: now, or later from any thread."""
        if self.writable:
            callback()
        else:
            self._send_buffer.on_drained_to(self._relay.tunnel_buffer, callback)
