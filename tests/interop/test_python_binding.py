"""Our binding's suite, both APIs, against the Go node that IRIS_REFERENCE names."""

import sys
from pathlib import Path

import pytest

from tests.support.cluster import hosts, start_reference
from tests.support.lab import Lab

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.timeout(120)]

SUITE = [f"tests/loopback/test_{face}.py" for face in ("patterns", "aio")]
# One ends a node of its own; in the next one, a Go node's tunnel close overtakes data; and it has
# no reason for tunnels that broke.
CHOSEN = "not lost_node and not abandoned_halfway and not broken_stream"


def test_our_bindings_suite_passes_against_a_go_node(lab: Lab, key_file: Path) -> None:
    node = start_reference(lab, key_file, hosts(lab, 1)[0])
    pytest_there = [
        "env",
        f"IRIS_NODE_PORT={node.port}",
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        CHOSEN,
    ]
    output = node.host.run(*pytest_there, *SUITE, timeout=90.0)
    assert "passed" in output
    assert "skipped" not in output
