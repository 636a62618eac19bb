"""One direction of a tunnel's flow control, at either end."""

from iris.runtime.credit_window import GRANTS_PER_WINDOW, CreditWindow


def test_a_sender_spends_what_was_granted() -> None:
    window = CreditWindow()
    assert window.available == 0
    window.grant(100)
    window.consume(30)
    assert window.available == 70


def test_a_sender_may_be_let_finish_beyond_its_credit() -> None:
    window = CreditWindow(10)
    window.consume(25)
    assert window.available == -15
    window.grant(20)
    assert window.available == 5


def test_released_bytes_are_granted_a_step_at_a_time() -> None:
    window = CreditWindow(100 * GRANTS_PER_WINDOW)
    window.consume(150)
    window.release(99)
    assert window.take_grant() == 0
    window.release(1)
    assert window.take_grant() == 100
    assert window.take_grant() == 0
    assert window.available == window.size - 50


def test_released_bytes_are_granted_at_once_when_the_sender_needs_them() -> None:
    window = CreditWindow(1600)
    window.consume(1000)
    assert window.take_grant(601) == 0  # nothing was released yet
    window.release(1)
    assert window.take_grant(600) == 0
    assert window.take_grant(601) == 1


def test_a_small_window_grants_every_byte() -> None:
    window = CreditWindow(GRANTS_PER_WINDOW - 1)
    window.consume(1)
    window.release(1)
    assert window.take_grant() == 1
