"""Growth: what a message costs with more and more clients, topics and nodes: `--growth`.

Shell, but for `table`.

The cost is the nodes' CPU time, not a rate, so that what else the machine does matters less. A node
also works when nothing is asked of it (heartbeats for its neighbours and topics), which is measured
just before, and told apart.
"""

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tools.bench.figures import ONE, TWO, Figure
from tools.bench.run import Report, network_key
from tools.bench.testbed import NodeUnderTest, Testbed
from tools.bench.wire import Failure

_SIZE, _IN_FLIGHT = 64, 64
# seconds for which idle nodes are watched: they do something every second, and some things every
# third
IDLE = 3.0


@dataclass(frozen=True)
class Axis:
    """What grows, and what's measured then."""

    name: str
    title: str
    sizes: tuple[int, ...]
    figure: Callable[[int], Figure]
    nodes: Callable[[int], int]


def _requests(name: str, clients: int, active: int) -> Figure:
    options = {"in_flight": _IN_FLIGHT, "clients": clients, "active": active}
    return Figure(name, "ask-in-turn", (), "serve", {"size": _SIZE}, options)


def _topics(topics: int) -> Figure:
    return Figure(
        "topics",
        "send-topics",
        (),
        "receive-topics",
        {"size": _SIZE, "topics": topics},
        shared=("board", "ack"),
    )


AXES = (
    Axis(
        "clients",
        "clients, one of them asks",
        (1, 10, 100, 1_000),
        lambda n: _requests("clients", n, 1),
        lambda _: 1,
    ),
    Axis(
        "turns",
        "clients, all ask in turn",
        (1, 10, 100, 1_000),
        lambda n: _requests("turns", n, n),
        lambda _: 1,
    ),
    Axis(
        "topics",
        "topics, published to by chance, two nodes",
        (1, 100, 1_000, 10_000),
        _topics,
        lambda _: 2,
    ),
    Axis(
        "nodes",
        "nodes, one asks a service on another",
        (2, 4, 8, 16, 32),
        lambda _: _requests("nodes", 1, 1),
        lambda n: n,
    ),
)


@dataclass(frozen=True)
class Point:
    """One run of one size; `why` there are no numbers, if there are none."""

    axis: str
    size: int
    cost: float = math.nan  # CPU seconds of all nodes per 1,000 messages
    net: float = math.nan  # the same without what they use anyhow
    # cost of the nodes that the applications are attached to, with idling: what relays cost isn't
    # in it
    ends: float = math.nan
    idle: float = math.nan  # what a node uses anyhow, in percent of a core
    per_second: float = math.nan
    # bytes that all hosts got from each other for a request: the longer its way, the more
    wire: float = math.nan
    # seconds from the start until every node reaches the last one's service
    converge: float = math.nan
    memory: float = math.nan  # MiB of a node, resident
    lost: int = 0
    why: str = ""
    cpu: dict[str, float] = field(default_factory=dict)  # cost of each process

    def as_far(self, first: "Point") -> float:
        """The cost without idling of a way that takes as many bytes on links as the first one's."""
        return self.net * first.wire / self.wire if first.wire and self.wire else math.nan


def choose(names: str) -> list[Axis]:
    """The axes of these names, separated by commas; all for "". Raises: ValueError."""
    wanted = names.split(",") if names else [axis.name for axis in AXES]
    for name in wanted:
        if name not in (axis.name for axis in AXES):
            raise ValueError(
                f"no axis is called '{name}'; there are {', '.join(axis.name for axis in AXES)}"
            )
    return [axis for axis in AXES if axis.name in wanted]


def point(
    axis: str,
    size: int,
    facts: dict[str, Any],
    nodes: Sequence[str],
    converge: float,
    memory: float,
    wire: float = math.nan,
) -> Point:
    """Make sense of what a driver found. Core."""
    cost, idle, rate = (
        sum(facts["cpu"][node] for node in nodes),
        sum(facts["idle"].values()),
        facts["per_second"],
    )
    net = cost - idle / 100 * 1_000 / rate if rate else math.nan
    ends = sum(facts["cpu"][node] for node in {nodes[0], nodes[-1]})
    return Point(
        axis,
        size,
        cost,
        net,
        ends,
        idle / len(nodes),
        rate,
        wire,
        converge,
        memory,
        facts["lost"],
        cpu=facts["cpu"],
    )


def run(
    candidate: NodeUnderTest,
    axes: Sequence[Axis],
    *,
    up_to: int,
    rounds: int,
    seconds: float,
    report: Report,
) -> list[Point]:
    """Measure; a size that can't be had is told, and the larger ones of its axis are left out."""
    points = []
    with tempfile.TemporaryDirectory(prefix="irisbench") as directory:
        key = network_key(Path(directory))
        for turn in range(1, rounds + 1):
            for axis in axes:
                for size in (size for size in axis.sizes if size <= up_to):
                    try:
                        found = _measure(candidate, axis, size, key, seconds)
                        parts = (
                            f"{found.cost:.4f} CPU s/1000, {found.net:.4f} without idling, "
                            f"{found.idle:.1f} % idle, {found.lost} lost"
                        )
                    except Failure as exc:
                        found = Point(axis.name, size, why=str(exc))
                        parts = f"gave up: {exc}"
                    points.append(found)
                    report(f"{turn}/{rounds} {size:6,} {axis.title}: {parts}")
                    if found.why:
                        break
    return points


def _measure(candidate: NodeUnderTest, axis: Axis, size: int, key: Path, seconds: float) -> Point:
    """One run of one size, on nodes of its own. Raises: Failure."""
    with Testbed(
        candidate, ONE if axis.nodes(size) == 1 else TWO, key, axis.nodes(size)
    ) as testbed:
        figure, idle_for = axis.figure(size), IDLE if seconds > 1 else seconds
        options = {**figure.caller_options, "idle_for": idle_for}
        figure = Figure(
            figure.name, figure.caller, (), figure.callee, figure.options, options, figure.shared
        )
        before, began = testbed.received(), time.monotonic()
        facts = testbed.measure(figure, seconds, min(1.0, seconds))
        wire = math.nan
        if "total" in facts and axis.nodes(size) > 1:
            after, ended = testbed.received(), time.monotonic()
            time.sleep(idle_for)
            anyhow = (testbed.received() - after) / (time.monotonic() - ended)  # bytes a second
            wire = (after - before - anyhow * (ended - began)) / facts["total"]
        memory = statistics.mean(
            psutil.Process(node.pid).memory_info().rss for node in testbed.nodes
        ) / (1 << 20)
        return point(
            axis.name, size, facts, list(testbed.pids), testbed.start["converge"], memory, wire
        )


def medians(points: Sequence[Point], axis: Axis) -> list[Point]:
    """The middle of all rounds, of each size that was measured."""
    found = []
    for size in axis.sizes:
        runs = [
            each for each in points if (each.axis, each.size) == (axis.name, size) and not each.why
        ]
        if runs:
            keys = ("cost", "net", "ends", "idle", "per_second", "wire", "converge", "memory")
            middle = {key: statistics.median(getattr(each, key) for each in runs) for key in keys}
            found.append(Point(axis.name, size, **middle, lost=sum(each.lost for each in runs)))
    return found


_COSTS = ("CPU s/1000", "without idling", "to the first", "both ends", "bytes on links", "as far")
_OTHERS = ("idle %/node", "messages/s", "MiB/node", "converge s", "lost")


def table(points: Sequence[Point]) -> str:
    """For people. "To the first" compares what a message costs without idling with the first size.

    For "as far", see `Point.as_far`.
    """
    lines = []
    for axis in AXES:
        if not any(each.axis == axis.name for each in points):
            continue
        measured = medians(points, axis)
        rows = [("", *_COSTS, *_OTHERS), *(_row(each, measured[0]) for each in measured)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines += [
            f"Number of {axis.title}",
            *("  ".join(map(str.rjust, row, widths)) for row in rows),
        ]
        lines += [
            f"{each.size:,} gave up: {each.why}"
            for each in points
            if each.axis == axis.name and each.why
        ]
        lines.append("")
    return "\n".join(lines)


def _row(point: Point, first: Point) -> tuple[str, ...]:
    costs = (
        f"{point.cost:.4f}",
        f"{point.net:.4f}",
        f"{point.net / first.net:.2f}",
        f"{point.ends:.4f}",
    )
    as_far = point.as_far(first)
    way = ("", "") if math.isnan(as_far) else (f"{point.wire:,.0f}", f"{as_far:.4f}")
    others = (
        f"{point.idle:.1f}",
        f"{point.per_second:,.0f}",
        f"{point.memory:.1f}",
        f"{point.converge:.1f}",
        f"{point.lost}",
    )
    return f"{point.size:,}", *costs, *way, *others


def document(points: Sequence[Point]) -> list[dict[str, Any]]:
    """For machines."""
    return [
        {key: None if value != value else value for key, value in asdict(each).items()}
        for each in points
    ]
