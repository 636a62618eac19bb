"""`irisctl serve`: join a cluster, and reply by echo or by a command."""

import itertools
import os
import queue
from argparse import Namespace

from iris.client import Closed, Fault, Handler, ServiceLimits, Tunnel
from iris.ctl.command import CommandFailed, run_command
from iris.ctl.node import join
from iris.ctl.outcome import Exit, UsageError
from iris.ctl.output import plain, print_message
from iris.ctl.signals import until_signal, wait_for_end
from iris.relay_protocol.schema import MESSAGE_SIZE


def run(args: Namespace) -> Exit:
    """Serve until enough requests or a signal; in-flight requests are finished."""
    limits = ServiceLimits(request_threads=args.jobs, broadcast_threads=1)
    with until_signal() as ends:
        service = join(args, _Member(args, ends), limits)
        try:
            return wait_for_end(ends)
        finally:
            service.close(args.timeout + 5.0)


class _Member(Handler):
    def __init__(self, args: Namespace, ends: "queue.SimpleQueue[Exit | Exception]") -> None:
        self._args, self._ends = args, ends
        self._env = {**os.environ, "IRIS_CLUSTER": args.cluster, "IRIS_PORT": str(args.port)}
        self._answered, self._broadcasts = itertools.count(1), itertools.count(1)

    def handle_request(self, request: bytes) -> bytes:
        try:
            return request if self._args.echo else self._run(request)
        finally:
            if next(self._answered) == self._args.count:
                self._ends.put(Exit.OK)

    def _run(self, request: bytes) -> bytes:
        args, limit = self._args, MESSAGE_SIZE
        try:
            return run_command(args.exec, request, timeout=args.timeout, limit=limit, env=self._env)
        except CommandFailed as exc:
            raise Fault(plain(str(exc))) from exc

    def handle_broadcast(self, message: bytes) -> None:
        try:
            facts = {"number": next(self._broadcasts), "cluster": self._args.cluster}
            print_message(self._args.format, message, **facts)
        except (OSError, UsageError) as exc:
            self._ends.put(exc)

    def handle_tunnel(self, tunnel: Tunnel) -> None:
        if self._args.echo:
            for message in tunnel:
                tunnel.send(message)

    def handle_disconnect(self, reason: Closed) -> None:
        self._ends.put(reason)
