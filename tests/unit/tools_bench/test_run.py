"""A run of the benchmark: the order in which candidates are measured."""

from pathlib import Path
from typing import Any, ClassVar

import pytest

from tools.bench import run as run_module
from tools.bench.figures import FIGURES, Figure
from tools.bench.testbed import NodeUnderTest


class _Testbed:
    """Nodes that cost nothing."""

    measured: ClassVar[list[str]] = []
    start: ClassVar[dict[str, float]] = {}

    def __init__(self, candidate: NodeUnderTest, layout: str, key: Path) -> None:
        self.candidate = candidate

    def __enter__(self) -> None:
        """Start nothing."""

    def __exit__(self, *_: object) -> None:
        """Stop nothing."""

    def machine(self, seconds: float) -> dict[str, float]:
        return {}

    def measure(self, figure: Figure, seconds: float, warm_up: float) -> dict[str, Any]:
        self.measured.append(self.candidate.name)
        return {metric.key: 1.0 for metric in figure.metrics}


def test_candidates_are_measured_first_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "Testbed", _Testbed)
    ours, other = NodeUnderTest("ours", ("ours",)), NodeUnderTest("other", ("other",))
    figure = FIGURES[0]
    results = run_module.run(
        [ours, other],
        [figure],
        [figure.layouts[0]],
        pairs=3,
        seconds=0,
        warm_up=0,
        report=lambda _: None,
    )
    assert _Testbed.measured == ["ours", "other", "other", "ours", "ours", "other"]
    assert results.candidates == ["ours", "other"]
