"""What a run says: for people, and for machines."""

import json
from collections import Counter
from xml.etree import ElementTree

from iris.relay_protocol.schema import Side
from iris.relaycheck.report import Check, Report, by_rule
from iris.relaycheck.rules import RULES, Violation

BROKEN = Violation(3, Side.NODE, 77, "close.last", "REPLY comes after the end", b"\x05\x01\x01")
REPORT = Report(
    "proxy", by_rule([BROKEN]), Counter({("node", "REPLY"): 2, ("client", "INIT"): 1}), 3
)


def test_the_table_has_packets_by_kind_and_each_violation_with_its_place() -> None:
    table = REPORT.table()
    assert "REPLY                      0         2" in table
    assert (
        "connection 3, node, offset 77: close.last: REPLY comes after the end [05 01 01]" in table
    )
    assert table.endswith(f"{len(RULES)} checked, 1 failed\n")


def test_json_has_all_of_it() -> None:
    data = json.loads(REPORT.json())
    assert not data["passed"]
    (check,) = [check for check in data["checks"] if not check["passed"]]
    assert check["violations"] == [
        {
            "connection": 3,
            "side": "node",
            "offset": 77,
            "rule": "close.last",
            "text": "REPLY comes after the end",
            "data": "050101",
        }
    ]


def test_junit_counts_failures_whatever_characters_they_have() -> None:
    report = Report(
        "node", [Check("a", "is right"), Check("b", "isn't", problems=["got '\x00\x1b' <&>"])]
    )
    suite = ElementTree.fromstring(report.junit())[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert suite[0].find("failure") is None
    assert suite[1].find("failure").get("message") == "got '??' <&>"  # type: ignore[union-attr]


def test_a_run_without_violations_passes() -> None:
    report = Report("proxy", by_rule([]))
    assert report.passed
    assert report.table().endswith("all passed\n")
