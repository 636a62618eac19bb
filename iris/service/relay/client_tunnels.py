"""The tunnels of one application, by its numbers, and the offers that it may confirm. Core.

Counterpart of the tunnel half of Go's service/relay/events.go. `tunnel.py` is what happens inside
of one.
"""

import itertools
from functools import partial

from iris.errors import LimitReached, ProtocolError
from iris.proto.iris.connection import Connection
from iris.proto.iris.tunnel import TunnelOffer
from iris.relay_protocol import node_packets as packets
from iris.runtime.timer import TimerEntry
from iris.service.relay.base import Shared
from iris.service.relay.tunnel import RelayTunnel
from iris.service.relay.writer import ClientWriter


class ClientTunnels:
    """Carry out the application's tunnel packets, and offer it the tunnels of others."""

    def __init__(self, writer: ClientWriter, shared: Shared) -> None:
        self._writer, self._shared = writer, shared
        self._config = shared.config.relay
        self._build_ids = itertools.count()
        self._offers: dict[int, tuple[TunnelOffer, TimerEntry]] = {}  # by build id
        self._open: dict[int, RelayTunnel] = {}  # by the client's number, also those being built

    def init(self, connection: Connection, number: int, cluster: str, timeout: int) -> None:
        """Ask a cluster for a tunnel; `timeout` in milliseconds."""
        tunnel = self._new(number, accepted=False)
        try:
            connection.tunnels.request(cluster, timeout / 1_000, tunnel.built)
        except LimitReached as exc:
            self._shared.metrics.rejected["tunnel"].inc()
            self._writer.warn("tunnel rejected: %s", exc)
            tunnel.built(None)

    def _new(self, number: int, *, accepted: bool) -> RelayTunnel:
        if number in self._open:
            raise ProtocolError(f"tunnel {number} exists already")
        tunnel = self._open[number] = RelayTunnel(
            number, self._writer, self._forget, self._shared.config, accepted=accepted
        )
        return tunnel

    def _forget(self, number: int) -> None:
        self._open.pop(number, None)

    def offer(self, offer: TunnelOffer) -> None:
        """Offer a tunnel, unless the application reads too slowly."""
        if self._writer.reject_if_full(0, "tunnel"):
            offer.refuse()
            return
        build_id = next(self._build_ids)
        deadline = self._shared.timer.after(
            self._config.tunnel_confirm_timeout, partial(self._expire, build_id)
        )
        self._offers[build_id] = (offer, deadline)
        self._writer.send(packets.tunnel_init(build_id, self._config.chunk_limit))

    def _expire(self, build_id: int) -> None:
        entry = self._offers.pop(build_id, None)
        if entry is not None:
            timeout = self._config.tunnel_confirm_timeout
            self._writer.warn("no confirmation of a tunnel within %g s", timeout)
            entry[0].refuse()

    def confirm(self, build_id: int, number: int) -> None:
        """Accept an offer; one that is over is answered with a close."""
        tunnel = self._new(number, accepted=True)
        entry = self._offers.pop(build_id, None)
        if entry is None:
            self._forget(number)
            self._writer.send(packets.tunnel_close(number, "tunnel is no longer offered"))
            return
        offer, deadline = entry
        self._shared.timer.cancel(deadline)
        offer.accept(tunnel.built)

    # Packets of a tunnel that the other end has just closed are ignored

    def allow(self, number: int, space: int) -> None:
        """Grant a tunnel's sender credit."""
        if (tunnel := self._open.get(number)) is not None:
            tunnel.allow(space)

    def transfer(self, number: int, size: int, chunk: bytes) -> None:
        """Send a chunk."""
        if (tunnel := self._open.get(number)) is not None:
            tunnel.transfer(size, chunk)

    def close(self, number: int) -> None:
        """Close a tunnel."""
        if (tunnel := self._open.get(number)) is not None:
            tunnel.close()

    def release(self) -> None:
        """Let go of everything: the application has ended, and its connection."""
        for tunnel in list(self._open.values()):
            tunnel.abandon()
        for build_id in list(self._offers):
            if (entry := self._offers.pop(build_id, None)) is not None:
                self._shared.timer.cancel(entry[1])
                entry[0].refuse()
