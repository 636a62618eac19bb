"""`relaycheck node`: run the cases against a running node. Shell."""

from contextlib import closing

from construct import ConstructError

from iris.relaycheck.cases import CASES
from iris.relaycheck.fake_client import Failure
from iris.relaycheck.harness import Harness
from iris.relaycheck.registry import Case
from iris.relaycheck.report import Check, Report
from iris.relaycheck.runner import run_checks

JOBS = 6  # cases at a time; most of their time is waiting


def check_node(
    port: int, only: str = "", *, skip: str = "^$", host: str = "127.0.0.1", jobs: int = JOBS
) -> Report:
    """Run all cases whose ids match `only`, and not `skip`.

    Raises: OSError when there is no node; ValueError when no case matches.
    """

    def run(case: Case, check: Check) -> None:
        with closing(Harness(port, host)) as harness:
            try:
                case.run(harness)
            except Failure as exc:
                check.problems.append(str(exc))
            except (OSError, ConstructError) as exc:
                check.problems.append(f"{type(exc).__name__}: {exc}")
        # the first of each rule
        first = {violation.rule: violation for violation in reversed(harness.violations)}
        check.violations += reversed(first.values())

    Harness(port, host).connect().disconnect()
    return run_checks("node", CASES.values(), run, only, skip, jobs)
