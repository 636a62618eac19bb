"""Bytes on their way out of one socket, for the one thread that reads it.

What answers to it in Go is its scheduler.

A thread that sleeps is woken at a price: 30 µs and more where its processor has gone idle, and what
the caches held is gone by then; carrying a message takes less. So a thread whose last bytes were
few and came soon looks again for a moment before it sleeps. Only one thread of the process does so
at a time, since several would keep the interpreter from each other, and it gives way to whoever is
ready to run. docs/performance.md: "Looking again".
"""

import os
import select
import socket
import time
from typing import Final

_LITTLE: Final = 4_096  # bytes of one read, from who says little
_LOT: Final = 65_536  # of the next read, when one has brought what is above
_MOST: Final = 262_144  # of the next read, when one has brought that
# bytes; whoever says more is no conversation, and what it says next is hardly waited for
_FEW: Final = 1_536
_SOON: Final = 800e-6  # seconds
_MOMENT: Final = 400e-6  # seconds; a request and its reply, over two nodes, take less

_turns: Final[list[None]] = [None]  # who takes it out may look again and again, and puts it back

_clock: Final = time.perf_counter
_give_way: Final = getattr(os, "sched_yield", lambda: time.sleep(0))


class SocketReader:
    """The receiving half of one connected, blocking socket, which it doesn't own. Not thread-safe."""

    __slots__ = ("_chatty", "_poll", "_recv", "_size")

    def __init__(self, sock: socket.socket) -> None:
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        self._recv, self._poll = sock.recv, poll.poll
        self._size = _LITTLE
        self._chatty = False  # the last bytes were few, and came soon

    def recv(self) -> bytes:
        """Wait for bytes; b"" when the other side has hung up. Raises: OSError."""
        since = _clock()
        if self._chatty:
            self._look(since + _MOMENT)
        elif self._size > _LITTLE:
            self._poll(None)  # to sleep without holding a great buffer
        data = self._recv(self._size)
        size = len(data)
        self._chatty = size < _FEW and _clock() < since + _SOON
        self._size = _LITTLE if size < _LITTLE else _LOT if size < _LOT else _MOST
        return data

    def _look(self, until: float) -> None:
        """Until then at most, look whether there is something.

        Not at all when it's another thread's turn.
        """
        try:
            _turns.pop()  # atomic
        except IndexError:
            return
        try:
            while not self._poll(0) and _clock() < until:
                _give_way()
        finally:
            _turns.append(None)
