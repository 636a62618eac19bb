"""SIGINT and SIGTERM as the ordinary end of what runs until then."""

import contextlib
import queue
import signal
from collections.abc import Iterator

from iris.ctl.outcome import Exit


@contextlib.contextmanager
def until_signal() -> Iterator["queue.SimpleQueue[Exit | Exception]"]:
    """A queue to which anybody puts a reason to end, and a signal `Exit.OK`.

    A second signal ends the program at once.
    """
    # its put is all right in a signal's handler
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
    """The first reason to end; `Exit.TIMEOUT` when there is none in time. Raises.

    The reason, if that is an exception.
    """
    try:
        reason = ends.get(timeout=timeout)
    except queue.Empty:
        return Exit.TIMEOUT
    if isinstance(reason, Exit):
        return reason
    raise reason
