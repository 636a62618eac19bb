"""Both ends of two connections keep the same one, whatever the connections are."""

from dataclasses import dataclass

from hypothesis import assume, given
from hypothesis import strategies as st

from iris.proto.pastry.peer import Peer, keeps_old
from iris.proto.wire.node_id import NodeId

LOW, HIGH = NodeId(3), NodeId(9)
HOSTS = st.sampled_from(
    [
        "10.0.0.1",
        "10.0.0.2",
        "10.0.17.1",
        "10.0.100.1",
        "10.0.18.1",
        "10.0.97.1",
        "192.168.0.1",
        "9.1.1.1",
    ]
)
PORTS = st.integers(1, 65_535)


@dataclass(frozen=True)
class Connection:
    """Its ends at the node with the lower id and at the other, and which one dialled."""

    low: str
    high: str
    by_low: bool

    def seen_by(self, node: NodeId) -> Peer:
        if node == LOW:
            return Peer(HIGH, (), self.low, self.high, self.by_low)
        return Peer(LOW, (), self.high, self.low, not self.by_low)


@st.composite
def connections(draw: st.DrawFn) -> tuple[Connection, Connection]:
    """Two connections between two nodes with up to two hosts each.

    A node listens on one port of a host.
    """
    low_hosts, high_hosts = (
        draw(st.lists(HOSTS, min_size=1, max_size=2)),
        draw(st.lists(HOSTS, min_size=1, max_size=2)),
    )
    listens = {
        (node, host): draw(PORTS)
        for node, hosts in ((LOW, low_hosts), (HIGH, high_hosts))
        for host in hosts
    }

    def connection() -> Connection:
        low, high, by_low = (
            draw(st.sampled_from(low_hosts)),
            draw(st.sampled_from(high_hosts)),
            draw(st.booleans()),
        )
        low_port = draw(PORTS) if by_low else listens[LOW, low]
        high_port = listens[HIGH, high] if by_low else draw(PORTS)
        return Connection(f"{low}:{low_port}", f"{high}:{high_port}", by_low)

    first, second = connection(), connection()
    # no two connections have the same ends
    assume((first.low, first.high) != (second.low, second.high))
    return first, second


@given(connections())
def test_both_ends_keep_the_same_connection_whichever_came_first(
    pair: tuple[Connection, Connection],
) -> None:
    first, second = pair
    kept = set()
    for node in (LOW, HIGH):
        for old, new in ((first, second), (second, first)):
            kept.add(old if keeps_old(node, old.seen_by(node), new.seen_by(node)) else new)
    assert len(kept) == 1


@given(connections())
def test_on_one_network_the_choice_is_the_references(pair: tuple[Connection, Connection]) -> None:
    """The rules of Go's dedup where they are the same at both ends: one host each."""
    old, new = pair
    hosts = {
        (connection.low.partition(":")[0], connection.high.partition(":")[0]) for connection in pair
    }
    assume(len(hosts) == 1)
    if old.low == new.low:
        expected = old.high < new.high
    elif old.high == new.high:
        expected = old.low < new.low
    else:
        servers = [connection.high if connection.by_low else connection.low for connection in pair]
        assume(servers[0] != servers[1])
        expected = servers[0] < servers[1]
    for node in (LOW, HIGH):
        assert keeps_old(node, old.seen_by(node), new.seen_by(node)) == expected
