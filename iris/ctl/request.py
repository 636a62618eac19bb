"""`irisctl request`: send requests, and print the replies."""

import sys
import time
from argparse import Namespace
from typing import Any

from iris.client import Connection
from iris.client.errors import Fault, TimedOut
from iris.ctl.node import attach
from iris.ctl.outcome import Exit, worse
from iris.ctl.output import default_format, json_line, plain, print_message, write_all
from iris.ctl.payload import messages, total
from iris.ctl.progress import Progress


def run(args: Namespace) -> Exit:
    """Send each message in turn; the exit code is that of the worst outcome."""
    several, terminal = args.lines or args.count is not None, sys.stdout.isatty()
    progress = Progress(total(args), "requests", wanted=several and not terminal and not args.quiet)
    args.format = args.format or default_format(terminal=terminal, several=several)
    end = Exit.OK
    with attach(args) as connection, progress:
        for number, message in enumerate(messages(args), 1):
            end = worse(end, _request(connection, args, progress, number, message))
            progress.add(1)
    return end


def _request(
    connection: Connection, args: Namespace, progress: Progress, number: int, message: bytes
) -> Exit:
    before, error = time.monotonic(), None
    try:
        reply = connection.request(args.cluster, message, args.timeout)
    except (Fault, TimedOut) as exc:
        error = exc
    facts: dict[str, Any] = {"number": number, "seconds": round(time.monotonic() - before, 6)}
    if error is None:
        print_message(args.format, reply, **facts)
        return Exit.OK
    if isinstance(error, Fault):
        text = plain(f"fault from '{args.cluster}': {error}")
        end, facts["fault"] = Exit.FAULT, str(error)
    else:
        text = f"no reply from '{args.cluster}' within {args.timeout:g} s"
        end, facts["timeout"] = Exit.TIMEOUT, True
    if args.format == "json":
        write_all(json_line(**facts))
    else:
        progress.say(text)
    return end
