"""Bytes to one socket: written by any thread, sent in bulk at the end of a batch.

A write never waits for the peer. What the socket doesn't take at once is sent by a flusher thread
that lives only as long as there is something to send. The caller decides what a full buffer means
(`size`, `limit`); docs/architecture.md: "A message runs to completion".

Lock order: the owner's locks -> _sending -> _lock. No callback runs with either held.
"""

import logging
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import Final

from iris.errors import LinkClosed, StateError
from iris.runtime.batch import Flushable, written
from iris.runtime.compiling import mypyc_attr, with_cause
from iris.runtime.tcp import shut_down

# bytes; shorter writes are copied together, longer ones are sent from where they are
_SMALL: Final = 16_384
_BULK: Final = 65_536  # bytes that one gathering buffer holds at most, before the next one begins
_VECTORS: Final = 512  # buffers in one system call; the kernel takes 1,024

Buffer = bytes | bytearray | memoryview

_log = logging.getLogger(__name__)


class State(Enum):
    """Of the socket's sending half."""

    CORKED = auto()  # nothing is sent yet
    DIRECT = auto()  # `flush` sends
    FLUSHING = auto()  # a flusher thread sends, as the socket was full
    CLOSED = auto()  # closed or broken: nothing is sent any more


STEPS = {
    (State.CORKED, "uncork"): State.DIRECT,
    (State.CORKED, "close"): State.CLOSED,
    (State.DIRECT, "block"): State.FLUSHING,
    (State.DIRECT, "close"): State.CLOSED,
    (State.FLUSHING, "drain"): State.DIRECT,
    (State.FLUSHING, "close"): State.CLOSED,
}
_DIRECT: Final = State.DIRECT
_CLOSED: Final = State.CLOSED


@mypyc_attr(allow_interpreted_subclasses=True)
class SendBuffer(Flushable):
    """The sending half of a connected, blocking socket. Its maker closes it, before the socket."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        name: str,
        limit: int,
        stall_timeout: float | None = None,
        on_broken: Callable[[Exception], None] | None = None,
        corked: bool = False,
    ) -> None:
        """Wrap `sock`.

        Args: the flusher thread is called `{name}-tx`; limit in bytes, for `full`; stall_timeout in
        seconds without any byte taken (None: wait for ever); on_broken is called once, outside of
        locks, with the first error or stall while sending; corked: send nothing until `uncork`.
        """
        self._sock, self._name, self.limit = sock, name, limit
        self._on_broken = on_broken
        self._lock = threading.Lock()
        self._sending = threading.Lock()  # the flusher thread holds it while it uses the socket
        self._state = State.CORKED if corked else State.DIRECT
        self._queue: deque[Buffer] = deque()
        self._gather: bytearray | None = None  # the last buffer of the queue, if it may still grow
        self._refusal: Exception | None = None  # why writes are refused: finished, closed or broken
        self._on_drained: list[tuple[int, Callable[[], None]]] = []
        self.size = 0
        if stall_timeout is not None:
            seconds, fraction = divmod(stall_timeout, 1)
            sock.setsockopt(
                socket.SOL_SOCKET,
                socket.SO_SNDTIMEO,
                struct.pack("ll", int(seconds), int(fraction * 1e6)),
            )

    def _step(self, event: str) -> None:
        state = STEPS.get((self._state, event))
        if state is None:
            raise StateError(f"a send buffer that is {self._state.name} can't {event}")
        self._state = state

    def full(self, more: int) -> bool:
        """Whether `more` bytes would exceed the limit. An empty buffer takes any number."""
        return self.size > 0 and self.size + more > self.limit

    def write(self, *buffers: Buffer) -> None:
        """Append; sent at the end of this thread's batch, or now outside of one.

        Buffers must not change afterwards.

        Raises: LinkClosed after `finish`, `close`, or an error while sending.
        """
        self.write_all(buffers)

    def write_all(self, buffers: tuple[Buffer, ...]) -> None:
        """Write a tuple: a compiled call with a star costs more than all the rest."""
        self.append(buffers)
        self.schedule_flush()

    def append(self, buffers: tuple[Buffer, ...]) -> None:
        """Write without sending, where a lock of the caller's decides the order.

        Call `schedule_flush` once that lock is released. Raises: LinkClosed like `write`.
        """
        with self._lock:
            self._take(buffers)

    def finish(self, *buffers: Buffer) -> None:
        """Write for the last time; further writes are refused.

        Raises: LinkClosed like `write`, so only one thread can finish.
        """
        with self._lock:
            self._take(buffers)
            self._refusal = LinkClosed("send buffer closed")
        self.schedule_flush()

    def _take(self, buffers: tuple[Buffer, ...]) -> None:
        if self._refusal is not None:
            raise with_cause(LinkClosed("can't send: the link has ended"), self._refusal)
        for data in buffers:
            self._append(data)

    def schedule_flush(self) -> None:
        """Send what was appended at the end of this thread's batch, or now outside of one."""
        batch = written()
        if batch is None:
            self.flush()
        else:
            batch[self] = None

    def uncork(self, first: Buffer) -> None:
        """Send `first`, then what was written while corked; from now on writes are sent."""
        with self._lock:
            if self._state is _CLOSED:
                return
            self._step("uncork")
            self._queue.appendleft(first)
            self.size += len(first)
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
        """Send what the socket takes without waiting, the rest in a thread. Never raises."""
        error: Exception | None = None
        with self._lock:
            if self._state is not _DIRECT:
                return
            try:
                while self._queue:
                    self._sent(self._sock.sendmsg(self._vectors(), (), socket.MSG_DONTWAIT))
            except BlockingIOError:
                error = self._start_flusher()
            except OSError as exc:
                error = exc
            if error is not None:
                self._end(error)
            due = self._due()
        self._report(error, due)

    def _start_flusher(self) -> Exception | None:
        try:
            threading.Thread(target=self._flush_rest, name=f"{self._name}-tx", daemon=True).start()
        except RuntimeError as exc:  # the system has no thread left: this connection is lost
            return exc
        self._step("block")  # the thread looks at nothing before it gets the lock
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
                        if self._state is not _CLOSED:
                            self._step("drain")
                        return
                    vectors = self._vectors()
                try:
                    count = self._sock.sendmsg(vectors)
                except BlockingIOError:
                    error = TimeoutError("send timed out: the peer reads nothing")
                except OSError as exc:
                    error = exc
            with self._lock:
                if not self._queue:
                    error = None  # closed meanwhile: no error to report
                elif error is not None:
                    self._end(error)
                else:
                    self._sent(count)
                due = self._due()
            self._report(error, due)

    def _end(self, reason: Exception) -> None:
        """Drop what waits, and refuse writes. The lock is held."""
        if self._state is not _CLOSED:
            self._step("close")
        self._refusal = self._refusal or reason
        self._queue.clear()
        self._gather = None
        self.size = 0

    def _due(self) -> list[Callable[[], None]]:
        """Take the drain callbacks whose level is reached. The lock is held."""
        if not self._on_drained:
            return []
        due = [callback for mark, callback in self._on_drained if self.size <= mark]
        self._on_drained = [entry for entry in self._on_drained if self.size > entry[0]]
        return due

    def _report(self, error: Exception | None, due: list[Callable[[], None]]) -> None:
        """Invoke the drain and error callbacks outside of the lock."""
        if error is not None and self._on_broken is not None:
            due = [*due, partial(self._on_broken, error)]
        for callback in due:
            try:
                callback()
            except Exception:  # our bug; sending must go on
                _log.exception("%s: a drain or error callback failed", self._name)

    def on_drained_to(self, mark: int, callback: Callable[[], None]) -> None:
        """Call back once when at most `mark` bytes wait, or nothing will be sent any more.

        Now, or later from the thread that sends.
        """
        with self._lock:
            if self.size > mark:
                self._on_drained.append((mark, callback))
                return
        callback()

    def wait_below(self, mark: int, timeout: float) -> bool:
        """Wait until at most `mark` bytes are left; False after `timeout` seconds.

        Not for peers' reading threads.
        """
        reached = threading.Event()
        self.on_drained_to(mark, reached.set)
        return reached.wait(timeout)

    def close(self, timeout: float = 0.0) -> bool:
        """Send what is left within `timeout` seconds, then refuse writes. Idempotent.

        Returns: whether all was sent.
        """
        self.flush()
        sent = self.wait_below(0, timeout)
        with self._lock:
            sent = sent and self._state is not _CLOSED
            self._end(LinkClosed("closed"))
            due = self._due()
        self._report(None, due)
        shut_down(self._sock, socket.SHUT_WR)  # wakes a flusher that still waits
        # the flusher has left its system call: once the socket is closed, its number may be reused
        with self._sending:
            return sent
