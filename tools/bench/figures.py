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
    shared: tuple[str, ...] = ()  # what the drivers share: "board", "ack"
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


def _events(kind: str, receivers: int) -> Figure:
    targets = {ONE: 1.2, TWO: 1.5} if receivers == 1 else _both(1.5)
    return Figure(
        f"{kind}-1to{receivers}",
        "send",
        (Metric("delivered_per_second", "/s", True, targets),),
        callee="receive",
        options={"kind": kind, "size": 64, "receivers": receivers},
        shared=("board", "ack"),
    )


def _bulk(both: bool) -> Figure:
    return Figure(
        f"tunnel-bulk-{'both' if both else 'one'}-way{'s' if both else ''}",
        "tunnel-pour",
        (Metric("mb_per_second", "MB/s each way" if both else "MB/s", True, _both(1.2)),),
        callee="tunnel-drain",
        options={"size": 65_536, "both": both},
        shared=("board",),
    )


CROWDS = (0, 1_000, 5_000)
FIGURES = (
    *(_requests(in_flight, size) for size in (64, 1_024, 65_536) for in_flight in (1, 64, 256)),
    *(_events(kind, receivers) for kind in ("publish", "broadcast") for receivers in (1, 8)),
    Figure(
        "tunnel-echo-64B",
        "tunnel-echo",
        (Metric("p50", "µs", targets=_both(0.9)), Metric("p99", "µs")),
        callee="tunnel-answer",
        options={"size": 64},
    ),
    _bulk(both=False),
    _bulk(both=True),
    Figure("attach", "attach", (Metric("per_second", "/s", True, {ONE: 0.7}),), layouts=(ONE,)),
    Figure("idle", "idle", (Metric("idle_cpu", "% of a core"),)),
    Figure(
        "clients",
        "clients",
        tuple(
            Metric(f"{what}_at_{clients}", unit)
            for what, unit in (("memory", "MiB"), ("threads", ""))
            for clients in CROWDS
        ),
        layouts=(ONE,),
    ),
)


def choose(names: str) -> list[Figure]:
    """The figures of these names, or of groups or beginnings of them, separated by commas.

    All for "". Raises: ValueError.
    """
    if not names:
        return list(FIGURES)
    wanted = names.split(",")
    for name in wanted:
        if not any(figure.name.startswith(name) for figure in FIGURES):
            raise ValueError(
                f"no figure's name begins with '{name}'; there are "
                + ", ".join(figure.name for figure in FIGURES)
            )
    return [figure for figure in FIGURES if any(figure.name.startswith(name) for name in wanted)]
