"""A node that a test drives packet by packet, for programs that connect to it."""

import socket
import threading
from collections.abc import Callable
from typing import Any

from construct import Container

from iris.relay_protocol.schema import DEFAULT, VERSION, Op

PATIENCE = 10.0  # seconds


class FakeNode:
    """Listens on a free port of loopback; `accept` accepts one program. Uses the schemas."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE)
        self.port = int(self.listener.getsockname()[1])
        self.cluster: str | None = None  # of the program that is attached
        self._sock: socket.socket | None = None

    def __enter__(self) -> "FakeNode":
        return self

    def __exit__(self, *_: object) -> None:
        self.vanish()
        self.listener.close()

    def accept(self, *, answer: bool = True) -> "FakeNode":
        """Wait for a program, and accept it."""
        self._sock, _ = self.listener.accept()
        self._sock.settimeout(PATIENCE)
        self._stream = self._sock.makefile("rb")
        self.cluster = self.expect(Op.INIT).cluster
        if answer:
            self.send(Op.INIT, version=VERSION)
        return self

    def accept_soon(
        self, *, answer: bool = True, then: Callable[[], None] = lambda: None
    ) -> threading.Thread:
        """Accept, then call `then`, in a thread, as programs wait for the init packet."""

        def run() -> None:
            self.accept(answer=answer)
            then()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def send(self, op: Op, **body: Any) -> None:
        """Send a packet."""
        self.send_bytes(DEFAULT.node(op, **body))

    def send_bytes(self, data: bytes) -> None:
        """Send anything."""
        assert self._sock is not None
        self._sock.sendall(data)

    def recv(self) -> tuple[Op, Container]:
        """Return the next packet. Raises: EOFError when there is none."""
        if not self._stream.peek(1):
            raise EOFError
        packet = DEFAULT.from_client.parse_stream(self._stream)
        return packet.op, packet.body

    def expect(self, op: Op) -> Container:
        """Return the next packet, which must be of that kind."""
        got, body = self.recv()
        assert got == op, f"got {got!r} {dict(body)}, want {op!r}"
        return body

    def finish(self) -> None:
        """Expect the program to close, and confirm that."""
        self.expect(Op.CLOSE)
        self.send(Op.CLOSE, reason="")
        assert not self._stream.peek(1), "something follows a close"

    def vanish(self) -> None:
        """Disconnect without a close packet. Idempotent."""
        if self._sock is not None:
            self._stream.close()
            self._sock.close()
            self._sock = None
