"""relaycheck with the original's programs.

The Go node by node mode, the Go binding's own suite through the proxy to our node.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from iris.relaycheck.cases import CASES
from tests.support.cluster import hosts, start, start_reference
from tests.support.lab import Host, Lab
from tests.support.node import ROOT
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.timeout(180)]

TOOL = str(ROOT / "tools" / "relaycheck")
KNOWN = ROOT / "docs" / "relaycheck-go-node.md"


def relaycheck(host: Host, *args: str) -> dict[str, object]:
    process = host.python(TOOL, *args, "--json", log="relaycheck")
    wait_for(lambda: not process.running, 120.0, "the end of relaycheck")
    text = process.text()
    result: dict[str, object] = json.loads(text[text.index("{") :])
    return result


FATAL = r"length$|broadcast.name|split.(bytes|joined)"  # cases that end a Go node
# to try at a time
GROUPS = {
    "value": "6",
    "tunnel|allow|abandon": "1",
    "open|close|vanish|request|broadcast|topic|split": "1",
}


@pytest.mark.parametrize("group", GROUPS)
def test_the_go_node_violates_what_is_known_and_nothing_else(
    lab: Lab, key_file: Path, group: str
) -> None:
    host = hosts(lab, 1)[0]
    start_reference(lab, key_file, host)
    skip = "|".join(
        [
            FATAL,
            *([] if group == "value" else ["node.value"]),
            *(["node.tunnel", "allow"] if "split" in group else ["split"]),
        ]
    )
    checks = relaycheck(
        host, "node", "--jobs", GROUPS[group], "--only", f"node.({group})", "--skip", skip
    )["checks"]
    assert isinstance(checks, list)
    failed = {check["id"] for check in checks if not check["passed"]}
    assert failed
    assert failed <= known(), failed - known()


def test_a_go_node_doesnt_survive_a_length_of_its_own_choice(lab: Lab, key_file: Path) -> None:
    node = start_reference(lab, key_file, hosts(lab, 1)[0])
    checks = relaycheck(node.host, "node", "--only", "open.length")["checks"]
    assert isinstance(checks, list)
    wait_for(lambda: not node.process.running, 5.0, "its end")
    assert "makeslice: len out of range" in node.process.text()


def known() -> set[str]:
    return set(re.findall(r"^\| `(node\.[a-z0-9.-]+)` \|", KNOWN.read_text(), re.MULTILINE))


def test_every_known_violation_is_one_of_a_case() -> None:
    assert known() <= set(CASES)


def test_our_node_passes_in_a_network_of_go_nodes(lab: Lab, key_file: Path) -> None:
    machines = hosts(lab, 2)
    start_reference(lab, key_file, machines[0])
    start(lab, key_file, machines[1])
    checks = relaycheck(machines[1], "node")["checks"]
    assert isinstance(checks, list)
    assert [check["id"] for check in checks if not check["passed"]] == []


def test_the_go_bindings_own_suite_through_the_proxy_breaks_no_rule_of_ours(
    lab: Lab, key_file: Path
) -> None:
    suite = os.environ.get("IRIS_BINDING")
    if not suite:
        pytest.skip("IRIS_BINDING doesn't name the Go binding's compiled test suite")
    host = hosts(lab, 1)[0]
    start(lab, key_file, host, port=55556)
    # the suite wants port 55555
    proxy = host.python(
        TOOL, "proxy", "--listen", "55555", "--node", "55556", "--json", log="proxy"
    )
    wait_for(lambda: "forwarding" in proxy.text(), 10.0, "the proxy")
    # some of its tests allow for a few milliseconds, and the proxy takes some of them
    for _ in range(4):
        run = subprocess.run(
            host.command([suite, "-test.v"]),
            capture_output=True,
            text=True,
            timeout=100.0,
            check=False,
        )
        if passed := len(re.findall(r"^--- PASS", run.stdout, re.MULTILINE)) == 18:
            break
    assert passed, run.stdout
    proxy.stop()
    text = proxy.text()
    report = json.loads(text[text.index("{") :])
    found = [violation for check in report["checks"] for violation in check["violations"]]
    assert [violation for violation in found if violation["side"] == "node"] == []
    assert report["connections"] > 18
