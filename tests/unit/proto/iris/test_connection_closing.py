"""What the end of a connection, or of all, leaves behind: nothing."""

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest

from iris.errors import StateError
from iris.proto.iris.base import Delivery
from iris.proto.iris.requests import Fault, Outcome, Reply
from iris.proto.iris.tunnel import Tunnel
from iris.proto.wire.clusters import Header, Op
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.node_id import NodeId
from iris.runtime.timer import TimerEntry
from tests.support.applications import Application
from tests.support.fake_scribe import FakeNetwork

CLUSTER = [f"c#{split}-workers" for split in range(5)]
TOPIC = [f"t#{split}-news" for split in range(5)]


def pending(network: FakeNetwork) -> int:
    return len(network.timer.deadlines)


def test_close_tells_the_callers_of_unanswered_calls_at_once() -> None:
    network = FakeNetwork([1, 2])
    service = Application()
    connection = network[2].connect("workers", service)
    outcomes: list[Outcome] = []
    caller = network[1].connect("", Application())
    for _ in range(3):
        caller.request("workers", b"", 60.0, outcomes.append)
    service.calls[0].reply(b"done")
    connection.close()
    connection.close()
    assert outcomes == [Reply(b"done")] + [Fault("service disconnected")] * 2
    service.calls[1].reply(b"too late")
    assert len(outcomes) == 3


def test_close_forgets_pending_requests_and_tunnels() -> None:
    network = FakeNetwork([1, 2])
    service = Application()
    network[2].connect("workers", service)
    outcomes: list[object] = []
    caller = network[1].connect("", Application())
    caller.request("workers", b"", 60.0, outcomes.append)
    caller.tunnels.request("workers", 60.0, outcomes.append)
    caller.close()
    assert pending(network) == 0
    service.calls[0].reply(b"late")
    network.run(60.0)
    assert outcomes == []


def test_leaving_keeps_requests_in_flight() -> None:
    network = FakeNetwork([1, 2])
    service = Application()
    connection = network[2].connect("workers", service)
    outcomes: list[Outcome] = []
    caller = network[1].connect("", Application())
    caller.request("workers", b"", 60.0, outcomes.append)
    connection.leave()
    caller.request("workers", b"", 1.0, outcomes.append)
    service.calls[0].reply(b"done")
    assert outcomes == [Reply(b"done")]
    assert len(service.calls) == 1


def test_closed_connection_does_nothing_more() -> None:
    network = FakeNetwork()
    app = Application()
    connection = network[1].connect("workers", app)
    connection.subscribe("news")
    connection.close()
    network.nodes[NodeId(1)].sent.clear()
    outcomes: list[object] = []
    connection.broadcast("workers", b"")
    connection.publish("news", b"")
    connection.request("workers", b"", 1.0, outcomes.append)
    connection.tunnels.request("workers", 1.0, outcomes.append)
    connection.subscribe("news")
    connection.unsubscribe("other")
    connection.leave()
    assert network.nodes[NodeId(1)].sent == []
    assert network.nodes[NodeId(1)].subscribed == set()
    assert pending(network) == 0
    network.run(1.0)
    assert outcomes == []


def test_nothing_keeps_a_closed_connection_alive() -> None:
    network = FakeNetwork([1, 2])
    network[2].connect("workers", Application())
    connection = network[1].connect("workers", Application())
    held = Application()  # in its stead, for compiled connections can't be referred to weakly
    connection.subscribe("news")
    for _ in range(5):
        connection.request("workers", b"", 60.0, lambda outcome: None)
        connection.tunnels.request("workers", 60.0, lambda tunnel: None)
    connection.close()
    connection.handler = held
    reference = weakref.ref(held)
    del connection, held
    for node in network.nodes.values():
        node.sent.clear()
    gc.collect()
    assert reference() is None


def test_closed_connection_lets_go_of_its_handler_without_the_garbage_collector() -> None:
    network = FakeNetwork()
    app = Application()
    connection = network[1].connect("workers", app)
    connection.close()
    reference = weakref.ref(app)
    del app
    assert reference() is None
    assert connection.id == 1


def test_what_is_brought_to_a_closed_connection_is_answered_or_dropped() -> None:
    network = FakeNetwork([1, 2])
    connection = network[1].connect("workers", Application())
    connection.close()
    closed = connection.handler
    closed.handle_broadcast(Delivery(b""))
    closed.handle_event("news", Delivery(b""))
    outcomes: list[Outcome] = []
    tunnels: list[Tunnel | None] = []
    network[2].connect("workers", Application(closed.handle_request, closed.handle_tunnel))
    caller = network[2].connect("", Application())
    caller.request("workers", b"", 1.0, outcomes.append)
    caller.tunnels.request("workers", 1.0, tunnels.append)
    assert outcomes == [Fault("service disconnected")]
    network.run(1.0)
    assert tunnels == [None]


def test_what_is_asked_while_another_thread_closes_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = FakeNetwork()
    outcomes: list[object] = []
    connections = [network[1].connect("", Application()) for _ in range(2)]
    after, closing = network.timer.after, list(connections)

    def closing_first(delay: float, action: Callable[[], None]) -> TimerEntry:
        closing.pop(0).close()
        return after(delay, action)

    monkeypatch.setattr(network.timer, "after", closing_first)
    connections[0].request("workers", b"", 1.0, outcomes.append)
    connections[1].tunnels.request("workers", 1.0, outcomes.append)
    assert pending(network) == 0
    assert network.nodes[NodeId(1)].sent == []
    assert not connections[0].asking
    assert connections[1].tunnels.key(0) is None


def test_subscription_while_another_thread_closes_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = FakeNetwork()
    node, connection = network.nodes[NodeId(1)], network[1].connect("", Application())

    def closing(topic: str) -> None:
        node.subscribed.add(topic)
        if topic == TOPIC[2]:
            connection.close()

    monkeypatch.setattr(network[1]._memberships, "_subscribe", closing)
    connection.subscribe("news")
    assert node.subscribed == set()
    assert network[1]._members == {}


def test_request_to_a_connection_that_is_just_closed_goes_on_to_another_member() -> None:
    network = FakeNetwork()
    service = Application()
    connection = network[1].connect("workers", service)

    def closing() -> Iterator[int]:
        connection.close()
        yield 0

    connection._call_ids = closing()  # type: ignore[assignment]  # asked for in the middle of it
    message = Message(Header(Op.REQUEST, req_time=10**9), Payload.of(b""))
    assert not network[1].handle_balance(NodeId(1), CLUSTER[0], message)
    assert service.calls == []
    assert network.nodes[NodeId(1)].sent == []


def test_overlay_closes_all_connections_and_takes_no_more() -> None:
    network = FakeNetwork()
    service = Application()
    network[1].connect("workers", service)
    outcomes: list[Outcome] = []
    network[1].connect("", Application()).request("workers", b"", 60.0, outcomes.append)
    network[1].close()
    network[1].close()
    assert network.nodes[NodeId(1)].subscribed == set()
    with pytest.raises(StateError):
        network[1].connect("workers", service)
