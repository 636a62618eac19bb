"""A shell command as a function, within bounds."""

import os
import time

import pytest

from iris.ctl.command import CommandFailed, run_command


def run(command: str, data: bytes = b"", timeout: float = 10.0, limit: int = 1 << 20) -> bytes:
    return run_command(
        command, data, timeout=timeout, limit=limit, env={**os.environ, "COLOUR": "red"}
    )


def test_input_goes_in_and_output_comes_out() -> None:
    data = os.urandom(1 << 20)
    assert run("cat", data) == data
    assert run("tr a-z A-Z", b"hello") == b"HELLO"
    assert run("printf %s $COLOUR") == b"red"
    assert run("true") == b""


def test_its_time_is_all_the_time_it_has() -> None:
    before = time.monotonic()
    with pytest.raises(CommandFailed, match=r"timed out after 1\.2 s"):
        run("sleep 1; exec >&- 2>&-; sleep 5", timeout=1.2)
    assert time.monotonic() - before < 2.0


def test_a_command_need_not_read_its_input() -> None:
    assert run("echo done", bytes(1 << 20)) == b"done\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("echo first >&2; echo last >&2; exit 3", "^last$"),
        ("exit 3", "^the command exited with code 3$"),
        ("kill -9 $$", "^the command was killed by signal 9$"),
        ("nonexistent-command", "not found"),
    ],
)
def test_a_failure_is_told_in_its_last_words(command: str, words: str) -> None:
    with pytest.raises(CommandFailed, match=words):
        run(command)


def test_it_is_killed_with_its_pipeline_when_its_time_is_over() -> None:
    before = time.monotonic()
    with pytest.raises(CommandFailed, match=r"timed out after 0\.2 s"):
        run("sleep 60 | sleep 60", timeout=0.2)
    with pytest.raises(CommandFailed, match=r"timed out after 0\.2 s"):
        run("exec >&- 2>&-; sleep 60", timeout=0.2)
    assert time.monotonic() - before < 10.0


def test_endless_output_is_cut_short() -> None:
    with pytest.raises(CommandFailed, match="exceeds 1048576 bytes"):
        run("yes")


def test_complaints_are_bounded() -> None:
    with pytest.raises(CommandFailed) as caught:
        run("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1")
    assert len(str(caught.value)) == 4_096
