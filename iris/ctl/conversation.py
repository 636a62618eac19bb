"""Bytes both ways between a tunnel and standard input and output, or a socket."""

import itertools
import threading
import time
from collections.abc import Callable

from iris.client import Closed, Tunnel
from iris.errors import IrisError

PIECE = 1 << 18  # bytes of one read, and of one message
_CLOSE_GRACE = 0.2  # seconds in which the sending thread notices that the tunnel is closed
_numbers = itertools.count(1)


class CutOff(IrisError):
    """The peer was lost without closing the tunnel."""


class NotAllSent(IrisError):
    """The peer closed the tunnel before all was sent."""


class Conversation:
    """Owns the thread `ctl-out-N`, which reads and sends; the caller of `run` receives and writes.

    A tunnel closes in both directions at once. So at the end of input it stays open until the peer
    closes it, or no message came for `linger` seconds; None: for ever.
    """

    def __init__(
        self,
        tunnel: Tunnel,
        read: Callable[[], bytes] | None,
        write: Callable[[bytes], None] | None,
        *,
        linger: float | None,
        count: Callable[[int], None] = lambda size: None,
        give_up: Callable[[], None] | None = None,
    ) -> None:
        """Prepare to carry bytes.

        Args: read returns b"" at the end, None to send nothing; write takes what is received, None
        to discard it; count takes the sizes of both; give_up ends the tunnel when reading fails, so
        that the peer doesn't take it for complete (default: close).
        """
        self._tunnel, self._read, self._write = tunnel, read, write
        self._linger, self._count, self._give_up = linger, count, give_up or tunnel.close
        self._heard = time.monotonic()  # when a message came last
        self._writing = False  # a message isn't written yet
        self._sending = False  # a piece isn't sent yet
        self._over = threading.Event()
        self._failure: Exception | None = None
        name = f"ctl-out-{next(_numbers)}"
        self._thread = threading.Thread(target=self._send, name=name, daemon=True)

    def run(self) -> None:
        """Receive and write until the tunnel is closed; join the thread unless it still reads.

        Raises: Closed when it broke; NotAllSent; what read and write raise. An error of write
        leaves the tunnel open.
        """
        if self._read is not None:
            self._thread.start()
        try:
            for message in self._tunnel:
                if self._write is not None:
                    self._writing = True
                    self._write(message)
                    self._heard, self._writing = time.monotonic(), False
                    self._count(len(message))
        except Closed:
            if self._failure is None:
                raise
        finally:
            self._over.set()
        if self._read is not None:
            self._thread.join(_CLOSE_GRACE)
        if self._failure is not None:
            raise self._failure
        if self._sending:
            raise NotAllSent("the peer closed the tunnel before all was sent")

    def _send(self) -> None:
        assert self._read is not None
        try:
            while data := self._read():
                self._sending = True
                self._tunnel.send(data)
                self._sending = False
                self._count(len(data))
            if self._linger is not None and self._silent(self._linger):
                self._tunnel.close()
        except Closed:
            pass  # `run` gets it, too
        except Exception as exc:
            self._failure = exc
            self._give_up()  # wakes `run`

    def _silent(self, seconds: float) -> bool:
        """Wait until no message came for so long; False when `run` has ended."""
        left, start = seconds, time.monotonic()
        while left > 0:
            if self._over.wait(left):
                return False
            now = time.monotonic()
            left = max(start, now if self._writing else self._heard) + seconds - now
        return True
