"""`tools/relaycheck`: the command line.

Exit codes: 0 all checks passed; 1 violations; 2 wrong usage, or no node.
"""

import argparse
import math
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from iris.relay_protocol.schema import VERSION
from iris.relaycheck.binding import check_binding
from iris.relaycheck.node import JOBS, check_node
from iris.relaycheck.proxy import Proxy
from iris.relaycheck.report import Report

PORT = 55555


def _integer(text: str, most: float, what: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) <= most:
        raise argparse.ArgumentTypeError(f"'{text}' is not {what}")
    return int(text)


_port = partial(_integer, most=65_535, what="a port, 1 to 65535")
_positive = partial(_integer, most=math.inf, what="a positive integer")


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as exc:
        raise argparse.ArgumentTypeError(f"'{text}' is not a regular expression: {exc}") from None
    return text


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds up to 1000000")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="relaycheck",
        description=f"Check whether a program speaks the relay protocol {VERSION} correctly.",
    )
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--json", action="store_true", help="print JSON instead of a table")
    output.add_argument("--junit", metavar="FILE", type=Path, help="write JUnit XML to a file")
    modes = parser.add_subparsers(dest="mode", required=True, metavar="MODE")

    def add(flag: str, metavar: str, type: Callable[[str], object], help: str, **how: Any) -> None:
        mode.add_argument(flag, metavar=metavar, type=type, help=help, **how)

    mode = modes.add_parser("node", parents=[output], help="check a running node with fake clients")
    add("--port", "N", _port, f"the node's relay port ({PORT})", default=PORT)
    add("--only", "REGEX", _pattern, "run the cases whose ids match", default="")
    add("--skip", "REGEX", _pattern, "but none whose id matches this", default="^$")
    add("--jobs", "N", _positive, f"cases to run at a time ({JOBS})", default=JOBS)
    mode.set_defaults(run=_node)

    mode = modes.add_parser(
        "binding",
        parents=[output],
        help="check a binding's program with a fake node",
        description="Run COMMAND once for each scenario, with the port as {port} in its "
        "arguments and as IRIS_PORT in its environment.",
    )
    add("--port", "N", _port, "port to listen on (a free one for each scenario)", default=0)
    add("--only", "REGEX", _pattern, "run the scenarios whose ids match", default="")
    add("--timeout", "S", _seconds, "timeout of a run in seconds (30)", default=30.0)
    text = "a program that uses every feature of the binding, and exits with 0"
    add("command", "COMMAND", str, text, nargs="+")
    mode.set_defaults(run=_binding)

    mode = modes.add_parser(
        "proxy", parents=[output], help="check a binding and a node from between them, until SIGINT"
    )
    add("--listen", "N", _port, "port to listen on for bindings", required=True)
    add("--node", "M", _port, "port of the node", required=True)
    mode.add_argument("--once", action="store_true", help="exit when all connections have ended")
    mode.set_defaults(run=_proxy)
    return parser


def _node(args: argparse.Namespace) -> Report:
    return check_node(args.port, args.only, skip=args.skip, jobs=args.jobs)


def _binding(args: argparse.Namespace) -> Report:
    return check_binding(args.command, args.port, args.only, timeout=args.timeout)


def _proxy(args: argparse.Namespace) -> Report:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    proxy = Proxy(args.listen, args.node)
    text = f"forwarding between port {args.listen} and the node on port {args.node}"
    print(f"relaycheck: {text}", file=sys.stderr, flush=True)
    while not stop.wait(0.1):
        if args.once and proxy.wait_idle(0):
            break
    return proxy.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns: the exit code."""
    args = _parser().parse_args(argv)
    try:
        report: Report = args.run(args)
        print(report.json() if args.json else report.table(), end="", flush=True)
        if args.junit:
            args.junit.write_text(report.junit())
    except ConnectionRefusedError:
        print("relaycheck: no node listens on that port", file=sys.stderr)
        return 2
    except (OSError, ValueError) as exc:
        print(f"relaycheck: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
