"""Results of a load. Core: numbers in, lines out."""

from collections.abc import Sequence
from typing import Any


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a share of the ascending values lies; 0 of none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def requests(latencies: Sequence[float], failures: int, seconds: float) -> dict[str, Any]:
    """Summarise requests; latencies in seconds, results in milliseconds."""
    ordered = sorted(latencies)
    facts = {
        "requests": len(ordered),
        "failures": failures,
        "requests_per_second": round(len(ordered) / seconds, 1),
    }
    points = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "max_ms": 1.0}
    return {
        **facts,
        **{name: round(percentile(ordered, share) * 1_000, 3) for name, share in points.items()},
    }


def events(sent: int, came: int, seconds: float) -> dict[str, Any]:
    """Summarise events."""
    return {"published": sent, "received": came, "published_per_second": round(sent / seconds, 1)}


def table(facts: dict[str, Any]) -> str:
    """Format one fact per line."""
    return "".join(f"{name.replace('_', ' '):22}{value:>12,}\n" for name, value in facts.items())
