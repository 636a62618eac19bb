"""What a run has found. Core."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tools.bench.figures import Figure, Metric
from tools.bench.stats import Ratio, ratio

Facts = dict[str, Any]
# Every run begins with it: seconds from the start of the nodes until clients can attach, and until
# a request is answered.
START = Figure("start", "", (Metric("join", "s"), Metric("converge", "s")))


@dataclass
class Results:
    """Facts by layout, figure and candidate, an entry per pair; and what went wrong."""

    candidates: list[str]  # ours first
    targeted: bool = True  # whether the second one is what the targets are about
    facts: dict[str, dict[str, dict[str, list[Facts]]]] = field(default_factory=dict)
    # what it could do, before each layout of each pair
    machine: list[Facts] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, layout: str, figure: str, candidate: str, facts: Facts) -> None:
        """One run of one figure; an empty one failed."""
        self.facts.setdefault(layout, {}).setdefault(figure, {}).setdefault(candidate, []).append(
            facts
        )
        if facts.get("lost"):
            self.failures.append(f"{layout}, {figure}, {candidate}: {facts['lost']} messages lost")

    def fail(self, layout: str, figure: str, candidate: str, why: str) -> None:
        """One run that gave no figure."""
        self.add(layout, figure, candidate, {})
        self.failures.append(f"{layout}, {figure}, {candidate}: {why}")

    def values(self, layout: str, figure: str, metric: Metric, candidate: str) -> list[float]:
        """A metric's value in each run that has it."""
        runs = self.facts.get(layout, {}).get(figure, {}).get(candidate, [])
        return [facts[metric.key] for facts in runs if metric.key in facts]

    def target(self, layout: str, metric: Metric) -> float | None:
        """The least ratio that is wanted."""
        return metric.targets.get(layout) if self.targeted else None

    def ratio(self, layout: str, figure: str, metric: Metric) -> Ratio | None:
        """How ours compares with the second candidate, of the pairs in which both were measured.

        None when there's nothing to compare.
        """
        if len(self.candidates) < 2:
            return None
        runs = [
            self.facts.get(layout, {}).get(figure, {}).get(candidate, [])
            for candidate in self.candidates[:2]
        ]
        pairs = [
            (a[metric.key], b[metric.key])
            for a, b in zip(*runs, strict=False)
            if metric.key in a and metric.key in b
        ]
        return ratio(
            [a for a, _ in pairs], [b for _, b in pairs], more_is_better=metric.more_is_better
        )


def ratios(results: Results, figures: Sequence[Figure]) -> list[Facts]:
    """All ratios, for machines."""
    found = []
    for layout in results.facts:
        for figure in (START, *figures):
            for metric in figure.metrics:
                if each := results.ratio(layout, figure.name, metric):
                    target = results.target(layout, metric)
                    found.append(
                        {
                            "layout": layout,
                            "figure": figure.name,
                            "metric": metric.key,
                            "median": each.median,
                            "least": each.least,
                            "greatest": each.greatest,
                            "target": target,
                            "met": None if target is None else each.meets(target),
                        }
                    )
    return found
