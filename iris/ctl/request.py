"""`irisctl request`: send requests, and print the replies."""

import sys
import time
from argparse import Namespace

from iris.client import Connection
from iris.client.errors import Fault, TimedOut
from iris.ctl.node import attach
from iris.ctl.outcome import Exit, worse
from iris.ctl.output import Printer, default_format, plain
from iris.ctl.payload import messages, total
from iris.ctl.progress import Progress


def run(args: Namespace) -> Exit:
    """Send each message in turn; the exit code is that of the worst outcome."""
    several, terminal = args.lines or args.count is not None, sys.stdout.isatty()
    progress = Progress(total(args), "requests", wanted=several and not terminal and not args.quiet)
    default = default_format(terminal=terminal, several=several)
    printer = Printer(args.format or default, progress.say)
    end = Exit.OK
    with attach(args) as connection, progress:
        for number, message in enumerate(messages(args), 1):
            end = worse(end, _request(connection, args, printer, number, message))
            progress.add(1)
    return end


def _request(
    connection: Connection, args: Namespace, printer: Printer, number: int, message: bytes
) -> Exit:
    before, error = time.monotonic(), None
    try:
        reply = connection.request(args.cluster, message, args.timeout)
    except (Fault, TimedOut) as exc:
        error = exc
    facts = {"number": number, "seconds": round(time.monotonic() - before, 6)}
    if error is None:
        printer.message(reply, **facts)
        return Exit.OK
    if isinstance(error, Fault):
        text = plain(f"fault from '{args.cluster}': {error}")
        printer.failure(text, **facts, fault=str(error))
        return Exit.FAULT
    text = f"no reply from '{args.cluster}' within {args.timeout:g} s"
    printer.failure(text, **facts, timeout=True)
    return Exit.TIMEOUT
