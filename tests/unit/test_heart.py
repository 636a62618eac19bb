import pytest

from iris.errors import StateError
from iris.heart import FailureDetector


def test_an_entity_silent_for_three_ticks_is_dead() -> None:
    heart = FailureDetector[int](3)
    heart.monitor(42)
    assert [heart.tick() for _ in range(3)] == [[], [], [42]]


def test_a_ping_puts_death_off_by_as_many_ticks() -> None:
    heart = FailureDetector[int](2)
    heart.monitor(1)
    assert heart.tick() == []
    heart.ping(1)
    assert [heart.tick() for _ in range(2)] == [[], [1]]


def test_the_dead_are_reported_in_order_until_somebody_unmonitors_them() -> None:
    heart = FailureDetector[int](1)
    for entity in (3, 1, 2):
        heart.monitor(entity)
    assert heart.tick() == [1, 2, 3]
    heart.unmonitor(2)
    assert heart.tick() == [1, 3]
    heart.ping(1)
    assert heart.tick() == [1, 3]


def test_who_is_monitored_later_gets_the_whole_time() -> None:
    heart = FailureDetector[int](2)
    heart.tick()
    heart.tick()
    heart.monitor(7)
    assert [heart.tick() for _ in range(2)] == [[], [7]]
    assert 7 in heart
    assert len(heart) == 1


def test_monitoring_twice_is_an_error() -> None:
    heart = FailureDetector[int](3)
    heart.monitor(1)
    with pytest.raises(StateError):
        heart.monitor(1)


@pytest.mark.parametrize("step", ["ping", "unmonitor"])
def test_strangers_are_an_error(step: str) -> None:
    heart = FailureDetector[int](3)
    heart.monitor(1)
    heart.unmonitor(1)
    with pytest.raises(StateError):
        getattr(heart, step)(1)
