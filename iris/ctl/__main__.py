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
    except UsageError as exc:
        return _say(exc, Exit.USAGE)
    except NoNode as exc:
        return _say(exc, Exit.NO_NODE)
    except TimedOut as exc:
        return _say(exc, Exit.TIMEOUT)
    except Closed as exc:
        return _say(f"disconnected from the node: {exc}", Exit.NO_NODE)
    except IrisError as exc:  # a fault or a rejection
        return _say(exc, Exit.FAULT)
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
            # the lowest free number, which is the missing one
            descriptor = os.open(os.devnull, flags)
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


def _say(what: object, code: Exit) -> Exit:
    print(f"irisctl: {what}", file=sys.stderr)
    return code


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
