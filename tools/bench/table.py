"""The table for people. Core: results in, lines out."""

from collections.abc import Sequence

from tools.bench.figures import ONE, TWO, Figure, Metric
from tools.bench.results import START, Facts, Results
from tools.bench.stats import median

TITLES = {ONE: "Both ends on one node", TWO: "Two nodes on two hosts"}
_PROCESSES = ("node", "node a", "node b", "server", "caller", "callee")


def table(results: Results, figures: Sequence[Figure]) -> str:
    """Lay out the medians, and the CPU time of each process.

    With two candidates also ratios (above 1 is better for ours), their spread, and targets.
    """
    lines = []
    for layout, by_figure in results.facts.items():
        names = [
            name
            for name in _PROCESSES
            if any(name in facts.get("cpu", {}) for facts in _all(by_figure))
        ]
        rows = [_heading(results.candidates, names)]
        for figure in (START, *figures):
            if figure.name in by_figure:
                rows += [_row(results, layout, figure, metric, names) for metric in figure.metrics]
        lines += [TITLES[layout], *_aligned(rows), ""]
    if processes := _processes(results):
        lines.append(f"CPU s/1000: CPU seconds of {processes} per 1,000 messages.")
    if len(results.candidates) > 1:
        lines.append("Ratios: medians of pairs; above 1 is better for ours, whatever the figure.")
    if results.machine:
        lines.append(f"The machine: {_machine(results.machine)}.")
    if results.failures:
        lines += ["", "FAILED", *(f"  {failure}" for failure in results.failures)]
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """A number with three digits or a few more."""
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _all(by_figure: dict[str, dict[str, list[Facts]]]) -> list[Facts]:
    return [
        facts for by_subject in by_figure.values() for runs in by_subject.values() for facts in runs
    ]


def _heading(candidates: Sequence[str], names: Sequence[str]) -> list[str]:
    versus = ["ratio", "spread", "target", ""] if len(candidates) > 1 else []
    return [
        "",
        "",
        *candidates,
        *versus,
        *(f"CPU s/1000 {candidate}" for candidate in candidates if names),
    ]


def _row(
    results: Results, layout: str, figure: Figure, metric: Metric, names: Sequence[str]
) -> list[str]:
    first = metric is figure.metrics[0]
    row = [
        figure.name if first else "",
        f"{metric.key.replace('_', ' ')} {metric.unit}".replace("per second /s", "/s").strip(),
    ]
    for candidate in results.candidates:
        values = results.values(layout, figure.name, metric, candidate)
        row.append(number(median(values)) if values else "-")
    if len(results.candidates) > 1:
        found, target = results.ratio(layout, figure.name, metric), results.target(layout, metric)
        row += (
            [f"{found.median:.2f}", f"{found.least:.2f}..{found.greatest:.2f}"]
            if found
            else ["-", ""]
        )
        row += [
            f"≥ {target}" if target else "",
            ("met" if found.meets(target) else "MISSED") if target and found else "",
        ]
    if names:
        runs = results.facts[layout][figure.name]
        row += [
            _cpu(runs.get(candidate, []), names) if first else ""
            for candidate in results.candidates
        ]
    return row


def _cpu(runs: Sequence[Facts], names: Sequence[str]) -> str:
    """Medians of each process."""
    found = [facts["cpu"] for facts in runs if "cpu" in facts]
    return (
        " ".join(
            f"{median([cpu[name] for cpu in found]):.4f}" if name in found[0] else " " * 6
            for name in names
        )
        if found
        else ""
    )


def _processes(results: Results) -> str:
    return ", ".join(
        name
        for name in _PROCESSES
        if any(name in f.get("cpu", {}) for each in results.facts.values() for f in _all(each))
    )


def _machine(runs: Sequence[Facts]) -> str:
    """The middle of what it could do."""
    keys = {
        "ping_pong_us": "ping-pong over loopback {} µs",
        "ping_pong_one_cpu_us": "on one CPU {} µs",
        "stream_mb_per_second": "one-way stream {} MB/s",
        "aes_ctr_us": "AES-CTR of 64 B {} µs",
        "hmac_md5_us": "HMAC-MD5 of 64 B {} µs",
    }
    return ", ".join(
        text.format(number(median([facts[key] for facts in runs]))) for key, text in keys.items()
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), row[1].ljust(widths[1]), *map(str.rjust, row[2:], widths[2:])]
        ).rstrip()
        for row in rows
    ]
