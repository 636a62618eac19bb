"""Two nodes with tunnels between them, over loopback.

And the dialling side of a tunnel's handshake, by hand.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from queue import SimpleQueue

from iris.config import Config, IrisConfig, SessionConfig
from iris.proto.iris.overlay import Overlay
from iris.proto.iris.tunnel import Tunnel
from iris.proto.link.classic import derive_links
from iris.proto.link.link import Link
from iris.proto.session.base import LinkFactory, Suite
from iris.proto.session.classic import continue_as_link
from iris.proto.session.gob_stream import GobStream
from iris.proto.wire.clusters import AuthPacket, Header, InitPacket
from iris.proto.wire.message import Message
from iris.proto.wire.node_id import NodeId
from iris.runtime.interfaces import Interface
from iris.runtime.timer import Timer
from tests.support.applications import Application, TunnelEnd
from tests.support.fake_scribe import FakeNetwork
from tests.support.suites import link_factory, tunnel_suite
from tests.support.waiting import wait_for

LOOPBACK = Interface("lo", IPv4Address("127.0.0.1"), IPv4Network("127.0.0.0/8"))
WINDOW = 64 * 1024

CONFIG = replace(
    Config(),
    iris=replace(IrisConfig(), tunnel_window=WINDOW, tunnel_init_timeout=0.3, tunnel_linger=0.2),
    session=replace(SessionConfig(), grace_timeout=0.3),
)


class Site:
    """Two nodes that listen on loopback: a caller on the first, and a service on the second."""

    def __init__(
        self, config: Config = CONFIG, suite: Callable[[LinkFactory], Suite] = tunnel_suite
    ) -> None:
        self.timer = Timer()
        self.timer.start()
        self.network = FakeNetwork([1, 2], config=config, real_timer=self.timer, suite=suite)
        self.here, self.there = self.network[1], self.network[2]
        self.here.start_tunnels([LOOPBACK])
        self.there.start_tunnels([LOOPBACK])
        self.service, self.caller = Application(), self.here.connect("", Application())
        self.member = self.there.connect("workers", self.service)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.here.tunnel_addresses[0].rpartition(":")
        return host, int(port)

    def ask(self, timeout: float = 10.0) -> "SimpleQueue[Tunnel | None]":
        self.asked: SimpleQueue[Tunnel | None] = SimpleQueue()
        self.caller.tunnels.request("workers", timeout, self.asked.put)
        return self.asked

    def tunnels(self) -> tuple[Tunnel, Tunnel]:
        asked, accepted = self.ask(), SimpleQueue[Tunnel | None]()
        self.service.offers.pop().accept(accepted.put)
        first, second = asked.get(timeout=10), accepted.get(timeout=10)
        assert first is not None
        assert second is not None
        return first, second

    def ends(self, *, slow: bool = False) -> tuple[TunnelEnd, TunnelEnd]:
        first, second = self.tunnels()
        return TunnelEnd(first, slow=slow), TunnelEnd(second, slow=slow)

    def offer(self) -> Header:
        """Ask for a tunnel, and get the header that the other node gets."""
        self.ask()
        _, _, message = self.network.nodes[NodeId(1)].sent[-1]
        assert isinstance(message.meta, Header)
        return message.meta

    def end(self) -> TunnelEnd:
        """What became of the tunnel that was asked for last."""
        tunnel = self.asked.get(timeout=10)
        assert tunnel is not None
        return TunnelEnd(tunnel)

    def close(self) -> None:
        self.here.close()
        self.there.close()
        self.timer.close()


def live(overlay: Overlay) -> int:
    return len(overlay._tunnel_manager._tunnels)


def wait_until_down(overlay: Overlay) -> None:
    wait_for(lambda: live(overlay) == 0, 10.0)


@contextmanager
def site(
    config: Config = CONFIG, suite: Callable[[LinkFactory], Suite] = tunnel_suite
) -> Iterator[Site]:
    """A site that leaves no thread behind."""
    before = set(threading.enumerate())
    made = Site(config, suite)
    try:
        yield made
    finally:
        made.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive(), thread


@contextmanager
def dialled(
    site: Site,
    offer: Header,
    *,
    key: bytes | None = None,
    tun_id: int | None = None,
    prove: bool = True,
) -> Iterator[Link]:
    """The dialling side of the handshake, by hand."""
    deadline = time.monotonic() + 5
    sock = socket.create_connection(site.address)
    links = link_factory()
    stream = GobStream(sock, deadline, links.limits)
    stream.send(InitPacket(offer.src, offer.tun_id if tun_id is None else tun_id))
    keys = next(derive_links(key or offer.tun_key, server=False))
    link = continue_as_link(stream, keys, "tunnel", links)
    try:
        if prove:
            link.send_direct(Message(AuthPacket(offer.tun_id)), deadline)
            assert link.recv_direct(deadline).meta == AuthPacket(offer.tun_id)
        yield link
    finally:
        link.abort()
