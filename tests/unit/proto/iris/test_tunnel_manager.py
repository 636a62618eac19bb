"""How tunnels to other nodes begin, and what the other end may say: over loopback."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from queue import SimpleQueue
from typing import Any

import pytest

from iris.errors import AuthenticationError, LinkClosed
from iris.proto.iris.tunnel import Tunnel
from iris.proto.wire.clusters import AuthPacket, DataHeader, Header, Op
from iris.proto.wire.link import ClosePacket
from iris.proto.wire.message import Message, Payload
from iris.runtime.interfaces import Interface
from iris.runtime.worker_pool import WorkerPool
from tests.support import tunnels
from tests.support.applications import TunnelEnd
from tests.support.fake_scribe import FakeNetwork
from tests.support.suites import NullSuite
from tests.support.tunnels import CONFIG, LOOPBACK, Site, dialled


@pytest.fixture(name="site")
def _site() -> Iterator[Site]:
    with tunnels.site() as site:
        yield site


# The wire: what a Go node sends at the other end


def test_offer_holds_what_the_other_node_needs(site: Site) -> None:
    offer = site.offer()
    assert (offer.op, offer.src, offer.tun_id, offer.tun_time) == (
        Op.TUNNEL,
        site.caller.id,
        0,
        10 * 10**9,
    )
    assert offer.tun_addrs == [f"127.0.0.1:{site.address[1]}"]
    assert site.offer().tun_id == 1


@pytest.mark.parametrize(
    "message",
    [
        Message(AuthPacket(1)),
        Message(DataHeader(-1), Payload.of(b"x")),
        Message(DataHeader(1)),
        Message(Header(Op.REQUEST), Payload.of(b"x")),
    ],
)
def test_anything_but_data_breaks_the_tunnel(site: Site, message: Message) -> None:
    with dialled(site, site.offer()) as link:
        end = site.end()
        link.send(message)
        end.wait(lambda end: end.closed != [])
        assert "something else than data" in end.closed[0]
    assert end.chunks == []


def test_empty_chunk_of_another_node_is_dropped(site: Site) -> None:
    with dialled(site, site.offer()) as link:
        end = site.end()
        link.send(Message(DataHeader(0), Payload.of(b"")))
        link.send(Message(DataHeader(1), Payload.of(b"x")))
        link.finish()
        end.wait(lambda end: end.closed == [""])
        assert end.chunks == [(1, b"x")]


def test_tunnel_answers_a_close_with_its_own_after_its_data(site: Site) -> None:
    with dialled(site, site.offer()) as link:
        end = site.end()
        end.tunnel.send(2, b"hi")
        end.wait(lambda end: end.credit == 2)
        link.finish()
        deadline = time.monotonic() + 5
        first = link.recv_direct(deadline)
        assert (first.meta, first.data()) == (DataHeader(2), b"hi")
        assert first.payload is not None
        assert len(first.payload.seal()[1]) == 16
        assert link.recv_direct(deadline).meta == ClosePacket()
        with pytest.raises(LinkClosed):
            link.recv_direct(deadline)


# What isn't admitted


def test_wrong_key_is_not_admitted_and_doesnt_use_up_the_tunnel(site: Site) -> None:
    offer = site.offer()
    with pytest.raises((AuthenticationError, LinkClosed)), dialled(site, offer, key=bytes(16)):
        pass
    with dialled(site, offer):
        pass


def test_unknown_tunnel_is_hung_up_on(site: Site) -> None:
    offer = site.offer()
    with pytest.raises(LinkClosed), dialled(site, offer, tun_id=77):
        pass


def test_tunnel_is_admitted_once(site: Site) -> None:
    offer = site.offer()
    with dialled(site, offer):
        site.end()  # only now: the dialler's handshake is over before the listener's
        with pytest.raises(LinkClosed), dialled(site, offer):
            pass


def test_second_one_of_two_handshakes_for_a_tunnel_is_hung_up_on() -> None:
    patient = replace(CONFIG, iris=replace(CONFIG.iris, tunnel_init_timeout=10.0))
    with tunnels.site(patient) as site:
        offer, deadline = site.offer(), time.monotonic() + 10
        proof = Message(AuthPacket(offer.tun_id))
        with (
            dialled(site, offer, prove=False) as first,
            dialled(site, offer, prove=False) as second,
        ):
            for link in (first, second):
                assert link.recv_direct(deadline).meta == proof.meta
            first.send_direct(proof, deadline)
            site.end()
            second.send_direct(proof, deadline)
            with pytest.raises(LinkClosed):
                second.recv_direct(deadline)
            assert site.asked.empty()


def test_tunnel_that_was_given_up_meanwhile_isnt_delivered(site: Site) -> None:
    offer = site.offer()
    site.caller.close()
    with pytest.raises(LinkClosed), dialled(site, offer):
        pass
    assert site.asked.empty()


def test_dialler_that_proves_another_tunnel_isnt_admitted(site: Site) -> None:
    with dialled(site, site.offer(), prove=False) as link:
        deadline = time.monotonic() + 5
        link.send_direct(Message(AuthPacket(77)), deadline)
        assert link.recv_direct(deadline).meta == AuthPacket(0)
        with pytest.raises(LinkClosed):
            link.recv_direct(deadline)


def test_connection_beyond_those_being_admitted_is_hung_up_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    crowded = replace(
        CONFIG,
        iris=replace(CONFIG.iris, tunnel_handshakes=1),
        limits=replace(CONFIG.limits, client_tunnels=1),
    )
    with (
        tunnels.site(crowded) as site,
        socket.create_connection(site.address),
        socket.create_connection(site.address),
        socket.create_connection(site.address) as third,
    ):
        third.settimeout(10)
        assert third.recv(1) == b""
        assert "rejected: limit of" in caplog.text


def test_connection_that_waited_too_long_for_its_turn_is_hung_up_on(site: Site) -> None:
    ours, theirs = socket.socketpair()
    site.here._tunnel_manager._serve((ours, ("192.0.2.1", 1), time.monotonic() - 2))
    assert theirs.recv(1) == b""
    theirs.close()


def test_tunnel_after_the_end_of_its_node_is_hung_up_on(site: Site) -> None:
    offer = site.offer()
    with dialled(site, offer) as link:
        tunnel = site.end().tunnel
        site.here.close()
        late: list[Tunnel] = []
        site.here._tunnel_manager.wrap(link, late.append)
        assert len(late) == 1
        tunnel.close()


def test_closing_a_tunnel_that_gets_no_thread_leaves_nothing_behind(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with dialled(site, site.offer()) as link:
        tunnel = site.asked.get(timeout=10)
        assert tunnel is not None
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            tunnel.close()
        assert tunnels.live(site.here) == 0
        with pytest.raises(LinkClosed):
            link.recv_direct(time.monotonic() + 5)


def test_silent_connection_is_hung_up_on_in_time(site: Site) -> None:
    with socket.create_connection(site.address) as sock:
        sock.settimeout(10)
        assert sock.recv(1) == b""


@pytest.mark.parametrize(
    "garbage", [b"\xff" * 100, bytes(100), b"GET / HTTP/1.0\r\n\r\n", b"\xf8" + b"\x7f" * 8]
)
def test_garbage_is_hung_up_on(site: Site, garbage: bytes) -> None:
    with socket.create_connection(site.address) as sock:
        sock.settimeout(10)
        sock.sendall(garbage)
        with contextlib.suppress(ConnectionResetError):  # as good
            assert sock.recv(1) == b""
    a, _ = site.ends()
    assert a.closed == []


# Dialling


def test_next_address_is_dialled_when_one_leads_nowhere(site: Site) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        socket.create_server(("127.0.0.1", 0)) as gone,
    ):
        addresses = [f"127.0.0.1:{sock.getsockname()[1]}" for sock in (gone, silent)]
        gone.close()
        site.here._tunnel_manager.addresses = [*addresses, *site.here._tunnel_manager.addresses]
        hang_up = threading.Thread(target=lambda: silent.accept()[0].close(), daemon=True)
        hang_up.start()
        a, b = site.ends()
        hang_up.join(10)
    a.tunnel.send(1, b"x")
    b.wait(lambda end: end.data == b"x")


def test_nowhere_to_dial_ends_in_nothing(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    site.here._tunnel_manager.addresses = [address]
    asked = site.ask(timeout=0.5)
    accepted: SimpleQueue[Tunnel | None] = SimpleQueue()
    site.service.offers[0].accept(accepted.put)
    assert accepted.get(timeout=10) is None
    assert asked.get(timeout=10) is None
    assert f"tunnel to {address} failed" in caplog.text
    assert len(site.member.tunnels._dialling) == 0


def test_offer_of_a_local_caller_that_has_given_up_is_not_a_warning(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    accepted: SimpleQueue[Tunnel | None] = SimpleQueue()
    header = Header(
        Op.TUNNEL, 99, tun_key=bytes(16), tun_addrs=site.there.tunnel_addresses, tun_time=10**9
    )
    site.member.handle_offer(header)
    site.service.offers[0].accept(accepted.put)
    assert accepted.get(timeout=10) is None
    assert not caplog.records


def test_offer_beyond_those_being_dialled_is_left(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.ask()
    accepted: SimpleQueue[Tunnel | None] = SimpleQueue()
    site.there._tunnel_manager._dialling = WorkerPool(print, threads=1, limit=0, name="full")
    site.service.offers[0].accept(accepted.put)
    assert accepted.get(timeout=10) is None
    assert "rejected: limit of" in caplog.text


def test_tunnels_to_other_nodes_are_bounded_both_ways(caplog: pytest.LogCaptureFixture) -> None:
    with tunnels.site(replace(CONFIG, limits=replace(CONFIG.limits, tunnels=0))) as site:
        site.ask()
        accepted: SimpleQueue[Tunnel | None] = SimpleQueue()
        site.service.offers[0].accept(accepted.put)
        assert accepted.get(timeout=10) is None
        with socket.create_connection(site.address) as sock:
            sock.settimeout(10)
            assert sock.recv(1) == b""
        handshakes = [site.here.metrics.tunnel_handshakes, site.there.metrics.tunnel_handshakes]
    assert caplog.text.count("rejected: limit of") == 2
    assert handshakes[0]["accepted", "rejected"].value == 1
    assert handshakes[1]["dialled", "rejected"].value == 1


def test_tunnels_are_counted_from_their_handshake_to_the_end_of_their_link(site: Site) -> None:
    here, there = site.here.metrics, site.there.metrics
    a, _ = site.ends()
    assert here.tunnel_handshakes["accepted", "established"].value == 1
    assert there.tunnel_handshakes["dialled", "established"].value == 1
    assert here.tunnels.value == there.tunnels.value == 1
    a.tunnel.close()
    for node in (site.here, site.there):
        tunnels.wait_until_down(node)
        assert node.metrics.tunnels.value == 0


def test_connection_closed_while_dialling_closes_the_tunnel(site: Site) -> None:
    asked = site.ask()
    accepted: SimpleQueue[Tunnel | None] = SimpleQueue()
    dials: list[Any] = []

    def submit(dial: Any, size: int = 1) -> bool:
        dials.append(dial)
        return True

    site.there._tunnel_manager._dialling.submit = submit  # type: ignore[method-assign, assignment]
    site.service.offers[0].accept(accepted.put)
    site.member.close()
    site.there._tunnel_manager._answer(dials[0])
    tunnel = asked.get(timeout=10)
    assert tunnel is not None
    TunnelEnd(tunnel).wait(lambda end: end.closed == [""])


def test_interface_that_is_gone_is_left_out(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    overlay = FakeNetwork(real_timer=site.timer)[1]
    overlay.start_tunnels(
        [Interface("gone", IPv4Address("192.0.2.1"), IPv4Network("192.0.2.0/24")), LOOPBACK]
    )
    assert len(overlay.tunnel_addresses) == 1
    assert "cannot listen for tunnels on gone (192.0.2.1)" in caplog.text
    overlay.close()


def test_tunnels_need_nothing_of_the_classic_suite() -> None:
    with tunnels.site(suite=NullSuite) as site:
        first, second = site.ends()
        first.tunnel.send(5, b"hello")
        second.wait(lambda end: end.chunks == [(5, b"hello")])
        first.tunnel.close()
        second.wait(lambda end: end.closed == [""])
