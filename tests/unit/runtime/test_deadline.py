import pytest

from iris.runtime.deadline import socket_timeout, time_left


def test_time_left_is_never_negative() -> None:
    assert [time_left(at, lambda: 10.0) for at in (12.5, 10.0, 9.0)] == [2.5, 0.0, 0.0]


@pytest.mark.parametrize("at", [10.0, 9.0])
def test_no_time_left_for_a_socket_is_a_timeout(at: float) -> None:
    assert socket_timeout(12.5, lambda: 10.0) == 2.5
    with pytest.raises(TimeoutError):
        socket_timeout(at, lambda: 10.0)
