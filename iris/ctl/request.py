"""`irisctl request`: send requests, and print the replies."""

import sys
import time
from argparse import Namespace

from iris.client import Connection
from iris.client.errors import Fault, TimedOut
from iris.ctl.formats import default_format, plain
from iris.ctl.node import attach
from iris.ctl.outcome import Exit, worse
from iris.ctl.payload import messages, total
from iris.ctl.printer import Printer
from iris.ctl.progress import Progress


def run(args: Namespace) -> Exit:
    """Send each message in turn; the exit code is that of the worst outcome."""
    several, terminal = args.lines or args.count is not None, sys.stdout.isatty()
    progress = Progress(total(args), "requests", wanted=several and not terminal and not args.quiet)
    printer = Printer(
        args.format or default_format(terminal=terminal, several=several), progress.say
    )
    end = Exit.OK
    with attach(args) as connection, progress:
        for number, message in enumerate(messages(args), 1):
            end = worse(end, _request(connection, args, printer, number, message))
            progress.add(1)
    return end


def _request(
    connection: Connection, args: Namespace, printer: Printer, number: int, message: bytes
) -> Exit:
    before = time.monotonic()

    def took() -> float:
        return round(time.monotonic() - before, 6)

    try:
        reply = connection.request(args.cluster, message, args.timeout)
    except Fault as exc:
        printer.failure(
            plain(f"fault from '{args.cluster}': {exc}"),
            number=number,
            seconds=took(),
            fault=str(exc),
        )
        return Exit.FAULT
    except TimedOut:
        text = f"no reply from '{args.cluster}' within {args.timeout:g} s"
        printer.failure(text, number=number, seconds=took(), timeout=True)
        return Exit.TIMEOUT
    printer.message(reply, number=number, seconds=took())
    return Exit.OK
