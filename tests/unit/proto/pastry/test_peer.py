import pytest

from iris.proto.pastry.peer import Peer, keeps_old, parse_address, usable
from iris.proto.wire.node_id import NodeId

OWN, OTHER = NodeId(1), NodeId(2)


def peer(local: str, remote: str, *, dialled: bool) -> Peer:
    return Peer(OTHER, (), local, remote, dialled)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # both accepted: the lower client; "10000" is lower than "9999" as text
        (
            peer("10.0.0.1:500", "10.0.0.2:10000", dialled=False),
            peer("10.0.0.1:500", "10.0.0.2:9999", dialled=False),
        ),
        # both dialled: the lower client
        (
            peer("10.0.0.1:10000", "10.0.0.2:500", dialled=True),
            peer("10.0.0.1:9999", "10.0.0.2:500", dialled=True),
        ),
        # opposite directions: the lower server
        (
            peer("10.0.0.1:500", "10.0.0.2:9999", dialled=False),
            peer("10.0.0.1:1000", "10.0.0.2:400", dialled=True),
        ),
        # different networks: the lower host
        (
            peer("10.0.0.1:9999", "10.0.0.2:9999", dialled=False),
            peer("192.168.0.1:1000", "192.168.0.2:400", dialled=True),
        ),
    ],
    ids=["accepted", "dialled", "crossed", "networks"],
)
def test_of_two_connections_the_lower_one_stays(old: Peer, new: Peer) -> None:
    assert keeps_old(OWN, old, new)
    assert not keeps_old(OWN, new, old)


def test_addresses_are_ip_and_port() -> None:
    assert parse_address("10.0.0.1:80") == ("10.0.0.1", 80)


BAD = [
    "", ":", "10.0.0.1", "10.0.0.1:", ":80", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:-1", "10.0.0.1:+1", "10.0.0.1: 1", "10.0.0.1:1e3",
    "10.0.0.1:٣", "10.0.0:80", "010.0.0.1:80", "localhost:80", "[::1]:80", "::1:80", "0.0.0.0:80", "224.0.0.1:80", "255.255.255.255:80",
    "10.0.0.1:80:80", "10.0.0.1:" + "1" * 9999,
]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_addresses_that_nobody_can_listen_on_are_refused(text: str) -> None:
    assert parse_address(text) is None


def test_of_a_peers_addresses_the_usable_ones_are_left() -> None:
    offered = ["junk", "10.0.0.1:80", "127.0.0.1:80", "10.0.0.9:80", "10.0.0.2:80", "10.0.0.2:80"]
    assert usable(offered, ["10.0.0.9:80"]) == ("10.0.0.1:80", "10.0.0.2:80")


def test_loopback_is_usable_for_those_who_are_there() -> None:
    assert usable(["127.0.0.1:80", "127.0.0.1:81"], ["127.0.0.1:80"]) == ("127.0.0.1:81",)


def test_only_so_many_addresses_are_looked_at() -> None:
    assert len(usable((f"10.0.0.{host}:80" for host in range(1, 200)), ())) == 16
