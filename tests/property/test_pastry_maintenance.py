"""The core under any sequence of events: what holds after each of them."""

import random

from hypothesis import given
from hypothesis import strategies as st

from iris.config import PastryConfig
from iris.errors import ProtocolError
from iris.proto.pastry.actions import Action, Dial, PeerFound, PeerGone
from iris.proto.pastry.maintenance import Maintenance
from iris.proto.pastry.peer import Peer
from iris.proto.wire.node_id import MODULO, NodeId
from iris.proto.wire.ring import Header, State

OWN = NodeId(0x58_0000_0000)
HOME = "10.0.0.1:500"


class Chaos:
    """Draws events, does what the shell does, and keeps count of what must add up."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.core = Maintenance(OWN, [HOME], PastryConfig())
        self.ids = [OWN] + [
            NodeId(self.rng.choice((OWN, 0)) ^ self.rng.getrandbits(self.rng.choice((16, 36, 40))))
            for _ in range(30)
        ]
        self.sessions: list[Peer] = []
        self.dials: list[Dial] = []
        self.up: set[NodeId] = set()
        self.residents: dict[str, NodeId] = {}  # which node answered last, by host

    def peer(self, node: NodeId, dial: Dial | None = None) -> Peer:
        host, dialled = f"10.0.0.{self.rng.randrange(2, 5)}", dial is not None
        if dial is not None:
            host = self.rng.choice(dial.addresses)[0]
            self.residents[host] = node
        ends = (
            (f"10.0.0.1:{self.rng.randrange(1, 65_536)}", f"{host}:500")
            if dialled
            else (HOME, f"{host}:{self.rng.randrange(1, 65_536)}")
        )
        peer = Peer(node, (f"{host}:500",), *ends, dialled)
        self.sessions.append(peer)
        return peer

    def state(self) -> State | None:
        if self.rng.random() < 0.05:
            return self.rng.choice(
                (
                    None,
                    State(None, 1),
                    State({"junk": []}, 99),
                    State({str(MODULO): ["10.0.0.2:1"]}, 99),
                )
            )
        addresses = ["10.0.0.2:500", HOME, "127.0.0.1:1", "junk", "10.0.0.3:600"]
        some = self.rng.sample(self.ids, self.rng.randrange(12))
        return State(
            {str(node): self.rng.sample(addresses, self.rng.randrange(4)) for node in some},
            self.rng.randrange(50),
        )

    def step(self) -> list[Action]:
        core, rng = self.core, self.rng
        node = rng.choice(self.ids)
        peer = rng.choice(self.sessions) if self.sessions else self.peer(node)
        match rng.randrange(12):
            case 0:
                host = rng.choice(("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "junk"))
                return core.found((host, 500), rng.choice((node, None)))
            case 1 | 2:
                return core.connected(self.peer(node))
            case 3 | 4 if self.dials:
                dial = self.dials.pop(rng.randrange(len(self.dials)))
                asked = node if dial.node_id is None else dial.node_id
                return core.connected(self.peer(rng.choice((asked, asked, node)), dial), dial)
            case 5 if self.dials:
                return core.failed(self.dials.pop(rng.randrange(len(self.dials))))
            case 6:
                return core.ended(peer, rng.choice(("", "broken")))
            case 7:
                for link in core.links.values():
                    link.alive = rng.random() < 0.8
                return core.tick()
            case 8:
                return core.wake()
        header = Header(
            op=rng.randrange(9), dest=rng.choice((node, OWN, None, -1)), state=self.state()
        )
        try:
            return core.packet(peer, header)
        except ProtocolError as error:
            return core.reject(peer, str(error))

    def check(self, actions: list[Action]) -> None:
        core = self.core
        for action in actions:
            if isinstance(action, Dial):
                assert action.node_id != OWN
                if action.node_id is None:
                    ((host, _),) = action.addresses
                    assert self.residents.get(host) not in {OWN, *core.links}
                assert action.addresses
                assert set(action.addresses) <= {
                    ("10.0.0.2", 500),
                    ("10.0.0.3", 600),
                    ("10.0.0.3", 500),
                    ("10.0.0.4", 500),
                }
                self.dials.append(action)
            elif isinstance(action, PeerFound):
                assert action.peer.node_id not in self.up
                self.up.add(action.peer.node_id)
            elif isinstance(action, PeerGone):
                self.up.remove(action.peer.node_id)
        assert self.up == core.links.keys()
        assert len({dial.key for dial in self.dials}) == len(self.dials)
        assert core.table.active <= core.links.keys()
        assert OWN not in core.links
        known = [node for node, peer in core.links.items() if peer.known]
        assert core.table.merged(known) is core.table, "a live node that fits isn't in the table"
        assert core.joined == bool(core.joined and core.links)


@given(st.integers())
def test_whatever_happens_the_table_is_made_of_live_nodes_and_lacks_none_that_fits(
    seed: int,
) -> None:
    chaos = Chaos(seed)
    for _ in range(200):
        chaos.check(chaos.step())
