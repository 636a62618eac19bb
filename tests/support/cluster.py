"""A network of nodes on several hosts, and applications that exercise it in real time."""

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import pytest

from tests.support.client import Client, TimedOut
from tests.support.lab import Host, Lab, Process
from tests.support.waiting import wait_for

T = TypeVar("T")

PROBE = "probe by"


@dataclass
class Node:
    """A running node, and how to attach to it."""

    host: Host
    process: Process
    port: int = 55555

    def client(self, cluster: str = "", **callbacks: Any) -> Client:
        with self.host.inside():
            return Client(self.port, cluster, **callbacks)

    @property
    def name(self) -> str:
        return f"{self.host.name}:{self.port}"


def start(lab: Lab, key: Path, host: Host, port: int = 55555) -> Node:
    """A node of ours, as soon as applications can attach."""
    return Node(host, lab.node(host, "-net", "demo", key=key, port=port), port)


def start_reference(lab: Lab, key: Path, host: Host) -> Node:
    """The Go node that IRIS_REFERENCE names, likewise; that takes some ten seconds.

    Skips the test when it names none.
    """
    binary = os.environ.get("IRIS_REFERENCE")
    if not binary:
        pytest.skip("IRIS_REFERENCE doesn't name the Go node's binary")
    return Node(host, lab.node(host, "-net", "demo", key=key, command=[binary]))


def hosts(lab: Lab, count: int) -> list[Host]:
    return [lab.host(f"h{i}", f"10.77.0.{i}/27") for i in range(1, count + 1)]


def reach(nodes: Sequence[Node], timeout: float = 20.0) -> None:
    """Wait until a service on each node answers the clients of all others."""
    with contextlib.ExitStack() as stack:
        for node in nodes:
            stack.enter_context(node.client(f"reach-{node.name}", on_request=lambda data: data))
        clients = [stack.enter_context(node.client()) for node in nodes]
        for client, node in itertools.product(clients, nodes):
            wait_for(
                partial(answers, client, f"reach-{node.name}"),
                timeout,
                f"an answer from {node.name}",
            )


def answers(client: Client, cluster: str, timeout: float = 0.5) -> bool:
    with contextlib.suppress(TimedOut):
        return client.request(cluster, b"ping", timeout) == b"ping"
    return False


def collect(queue: "SimpleQueue[T]", count: int, timeout: float = 10.0) -> list[T]:
    """The next ones, in order of their value, but those that `wait_subscribed` has sent."""
    everything = iter(partial(queue.get, timeout=timeout), None)
    genuine = (each for each in everything if PROBE not in repr(each))
    return sorted(itertools.islice(genuine, count))  # type: ignore[type-var]


def wait_subscribed(
    clients: Mapping[str, Client], services: Mapping[str, Client], members: Sequence[Client]
) -> None:
    """Wait until events and broadcasts of each client reach all; that may take a beat."""
    came: set[object] = set()
    receivers = [*clients.values(), *services.values(), *members]

    def all_came() -> bool:
        for source, client in clients.items():
            probe = f"{PROBE} {source}".encode()
            for topic in ("news", *(f"news-{name}" for name in clients)):
                client.publish(topic, probe)
            for cluster in ("everybody", *services):
                client.broadcast(cluster, probe)
        for number, receiver in enumerate(receivers):
            for queue in (receiver.events, receiver.broadcasts):
                while not queue.empty():
                    came.add((number, queue.get()))
        return len(came) == 4 * len(clients) ** 2  # two topics each, and as often two clusters

    wait_for(all_came, what="an event and a broadcast from everyone to everyone", pause=0.2)


def exercise(nodes: Sequence[Node]) -> None:
    """All four patterns from every node to every node, itself included."""
    with contextlib.ExitStack() as stack:
        services = {
            node.name: stack.enter_context(
                node.client(
                    node.name,
                    on_request=lambda data, name=node.name: data + b" at " + name.encode(),
                )
            )
            for node in nodes
        }
        members = [stack.enter_context(node.client("everybody")) for node in nodes]
        clients = {node.name: stack.enter_context(node.client()) for node in nodes}
        for name, client in clients.items():
            client.subscribe(f"news-{name}")
            client.subscribe("news")
        wait_subscribed(clients, services, members)
        for source, client in clients.items():
            for target in services:
                assert (
                    client.request(target, b"asked by " + source.encode(), 5.0)
                    == f"asked by {source} at {target}".encode()
                )
                tunnel = client.tunnel(target, 5.0)
                other = services[target].tunnels.get(timeout=5.0)
                tunnel.send(b"there" * 20_000)
                assert other.recv() == b"there" * 20_000
                other.send(b"back")
                assert tunnel.recv() == b"back"
                tunnel.close()
                assert other.wait_closed() == ""
                client.broadcast(target, f"{source}->{target}".encode())
                client.publish(f"news-{target}", f"{source}->{target}".encode())
            client.broadcast("everybody", source.encode())
            client.publish("news", source.encode())
        everyone = sorted(services)
        for target, service in services.items():
            assert collect(service.broadcasts, len(nodes)) == [
                f"{source}->{target}".encode() for source in everyone
            ]
        for member in members:
            assert collect(member.broadcasts, len(nodes)) == [name.encode() for name in everyone]
        for name, client in clients.items():
            expected = [("news", source.encode()) for source in everyone]
            expected += [(f"news-{name}", f"{source}->{name}".encode()) for source in everyone]
            assert collect(client.events, 2 * len(nodes)) == sorted(expected)


@contextlib.contextmanager
def load(
    client: Client, cluster: str, *, rate: float, timeout: float = 2.0
) -> Iterator[list[tuple[float, "Future[bytes]"]]]:
    """Issue requests at a steady rate in the background, at most 100 s long.

    Yields the growing list of (when, answer).
    """
    issued: list[tuple[float, Future[bytes]]] = []
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(1 / rate) and len(issued) < 100 * rate:
            issued.append((time.monotonic(), client.request_later(cluster, b"work", timeout)))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield issued
    finally:
        stop.set()
        thread.join()


def failures(issued: Sequence[tuple[float, "Future[bytes]"]]) -> list[float]:
    """When the requests were issued that weren't answered."""
    return [at for at, future in issued if future.exception(timeout=10.0) is not None]
