"""Plays a node for a binding's program, once for each scenario, and judges what it says and how it
ends. Shell.
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from iris.relaycheck.fake_node import Theatre
from iris.relaycheck.report import Check, Report
from iris.relaycheck.scenarios import SCENARIOS, JudgedSeat, Scenario

_AT_A_TIME = 3  # programs, if each may have a port of its own
_SHOWN = 2_000  # bytes of a program's last words


def check_binding(
    command: Sequence[str], port: int = 0, only: str = "", *, timeout: float = 30.0
) -> Report:
    """Run the command for all scenarios whose ids match; port 0 lets each have one of its own.

    Timeout is in seconds.

    Raises: OSError when the port is taken or there is no such command, ValueError when there is no
    such scenario.
    """
    chosen = [each for each in SCENARIOS.values() if re.search(only, each.id)]
    if not chosen:
        raise ValueError(f"no scenario has an id like '{only}'")
    with ThreadPoolExecutor(1 if port else _AT_A_TIME, "scenario") as pool:
        return Report(
            "binding", list(pool.map(lambda each: _try(each, command, port, timeout), chosen))
        )


def _try(scenario: Scenario, command: Sequence[str], port: int, timeout: float) -> Check:
    check, begin = Check(scenario.id, scenario.words), time.monotonic()

    class Timed(scenario.seat):  # type: ignore[misc, name-defined]
        """Judged by the real time."""

        clock = staticmethod(time.monotonic)

    theatre = Theatre(Timed, echo=True, port=port, pieces=scenario.pieces, delay=scenario.delay)
    try:
        check.problems += _run(scenario, command, theatre, timeout)
        theatre.wait_gone(0.2)
        seats = cast(Sequence[JudgedSeat], theatre.seats)
    finally:
        theatre.close()
    if not seats:
        check.problems.append("the program doesn't attach")
    for seat in seats:
        check.violations += seat.violations
        if (problem := seat.problem()) is not None:
            check.problems.append(problem)
    check.seconds = time.monotonic() - begin
    return check


def _run(scenario: Scenario, command: Sequence[str], theatre: Theatre, timeout: float) -> list[str]:
    """Run the program to its end. Returns: what was wrong about that."""
    arguments = [argument.replace("{port}", str(theatre.port)) for argument in command]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "IRIS_PORT": str(theatre.port), "RELAYCHECK_SCENARIO": scenario.id},
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return [f"the program doesn't end within {timeout:g} s"]
        if scenario.succeeds and code:
            output.seek(max(0, output.seek(0, os.SEEK_END) - _SHOWN))
            return [
                f"the program ends with {code}: {output.read().decode(errors='replace').strip()}"
            ]
    return []
