"""irisctl as a script runs it, in pipes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import iris
from tests.support.node import ROOT, wait_for_line
from tests.support.waiting import wait_for

Process = subprocess.Popen[bytes]
Finished = subprocess.CompletedProcess[bytes]
Ctl = Callable[..., Finished]
Start = Callable[..., Process]


def command(*args: str, port: int) -> list[str]:
    return [sys.executable, "-m", "iris.ctl", *args, "--port", str(port)]


def run(*args: str, port: int, stdin: bytes = b"") -> Finished:
    """Run it to its end."""
    return subprocess.run(
        command(*args, port=port),
        input=stdin,
        capture_output=True,
        cwd=ROOT,
        timeout=20,
        check=False,
    )


def start(
    *args: str,
    port: int,
    log: Path,
    ready: str = "attached",
    stdin: int | BinaryIO = subprocess.DEVNULL,
    stdout: int | BinaryIO = subprocess.PIPE,
) -> Process:
    """Start it, and wait until it has logged `ready`; standard error goes to `log`."""
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*command(*args, port=port), "--verbose"],
            cwd=ROOT,
            stdin=stdin,
            stdout=stdout,
            stderr=errors,
        )
    wait_for_line(process, log, ready)
    return process


def publish_until(condition: Callable[[], object], topic: str, event: bytes, port: int) -> None:
    """Publish an event again and again until that shows, since a subscription takes a moment."""
    with iris.connect(port) as connection:

        def published() -> object:
            connection.publish(topic, event)
            return condition()

        wait_for(published, what=f"an effect of events of {topic!r}")
