"""The routing table against dumb oracles, in rings of any size and shape."""

import random

from hypothesis import given
from hypothesis import strategies as st
from sortedcontainers import SortedList

from iris.proto.pastry.table import RoutingTable
from iris.proto.wire.node_id import HALF, MODULO, NodeId, delta, distance, prefix
from tests.support.virtual_ring import closest

# evenly spread, crowded around some places, and at the edges
IDS = st.one_of(
    st.integers(0, MODULO - 1),
    st.builds(
        lambda place, offset: (place * (MODULO // 16) + offset) % MODULO,
        st.integers(0, 15),
        st.integers(-20, 20),
    ),
    st.sampled_from([0, 1, HALF - 1, HALF, HALF + 1, MODULO - 1]),
).map(NodeId)
RINGS = st.lists(IDS, min_size=1, max_size=40, unique=True)


@given(RINGS, st.integers(), st.integers(0, 40))
def test_merging_in_any_order_and_pieces_gives_the_true_leaf_set_and_full_cells(
    ring: list[NodeId], seed: int, cut: int
) -> None:
    origin, others = ring[0], ring[1:]
    random.Random(seed).shuffle(others)
    table = RoutingTable(origin).merged(others[:cut]).merged(others[cut:])
    ways = sorted(delta(origin, node) for node in ring)
    own = ways.index(0)
    assert [delta(origin, leaf) for leaf in table.leaves] == ways[max(0, own - 4) : own + 4]
    for node in others:
        row, column = prefix(origin, node)
        occupant = table.cells[row * 16 + column]
        assert occupant is not None
        assert prefix(origin, occupant) == (row, column)
    assert table.merged(ring) is table
    assert not any(table.wants(node) for node in ring)


@given(RINGS, IDS)
def test_a_node_is_wanted_exactly_if_merging_it_changes_the_table(
    ring: list[NodeId], node: NodeId
) -> None:
    table = RoutingTable(ring[0]).merged(ring[1:])
    assert table.wants(node) == (node not in table.active and table.merged([node]) is not table)


@given(RINGS, st.data())
def test_taking_out_and_patching_is_as_if_it_had_never_been_there(
    ring: list[NodeId], data: st.DataObject
) -> None:
    gone = set(data.draw(st.lists(st.sampled_from(ring), max_size=5))) - {ring[0]}
    left = [node for node in ring if node not in gone]
    patched = RoutingTable(ring[0]).merged(ring).without(gone).merged(left)
    fresh = RoutingTable(ring[0]).merged(left)
    assert patched.leaves == fresh.leaves
    assert patched.far == fresh.far
    assert [cell is None for cell in patched.cells] == [cell is None for cell in fresh.cells]
    assert not patched.active & gone


@given(RINGS, st.integers(), st.lists(IDS, min_size=1, max_size=10))
def test_every_key_arrives_at_the_closest_node_from_everywhere(
    ring: list[NodeId], seed: int, keys: list[NodeId]
) -> None:
    rng = random.Random(seed)
    tables = {node: RoutingTable(node).merged(rng.sample(ring, len(ring))) for node in ring}
    ordered = sorted(ring)
    for key in (*keys, *ring):
        root = closest(SortedList(ordered), key)
        at, previous = rng.choice(ring), None
        for _ in range(len(ring) + 1):
            hop = tables[at].next_hop(key)
            assert hop is None or hop != previous, "back to where it came from"
            if hop is None:
                break
            previous, at = at, hop
        assert distance(at, key) == distance(root, key)
