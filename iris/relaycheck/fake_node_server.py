"""The sockets and threads of a fake node. Shell.

One thread reads from each client, another one writes to it, so that no client delays another.
"""

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Sequence

from iris.relaycheck.fake_session import FakeNode, FakeSession, Send
from iris.relaycheck.listener import listen
from iris.runtime.tcp import shut_down
from iris.runtime.timer import Timer

SessionFactory = Callable[[FakeNode, int, Send], FakeSession]


class FakeNodeServer:
    """Owns its listeners and connections. Its maker closes it."""

    def __init__(
        self,
        session: SessionFactory = FakeSession,
        *,
        echo: bool = False,
        port: int = 0,
        pieces: Callable[[bytes], Sequence[bytes]] = lambda data: (data,),
        delay: float = 0.0,
    ) -> None:
        """Listen.

        Args:
            pieces: cuts what is sent into segments.
            delay: seconds before sending, to gather more packets.
        Raises: OSError.
        """
        self._session, self.pieces, self.delay = session, pieces, delay
        self.timer = Timer()
        self.timer.start()
        self.node = FakeNode(self.timer, echo=echo)
        self._clients: list[_Client] = []
        self._listeners = listen(port, self._accept)
        self.port = self._listeners[0].address[1]
        for listener in self._listeners:
            listener.start()

    def _accept(self, sock: socket.socket) -> None:
        with self.node.lock:
            client = _Client(self, sock)
            self._clients.append(client)
            client.session = self._session(self.node, len(self._clients), client.out.put)
        client.start()

    @property
    def sessions(self) -> list[FakeSession]:
        """All sessions so far."""
        with self.node.lock:
            return [client.session for client in self._clients]

    def wait_gone(self, timeout: float) -> None:
        """Wait for all clients to disconnect, at most `timeout` seconds for each."""
        for client in list(self._clients):
            client.reading.join(timeout)

    def close(self) -> None:
        """Close all connections."""
        for listener in self._listeners:
            listener.close()
        for client in list(self._clients):
            client.close()
        self.timer.close()


class _Client:
    """Owns a socket, and the threads `fake-node-rx` and `fake-node-tx`."""

    session: FakeSession

    def __init__(self, server: FakeNodeServer, sock: socket.socket) -> None:
        self._server, self._sock = server, sock
        # None: end the connection; bounded by the credit of tunnels
        self.out: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.reading = threading.Thread(target=self._read, name="fake-node-rx", daemon=True)
        self._writing = threading.Thread(target=self._write, name="fake-node-tx", daemon=True)

    def start(self) -> None:
        self.reading.start()
        self._writing.start()

    def close(self) -> None:
        self.out.put(None)
        shut_down(self._sock)
        for thread in (self.reading, self._writing):
            thread.join(1.0)
        self._sock.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # connection reset
            while data := self._sock.recv(65_536):
                with self._server.node.lock:
                    self.session.feed(data)
        with self._server.node.lock:
            self.session.disconnected()

    def _write(self) -> None:
        wait = threading.Event().wait
        with contextlib.suppress(OSError):  # connection lost
            while (data := self.out.get()) is not None:
                last = False
                if self._server.delay:
                    wait(self._server.delay)
                    while not self.out.empty() and not last:
                        more = self.out.get()
                        last, data = more is None, data + (more or b"")
                for piece in self._server.pieces(data):
                    self._sock.sendall(piece)
                if last:
                    break
        shut_down(self._sock, socket.SHUT_WR)
