"""Batches: what a thread writes while it handles a batch of messages is sent when the batch ends.

Sending takes a system call per socket, so one for many messages. `SendBuffer` is what is flushed.
"""

import threading
from types import TracebackType
from typing import Final

from iris.runtime.compiling import mypyc_attr

# messages after which a reading thread flushes: other threads work on them while it reads on
BATCH: Final = 24
# the same with many send buffers, as each flush is a system call and enough of them have work
LONG_BATCH: Final = 96
_MANY: Final = 3  # send buffers


@mypyc_attr(allow_interpreted_subclasses=True)
class Flushable:
    """What a batch flushes at its end."""

    size: int  # bytes waiting

    def flush(self) -> None:
        """Send what the socket takes without waiting. Never raises."""
        raise NotImplementedError

    def wait_below(self, mark: int, timeout: float) -> bool:
        """Wait until at most `mark` bytes are left; False after `timeout` seconds."""
        raise NotImplementedError


# `written`: what this thread's batch has written to; absent or None outside of a batch
_local: Final = threading.local()


def written() -> dict[Flushable, None] | None:
    """What this thread's batch is to flush, in order; None outside of a batch."""
    written: dict[Flushable, None] | None = getattr(_local, "written", None)
    return written


class Batch:
    """Gather this thread's writes, and flush them when the outermost `with Batch()` ends."""

    __slots__ = ("_outermost",)

    def __enter__(self) -> "Batch":
        self._outermost = written() is None
        if self._outermost:
            _local.written = {}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._outermost:
            buffers = written()
            _local.written = None
            for buffer in buffers or ():
                buffer.flush()

    def full(self, messages: int) -> bool:
        """Whether to flush after so many messages."""
        return messages >= (LONG_BATCH if len(written() or ()) >= _MANY else BATCH)

    def congested(self, mark: int) -> list[Flushable]:
        """Flush, and list what still holds more than `mark` bytes of what was written to."""
        buffers = list(written() or ())
        for buffer in buffers:
            if buffer.size > mark:
                buffer.flush()
        return [buffer for buffer in buffers if buffer.size > mark]


def flush_batch() -> None:
    """Send what this thread's batch has gathered so far; call it before waiting inside of one."""
    for buffer in list(written() or ()):
        buffer.flush()
