"""Nodes and bindings that are wrong on purpose: a mistake a run, and each is found and named."""

import sys
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from iris.relaycheck.binding import check_binding
from iris.relaycheck.fake_node_server import FakeNodeServer
from iris.relaycheck.node import check_node
from iris.relaycheck.report import Report
from tests.support import broken_binding, broken_node
from tests.support.node import ROOT

pytestmark = pytest.mark.slow


def against_node(name: str) -> Report:
    mistake = broken_node.MISTAKES[name]
    server = FakeNodeServer(mistake.session)
    try:
        return check_node(server.port, mistake.only)
    finally:
        server.close()


def against_binding(name: str) -> Report:
    program = ROOT / "tests" / "support" / "broken_binding.py"
    _, scenario, _ = broken_binding.MISTAKES[name]
    return check_binding(
        [sys.executable, str(program), "{port}", name], only=scenario, timeout=15.0
    )


@pytest.fixture(scope="module")
def runs() -> dict[str, "Future[Report]"]:
    """All of them, side by side: most of their time is waiting."""
    with ThreadPoolExecutor(16) as pool:
        runs = {
            name: pool.submit(against_binding, name)
            for name in sorted(broken_binding.MISTAKES, reverse=True)
        }
        return runs | {name: pool.submit(against_node, name) for name in broken_node.MISTAKES}


def named(report: Report) -> set[str]:
    failed = {check.id for check in report.checks if not check.passed}
    return failed | {violation.rule for check in report.checks for violation in check.violations}


@pytest.mark.parametrize("name", broken_node.MISTAKES)
def test_a_broken_node_is_found_and_its_mistake_named(
    runs: dict[str, "Future[Report]"], name: str
) -> None:
    report = runs[name].result()
    assert broken_node.MISTAKES[name].named in named(report), report.table()


@pytest.mark.parametrize("name", broken_binding.MISTAKES)
def test_a_broken_binding_is_found_and_its_mistake_named(
    runs: dict[str, "Future[Report]"], name: str
) -> None:
    report, wanted = runs[name].result(), broken_binding.MISTAKES[name][2]
    if wanted:
        assert wanted in named(report), report.table()
    else:
        assert report.passed, report.table()


def test_there_are_twenty_of_each() -> None:
    assert len(broken_node.MISTAKES) >= 20
    assert len({name for _, _, name in broken_binding.MISTAKES.values()}) > 20
