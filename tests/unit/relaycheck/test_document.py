"""docs/relay-protocol.md and the code say the same."""

import re

from iris.relay_protocol.schema import Op
from iris.relaycheck.cases import CASES
from iris.relaycheck.rules import RULES
from iris.relaycheck.scenarios import SCENARIOS
from tests.support.node import ROOT

TEXT = (ROOT / "docs" / "relay-protocol.md").read_text()


def test_the_document_lists_the_rules_cases_and_scenarios_that_there_are() -> None:
    rows = re.findall(r"^\| `([a-z0-9.-]+)` \| (.+) \|$", TEXT, re.MULTILINE)
    known = (
        RULES
        | {case.id: case.description for case in CASES.values()}
        | {scenario.id: scenario.description for scenario in SCENARIOS.values()}
    )
    assert dict(rows) == known
    assert len(rows) == len(known)


def test_the_document_lists_every_packet() -> None:
    rows = re.findall(r"^\| (0x[0-9a-f]{2}) \| ([a-z ]+) \|", TEXT, re.MULTILINE)
    assert [(int(code, 16), name.replace(" ", "_").upper()) for code, name in rows] == [
        (op.value, op.name) for op in Op
    ]
