import pytest

from iris.errors import StateError
from iris.heart import FailureDetector


def test_an_entity_silent_for_three_ticks_is_dead() -> None:
    detector = FailureDetector[int](3)
    detector.monitor(42)
    assert [detector.tick() for _ in range(3)] == [[], [], [42]]


def test_a_ping_puts_death_off_by_as_many_ticks() -> None:
    detector = FailureDetector[int](2)
    detector.monitor(1)
    assert detector.tick() == []
    detector.ping(1)
    assert [detector.tick() for _ in range(2)] == [[], [1]]


def test_the_dead_are_reported_in_order_until_unmonitored() -> None:
    detector = FailureDetector[int](1)
    for entity in (3, 1, 2):
        detector.monitor(entity)
    assert detector.tick() == [1, 2, 3]
    detector.unmonitor(2)
    assert detector.tick() == [1, 3]
    detector.ping(1)
    assert detector.tick() == [1, 3]


def test_an_entity_monitored_later_gets_the_whole_time() -> None:
    detector = FailureDetector[int](2)
    detector.tick()
    detector.tick()
    detector.monitor(7)
    assert [detector.tick() for _ in range(2)] == [[], [7]]
    assert 7 in detector
    assert len(detector) == 1


def test_monitoring_twice_is_an_error() -> None:
    detector = FailureDetector[int](3)
    detector.monitor(1)
    with pytest.raises(StateError):
        detector.monitor(1)


@pytest.mark.parametrize("step", ["ping", "unmonitor"])
def test_an_entity_that_isnt_monitored_is_an_error(step: str) -> None:
    detector = FailureDetector[int](3)
    detector.monitor(1)
    detector.unmonitor(1)
    with pytest.raises(StateError):
        getattr(detector, step)(1)
