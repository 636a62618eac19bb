"""Bytes from one socket, for the one thread that reads it, with busy polling.

To wake a thread that sleeps takes 30 µs and more where its processor has gone idle, and its caches
are cold by then; carrying a message takes less. So after a few bytes that came soon a thread polls
for a moment before it sleeps. One thread of the process does so at a time, as several would keep
the interpreter from each other, and it yields to threads that are ready to run.
docs/performance.md: "Busy polling".
"""

import os
import select
import socket
import time
from typing import Final

_SMALL_READ: Final = 4_096  # bytes of a read, at first and after one that brought less
_MEDIUM_READ: Final = 65_536  # after one that filled a small read
_LARGE_READ: Final = 262_144  # after one that filled a medium read
SPIN_MAX_BYTES: Final = 1_536  # of the last read; what follows a longer one is hardly waited for
SPIN_MAX_GAP: Final = 800e-6  # seconds before the last read's bytes came
SPIN_TIME: Final = 400e-6  # seconds; a request and its reply, over two nodes, take less

_spin_token: Final[list[None]] = [None]  # the thread that takes it out may spin, and puts it back

_clock: Final = time.perf_counter
_yield_cpu: Final = getattr(os, "sched_yield", lambda: time.sleep(0))


class SocketReader:
    """The receiving half of a connected, blocking socket, which it doesn't own. Not thread-safe."""

    __slots__ = ("_poll", "_recv", "_size", "_spin_next")

    def __init__(self, sock: socket.socket) -> None:
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        self._recv, self._poll = sock.recv, poll.poll
        self._size = _SMALL_READ
        self._spin_next = False  # the last bytes were few, and came soon

    def recv(self) -> bytes:
        """Wait for bytes; b"" when the peer has hung up. Raises: OSError."""
        since = _clock()
        if self._spin_next:
            self._spin(since + SPIN_TIME)
        elif self._size > _SMALL_READ:
            self._poll(None)  # to sleep without holding a large buffer
        data = self._recv(self._size)
        size = len(data)
        self._spin_next = size < SPIN_MAX_BYTES and _clock() < since + SPIN_MAX_GAP
        self._size = (
            _SMALL_READ
            if size < _SMALL_READ
            else _MEDIUM_READ
            if size < _MEDIUM_READ
            else _LARGE_READ
        )
        return data

    def _spin(self, until: float) -> None:
        """Poll until there are bytes, or that time; not at all while another thread does."""
        try:
            _spin_token.pop()  # atomic
        except IndexError:
            return
        try:
            while not self._poll(0) and _clock() < until:
                _yield_cpu()
        finally:
            _spin_token.append(None)
