"""What is measured, and what is wanted of it. Core."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ONE, TWO = "one", "two"  # both ends on one node; on two nodes on two hosts
LAYOUTS = (ONE, TWO)


@dataclass(frozen=True)
class Metric:
    """One number of a figure; `targets` has the least ratio that is wanted, by layout."""

    key: str  # in a driver's facts
    unit: str
    more_is_better: bool = False
    targets: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """One load: which role the driver at each end plays, and with what."""

    name: str
    caller: str  # role of the driver at the first node
    metrics: tuple[Metric, ...]
    callee: str | None = None  # role of the one at the last node
    options: Mapping[str, Any] = field(default_factory=dict)  # of both
    caller_options: Mapping[str, Any] = field(default_factory=dict)
    layouts: tuple[str, ...] = LAYOUTS

    @property
    def group(self) -> str:
        """The name's first word."""
        return self.name.partition("-")[0]


def _both(target: float) -> dict[str, float]:
    return {ONE: target, TWO: target}


def _size(size: int) -> str:
    return f"{size >> 10}K" if size >= 1_024 else f"{size}B"


def _requests(in_flight: int, size: int) -> Figure:
    rate = Metric("per_second", "/s", True, _both(1.5) if in_flight > 1 else {})
    p50 = Metric("p50", "µs", targets={ONE: 1.0, TWO: 0.9} if in_flight == 1 else {})
    p99 = Metric("p99", "µs", targets=_both(1.5) if in_flight == 64 else {})
    return Figure(
        f"request-{in_flight}x{_size(size)}",
        "ask",
        (rate, p50, p99, Metric("p99.9", "µs")),
        callee="serve",
        options={"size": size},
        caller_options={"in_flight": in_flight},
    )


FIGURES = tuple(_requests(in_flight, size) for size in (64, 1_024, 65_536) for in_flight in (1, 64, 256))


def choose(names: str) -> list[Figure]:
    """The figures of these names, or of groups or beginnings of them, separated by commas; all for "". Raises: ValueError."""
    if not names:
        return list(FIGURES)
    wanted = names.split(",")
    for name in wanted:
        if not any(figure.name.startswith(name) for figure in FIGURES):
            raise ValueError(f"no figure's name begins with '{name}'; there are {', '.join(figure.name for figure in FIGURES)}")
    return [figure for figure in FIGURES if any(figure.name.startswith(name) for name in wanted)]
