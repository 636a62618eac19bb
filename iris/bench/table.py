"""The table for people. Core: results in, lines out."""

from collections.abc import Sequence
from typing import Any

from iris.bench.figures import Figure, Metric
from iris.bench.run import Results
from iris.bench.stats import Ratio, median, ratio

TITLES = {"one": "Both ends on one node", "two": "Two nodes on two hosts"}
START = Figure("start", "", (Metric("join", "s"), Metric("converge", "s")))


def table(results: Results, figures: Sequence[Figure]) -> str:
    """Medians; beside them, with two subjects, ratios (above 1 is better for ours), their spread, and targets; CPU time of each process."""
    lines = []
    for layout, by_figure in results.facts.items():
        rows = [_heading(results.subjects)]
        for figure in (START, *figures):
            if figure.name in by_figure:
                rows += _rows(by_figure[figure.name], figure, layout, results.subjects)
        lines += ["", TITLES[layout], *_aligned(rows)]
    if results.failures:
        lines += ["", "FAILED", *(f"  {failure}" for failure in results.failures)]
    return "\n".join(lines).lstrip("\n") + "\n"


def compare(by_subject: dict[str, list[dict[str, Any]]], metric: Metric, subjects: Sequence[str]) -> Ratio | None:
    """The ratio of the first subject and the second, of the pairs that both have."""
    if len(subjects) < 2 or not all(metric.key in facts for subject in subjects for facts in by_subject.get(subject, [{}])):
        return None
    first, second = ([facts[metric.key] for facts in by_subject[subject]] for subject in subjects[:2])
    return ratio(first, second, more_is_better=metric.more_is_better)


def _heading(subjects: Sequence[str]) -> list[str]:
    versus = [f"ratio to {subjects[1]}", "spread", "target", ""] if len(subjects) > 1 else []
    return ["figure", "", *subjects, *versus, "CPU s/1000", *([""] * (len(subjects) - 1))]


def _rows(by_subject: dict[str, list[dict[str, Any]]], figure: Figure, layout: str, subjects: Sequence[str]) -> list[list[str]]:
    rows = []
    for metric in figure.metrics:
        row = [figure.name if metric is figure.metrics[0] else "", f"{metric.key.replace('_', ' ')} {metric.unit}"]
        for subject in subjects:
            values = [facts[metric.key] for facts in by_subject.get(subject, []) if metric.key in facts]
            row.append(_number(median(values)) if values else "-")
        if len(subjects) > 1:
            found, target = compare(by_subject, metric, subjects), metric.targets.get(layout)
            row += [f"{found.median:.2f}", f"{found.least:.2f}..{found.greatest:.2f}"] if found else ["-", ""]
            row += [f"≥ {target}" if target else "", ("met" if found.meets(target) else "MISSED") if target and found else ""]
        row += [_cpu(by_subject.get(subject, [])) if metric is figure.metrics[0] else "" for subject in subjects]
        rows.append(row)
    return rows


def _cpu(runs: Sequence[dict[str, Any]]) -> str:
    """Medians of each process."""
    names = dict.fromkeys(name for facts in runs for name in facts.get("cpu", {}))
    return "  ".join(
        f"{name} {median([facts['cpu'][name] for facts in runs if name in facts.get('cpu', {})]):.4f}" for name in sorted(names)
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
