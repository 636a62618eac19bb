"""Statistics: percentiles of one run, ratios of pairs of runs. Core."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_POINTS = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def percentile(ordered: Sequence[float], share: float) -> float:
    """The least value that at least a share of them doesn't exceed, of some in ascending order.

    Raises: ValueError of none.
    """
    if not ordered:
        raise ValueError("no percentile of nothing")
    # rounded up, free of the errors that floats would make
    rank = -(-len(ordered) * round(share * 1_000) // 1_000)
    return ordered[max(rank, 1) - 1]


def latencies(counted: Sequence[int]) -> dict[str, float]:
    """The usual percentiles in µs, of ns; none of nothing."""
    ordered = sorted(counted)
    return (
        {name: percentile(ordered, share) / 1_000 for name, share in _POINTS.items()}
        if ordered
        else {}
    )


@dataclass(frozen=True)
class Ratio:
    """How ours compares: the median of pairs, and the least and the greatest of them.

    Above 1 it's better.
    """

    median: float
    least: float
    greatest: float

    def meets(self, target: float) -> bool:
        """Whether the median reaches a target, as it's shown: with two decimals."""
        return round(self.median, 2) >= target


def ratio(ours: Sequence[float], others: Sequence[float], *, more_is_better: bool) -> Ratio | None:
    """Compare runs pair by pair. Returns.

    None when a pair has a zero, so that there's nothing to compare.
    """
    if not ours or len(ours) != len(others) or 0 in ours or 0 in others:
        return None
    each = [a / b if more_is_better else b / a for a, b in zip(ours, others, strict=True)]
    return Ratio(statistics.median(each), min(each), max(each))


def median(values: Sequence[float]) -> float:
    """The middle one. Raises: StatisticsError of none."""
    return statistics.median(values)
