"""irisctl as scripts use it, in pipes, with a node on loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.node import ROOT, free_port, program, running_node, stop, wait_for_line

Ctl = Callable[..., "subprocess.CompletedProcess[bytes]"]
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with running_node(tmp_path_factory.mktemp("node") / "node.log") as port:
        yield port


@pytest.fixture
def ctl(port: int) -> Ctl:
    """Run irisctl to its end."""

    def run(*args: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        command = [sys.executable, "-m", "iris.ctl", *args, "--port", str(port)]
        return subprocess.run(
            command, input=stdin, capture_output=True, cwd=ROOT, timeout=20, check=False
        )

    return run


@pytest.fixture
def start(port: int, tmp_path: Path) -> Iterator[Start]:
    """Start irisctl, attached when this returns; what it says on standard error is in its `log`."""
    started: list[subprocess.Popen[bytes]] = []

    def run(
        *args: str, stdin: int = subprocess.DEVNULL, attached: str = "attached"
    ) -> "subprocess.Popen[bytes]":
        log = tmp_path / f"ctl-{len(started)}.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "iris.ctl", *args, "--port", str(port), "--verbose"],
                cwd=ROOT, stdin=stdin, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        started.append(process)
        wait_for_line(process, log, attached)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def end(
    process: "subprocess.Popen[bytes]", number: signal.Signals = signal.SIGTERM
) -> tuple[int, bytes]:
    process.send_signal(number)
    output, _ = process.communicate(timeout=10)
    return process.returncode, output


def test_requests_are_answered_by_echo_and_by_a_command(ctl: Ctl, start: Start) -> None:
    echo, upper = (
        start("serve", "echo", "--echo"),
        start("serve", "upper", "--exec", "tr a-z A-Z; printf ' for %s' $IRIS_CLUSTER"),
    )
    data = os.urandom(100_000)
    done = ctl("request", "echo", stdin=data)
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")
    assert ctl("request", "upper", "hello").stdout == b"HELLO for upper"
    assert ctl("request", "echo", "hi", "--count", "3", "--format", "hex").stdout == b"6869\n" * 3
    done = ctl("request", "echo", "--lines", "--format", "json", stdin=b"one\ntwo\n")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(answer["number"], answer["text"]) for answer in answers] == [(1, "one"), (2, "two")]
    assert all(0 < answer["seconds"] < 5 for answer in answers)
    assert end(echo) == end(upper, signal.SIGINT) == (0, b"")


def test_what_goes_wrong_has_an_exit_code(ctl: Ctl, start: Start) -> None:
    service = start(
        "serve",
        "moody",
        "--exec",
        'read word; echo "$word"; [ "$word" = good ] || { printf \'no\\033[0m\' >&2; exit 1; }',
    )
    done = ctl("request", "moody", "bad")
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        b"",
        b"irisctl: 'moody' says: no\\x1b[0m\n",
    )
    done = ctl("request", "nobody", "x", "--timeout", "0.2")
    assert (done.returncode, done.stdout, done.stderr) == (
        3,
        b"",
        b"irisctl: no answer from 'nobody' within 0.2 s\n",
    )
    done = ctl("request", "moody", "--lines", "--format", "json", stdin=b"good\nbad\ngood\n")
    assert done.returncode == 1
    assert [json.loads(line).get("fault", "") for line in done.stdout.splitlines()] == [
        "",
        "no\\x1b[0m",
        "",
    ]
    assert ctl("request", "x", "--file", "/nonexistent").returncode == 2
    service.kill()


def test_a_service_ends_after_its_count(ctl: Ctl, start: Start) -> None:
    service = start("serve", "twice", "--echo", "--count", "2")
    assert ctl("request", "twice", "x", "--count", "2").returncode == 0
    assert service.wait(10) == 0


def test_a_service_finishes_what_it_has_in_hand(ctl: Ctl, start: Start, port: int) -> None:
    service = start("serve", "slow", "--exec", "sleep 0.7; cat")
    asker = start("request", "slow", "x")
    time.sleep(0.3)
    assert end(service)[0] == 0
    assert asker.communicate(timeout=10)[0] == b"x"
    assert asker.returncode == 0


def test_members_print_broadcasts(ctl: Ctl, start: Start) -> None:
    members = [start("serve", "all", "--echo"), start("serve", "all", "--echo", "--format", "json")]
    assert ctl("broadcast", "all", "--lines", stdin=b"one\ntwo\n").returncode == 0
    time.sleep(0.3)
    assert end(members[0]) == (0, b"one\ntwo\n")
    assert [json.loads(line)["text"] for line in end(members[1])[1].splitlines()] == ["one", "two"]


def test_events_are_printed_until_there_are_enough(ctl: Ctl, start: Start) -> None:
    subscriber = start("subscribe", "news", "--count", "3")
    time.sleep(0.2)  # subscriptions may lag
    assert (
        ctl(
            "publish", "news", "--lines", "--rate", "50", stdin=b"one\ntwo\nthree\nfour\n"
        ).returncode
        == 0
    )
    assert subscriber.communicate(timeout=10)[0] == b"one\ntwo\nthree\n"
    assert subscriber.returncode == 0


def test_a_subscriber_gives_up_in_time(ctl: Ctl, start: Start) -> None:
    done = ctl("subscribe", "silence", "--timeout", "0.2")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")
    subscriber = start("subscribe", "noise", "--timeout", "1")
    time.sleep(0.2)
    ctl("publish", "noise", "x")
    assert subscriber.communicate(timeout=10)[0] == b"x\n"
    assert subscriber.returncode == 0


def test_a_signal_is_a_subscribers_ordinary_end(start: Start) -> None:
    assert end(start("subscribe", "news"), signal.SIGINT) == (0, b"")


def test_a_reader_that_has_enough_ends_it(ctl: Ctl, start: Start) -> None:
    subscriber = start("subscribe", "flood")
    assert subscriber.stdout is not None
    subscriber.stdout.close()
    time.sleep(0.2)
    ctl("publish", "flood", "x", "--count", "3")
    assert subscriber.wait(10) == 141


def shell(port: int, script: str) -> "subprocess.CompletedProcess[bytes]":
    script = script.replace("irisctl", f"{sys.executable} -m iris.ctl").replace(
        "PORT", f"--port {port}"
    )
    return subprocess.run(
        ["/bin/sh", "-c", script], capture_output=True, cwd=ROOT, timeout=20, check=False
    )


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            "irisctl request echo x PORT >/dev/full",
            "can't write standard output: No space left on device",
        ),
        ("irisctl request echo x PORT >&-", "can't write standard output: Bad file descriptor"),
        ("irisctl request echo PORT <&-", "can't read what is to be sent: Bad file descriptor"),
        ("irisctl tunnel echo PORT <&-", "can't read standard input: Bad file descriptor"),
        (
            "echo x | irisctl tunnel echo PORT --linger 10 >/dev/full",
            "can't write standard output: No space left on device",
        ),
        (
            "irisctl bench echo PORT --count 1 >/dev/full",
            "can't write standard output: No space left on device",
        ),
    ],
)
def test_what_cant_be_read_or_written_is_told_in_one_line(
    start: Start, port: int, script: str, words: str
) -> None:
    start("serve", "echo", "--echo")
    done = shell(port, script)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", f"irisctl: {words}\n")


def test_a_subscriber_that_cant_write_ends(ctl: Ctl, port: int, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log, open("/dev/full", "wb") as full:
        command = [
            sys.executable,
            "-m",
            "iris.ctl",
            "subscribe",
            "full",
            "--port",
            str(port),
            "--verbose",
        ]
        subscriber = subprocess.Popen(command, cwd=ROOT, stdout=full, stderr=log)
    wait_for_line(subscriber, tmp_path / "log", "attached")
    time.sleep(0.2)
    ctl("publish", "full", "x")
    assert subscriber.wait(10) == 2
    assert "can't write standard output" in (tmp_path / "log").read_text()


def test_without_standard_error_nothing_of_it_gets_elsewhere(start: Start, port: int) -> None:
    done = shell(port, "irisctl request nobody x PORT --timeout 0.1 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")


def test_a_lost_node_is_exit_code_4(tmp_path: Path) -> None:
    port = free_port()
    node = program("-m", "iris", "-dev", "-port", str(port), log=tmp_path / "node.log")
    try:
        wait_for_line(node, tmp_path / "node.log", "applications attach")
        command = [
            sys.executable,
            "-m",
            "iris.ctl",
            "subscribe",
            "news",
            "--verbose",
            "--port",
            str(port),
        ]
        with (tmp_path / "ctl.log").open("wb") as log:
            subscriber = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        wait_for_line(subscriber, tmp_path / "ctl.log", "attached")
        assert stop(node) == 0
        assert subscriber.wait(10) == 4
        assert "irisctl: the node is gone" in (tmp_path / "ctl.log").read_text()
    finally:
        node.kill()
        node.wait()


def test_a_load_is_measured_within_its_bounds(ctl: Ctl) -> None:
    done = ctl("bench", "--count", "200", "--duration", "5", "--json")
    facts = json.loads(done.stdout)
    assert (
        done.returncode,
        facts["requests"],
        facts["failures"],
        facts["published"],
        facts["received"],
    ) == (0, 200, 0, 200, 200)
    assert 0 < facts["p50_ms"] <= facts["p99_ms"] <= facts["max_ms"]
    assert b"requests per second" in ctl("bench", "--duration", "0.2").stdout
