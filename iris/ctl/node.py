"""Connecting to the node on this host."""

import contextlib
from argparse import Namespace
from collections.abc import Callable, Iterator

from iris import client
from iris.client import Closed, Connection, Handler, Service, ServiceLimits, TimedOut, Tunnel
from iris.ctl.outcome import NoNode


def attach(args: Namespace, on_disconnect: Callable[[Closed], None] | None = None) -> Connection:
    """Connect as a client. Raises: NoNode, Denied."""
    with _connecting(args):
        return client.connect(args.port, on_disconnect=on_disconnect)


def join(args: Namespace, handler: Handler, limits: ServiceLimits | None = None) -> Service:
    """Connect as a member of a cluster. Raises: NoNode, Denied."""
    with _connecting(args):
        return client.register(args.cluster, handler, limits, port=args.port)


def build_tunnel(connection: Connection, args: Namespace) -> Tunnel:
    """Build a tunnel. Raises: TimedOut, Closed."""
    try:
        return connection.tunnel(args.cluster, args.timeout)
    except TimedOut:
        text = f"no member of '{args.cluster}' accepted the tunnel within {args.timeout:g} s"
        raise TimedOut(text) from None


@contextlib.contextmanager
def _connecting(args: Namespace) -> Iterator[None]:
    try:
        yield
    except ConnectionRefusedError as exc:
        help = "start one with 'iris -net NAME', or with 'iris -dev' for a trial"
        raise NoNode(f"no node at port {args.port} of this host; {help}") from exc
    except OSError as exc:  # Closed and TimedOut too
        raise NoNode(f"no usable node at port {args.port} of this host: {exc}") from exc
