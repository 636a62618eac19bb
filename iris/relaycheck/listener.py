"""Listen on both loopback addresses. Shell."""

import contextlib
import socket
from collections.abc import Callable
from functools import partial

from iris.runtime.tcp import Address, Listener


def listen(port: int, on_connection: Callable[[socket.socket], None]) -> list[Listener]:
    """Make the listeners, to be started and closed by the caller; port 0 takes a free one.

    Raises: OSError when the port is taken.
    """

    def accept(sock: socket.socket, _: Address) -> None:
        on_connection(sock)

    listeners = [Listener(("127.0.0.1", port), accept)]
    if socket.has_ipv6:
        bind = partial(socket.create_server, family=socket.AF_INET6)
        with contextlib.suppress(OSError):  # not on this machine
            listeners.append(Listener(("::1", listeners[0].address[1]), accept, bind=bind))
    return listeners
