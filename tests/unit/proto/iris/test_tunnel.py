from dataclasses import replace

import pytest

from iris.config import Config, IrisConfig, Limits
from iris.errors import LimitReached
from iris.proto.iris.connection import Connection
from iris.proto.iris.tunnel import Tunnel, local_pair
from tests.support.applications import Application, TunnelEnd
from tests.support.fake_scribe import FakeNetwork

WINDOW, LIMIT = 100, 10_000


def small(**limits: int) -> Config:
    return replace(
        Config(),
        iris=replace(IrisConfig(), tunnel_window=WINDOW),
        limits=replace(Limits(), **limits),
    )


class Pair:
    """A tunnel between two connections of one node."""

    def __init__(self) -> None:
        self.network = FakeNetwork(config=small())
        self.service = Application()
        self.there = self.network[1].connect("workers", self.service)
        self.here = self.network[1].connect("", Application())
        self.tunnels: list[Tunnel | None] = []
        self.here.tunnels.request("workers", 1.0, self.tunnels.append)
        self.service.offers[0].accept(self.tunnels.append)

    def ends(self, *, slow: bool = False) -> tuple[TunnelEnd, TunnelEnd]:
        first, second = self.tunnels
        assert first is not None
        assert second is not None
        return TunnelEnd(first, slow=slow), TunnelEnd(second, slow=slow)


def live(connection: Connection) -> int:
    return len(connection.tunnels._open)


def test_offer_that_is_accepted_too_late_leads_nowhere() -> None:
    network = FakeNetwork()
    service = Application()
    network[1].connect("workers", service)
    tunnels: list[Tunnel | None] = []
    network[1].connect("", Application()).tunnels.request("workers", 1.0, tunnels.append)
    network.timer.now = 1.5  # before the deadline's turn
    service.offers[0].accept(tunnels.append)
    assert tunnels == [None]


def test_failing_consumer_doesnt_jam_the_tunnel() -> None:
    first, second = local_pair(WINDOW, LIMIT, lambda tunnel: None, lambda tunnel: None)

    class Failing(TunnelEnd):
        def handle_chunk(self, size: int, chunk: bytes) -> None:
            super().handle_chunk(size, chunk)
            if chunk == b"bad":
                raise RuntimeError("our bug")

    a, b = TunnelEnd(first), Failing(second)
    with pytest.raises(RuntimeError):
        a.tunnel.send(3, b"bad")
    a.tunnel.send(4, b"good")
    assert b.data == b"badgood"


def test_both_ends_get_a_tunnel() -> None:
    pair = Pair()
    assert len(pair.tunnels) == 2
    assert pair.tunnels[0] is not pair.tunnels[1]
    pair.network.run(2.0)  # the deadline is gone
    assert None not in pair.tunnels
    assert live(pair.here) == live(pair.there) == 1


def test_data_goes_both_ways_in_order() -> None:
    a, b = Pair().ends()
    a.tunnel.send(6, b"abc")
    a.tunnel.send(0, b"def")
    b.tunnel.send(1, b"x")
    assert b.chunks == [(6, b"abc"), (0, b"def")]
    assert a.chunks == [(1, b"x")]


def test_credit_comes_when_the_other_end_consumed() -> None:
    a, b = Pair().ends(slow=True)
    a.tunnel.send(3, b"abc")
    assert a.credit == 0
    b.consume()
    assert a.credit == 3


def test_no_more_than_a_window_is_handed_out() -> None:
    a, b = Pair().ends(slow=True)
    for _ in range(10):
        a.tunnel.send(40, bytes(40))
    assert len(b.chunks) == 3  # the third one crosses the window
    b.consume()
    assert len(b.chunks) == 6
    while b.unconsumed:
        b.consume()
    assert len(b.chunks) == 10
    assert a.credit == 400


def test_countless_tiny_chunks_are_refused_for_what_they_cost() -> None:
    first, second = local_pair(WINDOW, LIMIT, lambda tunnel: None, lambda tunnel: None)

    def flood() -> None:
        for _ in range(LIMIT):
            first.send(1, b"x")

    with pytest.raises(LimitReached):
        flood()
    first.close()
    other = TunnelEnd(second)
    assert 0 < len(other.chunks) < LIMIT / 50
    assert other.closed == [""]


def test_empty_chunk_is_not_sent() -> None:
    a, b = Pair().ends()
    a.tunnel.send(0, b"")
    assert (b.chunks, b.closed) == ([], [])


def test_what_is_sent_before_the_other_end_starts_waits_for_it() -> None:
    pair = Pair()
    first, second = pair.tunnels
    assert first is not None
    assert second is not None
    a = TunnelEnd(first)
    a.tunnel.send(1, b"x")
    a.tunnel.close()
    b = TunnelEnd(second)
    assert (b.chunks, b.closed) == ([(1, b"x")], [""])


def test_close_arrives_after_all_data() -> None:
    a, b = Pair().ends(slow=True)
    for number in range(10):
        a.tunnel.send(50, bytes([number]) * 50)
    a.tunnel.close()
    while len(b.chunks) < 10:
        assert b.closed == []
        b.consume()
    assert b.closed == [""]
    assert a.closed == []


def test_closing_twice_or_after_the_other_end_has_no_effect() -> None:
    a, b = Pair().ends()
    a.tunnel.close()
    a.tunnel.close()
    b.tunnel.close()
    assert (a.closed, b.closed) == ([], [""])


def test_end_that_closes_gets_nothing_more_and_the_other_gets_its_credit_back() -> None:
    a, b = Pair().ends(slow=True)
    for _ in range(5):
        a.tunnel.send(50, bytes(50))
    b.tunnel.close()
    assert a.credit == 250
    assert a.closed == [""]
    assert len(b.chunks) == 3
    b.consume()
    a.tunnel.send(1, b"x")
    assert (len(b.chunks), a.credit) == (3, 250)


def test_built_and_closed_at_once_ends_at_both_ends() -> None:
    pair = Pair()
    first, second = pair.tunnels
    assert first is not None
    assert second is not None
    first.close()
    b = TunnelEnd(second)
    assert b.closed == [""]
    assert live(pair.here) == live(pair.there) == 0


def test_closing_a_connection_closes_its_tunnels_after_their_data() -> None:
    pair = Pair()
    a, b = pair.ends()
    a.tunnel.send(1, b"x")
    pair.here.close()
    assert (b.chunks, b.closed, a.closed) == ([(1, b"x")], [""], [])
    assert live(pair.here) == live(pair.there) == 0


def test_a_disconnect_is_distinguished_from_a_close_after_all_data() -> None:
    pair = Pair()
    a, b = pair.ends(slow=True)
    for number in range(10):
        a.tunnel.send(50, bytes([number]) * 50)
    pair.here.close(disconnected=True)
    while len(b.chunks) < 10:
        assert b.closed == []
        b.consume()
    assert (a.closed, b.closed) == ([], ["the other application disconnected"])
    assert live(pair.here) == live(pair.there) == 0


def test_a_disconnect_while_a_tunnel_is_built_reaches_the_other_end() -> None:
    network, service = FakeNetwork(), Application()
    there = network[1].connect("workers", service)
    ends: list[TunnelEnd] = []

    def built(tunnel: Tunnel | None) -> None:
        assert tunnel is not None
        there.close(disconnected=True)
        ends.append(TunnelEnd(tunnel))

    network[1].connect("", Application()).tunnels.request("workers", 1.0, built)
    service.offers[0].accept(lambda tunnel: None)
    assert ends[0].closed == ["the other application disconnected"]


def test_a_tunnel_that_was_closed_before_its_application_disconnected_was_closed() -> None:
    pair = Pair()
    a, b = pair.ends()
    a.tunnel.close()
    pair.here.close(disconnected=True)
    a.tunnel.break_off()
    assert b.closed == [""]


def test_refused_or_ignored_offer_times_out() -> None:
    network = FakeNetwork()
    service = Application()
    network[1].connect("workers", service)
    tunnels: list[Tunnel | None] = []
    caller = network[1].connect("", Application())
    for _ in range(2):
        caller.tunnels.request("workers", 1.0, tunnels.append)
    assert [offer.timeout for offer in service.offers] == [1.0, 1.0]
    service.offers[0].refuse()
    service.offers[0].accept(tunnels.append)
    network.run(0.9)
    assert tunnels == []
    network.run(0.2)
    assert tunnels == [None, None]
    service.offers[1].accept(tunnels.append)
    assert tunnels == [None] * 3


def test_tunnel_without_any_time_is_not_asked_for() -> None:
    network = FakeNetwork()
    tunnels: list[Tunnel | None] = []
    network[1].connect("", Application()).tunnels.request("workers", 0.0, tunnels.append)
    assert tunnels == [None]
    assert network.nodes[next(iter(network.nodes))].sent == []


def test_offer_of_a_closed_connection_cannot_be_accepted() -> None:
    pair = Pair()
    pair.here.tunnels.request("workers", 1.0, pair.tunnels.append)
    pair.here.close()
    pair.there.close()
    pair.service.offers[1].accept(pair.tunnels.append)
    assert pair.tunnels[2:] == [None]


def test_tunnels_are_bounded_at_both_ends() -> None:
    network = FakeNetwork(config=small(client_tunnels=2))
    service = Application()
    network[1].connect("workers", service)
    caller = network[1].connect("", Application())
    other = network[1].connect("", Application())
    tunnels: list[Tunnel | None] = []
    for _ in range(2):
        caller.tunnels.request("workers", 1.0, tunnels.append)
    with pytest.raises(LimitReached):
        caller.tunnels.request("workers", 1.0, tunnels.append)
    other.tunnels.request("workers", 1.0, tunnels.append)
    for offer in service.offers:
        offer.accept(tunnels.append)
    assert tunnels.count(None) == 1  # the service's own bound
    assert network[1].metrics.rejected["tunnel"].value == 1
    assert len(tunnels) == 5
    other.tunnels.request("workers", 1.0, tunnels.append)
    assert len(service.offers) == 3
    network.run(1.0)
    assert tunnels.count(None) == 3


def test_tunnel_picks_its_tree_by_its_id_and_has_a_key_of_its_own() -> None:
    network = FakeNetwork()
    node = network.nodes[next(iter(network.nodes))]
    caller = network[1].connect("", Application())
    for _ in range(6):
        caller.tunnels.request("workers", 1.0, lambda tunnel: None)
    assert [topic for _, topic, _ in node.sent] == [
        f"c#{split}-workers" for split in (0, 1, 2, 3, 4, 0)
    ]
    keys = {message.meta.tun_key for _, _, message in node.sent}  # type: ignore[attr-defined]
    assert len(keys) == 6
    assert {len(key) for key in keys} == {16}
    # so that it has a key on the wire
    assert all(message.payload is not None for _, _, message in node.sent)
