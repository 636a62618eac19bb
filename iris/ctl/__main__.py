"""`irisctl`: parse the command line, run a subcommand, report an error in one line.

Exit codes: see outcome.py.
"""

import importlib
import os
import sys
from argparse import Namespace
from collections.abc import Sequence

from iris.ctl.outcome import Exit, NoNode, UsageError
from iris.ctl.parser import build
from iris.errors import IrisError


def _run(args: Namespace) -> Exit:
    import logging  # not before: help and usage errors are to be quick

    from iris.client.errors import Closed, TimedOut

    level = logging.INFO if getattr(args, "verbose", False) else logging.ERROR
    logging.basicConfig(format="irisctl: %(message)s", level=level, stream=sys.stderr, force=True)
    try:
        code: Exit = importlib.import_module(f"iris.ctl.{args.module}").run(args)
        return code
    except IrisError as exc:
        lost = "disconnected from the node: " if isinstance(exc, Closed) else ""
        print(f"irisctl: {lost}{exc}", file=sys.stderr)
        codes = {
            UsageError: Exit.USAGE,
            NoNode: Exit.NO_NODE,
            TimedOut: Exit.TIMEOUT,
            Closed: Exit.NO_NODE,
            IrisError: Exit.FAULT,  # a fault or a rejection
        }
        return next(code for kind, code in codes.items() if isinstance(exc, kind))
    except BrokenPipeError:
        return Exit.PIPE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def _fill_gaps() -> None:
    """Open /dev/null in place of closed standard descriptors, before a socket gets their number."""
    for name, mode, flags in (
        ("stdin", "r", os.O_WRONLY),
        ("stdout", "w", os.O_RDONLY),
        ("stderr", "w", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, flags)  # the lowest free number: the missing one
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns: the exit code."""
    _fill_gaps()
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["check"]:
        from iris.relaycheck.__main__ import main as check

        return check(given[1:])
    return _run(build().parse_args(given))


if __name__ == "__main__":
    sys.exit(main())
