import threading

import pytest

from iris.proto.pastry.event_loop import Budget, EventLoop

PATIENCE = 20.0  # seconds until a test that hangs fails


def test_events_are_handled_in_their_order_also_those_from_before_the_start() -> None:
    seen: list[int] = []
    done = threading.Event()
    loop = EventLoop("test-loop", lambda: None)
    loop.post(lambda: seen.append(1))
    loop.start()
    loop.post(lambda: seen.append(2))
    loop.post(done.set)
    assert done.wait(PATIENCE)
    loop.stop()
    assert seen == [1, 2]
    assert "test-loop" not in [thread.name for thread in threading.enumerate()]


def test_a_budget_bounds_the_events_that_wait_and_is_free_again_once_they_are_handled() -> None:
    loop, budget, done = EventLoop("test-loop", lambda: None), Budget(2), threading.Event()
    posted = [loop.post_within(budget, lambda: None) for _ in range(3)]
    assert posted == [True, True, False]
    loop.post(done.set)
    loop.start()
    assert done.wait(PATIENCE)
    assert loop.post_within(budget, lambda: None)
    loop.stop()


def test_an_event_that_fails_is_logged_and_the_next_one_handled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done = threading.Event()
    loop = EventLoop("test-loop", done.set)
    loop.post(lambda: [].pop())
    loop.start()
    assert done.wait(PATIENCE)
    loop.stop()
    assert "IndexError" in caplog.text


def test_a_loop_that_was_never_started_can_be_stopped() -> None:
    loop = EventLoop("test-loop", lambda: None)
    loop.stop()
    assert not loop.started
