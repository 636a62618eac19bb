"""SIGINT and SIGTERM as the regular end of a command."""

import contextlib
import queue
import signal
from collections.abc import Iterator

from iris.ctl.outcome import Exit


@contextlib.contextmanager
def until_signal() -> Iterator["queue.SimpleQueue[Exit | Exception]"]:
    """Make a queue of reasons to exit, to which a signal puts `Exit.OK`; a second one kills."""
    # its put is reentrant, as a signal's handler needs it
    ends: queue.SimpleQueue[Exit | Exception] = queue.SimpleQueue()

    def handle(number: int, frame: object) -> None:
        ends.put(Exit.OK)
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ends
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_for_end(ends: "queue.SimpleQueue[Exit | Exception]", timeout: float | None = None) -> Exit:
    """Wait for a reason to exit; `Exit.TIMEOUT` when there is none within `timeout` seconds.

    Raises: the reason, if it is an exception.
    """
    try:
        reason = ends.get(timeout=timeout)
    except queue.Empty:
        return Exit.TIMEOUT
    if isinstance(reason, Exit):
        return reason
    raise reason
