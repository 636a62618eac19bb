"""irisctl as scripts use it, in pipes, with a node on loopback."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import irisctl
from tests.support.irisctl import Ctl, Finished, Process, Start, publish_until
from tests.support.node import ROOT, free_port, program, stop, wait_for_line
from tests.support.waiting import wait_for


def end(process: Process, number: signal.Signals = signal.SIGTERM) -> tuple[int, bytes]:
    process.send_signal(number)
    output, _ = process.communicate(timeout=10)
    return process.returncode, output


def lines_of(process: Process, count: int) -> list[bytes]:
    """Wait for some lines of output."""
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(count)]


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
        b"irisctl: fault from 'moody': no\\x1b[0m\n",
    )
    done = ctl("request", "nobody", "x", "--timeout", "0.2")
    assert (done.returncode, done.stdout, done.stderr) == (
        3,
        b"",
        b"irisctl: no reply from 'nobody' within 0.2 s\n",
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


def test_a_service_finishes_what_it_has_in_hand(start: Start, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    service = start("serve", "slow", "--exec", f"touch '{begun}'; sleep 0.5; cat")
    asker = start("request", "slow", "x")
    wait_for(begun.exists)
    assert end(service)[0] == 0
    assert asker.communicate(timeout=10)[0] == b"x"
    assert asker.returncode == 0


def test_members_print_broadcasts(ctl: Ctl, start: Start) -> None:
    members = [start("serve", "all", "--echo"), start("serve", "all", "--echo", "--format", "json")]
    assert ctl("broadcast", "all", "--lines", stdin=b"one\ntwo\n").returncode == 0
    plain, parsed = (lines_of(member, 2) for member in members)
    assert plain == [b"one\n", b"two\n"]
    assert [json.loads(line)["text"] for line in parsed] == ["one", "two"]
    assert [end(member) for member in members] == [(0, b"")] * 2


def prints(process: Process, within: float = 0.2) -> bool:
    assert process.stdout is not None
    return bool(select.select([process.stdout], [], [], within)[0])


def test_events_are_printed_until_there_are_enough(ctl: Ctl, start: Start, port: int) -> None:
    subscriber = start("subscribe", "news", "--count", "50")
    publish_until(lambda: prints(subscriber), "news", b"early", port)
    lines = [b"%d\n" % number for number in range(100)]
    published = ctl("publish", "news", "--lines", "--rate", "500", stdin=b"".join(lines))
    assert published.returncode == 0
    printed = subscriber.communicate(timeout=10)[0].splitlines(keepends=True)
    early = printed.count(b"early\n")
    assert 0 < early < 50
    assert printed == [b"early\n"] * early + lines[: 50 - early]
    assert subscriber.returncode == 0


def test_a_subscriber_gives_up_in_time(ctl: Ctl, start: Start, port: int) -> None:
    done = ctl("subscribe", "silence", "--timeout", "0.2")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")
    subscriber = start("subscribe", "noise", "--timeout", "3")
    publish_until(lambda: prints(subscriber), "noise", b"x", port)
    assert set(subscriber.communicate(timeout=10)[0].splitlines()) == {b"x"}
    assert subscriber.returncode == 0


def test_a_signal_is_a_subscribers_ordinary_end(start: Start) -> None:
    assert end(start("subscribe", "news"), signal.SIGINT) == (0, b"")


def test_a_reader_that_has_enough_ends_it(start: Start, port: int) -> None:
    subscriber = start("subscribe", "flood")
    assert subscriber.stdout is not None
    subscriber.stdout.close()
    publish_until(lambda: subscriber.poll() is not None, "flood", b"x", port)
    assert subscriber.returncode == 141


def shell(port: int, script: str) -> Finished:
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
        ("irisctl request echo PORT <&-", "can't read the input: Bad file descriptor"),
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


def test_a_subscriber_that_cant_write_ends(port: int, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with open("/dev/full", "wb") as full:
        subscriber = irisctl.start("subscribe", "full", port=port, log=log, stdout=full)
    publish_until(lambda: subscriber.poll() is not None, "full", b"x", port)
    assert subscriber.returncode == 2
    assert "can't write standard output" in log.read_text()


def test_without_standard_error_nothing_of_it_gets_elsewhere(start: Start, port: int) -> None:
    done = shell(port, "irisctl request nobody x PORT --timeout 0.1 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")


def test_a_lost_node_is_exit_code_4(tmp_path: Path) -> None:
    port = free_port()
    node = program("-m", "iris", "-dev", "-port", str(port), log=tmp_path / "node.log")
    try:
        wait_for_line(node, tmp_path / "node.log", "applications attach")
        log = tmp_path / "ctl.log"
        subscriber = irisctl.start(
            "subscribe", "news", port=port, log=log, stdout=subprocess.DEVNULL
        )
        assert stop(node) == 0
        assert subscriber.wait(10) == 4
        assert "irisctl: disconnected from the node" in log.read_text()
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
