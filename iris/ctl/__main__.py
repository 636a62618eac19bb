"""`irisctl`: parse the command line, run a subcommand, and say in one line what went wrong.

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
    import logging  # from here on it's no longer about starting fast

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
        return _say(f"the node is gone: {exc}", Exit.NO_NODE)
    except IrisError as exc:  # a fault, a refusal
        return _say(exc, Exit.FAULT)
    except BrokenPipeError:
        return Exit.PIPE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def _fill_gaps() -> None:
    """Put something useless in the place of descriptors that are closed, before a socket gets their
    number, and is read and written.
    """
    for name, mode, useless in (
        ("stdin", "r", os.O_WRONLY),
        ("stdout", "w", os.O_RDONLY),
        ("stderr", "w", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            # the lowest number that is free, which is the one that is missing
            descriptor = os.open(os.devnull, useless)
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


def _say(what: object, code: Exit) -> Exit:
    print(f"irisctl: {what}", file=sys.stderr)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line asks. Returns: the exit code."""
    _fill_gaps()
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["check"]:
        from iris.relaycheck.__main__ import main as check

        return check(given[1:])
    return _run(build().parse_args(given))


if __name__ == "__main__":
    sys.exit(main())
