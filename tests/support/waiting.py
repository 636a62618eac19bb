"""Wait for conditions, with a deadline."""

import asyncio
import time
from collections.abc import Callable

PATIENCE = 20.0  # seconds for what must happen; the machine may be busy
PAUSE = 0.005  # seconds between two looks


def wait_for(
    condition: Callable[[], object],
    timeout: float = PATIENCE,
    what: str = "it",
    pause: float = PAUSE,
) -> None:
    """Poll until `condition` holds, with `pause` seconds in between.

    Raises: TimeoutError after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} didn't happen within {timeout} s")
        time.sleep(pause)


async def loop_until(
    condition: Callable[[], object], timeout: float = PATIENCE, what: str = "it"
) -> None:
    """Run the event loop until `condition` holds. Raises: TimeoutError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} didn't happen within {timeout} s")
        await asyncio.sleep(0)
