"""The example programs, run from a terminal."""

import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.node import program, stop, wait_for_line

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts programs that don't outlive the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*args: str, log: Path, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
        started.append(program(*args, log=log, stdin=stdin))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


def test_the_echo_service_replies(port: int, start: Start, tmp_path: Path) -> None:
    log = tmp_path / "echo.log"
    service = start("examples/echo_service.py", str(port), log=log)
    wait_for_line(service, log, "serving 'echo'")
    asker = start("examples/ask.py", str(port), "echo", "hello there", log=tmp_path / "ask.log")
    assert asker.wait(20.0) == 0
    assert (tmp_path / "ask.log").read_text() == "hello there\n"
    assert stop(service) == 0
    assert log.read_text().splitlines()[1:] == ["request: hello there", "stopped"]


@pytest.mark.slow
def test_a_request_to_an_empty_cluster_times_out(port: int, start: Start, tmp_path: Path) -> None:
    asker = start("examples/ask.py", str(port), "nobody", "hello", log=tmp_path / "ask.log")
    assert asker.wait(20.0) == 1
    assert (tmp_path / "ask.log").read_text() == "request to 'nobody' timed out\n"


def test_two_chat_in_a_room(port: int, start: Start, tmp_path: Path) -> None:
    logs = {name: tmp_path / f"{name}.log" for name in ("ann", "bob")}
    ann = start(
        "examples/chat.py", str(port), "kitchen", "ann", log=logs["ann"], stdin=subprocess.PIPE
    )
    wait_for_line(ann, logs["ann"], "ann joined")
    bob = start(
        "examples/chat.py", str(port), "kitchen", "bob", log=logs["bob"], stdin=subprocess.PIPE
    )
    wait_for_line(ann, logs["ann"], "bob joined")
    for chatter, line in ((ann, b"hello\n"), (bob, "grüß dich\n".encode())):
        assert chatter.stdin is not None
        chatter.stdin.write(line)
        chatter.stdin.flush()
    for chatter, name in ((ann, "ann"), (bob, "bob")):
        wait_for_line(chatter, logs[name], "ann: hello")
        wait_for_line(chatter, logs[name], "bob: grüß dich")
    for chatter in (ann, bob):
        assert chatter.stdin is not None
        chatter.stdin.close()
        assert chatter.wait(10.0) == 0


def test_jobs_of_a_lost_worker_are_retried(port: int, start: Start, tmp_path: Path) -> None:
    logs = [tmp_path / f"worker{i}.log" for i in range(3)]
    workers = [start("examples/work_queue.py", str(port), "work", log=log) for log in logs]
    for worker, log in zip(workers, logs, strict=True):
        wait_for_line(worker, log, "is ready")
    boss = start("examples/work_queue.py", str(port), "primes", "100000", log=tmp_path / "boss.log")
    workers[0].kill()
    workers[0].wait()
    assert boss.wait(60.0) == 0
    assert (tmp_path / "boss.log").read_text().splitlines()[-1] == "9592"
    assert [stop(worker) for worker in workers[1:]] == [0, 0]


def test_a_file_arrives_intact(port: int, start: Start, tmp_path: Path) -> None:
    content = random.Random(1).randbytes(12_345_678)
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "thing").write_bytes(content)
    log = tmp_path / "shop.log"
    shop = start("examples/file_transfer.py", str(port), "serve", str(tmp_path / "shop"), log=log)
    wait_for_line(shop, log, "serving")
    get = ("examples/file_transfer.py", str(port), "get")
    buyer = start(*get, "thing", str(tmp_path / "mine"), log=tmp_path / "buyer.log")
    assert buyer.wait(30.0) == 0
    assert (tmp_path / "mine").read_bytes() == content
    wait_for_line(shop, log, "sent thing")
    buyer = start(*get, "../shop.log", str(tmp_path / "no"), log=tmp_path / "buyer.log")
    assert buyer.wait(30.0) == 1
    assert "no such file: ../shop.log" in (tmp_path / "buyer.log").read_text()
    assert stop(shop) == 0
