"""irisctl's tunnels.

Files and conversations through pipes, TCP connections, and what is seen of them on a terminal.
"""

import contextlib
import hashlib
import os
import pty
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

import iris
from tests.support import irisctl
from tests.support.irisctl import Ctl, Process, Start
from tests.support.node import ROOT, free_port, stop

CUT = b"irisctl: the tunnel was cut off: the other application disconnected\n"


def test_a_file_goes_through_a_tunnel(start: Start, ctl: Ctl) -> None:
    data = random.Random(5).randbytes(5_000_000)
    receiver = start("tunnel", "files", "--accept", "--receive")
    done = ctl("tunnel", "files", "--send", stdin=data)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    output, _ = receiver.communicate(timeout=10)
    assert receiver.returncode == 0
    assert output == data


def test_who_accepts_may_send_as_well(start: Start, ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"from the other side")
    with (tmp_path / "data").open("rb") as source:
        giver = start("tunnel", "gifts", "--accept", "--send", stdin=source)
        done = ctl("tunnel", "gifts", "--receive")
    assert (done.returncode, done.stdout) == (0, b"from the other side")
    assert giver.wait(10) == 0


def test_an_answer_after_the_end_of_input_is_waited_for(start: Start, ctl: Ctl) -> None:
    service = start("serve", "echo", "--echo")
    before = time.monotonic()
    assert ctl("tunnel", "echo", "--linger", "0.5", stdin=b"hello\n").stdout == b"hello\n"
    assert time.monotonic() - before > 0.5
    assert stop(service) == 0


def test_nobody_there_is_a_timeout(ctl: Ctl) -> None:
    done = ctl("tunnel", "nobody", "--timeout", "0.2")
    assert (done.returncode, done.stderr) == (
        3,
        b"irisctl: no member of 'nobody' accepted the tunnel within 0.2 s\n",
    )
    done = ctl("tunnel", "lonely", "--accept", "--timeout", "0.2")
    assert (done.returncode, done.stderr) == (
        3,
        b"irisctl: no tunnel to 'lonely' within 0.2 s\n",
    )


def test_an_end_before_all_was_sent_is_a_fault(start: Start, ctl: Ctl, port: int) -> None:
    picky = iris.Handler()
    picky.on_tunnel(lambda tunnel: tunnel.recv())
    with iris.register("picky", picky, port=port):
        done = ctl("tunnel", "picky", "--send", stdin=bytes(200_000_000))
    assert (done.returncode, done.stderr) == (
        1,
        b"irisctl: the peer closed the tunnel before all was sent\n",
    )


def test_a_receiver_whose_output_nobody_reads_cuts_the_tunnel_off(start: Start, ctl: Ctl) -> None:
    receiver = start("tunnel", "unread", "--accept", "--receive")
    assert receiver.stdout is not None
    receiver.stdout.close()
    done = ctl("tunnel", "unread", "--send", stdin=bytes(200_000_000))
    assert (done.returncode, done.stderr) == (1, CUT)
    assert receiver.wait(10) == 141


def receiver(port: int, cluster: str) -> Process:
    receive = irisctl.command("tunnel", cluster, "--receive", port=port)
    return subprocess.Popen(receive, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_sender_that_is_killed_is_told_from_one_that_is_done(
    start: Start, port: int, number: signal.Signals
) -> None:
    sender = start("tunnel", "crash", "--accept", "--send", stdin=subprocess.PIPE)
    with receiver(port, "crash") as other:
        assert sender.stdin is not None
        assert other.stdout is not None
        sender.stdin.write(b"half of it")
        sender.stdin.flush()
        assert other.stdout.read(10) == b"half of it"
        sender.send_signal(number)
        assert other.communicate(timeout=10) == (b"", CUT)
        assert other.returncode == 1
        sender.stdin.close()


def test_a_sender_that_cant_read_any_more_is_told_from_one_that_is_done(
    start: Start, port: int, tmp_path: Path
) -> None:
    with (tmp_path / "out").open("wb") as unreadable:
        sender = start("tunnel", "broken", "--accept", "--send", stdin=unreadable)
        with receiver(port, "broken") as other:
            assert other.communicate(timeout=10) == (b"", CUT)
            assert other.returncode == 1
        assert sender.wait(10) == 2


def test_a_receiver_that_is_killed_is_a_fault(start: Start, port: int) -> None:
    sink = start("tunnel", "sink", "--accept", "--receive")
    send = irisctl.command("tunnel", "sink", "--send", port=port)
    with subprocess.Popen(send, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as sender:
        assert sender.stdin is not None
        assert sink.stdout is not None
        sender.stdin.write(b"x")
        sender.stdin.flush()
        assert sink.stdout.read(1) == b"x"
        sink.kill()
        assert sender.wait(10) == 1  # although there may be more to send
        assert sender.communicate()[1] == CUT


def echo_back(listener: socket.socket) -> None:
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        with sock, contextlib.suppress(OSError):
            while data := sock.recv(65_536):
                sock.sendall(data.upper())


def receive(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (piece := sock.recv(65_536)):
        data += piece
    return bytes(data)


def test_tcp_connections_are_forwarded(start: Start, port: int) -> None:
    near = free_port()
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=echo_back, args=(server,), daemon=True).start()
        far = start("tunnel", "shout", "--connect", str(server.getsockname()[1]))
        listener = start("tunnel", "shout", "--listen", f"127.0.0.1:{near}", ready="listening at")
        for text in (b"hello", b"x" * 1_000_000):
            with socket.create_connection(("127.0.0.1", near), 10) as sock:
                sock.sendall(text)
                assert receive(sock, len(text)) == text.upper()
        with socket.create_connection(("127.0.0.1", near), 10) as sock:
            sock.sendall(b"bye")
            assert receive(sock, 3) == b"BYE"
            assert stop(far) == 0
            assert sock.recv(1) == b""  # the far side has ended it
        server.shutdown(socket.SHUT_RDWR)
    assert stop(listener) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", near), 10)


def test_a_forwarded_connection_whose_other_end_is_killed_is_reset(start: Start, port: int) -> None:
    near = free_port()
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=echo_back, args=(server,), daemon=True).start()
        far = start("tunnel", "dying", "--connect", str(server.getsockname()[1]))
        start("tunnel", "dying", "--listen", f"127.0.0.1:{near}", ready="listening at")
        with socket.create_connection(("127.0.0.1", near), 10) as sock:
            sock.sendall(b"half")
            assert receive(sock, 4) == b"HALF"
            far.kill()
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        server.shutdown(socket.SHUT_RDWR)


def test_a_port_that_is_taken_and_flags_that_make_no_sense_are_told(ctl: Ctl, port: int) -> None:
    done = ctl("tunnel", "c", "--listen", str(port))
    assert done.returncode == 2
    assert done.stderr.startswith(b"irisctl: can't listen at 127.0.0.1 port")
    assert ctl("tunnel", "c", "--listen", "1234", "--send").returncode == 2


class Terminal:
    """A pseudo-terminal, and a program of which some descriptors are it."""

    def __init__(self, args: list[str], **others: int | BinaryIO) -> None:
        self._master, slave = pty.openpty()
        files: dict[str, Any] = {"stdin": slave, "stdout": slave, "stderr": slave, **others}
        environment = {**os.environ, "COLUMNS": "100"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "iris.ctl", *args], cwd=ROOT, env=environment, **files
        )
        os.close(slave)

    def type(self, text: bytes) -> None:
        os.write(self._master, text)

    def text(self, until: bytes = b"", timeout: float = 20.0) -> bytes:
        """What is shown, until there is something, or the program has ended."""
        shown, deadline = b"", time.monotonic() + timeout
        while not (until and until in shown):
            assert time.monotonic() < deadline, shown
            if not select.select([self._master], [], [], 0.1)[0]:
                continue
            try:
                shown += os.read(self._master, 65_536)
            except OSError:  # nobody has the other end any more
                break
        return shown

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def make(*args: str, **others: int | BinaryIO) -> Terminal:
        made.append(Terminal(list(args), **others))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_conversation_on_a_terminal(
    start: Start, port: int, terminal: Callable[..., Terminal]
) -> None:
    start("serve", "echo", "--echo")
    talk = terminal("tunnel", "echo", "--port", str(port), "--linger", "0.3")
    talk.type(b"hello there\n")
    shown = talk.text(until=b"hello there\r\nhello there\r\n")
    talk.type(b"\x04")
    shown += talk.text()
    assert b"B/s" not in shown
    assert talk.process.wait(10) == 0


def test_control_characters_are_shown_harmless_on_a_terminal(
    start: Start, port: int, terminal: Callable[..., Terminal]
) -> None:
    start("serve", "tricky", "--exec", "printf '\\033]0;title\\007'")
    asked = terminal("request", "tricky", "x", "--port", str(port))
    assert asked.text() == b"\\x1b]0;title\\x07\r\n"


def test_progress_is_shown_on_a_terminal_only(
    start: Start, port: int, terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with data.open("wb") as file:
        file.truncate(80 << 20)
    sink = start("tunnel", "slow", "--accept", "--receive")
    assert sink.stdout is not None
    with data.open("rb") as source:
        sender = terminal("tunnel", "slow", "--send", "--port", str(port), stdin=source)
        shown = sender.text(until=b" of 80.0 MiB")  # it waits for one who doesn't read
        digest, size = hashlib.sha256(), 0
        while piece := sink.stdout.read1(1 << 20):  # type: ignore[attr-defined]
            digest.update(piece)
            size += len(piece)
        shown += sender.text()
    assert sender.process.wait(10) == 0
    assert b"100% [####################]  80.0 MiB of 80.0 MiB" in shown
    assert shown.endswith(b"\r\n")
    assert size == 80 << 20
    assert digest.digest() == hashlib.sha256(bytes(80 << 20)).digest()


@pytest.mark.slow
def test_requests_show_progress_when_they_take_long(
    start: Start, port: int, terminal: Callable[..., Terminal]
) -> None:
    start("serve", "echo", "--echo")
    args = ("request", "echo", "x", "--count", "7", "--rate", "5", "--port", str(port))
    asked = terminal(*args, stdout=subprocess.DEVNULL)
    assert b"100% [####################]  7 requests of 7 requests" in asked.text()
    failing = terminal(
        "request", "nobody", "x", *args[3:], "--timeout", "0.5", stdout=subprocess.DEVNULL
    )
    shown = failing.text()
    # in the progress's place, not behind it
    assert b"\r\x1b[Kirisctl: no reply from 'nobody' within 0.5 s\r\n" in shown
    assert failing.process.wait(10) == 3
    silent = terminal(*args, "--quiet", stdout=subprocess.DEVNULL)
    assert silent.text() == b""
