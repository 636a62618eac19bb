"""`python -m tools.bench`: the command line. Exit codes.

0 all was measured, 1 something failed or was lost, 2 usage, or no lab can be had.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from tests.support import lab
from tools.bench import clients, costs, figures, growth, plot, soak, testbed
from tools.bench.results import ratios
from tools.bench.run import run
from tools.bench.table import table
from tools.bench.wire import Failure


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number from 1 up")
    return int(text)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3_600:
        raise argparse.ArgumentTypeError(f"'{text}' is not between 0 and 3600")
    return value


def _minutes(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1_440:
        raise argparse.ArgumentTypeError(f"'{text}' is not between 0 and 1440")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measures a node, on hosts that it makes of network namespaces (needs root).",
        epilog=f"Figures: {', '.join(figure.name for figure in figures.FIGURES)}.",
    )
    parser.add_argument(
        "--node",
        metavar="COMMAND",
        help="our node: a command or a checkout's directory (default: this one)",
    )
    parser.add_argument(
        "--against",
        metavar="PATH",
        help="compare with another node: a Go node's binary, a command, a checkout's directory",
    )
    parser.add_argument(
        "--pairs",
        metavar="N",
        type=_count,
        help="how often each is run in turn (5 with --against, else 1)",
    )
    parser.add_argument(
        "--only", metavar="NAME,...", default="", help="the figures whose names begin so"
    )
    parser.add_argument(
        "--layout",
        choices=[*figures.LAYOUTS, "both"],
        default="both",
        help="both ends on one node, on two, or both (default)",
    )
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=_seconds,
        help="how long one figure is measured (2; with --growth, 5)",
    )
    parser.add_argument(
        "--clients",
        action="store_true",
        help="compare our Python binding with NATS, over two nodes, instead",
    )
    parser.add_argument(
        "--costs",
        action="store_true",
        help="tell what each piece of a message's way costs here, instead; needs no root",
    )
    parser.add_argument(
        "--growth",
        action="store_true",
        help="tell what a message costs with more and more clients, topics and nodes, instead",
    )
    parser.add_argument(
        "--up-to", metavar="N", type=_count, default=10_000, help="with --growth: nothing larger"
    )
    parser.add_argument(
        "--soak",
        metavar="MINUTES",
        type=_minutes,
        help="load two nodes for so long, and tell whether memory stays flat, instead",
    )
    parser.add_argument(
        "--plot",
        metavar="FILE",
        type=Path,
        help="draw the ratios, growth or memory there (PNG, SVG, PDF)",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        type=Path,
        help="write everything there, - for standard output (instead of the table)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print what was found. Returns: the exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    if args.costs:
        for name, cost in costs.measure(64):
            print(f"{name:62} {cost:6.2f} µs", flush=True)
        return 0
    try:
        axes = growth.choose(args.only if args.growth else "")
        chosen = figures.choose("" if args.growth else args.only)
        candidates = [testbed.ours(args.node)]
        if args.against is not None:
            candidates.append(testbed.candidate(args.against))
    except ValueError as exc:
        parser.exit(2, f"bench: {exc}\n")
    comparing = args.clients or len(candidates) > 1
    alone = args.growth or args.soak is not None
    if args.plot is not None and not comparing and not alone:
        parser.exit(2, "bench: --plot draws ratios, and needs --against or --clients\n")
    if (
        reason := lab.unavailable()
        or (args.plot and plot.unavailable())
        or (args.clients and clients.unavailable())
    ):
        parser.exit(2, f"bench: {reason}\n")
    seconds = args.seconds or (5.0 if args.growth else 2.0)
    times: dict[str, Any] = {
        "pairs": args.pairs or (5 if comparing else 1),
        "seconds": seconds,
        "warm_up": min(0.3, seconds),
    }
    layouts = figures.LAYOUTS if args.layout == "both" else (args.layout,)
    began = time.monotonic()

    def report(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", file=sys.stderr, flush=True)

    try:
        if args.growth:
            points = growth.run(
                candidates[0],
                axes,
                up_to=args.up_to,
                rounds=args.pairs or 1,
                seconds=seconds,
                report=report,
            )
            return _finish(
                args,
                growth.document(points),
                growth.table(points),
                not any(each.why or each.lost for each in points),
                lambda path: plot.growth(points, path),
            )
        if args.soak is not None:
            found = soak.run(candidates[0], seconds=60 * args.soak, report=report)
            return _finish(
                args,
                soak.document(found),
                soak.report(found),
                soak.passed(found),
                lambda path: plot.soak(found, path),
            )
        if args.clients:
            chosen = list(clients.FIGURES)
            results = clients.run(candidates[0], **times, report=report)
        else:
            results = run(candidates, chosen, layouts, **times, report=report)
    except KeyboardInterrupt:
        parser.exit(130, "bench: interrupted\n")
    except Failure as exc:
        parser.exit(1, f"bench: {exc}\n")
    document = {**asdict(results), "ratios": ratios(results, chosen)}
    return _finish(
        args,
        document,
        table(results, chosen),
        not results.failures,
        lambda path: plot.plot(results, chosen, path),
    )


def _finish(
    args: argparse.Namespace,
    document: object,
    text: str,
    passed: bool,
    draw: Callable[[Path], None],
) -> int:
    """Write what was found wherever it's wanted. Returns: the exit code."""
    data = json.dumps(document, indent=1)
    if args.json is not None and str(args.json) != "-":
        args.json.write_text(data + "\n")
    if args.plot is not None:
        draw(args.plot)
    print(data if str(args.json) == "-" else text, end="")
    return 0 if passed else 1


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
