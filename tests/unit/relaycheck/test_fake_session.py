"""The node that programs are shown is one that keeps to the rules: by every case of node mode."""

import json
import subprocess
import sys

import pytest

from iris.relaycheck.binding import check_binding
from iris.relaycheck.fake_node_server import FakeNodeServer
from iris.relaycheck.node import check_node
from tests.support.node import ROOT


@pytest.mark.slow
def test_the_stand_in_passes_every_case_itself() -> None:
    server = FakeNodeServer()
    try:
        report = check_node(server.port)
    finally:
        server.close()
    assert report.passed, report.table()


def failing(code: str, only: str, timeout: float = 10.0) -> list[str]:
    report = check_binding([sys.executable, "-c", code], only=only, timeout=timeout)
    return [line for check in report.checks for line in check.lines]


def test_a_program_that_fails_hangs_or_never_attaches_is_named() -> None:
    (ends, attaches) = failing("raise SystemExit('sorry')", "plain")
    assert ends == "the program ends with 1: sorry"
    assert attaches == "the program doesn't attach"
    assert (
        failing("import time; time.sleep(9)", "deny", 0.3)[0]
        == "the program doesn't end within 0.3 s"
    )


def test_a_program_is_told_the_port_in_its_environment() -> None:
    code = (
        "import os, socket; "
        "socket.create_connection(('localhost', int(os.environ['IRIS_PORT']))).sendall(b'?')"
    )
    (line,) = failing(code, "plain")
    assert "open.first" in line


def test_the_command_line(tmp_path: object) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit(sys.argv[1].isdecimal())", "{port}"]
    run = subprocess.run(
        [
            sys.executable,
            ROOT / "tools" / "relaycheck",
            "binding",
            "--only",
            "plain",
            "--json",
            "--",
            *command,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert json.loads(run.stdout)["checks"][0]["problems"][0].startswith("the program ends with 1")
