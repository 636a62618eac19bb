"""A shell command as a function: bytes in, bytes out, with bounds on time and size."""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping

from iris.runtime.deadline import time_left

_READ_SIZE = 65_536  # bytes
_STDERR_SIZE = 4_096  # bytes kept of standard error


class CommandFailed(Exception):
    """The command failed; the text is the last line of its standard error, if any."""


def run_command(
    command: str, data: bytes, *, timeout: float, limit: int, env: Mapping[str, str]
) -> bytes:
    """Run a command with `data` as its standard input, in a session of its own.

    So a Ctrl-C doesn't reach it, and a timeout kills all of a pipeline.

    Returns: its standard output.
    Raises: CommandFailed for an exit code but 0, after `timeout` seconds, or beyond `limit` bytes.
    """
    pipe, deadline = subprocess.PIPE, time.monotonic() + timeout
    process = subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        bufsize=0,
        start_new_session=True,
        env=env,
    )
    with process:
        try:
            output, stderr = _communicate(process, data, deadline, limit)
            code = process.wait(time_left(deadline))
        except BaseException as exc:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(exc, TimeoutError | subprocess.TimeoutExpired):
                raise CommandFailed(f"the command timed out after {timeout:g} s") from exc
            raise
    if code != 0:
        text = stderr.decode(errors="replace").strip().rpartition("\n")[2]
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        raise CommandFailed(text or f"the command {how}")
    return output


def _communicate(
    process: "subprocess.Popen[bytes]", data: bytes, deadline: float, limit: int
) -> tuple[bytes, bytes]:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    rest, output, stderr = memoryview(data), bytearray(), bytearray()
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
                        rest = rest[os.write(key.fd, rest[:_READ_SIZE]) :] if rest else rest
                    except BrokenPipeError:  # it needn't read all
                        rest = rest[:0]
                    if not rest:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                piece = os.read(key.fd, _READ_SIZE)
                if not piece:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    stderr = (stderr + piece)[-_STDERR_SIZE:]
                elif len(output) + len(piece) > limit:
                    raise CommandFailed(f"the command's output exceeds {limit} bytes")
                else:
                    output += piece
    return bytes(output), bytes(stderr)
