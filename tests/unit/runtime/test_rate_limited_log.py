import logging
from collections.abc import Callable

import pytest

from iris.runtime.rate_limited_log import RateLimitedLogger

_log = logging.getLogger("test.limited")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.DEBUG, "test.limited")
    return lambda: [
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
    ]


def test_a_key_is_logged_once_per_period(warned: Callable[[], list[str]]) -> None:
    clock = Clock()
    log = RateLimitedLogger(_log, period=10.0, clock=clock)
    for clock.now in (100.0, 101.0, 109.9):
        log.log(logging.WARNING, "a", "%s at %d%%", "a", 5)
    log.log(logging.WARNING, "b", "b")
    assert warned() == ["a at 5%", "b"]
    for clock.now in (110.0, 120.0):
        log.log(logging.WARNING, "a", "%s at %d%%", "a", 6)
    assert warned()[2:] == ["a at 6% (2 similar lines suppressed)", "a at 6%"]


def test_a_repetition_is_logged_for_debugging(
    warned: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    log = RateLimitedLogger(_log, clock=Clock())
    for text in ("first", "second"):
        log.log(logging.WARNING, "a", text)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, "first"),
        (logging.DEBUG, "second"),
    ]


def test_admit_counts_as_a_line(warned: Callable[[], list[str]]) -> None:
    log = RateLimitedLogger(_log, clock=Clock())
    assert log.admit("a") == 0
    assert log.admit("a") is None
    log.log(logging.WARNING, "a", "a")
    assert warned() == []


def test_memory_is_bounded_and_the_key_logged_first_is_forgotten() -> None:
    clock = Clock()
    log = RateLimitedLogger(_log, period=10.0, max_keys=2, clock=clock)
    log.admit("a")
    log.admit("b")
    clock.now += 10.0
    log.admit("a")  # now logged after b
    log.admit("c")
    assert len(log._logged) == 2
    assert [log.admit(key) for key in "acb"] == [None, None, 0]
