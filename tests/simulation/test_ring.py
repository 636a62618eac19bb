"""The ring at its full size and in bad weather, on a virtual network and clock.

Routes are whole when every message, from wherever to whatever key, would arrive at the closest live
node within log16 N + 2 hops.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from iris.config import PastryConfig
from iris.proto.wire.message import Message
from iris.proto.wire.node_id import NodeId
from tests.support.virtual_ring import Counting, VirtualNode, VirtualRing

pytestmark = pytest.mark.slow

# seconds of silence, at most, before a node is known to be dead
DETECTION = PastryConfig().beat_period * PastryConfig().max_missed
REPAIR = 3.0  # seconds; dials to the dead that others still name take one each


def sample(ring: VirtualRing, count: int) -> list[tuple[VirtualNode, NodeId]]:
    """Random keys, and every node's id, each from a random node."""
    live = ring.live()
    keys = [NodeId(ring.rng.getrandbits(40)) for _ in range(count)] + [
        node.node_id for node in live
    ]
    return [(ring.rng.choice(live), key) for key in keys]


def seconds_until(
    ring: VirtualRing, condition: Callable[[], bool], limit: float, step: float = 0.25
) -> float:
    """Let time pass until something holds; how long that took, or `limit`."""
    start = ring.clock.now
    while not condition() and ring.clock.now - start < limit:
        ring.run(step)
    return ring.clock.now - start


def whole(ring: VirtualRing) -> bool:
    return ring.wrong_leaf_sets() == 0 and not ring.misrouted(sample(ring, 500))


def grown(count: int, seed: int) -> VirtualRing:
    """A ring that has come to rest."""
    ring = VirtualRing(seed)
    ring.stagger(count, 0.02)
    ring.run(10)
    assert whole(ring)
    return ring


@pytest.mark.timeout(300)
def test_a_thousand_nodes_join_route_and_survive_the_silent_death_of_a_hundred() -> None:
    ring = VirtualRing(2024)
    ring.stagger(1000, 0.02)
    ring.run(1)  # after the last one came
    assert all(node.joined for node in ring.nodes)
    assert ring.wrong_leaf_sets() == 0
    assert ring.misrouted(sample(ring, 10_000)) == []

    ring.run(9)
    assert ring.misrouted(sample(ring, 2_000)) == []
    assert all(node.converged for node in ring.nodes)

    for node in ring.rng.sample(ring.nodes, 100):
        node.kill()
    assert ring.misrouted(sample(ring, 500))
    ring.run(DETECTION + REPAIR)
    assert ring.misrouted(sample(ring, 10_000)) == []
    assert ring.wrong_leaf_sets() == 0


def test_a_node_is_part_of_an_existing_ring_within_a_second() -> None:
    ring = grown(300, 5)
    for _ in range(10):
        contact = ring.rng.choice(ring.live())
        node = ring.add()
        node.find(contact)
        assert seconds_until(ring, lambda node=node: node.joined and whole(ring), 5.0, 0.05) < 1.0  # type: ignore[misc]


def test_a_death_that_tcp_tells_is_repaired_within_a_second() -> None:
    ring = grown(300, 6)
    for node in ring.rng.sample(ring.nodes, 30):
        node.kill(silent=False)
    assert seconds_until(ring, lambda: whole(ring), 10.0) < 1.0


def test_neighbours_that_die_together_leave_no_gap() -> None:
    """More in a row than a leaf set has on a side: nobody left knows both edges of the gap."""
    ring = grown(200, 7)
    ordered = sorted(ring.nodes, key=lambda node: node.node_id)
    for node in ordered[50:60]:
        node.kill()
    assert seconds_until(ring, lambda: whole(ring), 60.0) <= DETECTION + REPAIR


def test_leaving_gracefully_leaves_no_hole() -> None:
    ring = grown(300, 8)
    leavers = ring.rng.sample(ring.nodes, 30)
    for node in leavers:
        node.leave()
    ring.run(1.1)
    assert not any(node.up for node in leavers)
    assert whole(ring)
    gone = {node.node_id for node in leavers}
    for node in ring.live():
        assert isinstance(node.app, Counting)
        assert len(node.app.lost) == len(set(node.app.lost))
        assert set(node.app.lost) <= gone, "who was only of no use isn't lost"
        assert not gone & node.core.links.keys()


def test_nodes_that_start_all_at_once_become_one_ring() -> None:
    ring = VirtualRing(9)
    nodes = [ring.add() for _ in range(150)]
    for node in nodes:
        for other in ring.rng.sample(nodes, 5):
            node.find(other)
    assert (
        seconds_until(ring, lambda: all(node.joined for node in nodes) and whole(ring), 30.0) < 10.0
    )


def test_two_rings_become_one_when_a_node_finds_the_other() -> None:
    ring = VirtualRing(10)
    halves: tuple[list[VirtualNode], list[VirtualNode]] = ([], [])
    for half in halves:
        for _ in range(60):
            node = ring.add()
            if half:
                node.find(ring.rng.choice(half))
            half.append(node)
            ring.run(0.02)
    ring.run(5)
    assert not whole(ring)
    for node in halves[0][:20]:  # as bootstrap does, again and again
        node.find(ring.rng.choice(halves[1]))
        ring.run(0.25)
    assert seconds_until(ring, lambda: whole(ring), 60.0) < 15.0


def seeded(count: int, seed: int) -> tuple[VirtualRing, list[VirtualNode]]:
    """A ring whose nodes know the addresses of three of them, and nothing else."""
    ring = VirtualRing(seed)
    seeds = [ring.add() for _ in range(3)]
    for _ in range(count - len(seeds)):
        ring.add()
        ring.run(0.02)
        repeat_seeds(ring, seeds)
    for _ in range(10):
        repeat_seeds(ring, seeds)
        ring.run(1.0)
    return ring, seeds


def repeat_seeds(ring: VirtualRing, seeds: list[VirtualNode]) -> None:
    """What a source does from time to time: name the same addresses again, the own one as well."""
    for node in ring.live():
        for seed in seeds:
            node.find_address(seed)


def test_a_ring_grows_from_the_addresses_of_a_few_nodes() -> None:
    ring, seeds = seeded(100, 14)
    assert whole(ring)
    dials = ring.dials
    for _ in range(60):
        repeat_seeds(ring, seeds)
        ring.run(1.0)
    assert ring.dials == dials, "known addresses are dialled again"
    for node in ring.live():
        assert len(node.core.candidates.residents) < 100


def test_a_seed_that_starts_anew_at_its_address_is_found_by_all() -> None:
    ring, seeds = seeded(40, 15)
    seeds[0].kill()
    ring.run(DETECTION + REPAIR)
    anew = ring.add(address=seeds[0].address)
    for _ in range(10):
        repeat_seeds(ring, [anew])
        ring.run(1.0)
    assert anew.joined
    assert whole(ring)


def test_two_rings_become_one_through_addresses() -> None:
    ring = VirtualRing(16)
    halves: tuple[list[VirtualNode], list[VirtualNode]] = ([], [])
    for half in halves:
        for _ in range(60):
            node = ring.add()
            if half:
                node.find_address(half[0])
            half.append(node)
            ring.run(0.02)
    ring.run(5)
    assert not whole(ring)
    for _ in range(10):
        repeat_seeds(ring, halves[1][:3])
        ring.run(1.0)
    assert whole(ring)


@pytest.mark.parametrize("count", [*range(2, 13), 16])
def test_small_rings_route_every_key(count: int) -> None:
    for seed in range(5):
        ring = VirtualRing(seed)
        ring.stagger(count, 0.05)
        ring.run(2)
        assert all(node.joined for node in ring.nodes)
        assert ring.misrouted(sample(ring, 300)) == []


def test_constant_coming_and_going_wears_nothing_out() -> None:
    ring = grown(150, 11)
    for _ in range(150):
        live = ring.live()
        ring.add().find(ring.rng.choice(live))
        victim = ring.rng.choice(live)
        ring.rng.choice(
            (victim.leave, victim.kill, lambda victim=victim: victim.kill(silent=False))
        )()
        ring.run(0.3)
        for node in ring.live():
            if not node.core.links:  # its contact has died; bootstrap finds another
                node.find(ring.rng.choice(ring.live()))
    ring.run(DETECTION + 2 * REPAIR)
    assert whole(ring)
    ring.run(120)  # nobody tries the dead for ever
    alive = {node.node_id for node in ring.live()}
    for node in ring.live():
        assert node.joined
        assert node.core.links.keys() <= alive
        assert not node.core.candidates.dialling
        assert not node.core.candidates.absent


@dataclass
class Receiver(Counting):
    """Counts what is delivered, by message."""

    counts: Counter[object] = field(default_factory=Counter)

    def deliver(self, message: Message, key: NodeId) -> None:
        self.counts[message.meta] += 1


def test_no_message_is_lost_or_doubled_while_nodes_join_and_leave() -> None:
    ring = VirtualRing(12)
    counts: Counter[object] = Counter()
    for _ in range(60):
        node = ring.add(app=lambda: Receiver(counts=counts))
        if len(ring.nodes) > 1:
            node.find(ring.rng.choice(ring.live()[:-1]))
        ring.run(0.05)
    ring.run(5)
    leaving: set[VirtualNode] = set()
    sent = 0
    for step in range(2_000):
        if step % 40 == 0:
            ring.add(app=lambda: Receiver(counts=counts)).find(
                ring.rng.choice([node for node in ring.live() if node not in leaving])
            )
        if step % 60 == 30:
            leaver = ring.rng.choice([node for node in ring.live() if node not in leaving])
            leaving.add(leaver)
            leaver.leave()
        sender = ring.rng.choice([node for node in ring.live() if node not in leaving])
        sender.send(NodeId(ring.rng.getrandbits(40)), Message(step))
        sent += 1
        ring.run(0.005)
    ring.run(5)
    assert counts == Counter(range(sent))


def test_a_run_can_be_repeated() -> None:
    def run() -> tuple[object, ...]:
        ring = VirtualRing(13)
        ring.stagger(60, 0.02)
        for node in random.Random(1).sample(ring.nodes, 6):
            node.kill()
        ring.run(15)
        return ring.packets, ring.dials, [node.core.table.cells for node in ring.live()]

    assert run() == run()
