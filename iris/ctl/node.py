"""Attaching to the node on this host."""

import contextlib
from argparse import Namespace
from collections.abc import Callable, Iterator

from iris.client import Closed, Connection, Handler, Service, ServiceLimits, connect, register
from iris.ctl.outcome import NoNode


def attach(args: Namespace, on_disconnect: Callable[[Closed], None] | None = None) -> Connection:
    """To use services of others. Raises: NoNode; Denied."""
    with _told(args):
        return connect(args.port, on_disconnect=on_disconnect)


def join(args: Namespace, handler: Handler, limits: ServiceLimits | None = None) -> Service:
    """As a member of a cluster. Raises: the same."""
    with _told(args):
        return register(args.cluster, handler, limits, port=args.port)


@contextlib.contextmanager
def _told(args: Namespace) -> Iterator[None]:
    try:
        yield
    except ConnectionRefusedError as exc:
        help = "start one with 'iris -net NAME', or with 'iris -dev' to try things out"
        raise NoNode(f"no node at port {args.port} of this host; {help}") from exc
    # Closed and TimedOut too: whatever it is that listens there, it is no use
    except OSError as exc:
        raise NoNode(
            f"what listens at port {args.port} of this host is no node, or can't be used now: {exc}"
        ) from exc
