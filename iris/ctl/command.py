"""A shell command as a function: bytes in, bytes out, with bounds on time and size."""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping

from iris.runtime.deadline import time_left

_READ = 65_536  # bytes
_COMPLAINT = 4_096  # bytes of standard error that are kept


class CommandFailed(Exception):
    """The text says how, in its own last words if it had some."""


def run_command(
    command: str, data: bytes, *, timeout: float, limit: int, environment: Mapping[str, str]
) -> bytes:
    """Run it with data as its standard input. Returns: its standard output.

    It has a session of its own: a Ctrl-C isn't meant for it, and all of a pipeline is killed when
    its time is over.
    Raises: CommandFailed when its exit code isn't 0, it takes too long, or it says more than
    `limit` bytes.
    """
    pipe, deadline = subprocess.PIPE, time.monotonic() + timeout
    process = subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        bufsize=0,
        start_new_session=True,
        env=environment,
    )
    with process:
        try:
            output, complaint = _converse(process, data, deadline, limit)
            code = process.wait(time_left(deadline))
        except BaseException as exc:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(exc, TimeoutError | subprocess.TimeoutExpired):
                raise CommandFailed(f"the command took more than {timeout:g} s") from exc
            raise
    if code != 0:
        words = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise CommandFailed(
            words
            or (
                f"the command was killed by signal {-code}"
                if code < 0
                else f"the command's exit code is {code}"
            )
        )
    return output


def _converse(
    process: "subprocess.Popen[bytes]", data: bytes, deadline: float, limit: int
) -> tuple[bytes, bytes]:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    rest, output, complaint = memoryview(data), bytearray(), bytearray()
    os.set_blocking(process.stdin.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        selector.register(process.stdin, selectors.EVENT_WRITE)
        while selector.get_map():
            if not (ready := selector.select(time_left(deadline))) and time.monotonic() >= deadline:
                raise TimeoutError
            for key, _ in ready:
                if key.fileobj is process.stdin:
                    try:
                        rest = rest[os.write(key.fd, rest[:_READ]) :] if rest else rest
                    except BrokenPipeError:  # it doesn't read all: its business
                        rest = rest[:0]
                    if not rest:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                piece = os.read(key.fd, _READ)
                if not piece:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    complaint = (complaint + piece)[-_COMPLAINT:]
                elif len(output) + len(piece) > limit:
                    raise CommandFailed(f"the command says more than {limit} bytes")
                else:
                    output += piece
    return bytes(output), bytes(complaint)
