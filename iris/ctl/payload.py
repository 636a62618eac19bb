"""The input: an argument, a file, or standard input; one message, or one per line."""

import contextlib
import itertools
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from typing import BinaryIO

from iris.ctl.outcome import UsageError
from iris.relay_protocol.schema import MESSAGE_SIZE


class Pace:
    """A rate limit: a late message neither delays the next ones nor causes a burst. Core."""

    def __init__(self, rate: float | None) -> None:
        """Limit to `rate` messages per second; None: no limit."""
        self._period = 0.0 if rate is None else 1 / rate
        self._due: float | None = None

    def wait(self, now: float) -> float:
        """Return the seconds to wait before the next message, which counts as sent then."""
        due = now if self._due is None else max(self._due, now - self._period)
        self._due = due + self._period
        return max(0.0, due - now)


def messages(
    args: Namespace,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[bytes]:
    """Yield the messages that data, file, lines, count and rate select, each when it is due.

    Raises: UsageError.
    """
    pace = Pace(args.rate)
    for message in itertools.islice(_all(args), args.count):
        if (seconds := pace.wait(clock())) > 0:
            wait(seconds)
        yield message


def total(args: Namespace) -> int | None:
    """Count the messages to come; None when unknown."""
    return None if args.lines else args.count or 1


def _all(args: Namespace) -> Iterator[bytes]:
    if args.data is not None and (args.file is not None or args.lines):
        raise UsageError("DATA cannot be combined with --file or --lines")
    if args.data is not None:
        yield from itertools.repeat(_checked(os.fsencode(args.data)), args.count or 1)
        return
    with _source(args.file) as source:
        if args.lines:
            while line := _read(source.readline, MESSAGE_SIZE + 2):
                yield _checked(line.removesuffix(b"\n"))
        else:
            message = _checked(_read(source.read, MESSAGE_SIZE + 1))
            yield from itertools.repeat(message, args.count or 1)


def _read(read: Callable[[int], bytes], size: int) -> bytes:
    try:
        return read(size)
    except OSError as exc:
        raise UsageError(f"can't read the input: {exc.strerror}") from exc


def _checked(message: bytes) -> bytes:
    if len(message) > MESSAGE_SIZE:
        raise UsageError(f"message exceeds {MESSAGE_SIZE} bytes; use a tunnel for more")
    return message


@contextlib.contextmanager
def _source(name: str | None) -> Iterator[BinaryIO]:
    """Open a file, or standard input. Raises: UsageError."""
    if name is None or name == "-":
        yield sys.stdin.buffer
        return
    try:
        source = open(name, "rb")  # noqa: SIM115
    except OSError as exc:
        raise UsageError(f"can't read {name}: {exc.strerror}") from exc
    with source:
        yield source
