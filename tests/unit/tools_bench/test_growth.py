"""What growth is told to cost: sums, medians and the table."""

import json
import math

import pytest

from tools.bench import growth
from tools.bench.growth import AXES, Point, document, medians, point, table

FACTS = {
    "cpu": {"node 1": 0.02, "node 2": 0.03, "node 3": 0.01, "caller": 0.5, "callee": 0.5},
    "idle": {"node 1": 1.0, "node 2": 1.0, "node 3": 4.0},
    "per_second": 10_000.0,
    "lost": 0,
}


def test_the_cost_is_that_of_all_nodes_and_of_no_driver() -> None:
    found = point("nodes", 3, FACTS, ["node 1", "node 2", "node 3"], 1.0, 40.0)
    assert found.cost == pytest.approx(0.06)
    assert found.ends == pytest.approx(0.03)
    assert found.idle == pytest.approx(2.0)  # percent of a core, of each
    # 6 % of a core for the 0.1 s that 1,000 messages take
    assert found.net == pytest.approx(0.06 - 0.06 * 0.1)


def test_what_carried_nothing_has_no_cost_without_idling() -> None:
    assert math.isnan(point("nodes", 3, {**FACTS, "per_second": 0.0}, ["node 1"], 1.0, 40.0).net)


def points(axis: str, size: int, *costs: float, lost: int = 0) -> list[Point]:
    return [Point(axis, size, cost, cost, cost, 0.1, 1e4, 500.0, 1.0, 40.0, lost) for cost in costs]


def test_rounds_are_told_by_their_median_and_losses_by_their_sum() -> None:
    (clients, *_) = AXES
    found = medians(
        [
            *points("clients", 10, 0.5, 0.1, 0.2, lost=1),
            *points("topics", 10, 9.0),
            Point("clients", 100, why="no"),
        ],
        clients,
    )
    assert [(each.size, each.cost, each.lost) for each in found] == [(10, 0.2, 3)]


def test_the_table_compares_with_the_first_size_and_tells_where_it_gave_up() -> None:
    lines = table(
        [
            *points("nodes", 2, 0.04),
            *points("nodes", 4, 0.05),
            Point("nodes", 8, why="takes too long"),
        ]
    ).splitlines()
    assert lines[0].startswith("Number of nodes")
    assert [line.split()[:4] for line in lines[2:4]] == [
        ["2", "0.0400", "0.0400", "1.00"],
        ["4", "0.0500", "0.0500", "1.25"],
    ]
    assert lines[4] == "8 gave up: takes too long"


def test_a_longer_way_is_told_from_a_dearer_one() -> None:
    near, far = Point("nodes", 2, net=0.04, wire=500.0), Point("nodes", 32, net=0.09, wire=1_000.0)
    assert far.as_far(near) == pytest.approx(0.045)
    assert math.isnan(far.as_far(Point("nodes", 2, net=0.04, wire=0.0)))  # one node


def test_the_document_is_json_without_numbers_that_are_none() -> None:
    (found,) = json.loads(
        json.dumps(document([Point("nodes", 8, why="takes too long")]), allow_nan=False)
    )
    assert (found["cost"], found["why"]) == (None, "takes too long")


def test_axes_are_chosen_by_name() -> None:
    assert growth.choose("") == list(AXES)
    assert [axis.name for axis in growth.choose("nodes,clients")] == ["clients", "nodes"]
    with pytest.raises(ValueError, match="no axis is called"):
        growth.choose("nonsense")
