"""Draws ratios with their spread, or figures when there's nothing to compare with. Shell around matplotlib."""

from collections.abc import Sequence
from pathlib import Path

from iris.bench.figures import Figure
from iris.bench.results import START, Results
from iris.bench.table import TITLES, number

_MISSED, _MET, _PLAIN = "#c0392b", "#27ae60", "#7f8c8d"


def unavailable() -> str | None:
    """Why nothing can be drawn; None when it can."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        return "--plot needs matplotlib: pip install 'iris-node[bench]'"
    return None


def plot(results: Results, figures: Sequence[Figure], path: Path) -> None:
    """Write a picture, of the kind that the file's name ends in."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    layouts = list(results.facts)
    rows = max(sum(len(figure.metrics) for figure in (START, *figures) if figure.name in results.facts[layout]) for layout in layouts)
    picture, axes = pyplot.subplots(1, len(layouts), figsize=(8 * len(layouts), 1.5 + 0.22 * rows), squeeze=False)
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
                each.errorbar(found.median, drawn, xerr=spread, fmt="o", color=colour, capsize=3, markersize=5)
                if target is not None:
                    each.plot([target, target], [drawn - 0.4, drawn + 0.4], color="black", linewidth=1.5)
                names.append(f"{figure.name} {metric.key.replace('_', ' ')} ({number(found.median)})")
                drawn += 1
        each.axvline(1.0, color="black", linewidth=0.5)
        each.set_xscale("log")
        each.set_yticks(range(drawn), names, fontsize=8)
        each.invert_yaxis()
        each.grid(axis="x", which="both", alpha=0.3)
        each.set_title(f"{TITLES[layout]}: {' to '.join(results.subjects)}, above 1 is better for ours", fontsize=9)
    picture.tight_layout()
    picture.savefig(path, dpi=120)
    pyplot.close(picture)
