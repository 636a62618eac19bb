"""Bytes both ways between a tunnel and something that reads and writes.

Standard input and output, or a socket.
"""

import itertools
import threading
import time
from collections.abc import Callable

from iris.client import Closed, Tunnel
from iris.errors import IrisError

PIECE = 1 << 18  # bytes that are read at a time, and make a message
_GRACE = 0.2  # seconds in which the sending thread, if it has more, finds that it is too late
_numbers = itertools.count(1)


class CutOff(IrisError):
    """The other end didn't close but was lost."""


class NotAllSent(IrisError):
    """The other end closed while there was something to send."""


class Conversation:
    """Owns the thread `ctl-out-N`, which reads and sends; who calls `run` receives and writes.

    A tunnel is closed for both directions at once. So when there is nothing more to read, it stays
    open until the other end closes it, or nothing has come for `linger` seconds, if that isn't
    None.
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
        """read gives b"" at the end; without it nothing is sent.

        Without write, what comes is thrown away. count gets sizes of both.

        give_up ends the tunnel when reading fails, and should let the other end know that not all
        was sent; by default it is closed.
        """
        self._give_up = give_up or tunnel.close
        self._tunnel, self._read, self._write, self._linger, self._count = (
            tunnel,
            read,
            write,
            linger,
            count,
        )
        self._heard = time.monotonic()  # when something came last
        self._writing = False  # what came isn't written yet
        self._sending = False  # what was read isn't sent yet
        self._over = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(
            target=self._send, name=f"ctl-out-{next(_numbers)}", daemon=True
        )

    def run(self) -> None:
        """Receive and write until the tunnel is closed, and then join the thread, unless it still
        reads.

        Raises: Closed when it broke; NotAllSent; what read and write raise. The tunnel isn't closed
        when that is write.
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
            self._thread.join(_GRACE)
        if self._failure is not None:
            raise self._failure
        if self._sending:
            raise NotAllSent("the other end closed the tunnel before it got all")

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
            pass  # the one who receives is told, too
        except Exception as exc:
            self._failure = exc
            self._give_up()  # ends the waiting for what may come

    def _silent(self, seconds: float) -> bool:
        """Wait until nothing has come for so long; False when it is over anyhow."""
        start = time.monotonic()
        while True:
            now = time.monotonic()
            left = max(start, now if self._writing else self._heard) + seconds - now
            if left <= 0:
                return True
            if self._over.wait(left):
                return False
