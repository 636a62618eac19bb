"""How long to wait, when all must be over at a deadline: seconds on a monotonic clock."""

import time
from collections.abc import Callable


def time_left(deadline: float, clock: Callable[[], float] = time.monotonic) -> float:
    """Seconds until the deadline; 0 when it has passed."""
    return max(0.0, deadline - clock())


def socket_timeout(deadline: float, clock: Callable[[], float] = time.monotonic) -> float:
    """Seconds until the deadline, for a socket, where 0 means not to block.

    Raises: TimeoutError when it has passed.
    """
    left = deadline - clock()
    if left <= 0:
        raise TimeoutError
    return left
