"""`irisctl tunnel`: standard input and output through a tunnel. TCP is in forward.py."""

import logging
import os
import queue
import stat
import sys
from argparse import Namespace
from concurrent.futures import Future

from iris.client import Closed, Connection, Handler, Service, ServiceLimits, TimedOut, Tunnel
from iris.ctl import forward
from iris.ctl.conversation import PIECE, Conversation, CutOff
from iris.ctl.node import attach, build_tunnel, join
from iris.ctl.outcome import Exit, UsageError
from iris.ctl.output import write_all
from iris.ctl.progress import Progress

_LINGER = 1.0  # seconds
_BUILD_TIMEOUT = 5.0  # seconds

_log = logging.getLogger(__name__)


def run(args: Namespace) -> Exit:
    """Build or accept a tunnel, and use it; or forward TCP until a signal comes."""
    if (args.listen or args.connect) and (args.send or args.receive):
        raise UsageError("--send and --receive cannot be combined with --listen or --connect")
    if args.accept:
        return _accept(args)
    args.linger = _LINGER if args.linger is None else args.linger
    args.timeout = args.timeout or _BUILD_TIMEOUT
    return forward.run(args) if args.listen or args.connect else _build(args)


def _build(args: Namespace) -> Exit:
    connection = attach(args)
    try:
        tunnel = build_tunnel(connection, args)
    except TimedOut:
        connection.close()
        raise
    _log.info("built a tunnel to '%s'", args.cluster)
    _carry(args, connection, tunnel)
    connection.close()
    return Exit.OK


class _Acceptor(Handler):
    """Accepts one tunnel, and holds it open so that the node offers no other one."""

    def __init__(self) -> None:
        self.service: Future[Service] = Future()
        self.tunnels: queue.SimpleQueue[Tunnel | Closed] = queue.SimpleQueue()

    def handle_tunnel(self, tunnel: Tunnel) -> None:
        self.tunnels.put(tunnel)
        self.service.result().wait()

    def handle_disconnect(self, reason: Closed) -> None:
        self.tunnels.put(reason)


def _accept(args: Namespace) -> Exit:
    acceptor = _Acceptor()
    service = join(args, acceptor, ServiceLimits(tunnel_threads=1))
    acceptor.service.set_result(service)
    try:
        tunnel = acceptor.tunnels.get(timeout=args.timeout)
    except queue.Empty:
        service.close()
        raise TimedOut(f"no tunnel to '{args.cluster}' within {args.timeout:g} s") from None
    if isinstance(tunnel, Closed):
        raise tunnel
    _log.info("accepted a tunnel to '%s'", args.cluster)
    _carry(args, service.connection, tunnel)
    service.close()
    return Exit.OK


def _carry(args: Namespace, connection: Connection, tunnel: Tunnel) -> None:
    """Raises: CutOff; NotAllSent; UsageError.

    After an error the connection must stay open: the process's exit breaks it, so that the node
    reports a broken tunnel to the peer.
    """
    sends, receives = not args.receive, not args.send
    interactive = (receives and sys.stdout.isatty()) or (sends and sys.stdin.isatty())
    size, wanted = _input_size() if sends else None, not (args.quiet or interactive)
    with Progress(size, wanted=wanted) as progress:
        conversation = Conversation(
            tunnel,
            _read if sends else None,
            write_all if receives else None,
            linger=0.0 if args.send else args.linger,
            count=progress.add,
            give_up=connection.abort,
        )
        try:
            conversation.run()
        except Closed as exc:
            if connection.closed:
                raise
            raise CutOff(f"the tunnel was cut off: {exc.reason}") from exc


def _read() -> bytes:
    try:
        return os.read(0, PIECE)
    except OSError as exc:
        raise UsageError(f"can't read standard input: {exc.strerror}") from exc


def _input_size() -> int | None:
    """Return the size of standard input, if it is a file."""
    try:
        status = os.fstat(0)
        if stat.S_ISREG(status.st_mode):
            return max(0, status.st_size - os.lseek(0, 0, os.SEEK_CUR))
    except OSError:  # it is closed; reading reports that
        pass
    return None
