"""Listen on both loopback addresses. Shell."""

import contextlib
import socket
from collections.abc import Callable

from iris.runtime.tcp import Listener


def listen(port: int, on_connection: Callable[[socket.socket], None]) -> list[Listener]:
    """Make the listeners, to be started and closed by the caller; port 0 takes a free one.

    Raises: OSError when the port is taken.
    """
    listeners = [Listener(("127.0.0.1", port), lambda sock, _: on_connection(sock))]
    if socket.has_ipv6:
        with contextlib.suppress(OSError):  # not on this machine
            listeners.append(
                Listener(
                    ("::1", listeners[0].address[1]),
                    lambda sock, _: on_connection(sock),
                    bind=lambda address: socket.create_server(address, family=socket.AF_INET6),
                )
            )
    return listeners
