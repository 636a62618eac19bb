"""The command line: every mistake gets one line and exit code 2, every signal its due.

All nodes here stay on loopback.
"""

import contextlib
import inspect
import pstats
import re
import signal
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from iris.__main__ import main
from iris.runtime.send_buffer import SendBuffer
from tests.support.client import Client, Denied
from tests.support.node import free_port
from tests.support.waiting import wait_for

Start = Callable[..., "subprocess.Popen[str]"]


def attachable(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `python -m iris` and wait until applications can attach at `port`."""
    running = []

    def run(*args: str, port: int) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "iris", *args, "-port", str(port)],
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        wait_for(lambda: process.poll() is not None or attachable(port))
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "no network named"),
        (["-bogus"], "unrecognized arguments: -bogus"),
        (["-dev", "extra"], "unrecognized arguments: extra"),
        (["-dev", "-port", "99999"], "'99999' isn't a port"),
        (["-dev", "-port", "0"], "'0' isn't a port"),
        (["-dev", "-port", "http"], "'http' isn't a port"),
        (["-dev", "-net", "demo"], "-dev cannot be combined with -net or -rsa"),
        (["-dev", "-iface", "lo"], "-dev cannot be combined with -iface"),
        (["-net", "demo", "-iface", "nowhere0"], "nowhere0"),
        (["-net", "demo", "-iface", "lo", "-rsa", "/nonexistent"], "/nonexistent"),
        (["--net=demo", "--iface=lo", "--rsa=/nonexistent"], "/nonexistent"),
        (["-net", "\udcff", "-iface", "lo"], "isn't text in this terminal's encoding"),
        (["-net", "n" * 1_025, "-iface", "lo"], "1025 bytes, limit 1024"),
        (["-dev", "-cpuprof", "/nonexistent/x"], "can't write a profile to /nonexistent/x"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    args: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(args)
    except SystemExit as exc:
        code = exc.code  # type: ignore[assignment]
    said = capsys.readouterr().err
    assert code == 2
    assert words in said
    assert said.count("\n") == 1


def test_a_cpu_profile_without_yappi_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "yappi", None)
    assert main(["-dev", "-cpuprof", str(tmp_path / "profile")]) == 2
    assert capsys.readouterr().err == "iris: -cpuprof needs yappi: pip install yappi\n"


def test_a_taken_port_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert main(["-dev", "-q", "-port", str(sock.getsockname()[1])]) == 2
    said = capsys.readouterr().err
    assert "is in use" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("flag", ["-version", "--version"])
def test_the_versions_are_told_and_whether_it_is_compiled(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([flag])
    build = "pure Python" if inspect.isfunction(SendBuffer.write) else "compiled"
    assert re.fullmatch(
        rf"iris \S+ \(network v0\.3, relay v1\.0-draft2, {build}\)\n", capsys.readouterr().out
    )


def test_help_lists_the_originals_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["-help"])
    listed = capsys.readouterr().out
    for flag in (
        "-net NAME",
        "-rsa FILE",
        "-port PORT",
        "-dev",
        "-iface NAME|ADDRESS",
        "-cpuprof FILE",
        "-heapprof FILE",
    ):
        assert f"\n  {flag} " in listed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_gracefully(start: Start, number: signal.Signals) -> None:
    port = free_port()
    process = start("-dev", port=port)
    process.send_signal(number)
    _, said = process.communicate(timeout=5.0)
    assert process.returncode == 0
    assert re.search(r"node [0-9a-f]{10} of network 'dev-", said)
    assert f"applications attach at 127.0.0.1:{port}" in said
    assert said.endswith("stopped\n")
    assert "Traceback" not in said


def test_a_second_signal_ends_it_at_once(start: Start) -> None:
    port = free_port()
    process = start("-dev", port=port)
    service, caller = Client(port, "slow"), Client(port)
    caller.request_later("slow", b"never answered", 60.0)
    service.next_request()  # the node would wait for it
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=1.0)
    assert process.returncode in (-signal.SIGINT, -signal.SIGTERM)
    service.wait_closed()
    caller.wait_closed()


@pytest.mark.slow
def test_a_stop_that_hangs_ends_within_five_seconds_all_the_same() -> None:
    program = f"""
import os, signal, sys, time
from iris import __main__ as main
class Hanging(main.Node):
    def start(self):
        signal.pthread_kill(main.threading.get_ident(), signal.SIGTERM)
    def stop(self, timeout):
        time.sleep(60)
main.Node = Hanging
sys.exit(main.main(["-dev", "-port", "{free_port()}"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, timeout=10
    )
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1].endswith("shutdown timed out; exiting")


def test_applications_leave_sockets_for_the_ring() -> None:
    """With few of them to be had, too many applications are turned away in words, and nothing fails
    for the want of one.
    """
    port = free_port()
    command = ["-c", f"ulimit -n 128; exec {sys.executable} -m iris -dev -port {port}"]
    with subprocess.Popen(["bash", *command], stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: attachable(port))
        clients = [Client(port) for _ in range(64)]
        with pytest.raises(Denied, match="limit of 64 applications reached"):
            Client(port)
        process.terminate()
        _, said = process.communicate(timeout=5.0)
        for client in clients:
            client.wait_closed()
    assert "Too many open files" not in said
    assert process.returncode == 0


def test_a_start_is_told_in_a_few_lines(start: Start) -> None:
    port = free_port()
    process = start("-dev", port=port)
    process.terminate()
    _, said = process.communicate(timeout=5.0)
    lines = [line.split(" ", 1)[1] for line in said.splitlines()]
    patterns = [
        r"iris \S+, (pure Python|compiled)",
        r"node [0-9a-f]{10} of network 'dev-[0-9a-f]{16}'",
        rf"applications attach at 127\.0\.0\.1:{port}",
        r"accepting tunnels on 127\.0\.0\.1:\d+",
        r"listening for peers on lo \(127\.0\.0\.1:\d+, subnet search on UDP port \d+\)",
        r"shutting down; Ctrl-C again to force",
        r"stopped",
    ]
    assert re.fullmatch("\n".join(patterns), "\n".join(lines))


def test_the_network_key_is_kept_per_user(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    said: list[str] = []
    for _ in range(2):
        process = start(
            "-net",
            f"kept-{free_port()}" if not said else name(said[0]),
            "-iface",
            "lo",
            port=free_port(),
        )
        process.terminate()
        said.append(process.communicate(timeout=5.0)[1])
    path = next(tmp_path.rglob("*.pem"))
    assert path.stat().st_mode & 0o777 == 0o600
    assert "generated a key for network" in said[0]
    assert "every host of the network needs this key" in said[0]
    assert "generated a key" not in said[1]
    assert str(path) in said[0]
    assert str(path) in said[1]


def name(said: str) -> str:
    found = re.search(r"network '([^']+)'", said)
    assert found is not None
    return found[1]


def test_profiles_are_written(start: Start, tmp_path: Path) -> None:
    cpu, heap = tmp_path / "cpu", tmp_path / "heap"
    process = start("-dev", "-cpuprof", str(cpu), "-heapprof", str(heap), port=free_port())
    process.terminate()
    process.communicate(timeout=10.0)
    assert process.returncode == 0
    assert pstats.Stats(str(cpu)).total_calls > 0  # type: ignore[attr-defined]
    assert tracemalloc.Snapshot.load(str(heap)).statistics("filename")
