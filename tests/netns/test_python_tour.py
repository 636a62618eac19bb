"""The README's tour: two nodes on a host that has nothing but its loopback interface."""

from pathlib import Path

import pytest

from tests.support.lab import ROOT, Lab, Process
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.timeout(90)]


def test_a_service_at_one_node_answers_who_asks_at_the_other(lab: Lab, key_file: Path) -> None:
    host = lab.host("tour")
    environment = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    def ask() -> Process:
        asker = host.python(
            "examples/ask.py", "55556", "echo", "hello there", log="ask", env=environment
        )
        wait_for(lambda: not asker.running, 20.0, "an end of asking")
        return asker

    nodes = [
        lab.node(host, "-net", "demo", "-iface", "lo", key=key_file, port=port)
        for port in (55555, 55556)
    ]
    services = [
        host.python("examples/echo_service.py", str(port), log="echo", env=environment)
        for port in (55555, 55555, 55556)
    ]
    wait_for(
        lambda: all("serving 'echo'" in service.text() for service in services), 20.0, "a service"
    )
    wait_for(lambda: ask().text() == "hello there\n", 40.0, "an answer")
    wait_for(
        lambda: ask() and all("request: hello there" in service.text() for service in services),
        40.0,
        "a share for each",
    )
    assert [process.stop() for process in (*services, *nodes)] == [0] * 5
    for process in (*services, *nodes):
        assert "Traceback" not in process.text(), process.text()
