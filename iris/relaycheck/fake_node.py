"""A stand-in for a node, with the sockets and threads that it needs. Shell.

A thread reads from each client, another one writes to it, so that nobody keeps anybody waiting.
"""

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Sequence

from iris.relaycheck.fake_session import Seat, StandIn
from iris.runtime.timer import Timer

SeatFactory = Callable[[StandIn, int, Callable[[bytes], None], Callable[[], None]], Seat]


class Theatre:
    """Owns its listening sockets, and whoever attaches there. Its maker closes it."""

    def __init__(
        self,
        seat: SeatFactory = Seat,
        *,
        echo: bool = False,
        port: int = 0,
        pieces: Callable[[bytes], Sequence[bytes]] = lambda data: (data,),
        delay: float = 0.0,
    ) -> None:
        """Listen. pieces cuts what is sent into segments; delay is in seconds, for more to gather.

        Raises: OSError.
        """
        self._seat, self.pieces, self.delay = seat, pieces, delay
        self.timer = Timer()
        self.timer.start()
        self.node = StandIn(self.timer, echo=echo)
        self._listeners = [socket.create_server(("127.0.0.1", port), backlog=256)]
        self.port: int = self._listeners[0].getsockname()[1]
        if socket.has_ipv6:
            with contextlib.suppress(OSError):  # there is none on this machine
                self._listeners.append(
                    socket.create_server(("::1", self.port), family=socket.AF_INET6, backlog=256)
                )
        self._clients: list[_Client] = []
        self._threads = [
            threading.Thread(
                target=self._accept,
                args=(listener,),
                name=f"accept-{listener.getsockname()[0]}",
                daemon=True,
            )
            for listener in self._listeners
        ]
        for thread in self._threads:
            thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return  # closed
            with self.node.lock:
                client = _Client(self, sock)
                self._clients.append(client)
                client.seat = self._seat(
                    self.node,
                    len(self._clients),
                    client.out.put,
                    lambda client=client: client.out.put(None),  # type: ignore[misc]
                )
            client.start()

    @property
    def seats(self) -> list[Seat]:
        """All that there were."""
        with self.node.lock:
            return [client.seat for client in self._clients]

    def wait_gone(self, timeout: float) -> None:
        """Wait a while until all have hung up."""
        for client in list(self._clients):
            client.reading.join(timeout)

    def close(self) -> None:
        """Hang up on all."""
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in self._threads:
            thread.join(1.0)
        for client in list(self._clients):
            client.cut()
        self.timer.close()


class _Client:
    """Owns a socket, and the threads `standin-rx` and `standin-tx`."""

    seat: Seat

    def __init__(self, theatre: Theatre, sock: socket.socket) -> None:
        self._theatre, self._sock = theatre, sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # None: hang up; bounded by what tunnels are allowed
        self.out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.reading = threading.Thread(target=self._read, name="standin-rx", daemon=True)
        self._writing = threading.Thread(target=self._write, name="standin-tx", daemon=True)

    def start(self) -> None:
        self.reading.start()
        self._writing.start()

    def cut(self) -> None:
        self.out.put(None)
        with contextlib.suppress(OSError):  # it is gone
            self._sock.shutdown(socket.SHUT_RDWR)
        for thread in (self.reading, self._writing):
            thread.join(1.0)
        self._sock.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # it hung up without the courtesy of saying so
            while data := self._sock.recv(65_536):
                with self._theatre.node.lock:
                    self.seat.feed(data)
        with self._theatre.node.lock:
            if not self.seat.over and not self.seat.leaving:
                self.seat.gone()
            self.seat.left()
            if not self.seat.leaving:
                self.out.put(None)

    def _write(self) -> None:
        wait = threading.Event().wait
        with contextlib.suppress(OSError):  # it is gone
            while (data := self.out.get()) is not None:
                last = False
                if self._theatre.delay:
                    wait(self._theatre.delay)
                    while not self.out.empty() and not last:
                        more = self.out.get()
                        last, data = more is None, data + (more or b"")
                for piece in self._theatre.pieces(data):
                    self._sock.sendall(piece)
                if last:
                    break
        with contextlib.suppress(OSError):  # it is gone
            self._sock.shutdown(socket.SHUT_WR)
