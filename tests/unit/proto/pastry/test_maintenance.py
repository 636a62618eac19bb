"""`Maintenance`: what the traces (test_traces.py) would say with too many words."""

from typing import TypeVar

import pytest

from iris.config import PastryConfig
from iris.errors import ProtocolError
from iris.proto.pastry.actions import (
    Abort,
    Action,
    Cause,
    Dial,
    PeerGone,
    Send,
)
from iris.proto.pastry.maintenance import Maintenance
from iris.proto.pastry.peer import Peer
from iris.proto.wire.node_id import MODULO, NodeId
from iris.proto.wire.ring import Header, Op, State
from iris.runtime.tcp import format_address
from tests.support.pastry_nodes import HOME, OWN, address, listener, make_peer, node_id, state

T = TypeVar("T", bound=Action)


def of(actions: list[Action], kind: type[T]) -> list[T]:
    return [action for action in actions if isinstance(action, kind)]


def sent(actions: list[Action], op: Op) -> list[tuple[NodeId, Header]]:
    return [
        (action.peer.node_id, action.header)
        for action in of(actions, Send)
        if action.header.op == op
    ]


class Node:
    """A core, and a memory of its peers."""

    def __init__(self) -> None:
        self.core = Maintenance(OWN, [HOME], PastryConfig())
        self.peers: dict[NodeId, Peer] = {}

    def connect(self, node: NodeId) -> list[Action]:
        self.peers[node] = make_peer(node)
        return self.core.connected(self.peers[node])

    def join(self, *steps: int) -> None:
        """Be part of a ring with these nodes, all connected."""
        for version, step in enumerate(steps, 2):
            self.connect(node_id(step))
            self.core.packet(self.peers[node_id(step)], state(version, node_id(step)))
        assert self.core.joined

    def beat(self, *alive: NodeId) -> list[Action]:
        for node in alive:
            self.peers[node].alive = True
        return self.core.tick()


@pytest.fixture
def node() -> Node:
    return Node()


A, B, C, D = (node_id(step) for step in (1, 2, 3, 4))


def test_a_state_goes_to_those_for_whom_something_is_new(node: Node) -> None:
    near = [node_id(step) for step in (-4, -3, -2, -1, 1, 2, 3)]
    far = NodeId(0x10_0000_0000)  # shares no digit with us: is told row 0
    node.join(-4, -3, -2, -1, 1, 2, 3)
    node.connect(far)
    node.core.packet(node.peers[far], state(2, far))
    other = NodeId(0x20_0000_0000)  # fills a cell of row 0
    node.connect(other)
    told = sent(node.core.packet(node.peers[other], state(2, other)), Op.EXCHANGE)
    assert {to for to, _ in told} == {far, other}
    closer = NodeId(OWN + 1)  # changes the leaf set
    node.connect(closer)
    told = sent(node.core.packet(node.peers[closer], state(2, closer)), Op.EXCHANGE)
    assert {to for to, _ in told} == {far, other, closer, *near}


def test_each_news_has_a_higher_version(node: Node) -> None:
    versions = []
    for step in range(1, 5):
        node.connect(node_id(step))
        actions = node.core.packet(node.peers[node_id(step)], state(step + 1, node_id(step)))
        versions += [
            header.state.version
            for to, header in sent(actions, Op.EXCHANGE)
            if header.state and to == A
        ]
    assert versions == sorted(set(versions))
    assert versions


def test_addresses_that_cannot_be_dialled_are_ignored(node: Node) -> None:
    node.join(1)
    bad = State({str(B): [HOME, "127.0.0.1:80", "junk", "0.0.0.0:1"], str(C): []}, 9)
    actions = node.core.packet(node.peers[A], Header(op=Op.EXCHANGE, dest=OWN, state=bad))
    assert of(actions, Dial) == []


def test_a_peer_that_names_ever_nearer_nodes_fills_the_dials_up_to_their_bound(node: Node) -> None:
    node.join(1)
    dials: list[Dial] = []
    for version in range(10, 200):
        near = [
            node_id(side * (10_000 - 10 * version - step)) for step in range(4) for side in (1, -1)
        ]
        dials += of(node.core.packet(node.peers[node_id(1)], state(version, *near)), Dial)
    assert len(dials) == 128
    assert len({dial.node_id for dial in dials}) == 128
    wanted = NodeId(OWN + 1)
    actions = [action for dial in dials for action in node.core.failed(dial)]
    assert of(actions, Dial) == []
    assert [
        dial.node_id
        for dial in of(node.core.packet(node.peers[node_id(1)], state(1_000, wanted)), Dial)
    ] == [wanted]


def test_an_unreachable_node_is_tried_again_ever_more_seldom(
    node: Node,
) -> None:
    node.join(1)
    (dial,) = of(node.core.packet(node.peers[A], state(3, B)), Dial)
    node.core.failed(dial)
    tried = []
    for beat in range(1, 40):
        if again := of(node.beat(A), Dial):
            assert again == [dial]
            tried.append(beat)
            node.core.failed(dial)
    assert tried == [1, 3, 7, 15]


@pytest.mark.parametrize("named", [True, False], ids=["with ids", "addresses alone"])
def test_a_crowd_that_is_found_is_dialled_a_few_at_a_time(node: Node, named: bool) -> None:
    crowd = [node_id(step) for step in range(1, 200)]
    dials = [
        dial
        for found in crowd
        for dial in of(node.core.found(listener(found), found if named else None), Dial)
    ]
    assert len(dials) == 3
    for dial in dials:
        dials += of(node.core.failed(dial), Dial)
    assert len(dials) == 3 + 64, "those beyond the backlog are dropped"
    assert len(set(dials)) == len(dials)


def test_so_many_nodes_are_remembered_by_address(node: Node) -> None:
    for number in range(3_000):
        address = f"10.{2 + number // 250}.0.{number % 250}", 500
        (dial,) = of(node.core.found(address), Dial)
        peer = make_peer(OWN, dialled=True)
        peer.remote = format_address(address)
        node.core.connected(peer, dial)
        assert of(node.core.found(address), Dial) == []
    assert len(node.core.candidates.residents) == 1_024


def test_so_many_unreachable_nodes_are_remembered(node: Node) -> None:
    for step in range(1, 1_000):
        for dial in of(node.core.found(listener(node_id(step)), node_id(step)), Dial):
            node.core.failed(dial)
    assert len(node.core.candidates.absent) == 256


def test_a_lost_leaf_is_replaced_by_whom_the_others_know(node: Node) -> None:
    steps = (-4, -3, -2, -1, 1, 2, 3)
    node.join(*steps)
    lost = node.peers[node_id(-2)]
    actions = node.core.packet(lost, Header(op=Op.CLOSE, dest=OWN))
    assert {to for to, _ in sent(actions, Op.REPAIR)} == {
        node_id(step) for step in steps if step != -2
    }
    answer = state(99, node_id(-3), node_id(-5))
    assert of(node.core.packet(node.peers[node_id(-4)], answer), Dial) == [
        Dial(node_id(-5), (listener(node_id(-5)),))
    ]


def test_holes_are_patched_from_live_peers(node: Node) -> None:
    node.join(-5, -4, -3, -2, -1, 1, 2, 3)
    assert node_id(-5) not in node.core.table.leaves
    node.core.ended(node.peers[node_id(-1)], "broken")
    assert node_id(-5) in node.core.table.leaves
    assert node.core.table.active <= node.core.links.keys()


def test_those_with_the_same_row_are_asked_for_a_lost_cell(node: Node) -> None:
    far = [NodeId(digit << 36) for digit in range(1, 5)]
    node.join(-4, -3, -2, -1, 1, 2, 3)
    for peer in far:
        node.connect(peer)
        node.core.packet(node.peers[peer], state(2, peer))
    actions = node.core.ended(node.peers[far[0]], "broken")
    assert {to for to, _ in sent(actions, Op.REPAIR)} == set(far[1:])


def test_a_go_nodes_answer_to_a_repair_counts_though_its_version_is_known(node: Node) -> None:
    first, second, mate = NodeId(0x10_0000_0000), NodeId(0x11_0000_0000), NodeId(0x20_0000_0000)
    node.join(-4, -3, -2, -1, 1, 2, 3)
    for peer in (first, mate):
        node.connect(peer)
        node.core.packet(node.peers[peer], state(2, peer))
    told = state(3, mate, second)
    assert of(node.core.packet(node.peers[mate], told), Dial) == []  # the cell is taken
    assert mate in dict(sent(node.core.ended(node.peers[first], "broken"), Op.REPAIR))
    assert [dial.node_id for dial in of(node.core.packet(node.peers[mate], told), Dial)] == [second]
    assert of(node.core.packet(node.peers[mate], told), Dial) == []


def test_an_answer_to_a_repair_is_always_news(node: Node) -> None:
    node.join(1)
    repair = Header(op=Op.REPAIR, dest=A)  # with the sender's id, as Go does it
    first, second = (sent(node.core.packet(node.peers[A], repair), Op.EXCHANGE) for _ in range(2))
    assert [to for to, _ in first] == [A]
    assert first[0][1].state is not None
    assert second[0][1].state is not None
    assert first[0][1].state.version < second[0][1].state.version


@pytest.mark.parametrize(
    "header",
    [
        Header(op=Op.EXCHANGE, dest=OWN),
        Header(op=Op.EXCHANGE, dest=OWN, state=State(None, 9)),
        Header(op=Op.EXCHANGE, dest=OWN, state=State({"x": [address(B)]}, 9)),
        Header(op=Op.EXCHANGE, dest=OWN, state=State({str(step): [] for step in range(257)}, 9)),
        Header(op=Op.JOIN, dest=None, state=State({})),
        Header(op=Op.JOIN, dest=-1, state=State({})),
        Header(op=Op.JOIN, dest=MODULO, state=State({})),
        Header(op=Op.JOIN, dest=B),
        Header(op=7, dest=OWN),
        Header(op=255, dest=OWN),
    ],
)
def test_malformed_packets_are_protocol_errors(node: Node, header: Header) -> None:
    node.join(1)
    with pytest.raises(ProtocolError):
        node.core.packet(node.peers[A], header)
    actions = node.core.reject(node.peers[A], "bad packet")
    assert of(actions, PeerGone) == [PeerGone(node.peers[A], Cause.VIOLATION, "bad packet")]
    assert of(actions, Abort) == [Abort(node.peers[A])]
    assert of(actions, Dial) == []
