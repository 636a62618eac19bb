"""Tunnels between two nodes, over loopback: data, credit and close.

How they begin is in test_tunnel_manager.py.
"""

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from iris.proto.iris.tunnel_link import LinkTunnel
from iris.proto.wire.clusters import DataHeader
from iris.proto.wire.message import Message, Payload
from iris.runtime.batch import Batch
from iris.runtime.send_buffer import SendBuffer
from tests.support import tunnels
from tests.support.applications import TunnelEnd
from tests.support.tunnels import CONFIG, WINDOW, Site, live, wait_until_down

PEER_LOST = "the other application disconnected, or its node"


@pytest.fixture(name="site")
def _site() -> Iterator[Site]:
    with tunnels.site() as site:
        yield site


def test_data_goes_both_ways_in_order(site: Site) -> None:
    a, b = site.ends()
    a.tunnel.send(6, b"abc")
    a.tunnel.send(0, b"def")
    b.tunnel.send(1, b"x")
    b.wait(lambda end: len(end.chunks) == 2)
    a.wait(lambda end: len(end.chunks) == 1)
    assert b.chunks == [(6, b"abc"), (0, b"def")]
    assert a.chunks == [(1, b"x")]


def test_other_application_is_asked_before_anybody_dials(site: Site) -> None:
    asked = site.ask(timeout=0.2)
    assert asked.get(timeout=10) is None
    site.service.offers[0].accept(asked.put)
    assert asked.get(timeout=10) is None
    assert live(site.here) == live(site.there) == 0


def test_credit_comes_when_data_has_left(site: Site) -> None:
    a, b = site.ends()
    a.tunnel.send(100, bytes(100))
    a.wait(lambda end: end.credit == 100)
    b.wait(lambda end: len(end.data) == 100)


def test_slow_consumer_throttles_the_sender_and_loses_nothing(site: Site) -> None:
    a, b = site.ends(slow=True)
    chunk, sent = bytes(16 * 1024), 0
    while a.credit == sent:  # until the network takes no more
        a.tunnel.send(len(chunk), chunk)
        sent += len(chunk)
    for _ in range(20):
        a.tunnel.send(len(chunk), chunk)
        sent += len(chunk)
    b.wait(lambda end: end.unconsumed > WINDOW)
    assert a.credit < sent
    while len(b.data) < sent:
        b.wait(lambda end: end.unconsumed > 0)
        b.consume()
    a.wait(lambda end: end.credit == sent)
    assert b.most_unconsumed <= WINDOW + len(chunk)


def test_waiting_for_a_slow_consumer_holds_back_nothing_that_was_passed_on(site: Site) -> None:
    first, second = site.tunnels()
    far, near = socket.socketpair()
    buffer = SendBuffer(near, name="client", limit=1 << 20)

    class Client(TunnelEnd):
        def handle_chunk(self, size: int, chunk: bytes) -> None:
            buffer.write(chunk)  # gathers in the reading thread's batch
            super().handle_chunk(size, chunk)

    a, b = TunnelEnd(first), Client(second, slow=True)
    chunk = bytes(WINDOW + 1)
    a.tunnel.send(len(chunk), chunk)
    far.settimeout(10)
    received = 0
    while received < len(chunk):  # arrives, although the reading thread waits inside of its batch
        received += len(far.recv(1 << 20))
    b.consume()
    far.close()
    near.close()


def test_close_arrives_after_all_data(site: Site) -> None:
    a, b = site.ends()
    with Batch():
        for number in range(200):
            a.tunnel.send(5000, bytes([number]) * 5000)
        a.tunnel.close()
    b.wait(lambda end: end.closed != [])
    assert b.data == b"".join(bytes([number]) * 5000 for number in range(200))
    assert (a.closed, b.closed) == ([], [""])
    wait_until_down(site.here)
    wait_until_down(site.there)


def test_close_waits_for_a_slow_consumer_longer_than_a_links_grace() -> None:
    patient = replace(
        CONFIG,
        iris=replace(CONFIG.iris, tunnel_linger=10.0),
        session=replace(CONFIG.session, grace_timeout=0.0),
    )
    with tunnels.site(patient) as site:
        a, b = site.ends(slow=True)
        chunk = bytes(1 << 16)
        for _ in range(200):
            a.tunnel.send(len(chunk), chunk)
        a.tunnel.close()
        while not b.closed:
            b.wait(lambda end: end.unconsumed > 0 or end.closed != [])
            b.consume()
        assert len(b.data) == 200 * len(chunk)
        assert b.closed == [""]


def test_closed_tunnel_without_progress_is_given_up(site: Site) -> None:
    a, b = site.ends(slow=True)
    chunk = bytes(1 << 16)
    for _ in range(500):
        a.tunnel.send(len(chunk), chunk)
    a.tunnel.close()
    wait_until_down(site.here)
    while not b.closed:
        b.wait(lambda end: end.unconsumed > 0 or end.closed != [])
        b.consume()
    assert b.closed == [PEER_LOST] or b.closed[0].startswith("the tunnel broke: ")


def test_built_and_closed_at_once_ends_at_both_ends(site: Site) -> None:
    first, second = site.tunnels()
    first.close()
    b = TunnelEnd(second)
    b.wait(lambda end: end.closed == [""])
    wait_until_down(site.here)
    wait_until_down(site.there)


def test_closed_end_drops_what_still_comes(site: Site) -> None:
    a, b = site.ends(slow=True)
    for _ in range(10):
        a.tunnel.send(WINDOW, bytes(WINDOW))
    b.wait(lambda end: end.unconsumed > WINDOW)
    b.tunnel.close()  # wakes the reading thread too
    a.wait(lambda end: end.closed == [""])
    assert b.closed == []
    wait_until_down(site.here)
    wait_until_down(site.there)


def test_both_ends_closing_at_once_is_fine(site: Site) -> None:
    a, b = site.ends()
    a.tunnel.close()
    b.tunnel.close()
    wait_until_down(site.here)
    wait_until_down(site.there)
    assert a.closed in ([], [""])


def test_dying_node_closes_the_tunnel_with_a_reason(site: Site) -> None:
    a, b = site.ends()
    for tunnel in list(site.there._tunnel_manager._tunnels):
        tunnel.abort()
    a.wait(lambda end: end.closed != [])
    assert a.closed == [PEER_LOST]
    assert b.closed == []
    a.tunnel.send(1, b"x")  # ignored
    a.tunnel.close()


def test_a_link_that_is_spoilt_closes_the_tunnel_with_what_broke(site: Site) -> None:
    first, second = site.tunnels()
    a = TunnelEnd(first)
    assert isinstance(second, LinkTunnel)
    second._link.send(Message(DataHeader(-1), Payload.of(b"x")))
    a.wait(lambda end: end.closed != [])
    assert a.closed == ["tunnel broken: a tunnel's peer sent something else than data"]


@pytest.mark.parametrize("started", [True, False])
def test_a_disconnect_is_distinguished_from_a_close_after_all_data(
    site: Site, *, started: bool
) -> None:
    first, second = site.tunnels()
    b = TunnelEnd(second)
    if started:
        TunnelEnd(first)
    with Batch():
        for number in range(200):
            first.send(5000, bytes([number]) * 5000)
        site.caller.close(disconnected=True)
    b.wait(lambda end: end.closed != [])
    assert b.data == b"".join(bytes([number]) * 5000 for number in range(200))
    assert b.closed == [PEER_LOST]
    wait_until_down(site.here)
    wait_until_down(site.there)


def test_closing_a_connection_closes_its_tunnels_after_their_data(site: Site) -> None:
    a, b = site.ends()
    a.tunnel.send(1, b"x")
    site.caller.close()
    b.wait(lambda end: end.closed != [])
    assert (b.data, b.closed, a.closed) == (b"x", [""], [])


def test_overlay_gives_tunnels_time_to_send_what_they_hold(site: Site) -> None:
    a, b = site.ends()
    chunk = bytes(1 << 16)
    with Batch():
        for _ in range(50):
            a.tunnel.send(len(chunk), chunk)
    site.here.close()
    b.wait(lambda end: end.closed == [""])
    assert len(b.data) == 50 * len(chunk)


def test_ends_that_have_not_started_are_closed_too(site: Site) -> None:
    first, _ = site.tunnels()
    site.there.close()
    a = TunnelEnd(first)
    a.wait(lambda end: end.closed == [""])
