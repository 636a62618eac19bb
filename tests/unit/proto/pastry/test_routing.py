import pytest

from iris.config import PastryConfig
from iris.errors import ProtocolError
from iris.proto.pastry.maintenance import Maintenance
from iris.proto.pastry.peer import Peer
from iris.proto.pastry.routing import Router
from iris.proto.wire.message import Message, Payload
from iris.proto.wire.node_id import MODULO, NodeId
from iris.proto.wire.ring import Header, Op, State

OWN, A, B = NodeId(1000), NodeId(1010), NodeId(1020)


class App:
    def __init__(self) -> None:
        self.delivered: list[tuple[object, NodeId]] = []
        self.forwarded: list[tuple[object, NodeId, NodeId]] = []
        self.swallows = False

    def deliver(self, message: Message, key: NodeId) -> None:
        self.delivered.append((message.meta, key))

    def forward(self, message: Message, key: NodeId, hop: NodeId) -> bool:
        self.forwarded.append((message.meta, key, hop))
        message.meta = f"{message.meta}, changed"
        return not self.swallows

    def peer_lost(self, peer: NodeId) -> None:
        raise AssertionError

    def table_changed(self) -> None:
        raise AssertionError


class Node:
    def __init__(self) -> None:
        self.core = Maintenance(OWN, ["10.0.0.1:1"], PastryConfig())
        for node in (A, B):
            peer = Peer(node, (), "10.0.0.1:1", f"10.0.0.2:{node}", False)
            self.core.connected(peer)
            self.core.packet(
                peer, Header(op=Op.EXCHANGE, dest=OWN, state=State({str(node): ["10.0.0.2:5"]}, 2))
            )
        self.app = App()
        self.sent: list[tuple[NodeId, Message]] = []
        self.broken: set[NodeId] = set()
        self.router = Router(self.core, self.app, self._transmit)

    def _transmit(self, peer: Peer, message: Message) -> bool:
        if peer.node_id in self.broken:
            return False
        self.sent.append((peer.node_id, message))
        return True


@pytest.fixture
def node() -> Node:
    return Node()


def test_what_is_for_this_node_is_delivered_as_it_is(node: Node) -> None:
    node.router.route(NodeId(1001), Message("hello"))
    assert node.app.delivered == [("hello", 1001)]
    assert node.app.forwarded == []


def test_what_goes_on_is_shown_to_the_layer_above_and_wrapped(node: Node) -> None:
    payload = Payload.of(b"data")
    node.router.route(NodeId(1011), Message("hello", payload))
    assert node.app.forwarded == [("hello", 1011, A)]
    (to, message), *_ = node.sent
    assert (to, message.meta, message.payload) == (
        A,
        Header("hello, changed", Op.NOP, 1011),
        payload,
    )


def test_the_layer_above_may_swallow_a_message(node: Node) -> None:
    node.app.swallows = True
    node.router.route(NodeId(1011), Message("hello"))
    assert node.sent == []


def test_a_received_message_is_unwrapped(node: Node) -> None:
    header = Header("hello", 0, 1001)
    node.router.receive(header, Message(header), A)
    assert node.app.delivered == [("hello", 1001)]


def test_a_message_does_not_go_straight_back(node: Node) -> None:
    header = Header("hello", 0, 1011)
    node.router.receive(header, Message(header), A)
    assert node.app.delivered == [("hello", 1011)]
    assert node.sent == []


@pytest.mark.parametrize("dest", [None, -1, MODULO, 1 << 100])
def test_a_message_without_a_valid_destination_is_a_protocol_error(
    node: Node, dest: int | None
) -> None:
    header = Header("hello", 0, dest)
    with pytest.raises(ProtocolError):
        node.router.receive(header, Message(header), A)


def test_a_message_finds_its_way_around_a_broken_session(node: Node) -> None:
    node.broken = {B}
    node.router.route(NodeId(1021), Message("hello"))
    assert [(to, message.meta) for to, message in node.sent] == [
        (A, Header("hello, changed", 0, 1021))
    ]
    assert len(node.app.forwarded) == 1


def test_a_message_is_delivered_where_all_sessions_are_broken(node: Node) -> None:
    node.broken = {A, B}
    node.router.route(NodeId(1021), Message("hello"))
    assert node.sent == []
    assert node.app.delivered == [("hello, changed", 1021)]


def test_a_detour_does_not_lead_back_either(node: Node) -> None:
    node.broken = {B}
    header = Header("hello", 0, 1021)
    node.router.receive(header, Message(header), A)
    assert node.sent == []
    assert node.app.delivered == [("hello, changed", 1021)]


def test_a_peer_that_is_known_to_be_gone_is_passed_over(node: Node) -> None:
    del node.core.links[B]
    node.router.route(NodeId(1021), Message("hello"))
    assert [to for to, _ in node.sent] == [A]
