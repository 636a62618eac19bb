"""The original's Go binding against our node.

Its own test suite, compiled (`go test -c`), which IRIS_BINDING names.
"""

import os
import re
from pathlib import Path

import pytest

from tests.support.cluster import hosts, start
from tests.support.lab import Lab

pytestmark = [pytest.mark.netns, pytest.mark.interop, pytest.mark.timeout(240)]


@pytest.fixture
def suite() -> str:
    path = os.environ.get("IRIS_BINDING")
    if not path:
        pytest.skip("IRIS_BINDING doesn't name the Go binding's compiled test suite")
    return path


def test_the_go_bindings_own_suite_passes_three_times_in_a_row(
    lab: Lab, key_file: Path, suite: str
) -> None:
    node = start(lab, key_file, hosts(lab, 1)[0])  # the suite wants port 55555
    for _ in range(3):
        output = node.host.run(suite, "-test.v", timeout=70.0)
        assert len(re.findall(r"^--- PASS", output, re.MULTILINE)) == 18, output
    assert node.process.stop() == 0
    assert "Traceback" not in node.process.text()
