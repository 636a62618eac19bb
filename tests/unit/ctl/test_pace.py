"""When messages are due."""

from iris.ctl.pace import Pace


def test_without_a_rate_nothing_waits() -> None:
    pace = Pace(None)
    assert [pace.wait(now) for now in (0.0, 0.0, 5.0)] == [0.0, 0.0, 0.0]


def test_a_rate_counts_from_the_first_message() -> None:
    pace = Pace(10)
    assert pace.wait(1.0) == 0.0
    assert round(pace.wait(1.02), 6) == 0.08
    assert round(pace.wait(1.11), 6) == 0.09


def test_a_long_pause_is_not_made_up_for_in_a_burst() -> None:
    pace = Pace(10)
    pace.wait(0.0)
    waits = [round(pace.wait(9.0), 6) for _ in range(4)]
    assert waits == [0.0, 0.0, 0.1, 0.2]
