"""A node of this machine, on loopback only, for tests of programs that use one."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
START_TIMEOUT = 30.0  # seconds


def program(*args: str, log: Path, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
    """Start a Python program of the project, with its output in a file."""
    with log.open("ab") as output:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [sys.executable, *args],
            cwd=ROOT,
            stdin=stdin,
            stdout=output,
            stderr=output,
            env=environment,
        )


def stop(process: "subprocess.Popen[bytes]") -> int:
    """End a program gracefully. Returns: its exit code."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(10.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def wait_for_line(process: "subprocess.Popen[bytes]", log: Path, pattern: str) -> re.Match[str]:
    """Wait until a program has logged a line."""
    found: list[re.Match[str]] = []

    def matches() -> bool:
        ended, text = process.poll() is not None, log.read_text()
        found.extend(re.finditer(pattern, text))
        assert found or not ended, f"it ended:\n{text}"
        return bool(found)

    wait_for(matches, START_TIMEOUT, f"a line like {pattern!r} in {log}")
    return found[0]


def free_port() -> int:
    """A TCP port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running_node(log: Path, flags: Sequence[str] = ("-dev",)) -> Iterator[int]:
    """A node that ends with the block. Yields: the port where programs attach."""
    port = free_port()
    process = program("-m", "iris", *flags, "-port", str(port), log=log)
    try:
        wait_for_line(process, log, "applications attach")
        yield port
        assert stop(process) == 0
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        process.kill()
        process.wait()
