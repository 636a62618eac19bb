from typing import TypeVar

import pytest

from iris.config import PastryConfig
from iris.errors import ProtocolError
from iris.proto.pastry.actions import (
    Abort,
    Action,
    Close,
    Converged,
    Dial,
    Joined,
    PeerFound,
    PeerGone,
    Send,
    Settle,
    TableChanged,
    Wake,
)
from iris.proto.pastry.maintenance import Maintenance, Membership
from iris.proto.pastry.peer import Peer
from iris.proto.wire.node_id import MODULO, NodeId
from iris.proto.wire.ring import Header, Op, State
from iris.runtime.tcp import Address

T = TypeVar("T", bound=Action)

OWN = NodeId(0x58_0000_0000)
HOME = "10.0.0.1:500"


def node_id(step: int) -> NodeId:
    return NodeId((OWN + step * 0x1000) % MODULO)


def address(node: NodeId) -> str:
    return f"10.1.{node >> 12 & 255}.{node >> 20 & 255}:{1024 + node % 60_000}"


def listener(node: NodeId) -> Address:
    host, _, port = address(node).partition(":")
    return host, int(port)


def make_peer(node: NodeId, port: int = 40_000, *, dialled: bool = False) -> Peer:
    host = address(node).partition(":")[0]
    ends = (f"10.0.0.1:{port}", address(node)) if dialled else (HOME, f"{host}:{port}")
    return Peer(node, (address(node),), *ends, dialled)


def state(version: int, *nodes: NodeId) -> Header:
    return Header(
        op=Op.EXCHANGE,
        dest=OWN,
        state=State({str(node): [address(node)] for node in nodes}, version),
    )


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
        self.core.start()
        self.peers: dict[NodeId, Peer] = {}

    def connect(
        self, node: NodeId, *, asked: NodeId | None = None, port: int = 40_000
    ) -> list[Action]:
        self.peers[node] = make_peer(node, port, dialled=asked is not None)
        return self.core.connected(self.peers[node], asked)

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


# Joining


def test_the_first_peer_is_asked_to_join_with_the_own_id_and_addresses(node: Node) -> None:
    actions = node.connect(A)
    assert sent(actions, Op.JOIN) == [
        (A, Header(op=Op.JOIN, dest=OWN, state=State({str(OWN): [HOME]})))
    ]
    assert of(actions, PeerFound)
    assert sent(node.connect(B), Op.JOIN) == []


def test_a_state_makes_the_node_a_part_of_the_ring(node: Node) -> None:
    node.connect(A)
    actions = node.core.packet(node.peers[A], state(2, A))
    assert of(actions, Joined)
    assert of(actions, TableChanged)
    assert node.core.joined
    assert [
        (to, header.state.addrs) for to, header in sent(actions, Op.EXCHANGE) if header.state
    ] == [(A, {str(OWN): [HOME], str(A): [address(A)]})]


def test_nodes_that_a_state_names_are_dialled_and_routed_to_as_soon_as_they_are_there(
    node: Node,
) -> None:
    node.connect(A)
    actions = node.core.packet(node.peers[A], state(2, A, B, C))
    assert of(actions, Dial) == [Dial(B, (listener(B),)), Dial(C, (listener(C),))]
    assert of(actions, Wake)  # news wait for the dials, but not for long
    assert node.core.table.active == {A}
    assert of(node.connect(B, asked=B), Joined) == []
    assert node.core.table.active == {A, B}
    actions = node.core.failed(C)
    assert of(actions, Joined)
    assert {to for to, _ in sent(actions, Op.EXCHANGE)} == {A, B}


def test_news_do_not_wait_for_a_slow_dial(node: Node) -> None:
    node.connect(A)
    node.core.packet(node.peers[A], state(2, A, B))
    actions = node.core.wake()
    assert of(actions, Joined)
    assert [to for to, _ in sent(actions, Op.EXCHANGE)] == [A]


def test_a_joined_node_greets_with_its_state(node: Node) -> None:
    node.join(1)
    assert [to for to, _ in sent(node.connect(B), Op.EXCHANGE)] == [B]


def test_two_fresh_nodes_answer_each_others_join(node: Node) -> None:
    node.connect(A)
    join = Header(op=Op.JOIN, dest=A, state=State({str(A): [address(A)]}))
    assert [to for to, _ in sent(node.core.packet(node.peers[A], join), Op.EXCHANGE)] == [A]


def test_an_unanswered_join_is_repeated(node: Node) -> None:
    node.connect(A)
    assert [to for to, _ in sent(node.beat(A), Op.JOIN)] == [A]


def test_a_joiner_is_dialled_and_its_request_passed_on(node: Node) -> None:
    node.join(1, 5)
    join = Header(op=Op.JOIN, dest=D, state=State({str(D): [address(D)]}))
    actions = node.core.packet(node.peers[A], join)
    assert of(actions, Dial) == [Dial(D, (listener(D),))]
    assert sent(actions, Op.JOIN) == [(node_id(5), join)]  # the closest


def test_a_join_does_not_go_back_nor_to_the_joiner(node: Node) -> None:
    node.join(1, 5)
    assert (
        sent(
            node.core.packet(node.peers[node_id(5)], Header(op=Op.JOIN, dest=D, state=State({}))),
            Op.JOIN,
        )
        == []
    )
    known = Header(op=Op.JOIN, dest=A, state=State({str(A): [address(A)]}))
    assert node.core.packet(node.peers[node_id(5)], known) == []
    own = Header(op=Op.JOIN, dest=OWN, state=State({str(OWN): [HOME]}))
    assert node.core.packet(node.peers[A], own) == []


def test_who_has_lost_everybody_joins_anew(node: Node) -> None:
    node.join(1)
    node.core.ended(node.peers[A], "broken")
    assert node.core.membership is Membership.ALONE
    actions = node.connect(B)
    assert [to for to, _ in sent(actions, Op.JOIN)] == [B]
    assert of(node.core.packet(node.peers[B], state(2, B)), Joined)


# States


def test_only_newer_states_are_merged(node: Node) -> None:
    node.join(1)
    node.core.packet(node.peers[A], state(7, A))
    assert of(node.core.packet(node.peers[A], state(7, A, B)), Dial) == []
    assert of(node.core.packet(node.peers[A], state(8, A, B)), Dial)


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
    actions = [action for dial in dials for action in node.core.failed(dial.node_id)]
    assert of(actions, Dial) == []
    assert [
        dial.node_id
        for dial in of(node.core.packet(node.peers[node_id(1)], state(1_000, wanted)), Dial)
    ] == [wanted]


def test_an_unreachable_node_is_not_dialled_each_time_it_is_named_but_tried_again(
    node: Node,
) -> None:
    node.join(1)
    node.core.packet(node.peers[A], state(3, B))
    node.core.failed(B)
    assert of(node.core.packet(node.peers[A], state(4, B)), Dial) == []
    tried = []
    for beat in range(1, 40):
        if of(node.beat(A), Dial):
            tried.append(beat)
            node.core.failed(B)
    assert tried == [1, 3, 7, 15]


def test_a_node_that_comes_by_itself_is_unreachable_no_more(node: Node) -> None:
    node.join(1)
    node.core.packet(node.peers[A], state(3, B))
    node.core.failed(B)
    node.connect(B)
    node.core.packet(node.peers[B], state(2, B))
    assert B in node.core.table.active


# What bootstrap finds


def test_a_found_node_is_dialled_if_it_is_of_use(node: Node) -> None:
    assert of(node.core.found(A, address(A)), Dial) == [Dial(A, (listener(A),))]
    assert of(node.core.found(A, address(A)), Dial) == []
    node.connect(A, asked=A)
    assert of(node.core.found(A, address(A)), Dial) == []
    assert of(node.core.found(OWN, address(A)), Dial) == []
    assert of(node.core.found(B, HOME), Dial) == []


def test_who_could_not_be_reached_is_dialled_when_found_but_not_who_has_left(node: Node) -> None:
    node.join(1, 2)
    node.core.packet(node.peers[A], state(9, C))
    node.core.failed(C)
    assert of(node.core.found(C, address(C)), Dial) == [Dial(C, (listener(C),))]
    node.core.packet(node.peers[B], Header(op=Op.CLOSE, dest=OWN))
    assert of(node.core.found(B, address(B)), Dial) == []


def test_a_crowd_that_is_found_is_dialled_a_few_at_a_time(node: Node) -> None:
    crowd = [node_id(step) for step in range(1, 200)]
    dialled = [
        dial.node_id for found in crowd for dial in of(node.core.found(found, address(found)), Dial)
    ]
    assert len(dialled) == 3
    assert len(of(node.core.failed(dialled[0]), Dial)) == 1


# Two connections


def test_of_two_connections_one_is_closed_after_a_lull(node: Node) -> None:
    node.join(1)
    old = node.peers[A]
    actions = node.connect(A, port=50_000)
    assert of(actions, Close) == [Close(node.peers[A], 0.5)]
    assert node.core.links[A] is old
    assert sent(actions, Op.ACTIVE)  # if the old one is dead, that shows it
    actions = node.connect(A, port=30_000)
    assert of(actions, Close) == [Close(old, 0.5)]
    assert node.core.links[A] is node.peers[A]
    assert [to for to, _ in sent(actions, Op.EXCHANGE)] == [A]
    assert of(actions, PeerFound) == []


def test_the_end_of_a_duplicate_is_nobodys_loss(node: Node) -> None:
    node.join(1)
    node.connect(A, port=50_000)
    assert node.core.ended(node.peers[A], "") == []
    assert A in node.core.table.active


def test_a_packet_on_a_duplicate_counts(node: Node) -> None:
    node.join(1)
    node.connect(A, port=50_000)
    assert of(node.core.packet(node.peers[A], state(9, C)), Dial)


def test_a_session_with_itself_is_closed(node: Node) -> None:
    assert of(node.connect(OWN), Close)
    assert node.core.links == {}


def test_somebody_else_at_an_address_is_not_who_was_asked(node: Node) -> None:
    node.join(1)
    node.core.packet(node.peers[A], state(3, B))
    node.connect(C, asked=B)
    assert of(node.core.packet(node.peers[A], state(4, B)), Dial) == []


# Beats


def test_beats_tell_whether_a_peer_is_of_use(node: Node) -> None:
    node.join(1)
    node.connect(B)
    actions = node.beat(A, B)
    assert [to for to, _ in sent(actions, Op.ACTIVE)] == [A]
    assert [to for to, _ in sent(actions, Op.PASSIVE)] == [B]


def test_a_peer_is_dead_after_three_silent_beats(node: Node) -> None:
    node.join(1, 2)
    node.beat(A, B)
    assert of(node.beat(B), PeerGone) == []
    actions = node.beat(B)
    assert of(actions, PeerGone) == [PeerGone(node.peers[A], "silent for too long", lost=True)]
    assert of(actions, Abort) == [Abort(node.peers[A])]
    assert of(actions, Dial) == []
    assert node.core.table.active == {B}


def test_a_session_that_neither_side_has_a_use_for_is_dropped(node: Node) -> None:
    node.join(1)
    node.connect(B)
    passive = Header(op=Op.PASSIVE, dest=OWN)
    assert node.core.packet(node.peers[B], passive) == []  # too young
    node.beat(A, B)
    node.beat(A, B)
    actions = node.core.packet(node.peers[B], passive)
    assert of(actions, PeerGone) == [PeerGone(node.peers[B], "no use for each other", lost=False)]
    assert of(actions, Close) == [Close(node.peers[B])]


def test_a_session_that_one_side_has_a_use_for_stays(node: Node) -> None:
    node.join(1)
    node.beat(A)
    node.beat(A)
    assert node.core.packet(node.peers[A], Header(op=Op.PASSIVE, dest=OWN)) == []
    node.connect(B)
    assert node.core.packet(node.peers[B], Header(op=Op.ACTIVE, dest=OWN)) == []


def test_each_beat_a_direct_neighbour_is_asked_for_its_state(node: Node) -> None:
    node.join(-2, -1, 1, 2)
    everybody = [node_id(step) for step in (-2, -1, 1, 2)]
    asked = [[to for to, _ in sent(node.beat(*everybody), Op.REPAIR)] for _ in range(2)]
    assert sorted(asked) == sorted([[node_id(-1)], [A]])


# Losses


def test_a_broken_session_of_use_is_dialled_again_at_once(node: Node) -> None:
    node.join(1, 2)
    for _ in range(2):
        node.beat(A, B)
    actions = node.core.ended(node.peers[A], "connection reset")
    assert of(actions, PeerGone) == [PeerGone(node.peers[A], "connection reset", lost=True)]
    assert of(actions, Dial) == [Dial(A, (listener(A),))]
    assert node.core.table.active == {B}


def test_a_session_that_broke_right_away_is_dialled_again_at_the_next_beat(node: Node) -> None:
    node.join(1, 2)
    assert of(node.core.ended(node.peers[A], "connection reset"), Dial) == []
    assert of(node.beat(B), Dial) == [Dial(A, (listener(A),))]


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


def test_who_has_left_is_lost_at_once_and_not_dialled(node: Node) -> None:
    node.join(1, 2)
    actions = node.core.packet(node.peers[A], Header(op=Op.CLOSE, dest=OWN))
    assert of(actions, PeerGone) == [PeerGone(node.peers[A], "", lost=True)]
    assert of(actions, Close) == [Close(node.peers[A])]
    assert of(node.core.packet(node.peers[B], state(9, A, B)), Dial) == []


# Garbage


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
    assert of(actions, PeerGone) == [PeerGone(node.peers[A], "bad packet", lost=True)]
    assert of(actions, Abort) == [Abort(node.peers[A])]
    assert of(actions, Dial) == []


# Leaving, settling


def test_leaving_tells_everybody_and_takes_nobody_in(node: Node) -> None:
    node.join(1, 2)
    actions = node.core.leave()
    assert {to for to, _ in sent(actions, Op.CLOSE)} == {A, B}
    assert of(node.connect(C), Close)
    node.core.packet(node.peers[A], state(9, D))
    assert of(node.core.ended(node.peers[A], ""), Dial) == []
    node.core.ended(node.peers[B], "")
    assert node.core.links == {}


def test_a_lone_node_settles_later_than_one_that_has_joined() -> None:
    core = Maintenance(OWN, [HOME], PastryConfig(boot_quiet=10, converged_quiet=3))
    assert core.start() == [Settle(10)]
    core.connected(peer := make_peer(A))
    assert of(core.packet(peer, state(2, A)), Settle) == [Settle(3)]
    assert core.settled() == [Converged()]
