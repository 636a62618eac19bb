"""TCP connections: dialling and accepting.

Shell; counterpart of Go's proto/stream/stream.go. Sockets are blocking, IPv4, and send small
packets at once.
"""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator

from iris.errors import HandshakeTimeout, LinkClosed

Address = tuple[str, int]

_BACKLOG = 512  # connections that the kernel holds until they're accepted

_log = logging.getLogger(__name__)


def connect(address: Address, timeout: float) -> socket.socket:
    """Open a connection within `timeout` seconds. Raises: LinkClosed."""
    try:
        sock = socket.create_connection(address, timeout)
    except OSError as exc:
        where = format_address(address)
        raise LinkClosed(f"can't connect to {where}: {exc.strerror or exc}") from exc
    _prepare(sock)
    return sock


def _prepare(sock: socket.socket) -> None:
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def format_address(address: Address) -> str:
    """Write an address as "ip:port"."""
    return f"{address[0]}:{address[1]}"


def _bind(address: Address) -> socket.socket:
    return socket.create_server(address, backlog=_BACKLOG)


class Listener:
    """Owns a listening socket and the thread `accept-ip:port`. Its maker closes it."""

    def __init__(
        self,
        address: Address,
        on_connection: Callable[[socket.socket, Address], None],
        *,
        bind: Callable[[Address], socket.socket] = _bind,
        recovery: float = 0.25,
    ) -> None:
        """Listen, but accept nothing before `start`; port 0 takes a free one.

        Args:
            on_connection: owns the socket it is given, and must not wait.
            bind: makes the listening socket.
            recovery: seconds between two attempts while accepting fails.

        Raises: OSError when the address is taken or not this host's.
        """
        self._sock, self._recovery = bind(address), recovery
        self._on_connection = on_connection
        self.address: Address = self._sock.getsockname()
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._accept, name=f"accept-{format_address(self.address)}", daemon=True
        )

    def start(self) -> None:
        """Accept from now on."""
        self._thread.start()

    def _accept(self) -> None:
        failing = False
        while True:
            try:
                sock, remote = self._sock.accept()
            except ConnectionAbortedError:
                continue  # it was closed before its turn
            except OSError as exc:  # mostly out of descriptors: it passes, so this thread stays
                if self._closed.is_set():
                    return
                if not failing:
                    _log.warning(
                        "%s can't accept connections: %s; trying again",
                        format_address(self.address),
                        exc.strerror or exc,
                    )
                failing = True
                self._closed.wait(self._recovery)
                continue
            if failing:
                _log.warning("%s accepts connections again", format_address(self.address))
                failing = False
            try:
                _prepare(sock)
                self._on_connection(sock, remote)
            except OSError:
                sock.close()  # closed already
            except Exception:
                # our bug; the next one still counts
                _log.exception("a connection couldn't be handled")
                sock.close()

    def close(self) -> None:
        """Accept no more. Idempotent; from any thread but its own."""
        self._closed.set()
        shut_down(self._sock)  # wakes accept()
        if self._thread.is_alive():
            self._thread.join()
        self._sock.close()


def shut_down(sock: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    """End both directions, or one: threads blocked in it return. From any thread; idempotent."""
    with contextlib.suppress(OSError):  # down already
        sock.shutdown(how)


def hang_up(sock: socket.socket) -> None:
    """Shut down, then close: the peer gets an end of stream even if there is unread data."""
    shut_down(sock)
    sock.close()


@contextlib.contextmanager
def handshake_errors() -> Iterator[None]:
    """Turn a socket's errors during a handshake into HandshakeTimeout and LinkClosed."""
    try:
        yield
    except TimeoutError as exc:
        raise HandshakeTimeout("handshake timed out") from exc
    except OSError as exc:
        raise LinkClosed("connection lost during the handshake") from exc
