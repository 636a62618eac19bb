"""`relaycheck` against nodes of ours, with all that a node has."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from iris.relaycheck.scenarios import SCENARIOS
from tests.support.node import ROOT, free_port, running_node


def relaycheck(*args: str, timeout: float = 60.0) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "relaycheck", *args],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.slow
def test_our_node_passes_every_case(tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    with running_node(tmp_path / "node.log") as port:
        run = relaycheck("node", "--port", str(port), "--json", "--junit", str(junit))
    assert run.returncode == 0, run.stdout + run.stderr
    checks = json.loads(run.stdout)["checks"]
    assert len({check["id"] for check in checks}) == len(checks) >= 60
    assert 'failures="0"' in junit.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("face", ["exercise.py", "exercise_aio.py"])
def test_our_binding_passes_every_scenario(face: str) -> None:
    run = relaycheck(
        "binding", "--json", "--", sys.executable, str(ROOT / "tests" / "support" / face), "{port}"
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert len(json.loads(run.stdout)["checks"]) == len(SCENARIOS)


@pytest.mark.slow
def test_the_bindings_suite_through_the_proxy_breaks_no_rule(tmp_path: Path) -> None:
    with running_node(tmp_path / "node.log") as port:
        listen = free_port()
        flags = ["proxy", "--listen", str(listen), "--node", str(port), "--json"]
        with (tmp_path / "report.json").open("wb") as output:
            proxy = subprocess.Popen(
                [sys.executable, ROOT / "tools" / "relaycheck", *flags],
                stdout=output,
                stderr=subprocess.PIPE,
            )
        try:
            assert proxy.stderr is not None
            assert b"forwarding" in proxy.stderr.readline()
            suite = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "pytest",
                    "-q",
                    "tests/loopback/test_patterns.py",
                    "tests/loopback/test_aio.py",
                ],
                cwd=ROOT,
                env={**os.environ, "IRIS_NODE_PORT": str(listen)},
                capture_output=True,
                text=True,
                timeout=90.0,
                check=False,
            )
            assert suite.returncode == 0, suite.stdout
            proxy.send_signal(signal.SIGINT)
            assert proxy.wait(30.0) == 0, (tmp_path / "report.json").read_text()
        finally:
            proxy.kill()
            proxy.wait()
            assert proxy.stderr is not None
            proxy.stderr.close()
    assert json.loads((tmp_path / "report.json").read_text())["connections"] > 10


def test_without_a_node_it_says_so_with_exit_code_2() -> None:
    run = relaycheck("node", "--port", str(free_port()))
    assert (run.returncode, run.stdout) == (2, "")
    assert "no node listens" in run.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["node", "--port", "99999"],
        ["nothing"],
        ["node", "--only", "no such case"],
        ["binding"],
        ["binding", "--", "/no/such/program"],
    ],
)
def test_usage_is_exit_code_2(tmp_path: Path, args: list[str]) -> None:
    with running_node(tmp_path / "node.log") as port:
        run = relaycheck(*args, *(["--port", str(port)] if "--only" in args else []))
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
