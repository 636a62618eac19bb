"""Which interfaces a node joins on, from made-up machines."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from iris.errors import ConfigError
from iris.runtime.interfaces import Interface, interfaces, is_public, parse, select


def interface(name: str, address: str, network: str) -> Interface:
    return Interface(name, IPv4Address(address), IPv4Network(network))


LO = interface("lo", "127.0.0.1", "127.0.0.0/8")
ETH0 = interface("eth0", "10.1.2.3", "10.1.2.0/24")
ETH0_MORE = interface("eth0", "10.9.0.1", "10.9.0.0/16")
WLAN0 = interface("wlan0", "192.168.7.7", "192.168.7.0/24")
PRESENT = [LO, ETH0, ETH0_MORE, WLAN0]


def test_default_is_everything_but_loopback() -> None:
    assert select(PRESENT) == [ETH0, ETH0_MORE, WLAN0]


def test_loopback_is_the_default_where_there_is_nothing_else() -> None:
    assert select([LO]) == [LO]


def test_a_machine_without_any_interface_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="not even loopback"):
        select([])


def test_a_name_stands_for_all_addresses_of_the_interface() -> None:
    assert select(PRESENT, ["eth0"]) == [ETH0, ETH0_MORE]


def test_an_address_stands_for_itself() -> None:
    assert select(PRESENT, ["10.9.0.1"]) == [ETH0_MORE]


def test_loopback_can_be_asked_for() -> None:
    assert select(PRESENT, ["lo"]) == [LO]


def test_any_address_of_the_loopback_network_can_be_asked_for() -> None:
    assert select(PRESENT, ["127.0.0.9"]) == [interface("lo", "127.0.0.9", "127.0.0.0/8")]


def test_the_order_asked_for_is_kept_and_doubles_are_dropped() -> None:
    assert select(PRESENT, ["wlan0", "eth0", "10.1.2.3", "192.168.7.7"]) == [WLAN0, ETH0, ETH0_MORE]


@pytest.mark.parametrize("wanted", ["eth7", "10.1.2.4", "", "fe80::1", "10.1.2.0/24"])
def test_an_unknown_name_or_address_is_refused_naming_what_exists(wanted: str) -> None:
    with pytest.raises(ConfigError) as refused:
        select(PRESENT, ["eth0", wanted])
    text = str(refused.value)
    assert repr(wanted) in text
    assert "lo (127.0.0.1), eth0 (10.1.2.3), eth0 (10.9.0.1), wlan0 (192.168.7.7)" in text
    assert "\n" not in text


def test_only_interfaces_that_are_up_count() -> None:
    assert parse(
        {"lo", "eth0"},
        [("lo", "127.0.0.1", "255.0.0.0"), ("wlan0", "192.168.7.7", "255.255.255.0")],
    ) == [LO]


def test_a_labelled_address_belongs_to_its_interface() -> None:
    assert parse({"eth0"}, [("eth0:1", "10.9.0.1", "255.255.0.0")]) == [
        interface("eth0:1", "10.9.0.1", "10.9.0.0/16")
    ]


def test_a_link_without_a_mask_reaches_itself_only() -> None:
    assert parse({"tun0"}, [("tun0", "10.8.0.2", None)]) == [
        interface("tun0", "10.8.0.2", "10.8.0.2/32")
    ]


def test_private_documentation_and_loopback_addresses_are_not_public() -> None:
    assert not any(is_public(found) for found in PRESENT)
    assert is_public(interface("eth0", "8.8.4.4", "8.8.4.0/24"))


def test_loopback_of_this_machine_is_found() -> None:
    assert IPv4Address("127.0.0.1") in [found.address for found in interfaces(["127.0.0.1"])]
