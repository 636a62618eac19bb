import pytest

from iris.proto.addresses import MAX_ADDRESSES, dialable, parse_address

MALFORMED = [
    "", ":", "10.0.0.1", "10.0.0.1:", ":80", "host:80", "localhost:80", "10.0.0:80", "010.0.0.1:80",
    "10.0.0.1:80:80", "[::1]:80", "::1:80", " 10.0.0.1:80", "10.0.0.1:80\n",
    "\uff110.0.0.1:80", "10.0.0.1:x", "10.0.0.1: 1", "10.0.0.1:1e3",
    "10.0.0.1:-80", "10.0.0.1:+80", "10.0.0.1:1_000", "10.0.0.1:\u0663", "10.0.0.1:\uff18\uff10",
    "10.0.0.1:" + "1" * 5000, "10.0.0.1" * 5000 + ":80", "10.0.0.1:000080",
]  # fmt: skip
NOWHERE = ["10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:99999", "0.0.0.0:80", "224.0.0.1:80",
           "239.255.255.255:80", "255.255.255.255:80"]  # fmt: skip


def test_an_address_is_an_ip_and_a_port() -> None:
    assert parse_address("10.0.0.1:80") == ("10.0.0.1", 80)
    assert parse_address("255.255.255.254:65535") == ("255.255.255.254", 65_535)


@pytest.mark.parametrize("text", MALFORMED + NOWHERE)
def test_what_nobody_can_listen_on_is_refused_and_the_others_stay(text: str) -> None:
    assert parse_address(text) is None
    assert dialable([text, "10.0.0.1:80"], ["10.0.0.9:7"]) == (("10.0.0.1", 80),)


def test_own_addresses_and_repeated_ones_are_left_out() -> None:
    offered = ["10.0.0.1:80", "10.0.0.9:7", "10.0.0.2:80", "10.0.0.2:80", "10.0.0.1:080"]
    assert dialable(offered, ["10.0.0.9:7"]) == (("10.0.0.1", 80), ("10.0.0.2", 80))


def test_loopback_is_dialled_only_where_this_node_is_on_it() -> None:
    offered = ["127.0.0.1:80", "127.0.0.1:81", "127.3.2.1:80"]
    assert dialable(offered, ["10.0.0.9:7"]) == ()
    assert dialable(offered, ["127.0.0.1:80"]) == (("127.0.0.1", 81), ("127.3.2.1", 80))


def test_only_so_many_addresses_of_one_node_are_considered() -> None:
    assert len(dialable((f"10.0.0.{host}:80" for host in range(1, 200)), ())) == MAX_ADDRESSES
    assert dialable(["junk"] * MAX_ADDRESSES + ["10.0.0.1:80"], ()) == ()
