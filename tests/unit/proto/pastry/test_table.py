from iris.proto.pastry.table import RoutingTable
from iris.proto.wire.node_id import HALF, MODULO, NodeId


def ids(*values: int) -> list[NodeId]:
    return [NodeId(value % MODULO) for value in values]


def table(origin: int, *nodes: int) -> RoutingTable:
    return RoutingTable(NodeId(origin)).merged(ids(*nodes))


def test_leaf_set_wraps_zero() -> None:
    assert list(table(1, 3, 5, MODULO - 2, MODULO - 9).leaves) == ids(-9, -2, 1, 3, 5)


def test_leaf_set_holds_the_four_below_and_the_three_above() -> None:
    origin = 1 << 20
    assert list(table(origin, *range(origin - 9, origin + 9)).leaves) == ids(
        *range(origin - 4, origin + 4)
    )


def test_a_lone_node_delivers_everything() -> None:
    lone = RoutingTable(NodeId(5))
    assert all(lone.next_hop(NodeId(key)) is None for key in (0, 5, HALF, MODULO - 1))


def test_a_key_between_two_leaves_goes_to_the_closer_one() -> None:
    routes = table(1000, 1010, 1020)
    assert routes.next_hop(NodeId(1004)) is None
    assert routes.next_hop(NodeId(1006)) == 1010
    assert routes.next_hop(NodeId(1020)) == 1020


def test_a_key_in_the_middle_of_two_leaves_goes_to_the_one_below_for_everybody() -> None:
    assert table(1000, 1010).next_hop(NodeId(1005)) is None
    assert table(1010, 1000).next_hop(NodeId(1005)) == 1000


def test_a_key_beyond_the_leaves_goes_to_the_cell_of_its_next_digit() -> None:
    near = [0x10_0000_0000 + step for step in range(-4, 4)]
    routes = table(near[4], *near, 0x8F_0000_0000, 0x90_0000_0000)
    # though 90... might be as good
    assert routes.next_hop(NodeId(0x80_0000_0000)) == 0x8F_0000_0000


def test_without_a_cell_the_closest_node_with_as_long_a_prefix_is_taken() -> None:
    near = [0x10_0000_0000 + step for step in range(-4, 4)]
    routes = table(near[4], *near, 0x60_0000_0000, 0x70_0000_0000, 0xF0_0000_0000)
    assert routes.next_hop(NodeId(0x80_0000_0000)) == 0x70_0000_0000


def test_two_nodes_never_send_a_key_to_and_fro() -> None:
    """Three nodes far apart, and a key that Go's N passes to T by prefix, and its T back to N as
    the closest.
    """
    low, n, t = 0x10_0000_0000, 0x76_0000_0000, 0xE9_0000_0000
    nodes = ids(low, n, t)
    tables = {node: RoutingTable(node).merged(nodes) for node in nodes}
    for key in range(0, MODULO, MODULO // 999):
        ends = set()
        for node in nodes:
            first = tables[node].next_hop(NodeId(key))
            end = node if first is None else first
            assert tables[end].next_hop(NodeId(key)) is None
            ends.add(end)
        assert len(ends) == 1


def test_where_one_half_of_the_ring_is_empty_the_node_beyond_it_is_known() -> None:
    origin = 0
    below = [-step * (HALF // 16) + step for step in range(1, 7)]  # six nodes, none above
    routes = table(origin, *below)
    assert list(routes.far) == ids(below[-1])
    assert below[-1] % MODULO in routes.active
    assert list(routes.without(routes.far).merged(ids(below[4])).far) == ids(below[4])


def test_occupied_cells_stay() -> None:
    near = [0x10_0000_0000 + step for step in range(-4, 4)]
    routes = table(near[4], *near, 0x80_0000_0000)
    assert routes.merged(ids(0x81_0000_0000)) is routes
    assert not routes.wants(NodeId(0x81_0000_0000))


def test_a_node_is_wanted_that_improves_the_leaf_set_or_fills_a_cell() -> None:
    near = [0x10_0000_0000 + step * 10 for step in range(-4, 4)]
    routes = table(near[4], *near, 0x80_0000_0000)
    assert routes.wants(NodeId(near[4] + 1))
    assert routes.wants(NodeId(0x90_0000_0000))
    assert not any(routes.wants(node) for node in ids(*near, 0x80_0000_0000))


def test_merging_what_is_known_changes_nothing() -> None:
    nodes = ids(*(step * (MODULO // 37) + 11 for step in range(37)))
    routes = RoutingTable(nodes[0]).merged(nodes)
    assert routes.merged(nodes) is routes
    assert routes.without(ids(12345)) is routes


def test_taking_a_node_out_leaves_a_hole_that_others_fill() -> None:
    routes = table(1000, 1010, 1020)
    assert routes.without(ids(1010)).active == {1020}
    assert routes.without(ids(1010)).merged(ids(1015)).active == {1015, 1020}


def test_rows_list_who_shares_so_many_digits() -> None:
    routes = table(0x12_0000_0000, 0x13_0000_0000, 0x14_0000_0000, 0x92_0000_0000)
    assert routes.row(0) == ids(0x92_0000_0000)
    assert routes.row(1) == ids(0x13_0000_0000, 0x14_0000_0000)
    assert routes.gained_rows(routes.without(ids(0x13_0000_0000))) == {1}
    assert routes.without(ids(0x13_0000_0000)).gained_rows(routes) == set()
