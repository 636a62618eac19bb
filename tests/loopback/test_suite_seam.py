"""A second suite takes a codec, a handshake and one line: whole nodes speak the null one."""

import contextlib
import random
import socket
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

import iris
from iris import node as composition
from iris.config import BootstrapConfig, Config, RelayConfig
from iris.crypto.keys import generate_key
from iris.node import Node
from iris.proto.session.base import LinkFactory
from iris.runtime.interfaces import Interface
from tests.support.node import free_port
from tests.support.suites import NullSuite
from tests.support.waiting import wait_for

LOOPBACK = Interface("lo", IPv4Address("127.0.0.1"), IPv4Network("127.0.0.0/8"))
PATIENCE = 30.0  # seconds


class Echo(iris.Handler):
    def handle_request(self, request: bytes) -> bytes:
        return request[::-1]

    def handle_tunnel(self, tunnel: iris.Tunnel) -> None:
        tunnel.send(tunnel.recv(PATIENCE)[::-1])


def udp_ports(count: int) -> tuple[int, ...]:
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            for _ in range(count)
        ]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return tuple(sock.getsockname()[1] for sock in sockets)


def test_two_nodes_carry_requests_and_tunnels_by_another_suite(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suites: list[NullSuite] = []

    def null(key: object, links: LinkFactory, **more: Any) -> NullSuite:
        suites.append(NullSuite(links))
        return suites[-1]

    monkeypatch.setattr(composition, "ClassicSuite", null)
    key, shared = generate_key(), BootstrapConfig(ports=udp_ports(2))
    with ExitStack() as stack:
        ports = []
        for seed in range(2):
            ports.append(free_port())
            config = replace(Config(), bootstrap=shared, relay=RelayConfig(port=ports[-1]))
            node = Node("null", key, [LOOPBACK], config=config, rng=random.Random(seed))
            node.start()
            stack.callback(node.stop, 5.0)
        stack.enter_context(iris.register("echo", Echo(), port=ports[0]))
        client = stack.enter_context(iris.connect(ports[1]))

        # until the trees have formed, nothing is known of a service elsewhere
        def answered() -> bool:
            with contextlib.suppress(iris.TimedOut):
                return client.request("echo", b"hello", 1.0) == b"olleh"
            return False

        wait_for(answered, what="an answer from the other node")
        big = random.Random(1).randbytes(1_000_000)
        assert client.request("echo", big, PATIENCE) == big[::-1]
        with client.tunnel("echo", PATIENCE) as tunnel:
            tunnel.send(big)
            assert tunnel.recv(PATIENCE) == big[::-1]
    kinds = {link.kind for suite in suites for session in suite.made for link in session.links}
    assert kinds == {"session"}
