"""The result of a run: as a table, as JSON, as JUnit XML. Core."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from xml.etree import ElementTree

from iris.relaycheck.rules import RULES, Violation

_SIDES = "client", "node"


@dataclass
class Check:
    """A rule, case or scenario, and what was wrong."""

    id: str
    description: str
    problems: list[str] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong."""
        return not self.problems and not self.violations

    @property
    def lines(self) -> list[str]:
        """Everything that was wrong, as text."""
        return [*self.problems, *map(str, self.violations)]


@dataclass
class Report:
    """The result of a run; `packets` counts them by (side, name)."""

    mode: str
    checks: Sequence[Check]
    packets: Counter[tuple[str, str]] = field(default_factory=Counter)
    connections: int = 0

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)

    def table(self) -> str:
        """Format a table for people."""
        lines = []
        if self.packets:
            names = sorted({name for _, name in self.packets})
            lines += [f"{self.connections} connections", ""]
            rows = [(name, *(self.packets[side, name] for side in _SIDES)) for name in names]
            for name, client, node in (("packet", *_SIDES), *rows):
                lines.append(f"{name:<18}{client:>10}{node:>10}")
            lines.append("")
        width = max((len(check.id) for check in self.checks), default=0) + 2
        for check in self.checks:
            if self.mode != "proxy" or not check.passed:
                result = "ok  " if check.passed else "FAIL"
                lines.append(f"{result} {check.id:<{width}}{check.description}")
                lines += [f"       {line}" for line in check.lines]
        failed = sum(not check.passed for check in self.checks)
        summary = f"{failed} failed" if failed else "all passed"
        lines.append(f"{len(self.checks)} checked, {summary}")
        return "\n".join(lines) + "\n"

    def json(self) -> str:
        """Format everything for programs."""
        return json.dumps(
            {
                "mode": self.mode,
                "passed": self.passed,
                "connections": self.connections,
                "packets": [
                    {"side": side, "packet": name, "count": count}
                    for (side, name), count in sorted(self.packets.items())
                ],
                "checks": [
                    {
                        "id": check.id,
                        "words": check.description,
                        "passed": check.passed,
                        "seconds": round(check.seconds, 3),
                        "problems": check.problems,
                        "violations": [
                            {**asdict(each), "side": each.side.value, "data": each.data.hex()}
                            for each in check.violations
                        ],
                    }
                    for check in self.checks
                ],
            },
            indent=2,
        )

    def junit(self) -> str:
        """Format JUnit XML for test servers."""
        failed = sum(not check.passed for check in self.checks)
        counts = {"tests": str(len(self.checks)), "failures": str(failed)}
        time = f"{sum(check.seconds for check in self.checks):.3f}"
        root = ElementTree.Element("testsuites", counts)
        more = {"name": f"relaycheck {self.mode}", "errors": "0", "skipped": "0", "time": time}
        suite = ElementTree.SubElement(root, "testsuite", counts | more)
        for check in self.checks:
            name, time = f"{check.id}: {check.description}", f"{check.seconds:.3f}"
            attributes = {"classname": f"relaycheck.{self.mode}", "name": name, "time": time}
            case = ElementTree.SubElement(suite, "testcase", attributes)
            if not check.passed:
                message = _printable(check.lines[0])
                failure = ElementTree.SubElement(case, "failure", message=message)
                failure.text = _printable("\n".join(check.lines))
        return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def by_rule(violations: Iterable[Violation]) -> list[Check]:
    """Make a check for each rule."""
    checks = {rule: Check(rule, text) for rule, text in RULES.items()}
    for violation in violations:
        checks[violation.rule].violations.append(violation)
    return list(checks.values())


def _printable(text: str) -> str:
    """Replace control characters, which XML can't express."""
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
