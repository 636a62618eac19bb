"""`irisctl serve`: join a cluster, and reply by echo or by a command."""

import itertools
import os
import queue
import threading
from argparse import Namespace

from iris.client import Closed, Fault, Handler, ServiceLimits, Tunnel
from iris.ctl.command import CommandFailed, run_command
from iris.ctl.node import join
from iris.ctl.outcome import Exit, UsageError
from iris.ctl.output import Printer, plain
from iris.ctl.signals import until_signal, wait_for_end
from iris.relay_protocol.schema import MESSAGE_SIZE


def run(args: Namespace) -> Exit:
    """Serve until enough requests or a signal; in-flight requests are finished."""
    limits = ServiceLimits(request_threads=args.jobs, broadcast_threads=1)
    with until_signal() as ends:
        service = join(args, _Member(args, Printer(args.format or "text"), ends), limits)
        try:
            return wait_for_end(ends)
        finally:
            service.close(args.timeout + 5.0)


class _Member(Handler):
    def __init__(
        self, args: Namespace, printer: Printer, ends: "queue.SimpleQueue[Exit | Exception]"
    ) -> None:
        self._args, self._printer, self._ends = args, printer, ends
        cluster, port = args.cluster, str(args.port)
        self._environment = {**os.environ, "IRIS_CLUSTER": cluster, "IRIS_PORT": port}
        self._lock = threading.Lock()  # guards _answered
        self._answered = 0
        self._broadcasts = itertools.count(1)

    def handle_request(self, request: bytes) -> bytes:
        try:
            return request if self._args.echo else self._run(request)
        finally:
            with self._lock:
                self._answered += 1
                if self._answered == self._args.count:
                    self._ends.put(Exit.OK)

    def _run(self, request: bytes) -> bytes:
        try:
            return run_command(
                self._args.exec,
                request,
                timeout=self._args.timeout,
                limit=MESSAGE_SIZE,
                environment=self._environment,
            )
        except CommandFailed as exc:
            raise Fault(plain(str(exc))) from exc

    def handle_broadcast(self, message: bytes) -> None:
        try:
            number = next(self._broadcasts)
            self._printer.message(message, number=number, cluster=self._args.cluster)
        except (OSError, UsageError) as exc:
            self._ends.put(exc)

    def handle_tunnel(self, tunnel: Tunnel) -> None:
        if self._args.echo:
            for message in tunnel:
                tunnel.send(message)

    def handle_disconnect(self, reason: Closed) -> None:
        self._ends.put(reason)
