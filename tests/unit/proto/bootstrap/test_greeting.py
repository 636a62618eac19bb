"""What is taken for a node's datagram, and what isn't."""

from dataclasses import replace

import pytest

from iris.gobber import Datagrams
from iris.proto.bootstrap.greeting import MAX_SIZE, Greeting
from iris.proto.wire.bootstrap import Message

GOOD = Message("v0.3", b"demo", 42, 40_123, True)


def read(message: Message, network: str = "demo") -> Message | None:
    return Greeting(network, 7, 1).read(Datagrams(Message).encode(message))


def test_requests_and_responses_of_the_network_are_understood() -> None:
    alice, bob = Greeting("demo", 42, 40_123), Greeting("demo", 7, 1)
    assert bob.read(alice.request) == GOOD
    assert bob.read(alice.response) == replace(GOOD, request=False)


@pytest.mark.parametrize("network", ["", "d", "größer"])
def test_any_name_of_a_network_works(network: str) -> None:
    assert read(replace(GOOD, magic=network.encode()), network) is not None


def test_the_own_node_is_ignored() -> None:
    assert read(replace(GOOD, node_id=7)) is None


@pytest.mark.parametrize("magic", [b"", b"dem", b"demos", b"Demo", b"xdemox"])
def test_other_networks_are_ignored(magic: bytes) -> None:
    assert read(replace(GOOD, magic=magic)) is None


@pytest.mark.parametrize("version", ["", "v0.2", "v0.30", "v0.3 "])
def test_other_versions_are_ignored(version: str) -> None:
    assert read(replace(GOOD, version=version)) is None


@pytest.mark.parametrize("node_id", [None, -1, 1 << 40, 1 << 200])
def test_ids_out_of_range_are_ignored(node_id: int | None) -> None:
    assert read(replace(GOOD, node_id=node_id)) is None


@pytest.mark.parametrize("node_id", [0, (1 << 40) - 1])
def test_ids_up_to_the_bounds_are_taken(node_id: int) -> None:
    assert read(replace(GOOD, node_id=node_id)) is not None


@pytest.mark.parametrize("port", [-1, 0, 65_536, 1 << 60])
def test_impossible_ports_are_ignored(port: int) -> None:
    assert read(replace(GOOD, overlay=port)) is None


def test_oversized_datagrams_are_ignored() -> None:
    assert (
        Greeting("demo", 7, 1).read(Greeting("demo", 42, 1).request.ljust(MAX_SIZE + 1, b"\0"))
        is None
    )


def test_every_truncation_of_a_datagram_is_ignored() -> None:
    data = Greeting("demo", 42, 40_123).request
    reader = Greeting("demo", 7, 1)
    assert [reader.read(data[:size]) for size in range(len(data))] == [None] * len(data)


def test_no_damage_to_a_datagram_is_more_than_ignored() -> None:
    data = Greeting("demo", 42, 40_123).request
    reader = Greeting("demo", 7, 1)
    read = [
        reader.read(data[:at] + bytes([value]) + data[at + 1 :])
        for at in range(len(data))
        for value in range(256)
    ]
    assert read.count(None) > len(read) // 2
    assert GOOD in read  # each byte's own value is among those
