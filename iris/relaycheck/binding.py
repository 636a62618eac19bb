"""`relaycheck binding`: run a program against a fake node, once for each scenario. Shell."""

import os
import tempfile
from collections.abc import Sequence
from contextlib import closing
from subprocess import DEVNULL, Popen, TimeoutExpired
from typing import cast

from iris.relaycheck.fake_node_server import FakeNodeServer
from iris.relaycheck.report import Check, Report
from iris.relaycheck.runner import run_checks
from iris.relaycheck.scenarios import SCENARIOS, CheckedSession, Scenario

_JOBS = 3  # programs at a time, if each has a port of its own
_SHOWN = 2_000  # bytes of a failed program's output


def check_binding(
    command: Sequence[str], port: int = 0, only: str = "", *, timeout: float = 30.0
) -> Report:
    """Run the command for all scenarios whose ids match.

    Args:
        port: where the fake node listens; 0 takes a free port for each scenario.
        timeout: seconds for one run.
    Raises:
        OSError: the port is taken, or there is no such command.
        ValueError: no scenario matches.
    """

    def run(scenario: Scenario, check: Check) -> None:
        pieces, delay = scenario.pieces, scenario.delay
        server = FakeNodeServer(scenario.session, echo=True, port=port, pieces=pieces, delay=delay)
        with closing(server):
            check.problems += _run(scenario, command, server.port, timeout)
            server.wait_gone(0.2)
            sessions = cast(Sequence[CheckedSession], server.sessions)
        if not sessions:
            check.problems.append("the program doesn't attach")
        for session in sessions:
            check.violations += session.violations
            if (problem := session.problem()) is not None:
                check.problems.append(problem)

    return run_checks("binding", SCENARIOS.values(), run, only, "^$", 1 if port else _JOBS)


def _run(scenario: Scenario, command: Sequence[str], port: int, timeout: float) -> list[str]:
    """Run the program to its end. Returns: what was wrong about that."""
    arguments = [argument.replace("{port}", str(port)) for argument in command]
    env = {**os.environ, "IRIS_PORT": str(port), "RELAYCHECK_SCENARIO": scenario.id}
    with tempfile.TemporaryFile() as output:
        process = Popen(arguments, stdin=DEVNULL, stdout=output, stderr=output, env=env)
        try:
            code = process.wait(timeout)
        except TimeoutExpired:
            process.kill()
            process.wait()
            return [f"the program doesn't end within {timeout:g} s"]
        if scenario.succeeds and code:
            output.seek(max(0, output.seek(0, os.SEEK_END) - _SHOWN))
            shown = output.read().decode(errors="replace").strip()
            return [f"the program ends with {code}: {shown}"]
    return []
