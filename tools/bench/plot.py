"""Draws ratios with their spread, growth, and memory under load. Shell around matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.bench.figures import Figure
from tools.bench.growth import AXES, Point, medians
from tools.bench.results import START, Results
from tools.bench.soak import Soak, judge
from tools.bench.table import TITLES, number

_MISSED, _MET, _PLAIN = "#c0392b", "#27ae60", "#7f8c8d"
_PANELS = {"clients": ("clients", "turns"), "topics": ("topics",), "nodes": ("nodes",)}


def unavailable() -> str | None:
    """Why nothing can be drawn; None when it can."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        return "--plot needs matplotlib: pip install 'iris-node[bench]'"
    return None


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    return pyplot


def plot(results: Results, figures: Sequence[Figure], path: Path) -> None:
    """Write a picture, of the kind that the file's name ends in."""
    pyplot = _pyplot()
    layouts = list(results.facts)
    rows = max(
        sum(
            len(figure.metrics)
            for figure in (START, *figures)
            if figure.name in results.facts[layout]
        )
        for layout in layouts
    )
    picture, axes = pyplot.subplots(
        1, len(layouts), figsize=(8 * len(layouts), 1.5 + 0.22 * rows), squeeze=False
    )
    for layout, each in zip(layouts, axes[0], strict=True):
        drawn = 0
        names = []
        for figure in (START, *figures):
            for metric in figure.metrics:
                if not (found := results.ratio(layout, figure.name, metric)):
                    continue
                target = results.target(layout, metric)
                colour = _PLAIN if target is None else _MET if found.meets(target) else _MISSED
                spread = [[found.median - found.least], [found.greatest - found.median]]
                each.errorbar(
                    found.median, drawn, xerr=spread, fmt="o", color=colour, capsize=3, markersize=5
                )
                if target is not None:
                    each.plot(
                        [target, target], [drawn - 0.4, drawn + 0.4], color="black", linewidth=1.5
                    )
                names.append(
                    f"{figure.name} {metric.key.replace('_', ' ')} ({number(found.median)})"
                )
                drawn += 1
        each.axvline(1.0, color="black", linewidth=0.5)
        each.set_xscale("log")
        each.set_yticks(range(drawn), names, fontsize=8)
        each.invert_yaxis()
        each.grid(axis="x", which="both", alpha=0.3)
        each.set_title(
            f"{TITLES[layout]}: {' to '.join(results.candidates)}, above 1 is better for ours",
            fontsize=9,
        )
    picture.tight_layout()
    picture.savefig(path, dpi=120)
    pyplot.close(picture)


def growth(points: Sequence[Point], path: Path) -> None:
    """Plot the cost of a message over the number of clients, of topics and of nodes."""
    pyplot = _pyplot()
    picture, axes = pyplot.subplots(1, len(_PANELS), figsize=(12, 3.6), layout="constrained")
    for (name, series), panel in zip(_PANELS.items(), axes, strict=True):
        for axis, colour in zip(
            (axis for axis in AXES if axis.name in series), ("#2980b9", "#8e44ad"), strict=False
        ):
            if measured := medians(points, axis):
                sizes = [each.size for each in measured]
                panel.plot(
                    sizes,
                    [1_000 * each.net for each in measured],
                    "o-",
                    color=colour,
                    label=axis.title,
                )
                panel.plot(
                    sizes,
                    [1_000 * each.cost for each in measured],
                    ":",
                    color=colour,
                    label="with idling",
                )
                if axis.name == "nodes":
                    panel.plot(
                        sizes,
                        [1_000 * each.ends for each in measured],
                        "s--",
                        color=_MET,
                        label="of it, the nodes at both ends",
                    )
                    panel.plot(
                        sizes,
                        [1_000 * each.as_far(measured[0]) for each in measured],
                        "^-",
                        color=_MISSED,
                        label=f"for the way of {sizes[0]} nodes",
                    )
                panel.set_xscale("log")
                panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
                panel.minorticks_off()
        panel.set_ylim(0, 1.05 * panel.get_ylim()[1])
        panel.set_xlabel(f"number of {name}")
        panel.set_ylabel("CPU µs of all nodes per message")
        panel.grid(alpha=0.3)
        if panel.lines:
            panel.legend(fontsize=8, loc="lower left")
    picture.savefig(path, dpi=90)
    pyplot.close(picture)


def soak(found: Soak, path: Path) -> None:
    """Write a picture: memory of each node over time, and the requests per second below it."""
    pyplot = _pyplot()
    picture, (memory, rate) = pyplot.subplots(
        2, 1, figsize=(8, 4.4), sharex=True, layout="constrained"
    )
    for name, samples in found.samples.items():
        growth = judge(samples).growth
        memory.plot(
            [at / 60 for at, _ in samples],
            [size for _, size in samples],
            label=f"{name}, {growth:+.1%} from first to last third",
        )
    memory.set_ylim(
        0, 1.15 * max(size for samples in found.samples.values() for _, size in samples)
    )
    memory.set_ylabel("MiB resident")
    memory.legend(fontsize=8, loc="lower left")
    steps = zip(found.requests, found.requests[1:], strict=False)
    rate.plot(
        *zip(
            *[(at / 60, (count - before) / (at - was)) for (was, before), (at, count) in steps],
            strict=True,
        ),
        color=_PLAIN,
    )
    rate.set_ylim(bottom=0)
    rate.set_ylabel("requests/s")
    rate.set_xlabel("minutes at full load")
    for each in (memory, rate):
        each.grid(alpha=0.3)
    picture.savefig(path, dpi=90)
    pyplot.close(picture)
