"""`Maintenance`, event by event: the traces in traces/*.txt, whose format tests.support.traces has.

Nodes are OWN, n1 (the next above OWN), n-1, … and x1000000000 (a hexadecimal id); addresses are
"ip:port". Commands are the methods of `Interpreter`; each prints the actions that follow.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from iris.config import PastryConfig
from iris.proto.pastry.actions import (
    Abort,
    Action,
    Close,
    Dial,
    Joined,
    PeerFound,
    PeerGone,
    RestartQuietTimer,
    Send,
    TableChanged,
    Wake,
)
from iris.proto.pastry.maintenance import Maintenance
from iris.proto.pastry.peer import Peer
from iris.proto.wire.node_id import HALF, NodeId
from iris.proto.wire.ring import Header, Op, State
from iris.runtime.tcp import Address, format_address
from tests.support import traces
from tests.support.pastry_nodes import HOME, OWN, address, make_peer, node_id, state

SCENARIOS = traces.load(Path(__file__).parent / "traces")


def node(name: str) -> NodeId:
    if name.startswith("x"):
        return NodeId(int(name[1:], 16))
    return OWN if name == "OWN" else node_id(int(name[1:]))


def name(node: NodeId) -> str:
    step, rest = divmod(node - OWN, 0x1000)
    near = rest == 0 and abs(step) < 1 << 16 and abs(node - OWN) < HALF
    return f"x{node:010x}" if not near else f"n{step}" if step else "OWN"


def parse_listener(text: str) -> Address:
    host, _, port = text.partition(":")
    return host, int(port)


class Interpreter:
    """A core, and what its shell would remember."""

    def __init__(self) -> None:
        self.core = Maintenance(OWN, [HOME], PastryConfig())
        self.peers: dict[str, Peer] = {}  # the latest connection with a node
        self.dials: dict[str, Dial] = {}  # under way, by the name of the node or its address

    def __call__(self, command: str) -> list[str]:
        verb, *arguments = command.split()
        result: list[str] = getattr(self, verb)(*arguments)
        return result

    # Commands

    def connect(self, peer: str, port: str = "40000") -> list[str]:
        """A node connects, from a port of its."""
        self.peers[peer] = made = make_peer(node(peer), int(port))
        return self.show(self.core.connected(made))

    def dialled(self, dial: str, peer: str) -> list[str]:
        """A dial reaches a node."""
        done = self.dials.pop(dial)
        self.peers[peer] = made = make_peer(node(peer), dialled=True)
        made.remote = format_address(done.addresses[0])
        return self.show(self.core.connected(made, done))

    def fail(self, dial: str) -> list[str]:
        """A dial reaches no node."""
        return self.show(self.core.failed(self.dials.pop(dial)))

    def found(self, *what: str) -> list[str]:
        """Discovery finds a node, an address, or a node at an address."""
        host = what[-1] if ":" in what[-1] else address(node(what[0]))
        known = None if what[0] == host else node(what[0])
        return self.show(self.core.found(parse_listener(host), known))

    def state(self, peer: str, version: str, *names: str) -> list[str]:
        """A peer sends its state, which names these."""
        header = state(int(version), *map(node, names))
        return self.show(self.core.packet(self.peers[peer], header))

    def join(self, peer: str, joiner: str) -> list[str]:
        """A peer sends the join packet of a node, itself maybe."""
        joining = node(joiner)
        header = Header(op=Op.JOIN, dest=joining, state=State({str(joining): [address(joining)]}))
        return self.show(self.core.packet(self.peers[peer], header))

    def packet(self, peer: str, op: str) -> list[str]:
        """A peer sends a packet without a state."""
        return self.show(self.core.packet(self.peers[peer], Header(op=Op[op], dest=OWN)))

    def ring(self, *names: str) -> list[str]:
        """Be part of a ring with these, all connected. Prints nothing."""
        for version, each in enumerate(names, 2):
            self.connect(each)
            self.state(each, str(version), each)
        return []

    def tick(self, *alive: str) -> list[str]:
        """A beat, in which these have sent something."""
        for each in alive:
            self.peers[each].alive = True
        return self.show(self.core.tick())

    def beats(self, count: str, *alive: str) -> list[str]:
        """Many beats. Prints nothing."""
        for _ in range(int(count)):
            self.tick(*alive)
        return []

    def ended(self, peer: str, *why: str) -> list[str]:
        """A session ends; gracefully where nothing says why."""
        return self.show(self.core.ended(self.peers[peer], " ".join(why)))

    def wake(self) -> list[str]:
        return self.show(self.core.wake())

    def leave(self) -> list[str]:
        return self.show(self.core.leave())

    def table(self) -> list[str]:
        """Print the membership, the nodes in the table, and those that are only connected."""
        active, links = self.core.table.active, self.core.links.keys()
        rest = [f"connected: {_names(links - active)}"] if links - active else []
        return [self.core.membership.value, f"table: {_names(active)}", *rest]

    # Output

    def show(self, actions: list[Action]) -> list[str]:
        return [self._line(action) for action in actions]

    def _line(self, action: Action) -> str:
        match action:
            case Send(peer, header):
                return f"send {name(peer.node_id)} {_packet(header)}"
            case Dial(asked, addresses):
                to = format_address(addresses[0]) if asked is None else name(asked)
                self.dials[to] = action
                usual = asked is None or [*map(format_address, addresses)] == [address(asked)]
                return f"dial {to}" + ("" if usual else f" at {addresses}")
            case Close(peer, delay):
                old = peer is not self.peers[name(peer.node_id)]
                when = f" in {delay} s" if delay else ""
                return f"close {'the old ' * old}{name(peer.node_id)}{when}"
            case Abort(peer):
                return f"abort {name(peer.node_id)}"
            case PeerFound(peer):
                return f"{name(peer.node_id)} is connected"
            case PeerGone(peer, cause, details):
                return f"{name(peer.node_id)} is gone: {cause.value}" + f" ({details})" * bool(
                    details
                )
            case TableChanged():
                return "table changed"
            case Joined():
                return "joined"
            case RestartQuietTimer(seconds):
                return f"restart the quiet timer of {seconds:g} s"
            case Wake(seconds):
                return f"wake in {seconds} s"


def _names(nodes: object) -> str:
    ids = sorted(nodes, key=lambda node: node - OWN)  # type: ignore[call-overload]
    return " ".join(map(name, ids)) or "nobody"


def _packet(header: Header) -> str:
    op = Op(header.op).name
    if header.state is None:
        return op
    assert header.state.addrs is not None
    assert header.dest is not None
    for text, addresses in header.state.addrs.items():
        assert addresses == [HOME if text == str(OWN) else address(NodeId(int(text)))]
    nodes = _names([NodeId(int(text)) for text in header.state.addrs])
    if header.op == Op.JOIN:
        assert header.state.addrs.keys() == {str(header.dest)}
        return f"{op} of {name(NodeId(header.dest))}"
    return f"{op} version {header.state.version}: {nodes}"


@pytest.fixture(scope="module", autouse=True)
def rewriting() -> Iterator[None]:
    yield
    if traces.REWRITE:
        traces.save(SCENARIOS)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_trace(scenario: traces.Scenario) -> None:
    scenario.run(Interpreter())
