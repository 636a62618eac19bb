"""`tools/relaycheck`: the command line. Exit codes.

0 nothing was violated, 1 something was, 2 usage or no node there.
"""

import argparse
import math
import re
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from iris.relay_protocol.schema import VERSION
from iris.relaycheck.binding import check_binding
from iris.relaycheck.harness import check_node
from iris.relaycheck.proxy import Proxy
from iris.relaycheck.report import Report

PORT = 55555


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError(f"'{text}' is no port, want 1-65535")
    return int(text)


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as exc:
        raise argparse.ArgumentTypeError(f"'{text}' is no regular expression: {exc}") from None
    return text


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' isn't a whole number over 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' isn't a number from 0 to 1000000")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="relaycheck",
        description=f"Says whether a program speaks the relay protocol {VERSION} correctly.",
    )
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("--json", action="store_true", help="print JSON instead of a table")
    output.add_argument("--junit", metavar="FILE", type=Path, help="write JUnit XML to a file")
    modes = parser.add_subparsers(dest="mode", required=True, metavar="MODE")

    node = modes.add_parser(
        "node", parents=[output], help="play bindings against a running node, and judge it"
    )
    node.add_argument(
        "--port",
        metavar="N",
        type=_port,
        default=PORT,
        help=f"where it takes applications ({PORT})",
    )
    node.add_argument(
        "--only",
        metavar="PATTERN",
        type=_pattern,
        default="",
        help="the cases whose ids match this regular expression",
    )
    node.add_argument(
        "--skip",
        metavar="PATTERN",
        type=_pattern,
        default="^$",
        help="but not those whose ids match this one",
    )
    node.add_argument(
        "--jobs",
        metavar="N",
        type=_positive,
        default=6,
        help="how many cases may run at a time (6)",
    )
    node.set_defaults(run=_node)

    binding = modes.add_parser(
        "binding",
        parents=[output],
        help="play a node for a binding's program, and judge that",
        description="Runs COMMAND once for each scenario, with the port as {port} in its arguments and as IRIS_PORT in its environment.",
    )
    binding.add_argument(
        "--port",
        metavar="N",
        type=_port,
        default=0,
        help="where to listen; by default a free port for each scenario",
    )
    binding.add_argument(
        "--only",
        metavar="PATTERN",
        type=_pattern,
        default="",
        help="the scenarios whose ids match this regular expression",
    )
    binding.add_argument(
        "--timeout",
        metavar="S",
        type=_seconds,
        default=30.0,
        help="seconds that a run may take (30)",
    )
    binding.add_argument(
        "command",
        metavar="COMMAND",
        nargs="+",
        help="a program that does all that the binding can, and exits with 0",
    )
    binding.set_defaults(run=_binding)

    proxy = modes.add_parser(
        "proxy",
        parents=[output],
        help="stand between a binding and a node, until SIGINT, and judge both",
    )
    proxy.add_argument(
        "--listen", metavar="N", type=_port, required=True, help="the port where bindings attach"
    )
    proxy.add_argument(
        "--node", metavar="M", type=_port, required=True, help="the port of the node"
    )
    proxy.add_argument("--once", action="store_true", help="end when all connections have ended")
    proxy.set_defaults(run=_proxy)
    return parser


def _node(args: argparse.Namespace) -> Report:
    return check_node(args.port, args.only, skip=args.skip, at_a_time=args.jobs)


def _binding(args: argparse.Namespace) -> Report:
    return check_binding(args.command, args.port, args.only, timeout=args.timeout)


def _proxy(args: argparse.Namespace) -> Report:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    proxy = Proxy(args.listen, args.node)
    print(
        f"relaycheck: between bindings at port {args.listen} and the node at port {args.node}",
        file=sys.stderr,
        flush=True,
    )
    while not stop.wait(0.1):
        if args.once and proxy.wait_idle(0):
            break
    return proxy.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run, and print what was found. Returns: the exit code."""
    args = _parser().parse_args(argv)
    try:
        report: Report = args.run(args)
        print(report.json() if args.json else report.table(), end="", flush=True)
        if args.junit:
            args.junit.write_text(report.junit())
    except ConnectionRefusedError:
        print("relaycheck: there is no node at that port of this host", file=sys.stderr)
        return 2
    except (OSError, ValueError) as exc:
        print(f"relaycheck: {exc}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
