"""Bytes on their way into one socket: gathered by any thread, sent in bulk by whoever ends a batch.

A write never waits for the other side. What the socket doesn't take at once goes to a flusher
thread that lives only as long as there is something to send. Who writes decides what a full buffer
means (`size`, `limit`); docs/architecture.md: "A message runs to completion".

Lock order: whoever owns the outbox -> _sending -> _lock. Nothing is called back with either held.
"""

import contextlib
import logging
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Final

from iris.errors import LinkClosed
from iris.runtime.compiling import mypyc_attr, with_cause

# bytes; shorter writes are copied together, longer ones are sent from where they are
_SMALL: Final = 16_384
_BULK: Final = 65_536  # bytes that one gathering buffer holds at most, before the next one begins
_VECTORS: Final = 512  # buffers in one system call; the kernel takes 1,024
# messages after which a reading thread sends what came of them: others work on it while it reads on
BATCH: Final = 24
# the same where many are written to, for each takes a system call, and enough of them have work by
# then
LONG_BATCH: Final = 96
_MANY: Final = 3  # outboxes

Buffer = bytes | bytearray | memoryview

_log = logging.getLogger(__name__)


# `outboxes`: those that the batch of this thread has written to; absent or None without a batch
_touched: Final = threading.local()


def _of_this_batch() -> "dict[SendBuffer, None] | None":
    outboxes: dict[SendBuffer, None] | None = getattr(_touched, "outboxes", None)
    return outboxes


def closed(text: str, cause: Exception | None) -> LinkClosed:
    """What to raise when a link has ended, and how it did."""
    return with_cause(LinkClosed(text), cause)


class Batch:
    """While a thread is in `with Batch()`, its writes gather.

    They are sent when the outermost one ends.
    """

    __slots__ = ("_outermost",)

    def __enter__(self) -> "Batch":
        self._outermost = _of_this_batch() is None
        if self._outermost:
            _touched.outboxes = {}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._outermost:
            outboxes = _of_this_batch()
            _touched.outboxes = None
            for outbox in outboxes or ():
                outbox.flush()

    def full(self, messages: int) -> bool:
        """Whether it's time to send what came of so many messages."""
        return messages >= (LONG_BATCH if len(_of_this_batch() or ()) >= _MANY else BATCH)

    def congested(self, mark: int) -> "list[SendBuffer]":
        """Those written to in this batch that hold more than `mark` bytes even after sending."""
        outboxes = list(_of_this_batch() or ())
        for outbox in outboxes:
            if outbox.size > mark:
                outbox.flush()
        return [outbox for outbox in outboxes if outbox.size > mark]


def flush_batch() -> None:
    """Send what this thread's batch has gathered so far.

    For whoever is about to wait inside of one.
    """
    for outbox in list(_of_this_batch() or ()):
        outbox.flush()


@mypyc_attr(allow_interpreted_subclasses=True)
class SendBuffer:
    """The sending half of one connected, blocking socket. Its maker closes it, before the socket."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        name: str,
        limit: int,
        stall_timeout: float | None = None,
        on_broken: Callable[[Exception], None] | None = None,
        held: bool = False,
    ) -> None:
        """Wrap `sock`, which must be blocking.

        Arguments: name of the flusher thread; limit in bytes, for `full`; stall_timeout in seconds
        without any byte taken (None: wait for ever); on_broken is told once, outside of locks, of
        the first error or stall while sending; held: send nothing until `release`.
        """
        self._sock, self._name, self.limit = sock, name, limit
        self._on_broken = on_broken
        self._lock = threading.Lock()
        self._sending = threading.Lock()  # the flusher thread holds it while it uses the socket
        self._queue: deque[Buffer] = deque()
        self._gather: bytearray | None = None  # the last buffer of the queue, if it may still grow
        # a flusher thread owns the socket's sending half, or nobody may send yet
        self._flushing = held
        self._broken: Exception | None = None
        # why nothing more is taken: broken, or the last was written
        self._refusal: Exception | None = None
        self._below: list[tuple[int, Callable[[], None]]] = []
        self.size = 0  # bytes waiting here
        if stall_timeout is not None:
            seconds, fraction = divmod(stall_timeout, 1)
            sock.setsockopt(
                socket.SOL_SOCKET,
                socket.SO_SNDTIMEO,
                struct.pack("ll", int(seconds), int(fraction * 1e6)),
            )

    def full(self, more: int) -> bool:
        """Whether `more` bytes would go beyond the limit. An empty outbox takes anything."""
        return self.size > 0 and self.size + more > self.limit

    def write(self, *buffers: Buffer) -> None:
        """Append; sent at the end of this thread's batch, or now without one.

        Buffers must not change afterwards.

        Raises: LinkClosed when sending has failed or was closed.
        """
        self.write_all(buffers)

    def write_all(self, buffers: tuple[Buffer, ...]) -> None:
        """Write what is in a tuple already: compiled, a call with a star costs more than all else."""
        self.append(buffers)
        self.touch()

    def append(self, buffers: tuple[Buffer, ...]) -> None:
        """Write with a lock of one's own held, which decides the order.

        `touch` follows its release. Raises: LinkClosed like `write`.
        """
        with self._lock:
            self._take(buffers)

    def finish(self, *buffers: Buffer) -> None:
        """Write for the last time: what others write from now on is refused as if this were closed.

        Raises: LinkClosed like `write`, so only one thread can be the last.
        """
        with self._lock:
            self._take(buffers)
            self._refusal = LinkClosed("the last was written")
        self.touch()

    def _take(self, buffers: tuple[Buffer, ...]) -> None:
        if self._refusal is not None:
            raise closed("nothing can be sent any more", self._refusal)
        for data in buffers:
            self._append(data)

    def touch(self) -> None:
        """Send what was appended: at the end of this thread's batch, or now without one."""
        touched = _of_this_batch()
        if touched is None:
            self.flush()
        else:
            touched[self] = None

    def release(self, first: Buffer) -> None:
        """Send `first`, then what has gathered in an outbox that was made `held`, and from now on
        whatever is written.
        """
        with self._lock:
            if self._broken is None:
                self._queue.appendleft(first)
                self.size += len(first)
            self._flushing = False
        self.flush()

    def _append(self, data: Buffer) -> None:
        length = len(data)
        if not length:
            return  # nothing would ever take it out of the queue
        self.size += length
        if length >= _SMALL:
            self._queue.append(data)
            self._gather = None
            return
        if self._gather is None:
            self._gather = bytearray()
            self._queue.append(self._gather)
        self._gather += data
        if len(self._gather) >= _BULK:
            self._gather = None

    def flush(self) -> None:
        """Send what the socket takes without waiting; a flusher thread takes care of the rest.

        Never raises.
        """
        error: Exception | None = None
        with self._lock:
            if self._flushing or self._broken is not None:
                return
            try:
                while self._queue:
                    self._sent(self._sock.sendmsg(self._vectors(), (), socket.MSG_DONTWAIT))
            except BlockingIOError:
                error = self._start_flusher()
            except OSError as exc:
                error = exc
            if error is not None:
                self._break(error)
            due = self._due()
        self._report(error, due)

    def _start_flusher(self) -> Exception | None:
        try:
            threading.Thread(target=self._flush_rest, name=f"{self._name}-tx", daemon=True).start()
        # the system has no thread left; without one, this connection is lost
        except RuntimeError as exc:
            return exc
        self._flushing = True  # the thread looks at nothing before it gets the lock
        return None

    def _vectors(self) -> list[Buffer]:
        self._gather = None  # a buffer that is being sent must not grow
        if len(self._queue) <= _VECTORS:
            return list(self._queue)
        return [self._queue[i] for i in range(_VECTORS)]

    def _sent(self, count: int) -> None:
        self.size -= count
        while count:
            first = self._queue.popleft()
            if len(first) > count:
                self._queue.appendleft(memoryview(first)[count:])
                return
            count -= len(first)

    def _flush_rest(self) -> None:
        while True:
            error: Exception | None = None
            count = 0
            with self._sending:
                with self._lock:
                    if not self._queue:
                        self._flushing = False
                        return
                    vectors = self._vectors()
                try:
                    count = self._sock.sendmsg(vectors)
                except BlockingIOError:
                    error = TimeoutError("the other side takes nothing")
                except OSError as exc:
                    error = exc
            with self._lock:
                if not self._queue:
                    error = None  # it was closed meanwhile, and nobody needs to be told
                elif error is not None:
                    self._break(error)
                else:
                    self._sent(count)
                due = self._due()
            self._report(error, due)

    def _break(self, error: Exception) -> None:
        self._broken = self._broken or error
        self._refusal = self._refusal or error
        self._queue.clear()
        self._gather = None
        self.size = 0

    def _due(self) -> list[Callable[[], None]]:
        """Those who wait for a level that is reached."""
        if not self._below:
            return []
        due = [callback for mark, callback in self._below if self.size <= mark]
        self._below = [(mark, callback) for mark, callback in self._below if self.size > mark]
        return due

    def _report(self, error: Exception | None, due: list[Callable[[], None]]) -> None:
        if error is not None and self._on_broken is not None:
            due = [*due, partial(self._on_broken, error)]
        for callback in due:
            try:
                callback()
            except Exception:
                # our bug; sending must go on
                _log.exception("%s: who waited for it to send failed", self._name)

    def on_drained_to(self, mark: int, callback: Callable[[], None]) -> None:
        """Call back once when at most `mark` bytes wait (or never will be sent).

        Now, or later from the thread that sends.
        """
        with self._lock:
            if self.size > mark:
                self._below.append((mark, callback))
                return
        callback()

    def wait_below(self, mark: int, timeout: float) -> bool:
        """Wait until at most `mark` bytes are left; False after `timeout` seconds.

        Not to be used by peers' reading threads.
        """
        reached = threading.Event()
        self.on_drained_to(mark, reached.set)
        return reached.wait(timeout)

    def close(self, timeout: float = 0.0) -> bool:
        """Send what is left, `timeout` seconds at most, then take nothing more.

        False when something was left behind.
        """
        self.flush()
        sent = self.wait_below(0, timeout)
        with self._lock:
            sent = sent and self._broken is None
            self._break(self._broken or LinkClosed("closed"))
            due = self._due()
        self._report(None, due)
        with contextlib.suppress(OSError):  # the other side may have gone first
            self._sock.shutdown(socket.SHUT_WR)  # wakes a flusher that still waits
        # it is out of the system call: whoever closes the socket now gives its number to nobody's
        # bytes
        with self._sending:
            return sent
