"""Id arithmetic and leaf set merges, as the Go node does them."""

import json
from pathlib import Path
from typing import Any

import pytest

from iris.proto.pastry.table import RoutingTable
from iris.proto.wire.node_id import NodeId, delta, distance, prefix, resolve

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "pastry_space.json").read_text()
)


def test_deltas_and_distances_are_those_of_the_go_node() -> None:
    for pair in VECTORS["pairs"]:
        a, b = NodeId(int(pair["a"])), NodeId(int(pair["b"]))
        assert (delta(a, b), distance(a, b)) == (int(pair["delta"]), int(pair["distance"])), pair


def test_rows_and_columns_are_those_of_the_go_node() -> None:
    differing = [pair for pair in VECTORS["pairs"] if "row" in pair]
    assert differing
    for pair in differing:
        assert prefix(NodeId(int(pair["a"])), NodeId(int(pair["b"]))) == (
            pair["row"],
            pair["col"],
        ), pair


def test_names_resolve_to_the_ids_of_the_go_node() -> None:
    for vector in VECTORS["resolve"]:
        assert resolve(vector["name"]) == int(vector["id"]), vector


@pytest.mark.parametrize("vector", VECTORS["merge_leaves"], ids=lambda vector: vector["self"])
def test_leaf_sets_merge_as_in_the_go_node(vector: dict[str, Any]) -> None:
    leaves, added, result = (
        [NodeId(int(text)) for text in vector[key]] for key in ("leaves", "merged_with", "result")
    )
    before = RoutingTable(NodeId(int(vector["self"])), 8, leaves)
    assert list(before.merged(added).leaves) == result
