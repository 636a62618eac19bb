import random
from collections import Counter

import pytest

from iris.balancer import MAX_CAPACITY, Balancer
from iris.errors import StateError


def balancer(**capacities: int) -> Balancer[str]:
    made = Balancer[str](random.Random(7))
    for member, capacity in capacities.items():
        made.register(member)
        made.update(member, capacity)
    return made


def shares(
    made: Balancer[str], without: str | None = None, picks: int = 20_000
) -> dict[str | None, float]:
    return {
        member: count / picks
        for member, count in Counter(made.pick(without) for _ in range(picks)).items()
    }


def test_members_are_picked_in_proportion_to_their_capacity() -> None:
    assert shares(balancer(a=1, b=2, c=7)) == pytest.approx(
        {"a": 0.1, "b": 0.2, "c": 0.7}, abs=0.015
    )


@pytest.mark.parametrize("without", ["a", "b", "c"])
def test_an_excluded_member_is_never_picked_and_the_others_keep_their_proportion(
    without: str,
) -> None:
    capacities = {"a": 5, "b": 3, "c": 2}
    left = {member: capacity for member, capacity in capacities.items() if member != without}
    expected = {member: capacity / sum(left.values()) for member, capacity in left.items()}
    assert shares(balancer(**capacities), without) == pytest.approx(expected, abs=0.015)


def test_the_only_member_is_picked_though_excluded() -> None:
    assert balancer(a=3).pick("a") == "a"


def test_excluding_a_stranger_changes_nothing() -> None:
    assert set(shares(balancer(a=1, b=1), "z", picks=100)) == {"a", "b"}


def test_nobody_is_picked_from_nobody() -> None:
    assert balancer().pick() is None
    assert balancer().pick("a") is None


def test_a_new_member_counts_one() -> None:
    made = balancer(a=3)
    made.register("b")
    assert made.total == 4
    assert made.capacity("a") == 1


@pytest.mark.parametrize("capacity", [0, -1, -(1 << 63)])
def test_no_member_counts_less_than_one(capacity: int) -> None:
    assert balancer(a=capacity).total == 1


def test_no_member_counts_more_than_the_limit() -> None:
    made = balancer(a=1 << 62, b=1)
    assert made.total == MAX_CAPACITY + 1
    assert shares(made, picks=10) == {"a": 1.0}


def test_capacity_leaves_out_who_asks() -> None:
    made = balancer(a=5, b=3)
    assert (made.capacity(), made.capacity("a"), made.capacity("z")) == (8, 3, 8)


def test_a_change_counts_from_the_next_pick() -> None:
    made = balancer(a=1, b=1)
    made.pick()
    made.update("a", 1_000_000)
    assert shares(made, picks=50) == {"a": 1.0}
    made.unregister("a")
    assert shares(made, picks=50) == {"b": 1.0}
    assert (len(made), "a" in made, "b" in made, made.total) == (1, False, True, 1)


def test_another_one_is_picked_strictly_outside_of_the_excluded() -> None:
    made = balancer(a=1, b=2, c=4)
    assert {made.pick_other(("a", None)) for _ in range(50)} == {"b", "c"}
    assert made.pick_other(("a", "b")) == "c"
    assert made.pick_other(("a", "b", "c")) is None


def test_double_and_unknown_members_are_a_bug_of_the_caller() -> None:
    made = balancer(a=1)
    with pytest.raises(StateError):
        made.register("a")
    with pytest.raises(StateError):
        made.unregister("b")
    with pytest.raises(StateError):
        made.update("b", 1)
    assert made.total == 1
