"""Full load for many minutes, and whether memory stays flat: `--soak`. Shell around `judge`.

Two nodes carry requests (256 in flight) and published events (1,024 under way) at the same time, as
fast as they can.
"""

import contextlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tools.bench.figures import TWO
from tools.bench.run import Report, network_key
from tools.bench.shared_counters import SharedCounters
from tools.bench.testbed import NodeUnderTest, Testbed, shared

_WARM_UP = 0.1  # of the time
_TOLERANCE = 0.05  # that the last third may differ from the first
_END = 45.0  # seconds in which the drivers end


@dataclass(frozen=True)
class Verdict:
    """How one node's memory went, in MiB, after the warm-up."""

    start: float
    end: float
    most: float
    first_third: float  # medians
    last_third: float

    @property
    def growth(self) -> float:
        """From the first third to the last one, as a share."""
        return self.last_third / self.first_third - 1

    @property
    def flat(self) -> bool:
        """Whether it didn't grow."""
        return self.growth <= _TOLERANCE


def judge(samples: Sequence[tuple[float, float]]) -> Verdict:
    """Judge (seconds, MiB) in order of time. Raises.

    ValueError of fewer than three after the warm-up. Core.
    """
    after = samples[0][0] + _WARM_UP * (samples[-1][0] - samples[0][0]) if samples else 0.0
    sizes = [size for at, size in samples if at >= after]
    third = len(sizes) // 3
    if not third:
        raise ValueError("too few samples to judge")
    return Verdict(
        sizes[0],
        sizes[-1],
        max(sizes),
        statistics.median(sizes[:third]),
        statistics.median(sizes[-third:]),
    )


@dataclass
class Soak:
    """What was found."""

    seconds: float
    samples: dict[str, list[tuple[float, float]]]  # (seconds, MiB) of each node
    requests: list[tuple[float, int]]  # (seconds, answered so far)
    messages: dict[str, int]  # answered requests and delivered events
    lost: int
    cpu: dict[str, float]  # cores that each node used


def run(candidate: NodeUnderTest, *, seconds: float, report: Report) -> Soak:
    """Load two nodes for so long. Raises: Failure."""
    every = min(5.0, seconds / 20)
    with (
        tempfile.TemporaryDirectory(prefix="irisbench") as directory,
        contextlib.ExitStack() as stack,
    ):
        testbed = stack.enter_context(Testbed(candidate, TWO, network_key(Path(directory))))
        at_sender, at_receiver = stack.enter_context(shared(("board", "ack")))
        at_asker, _ = stack.enter_context(shared(("board",)))
        events = {"port": 55555, "cluster": "soak", "size": 64, "kind": "publish", "receivers": 1}
        serves = {"port": 55555, "cluster": "soak", "size": 64}
        receiver = stack.enter_context(
            testbed.callee("receive", {**events, **at_receiver}, tuple(at_receiver.values()))
        )
        server = stack.enter_context(testbed.callee("serve", serves))
        times = {"warm_up": 0.0, "seconds": seconds, "pids": {}}
        sender = stack.enter_context(
            testbed.driver(
                testbed.hosts[0],
                "send",
                {**events, **times, **at_sender},
                tuple(at_sender.values()),
            )
        )
        asks = {**serves, "in_flight": 256, "seconds": seconds, **at_asker}
        asker = stack.enter_context(
            testbed.driver(testbed.hosts[0], "ask-on", asks, tuple(at_asker.values()))
        )
        answered, began = SharedCounters(at_asker["board"]), time.monotonic()
        processes = {name: psutil.Process(pid) for name, pid in testbed.pids.items()}
        found = Soak(seconds, {name: [] for name in processes}, [], {}, 0, {})
        due = began
        while (at := time.monotonic() - began) < seconds:
            for name, process in processes.items():
                found.samples[name].append((at, process.memory_info().rss / (1 << 20)))
            found.requests.append((at, answered[0]))
            if len(found.requests) % 12 == 1:
                sizes = ", ".join(
                    f"{name} {taken[-1][1]:.1f} MiB" for name, taken in found.samples.items()
                )
                report(f"{answered[0]:,} requests answered; {sizes}")
            testbed.check_nodes()
            for driver in (receiver, server):
                driver.check()
            due += every
            time.sleep(max(0.0, due - time.monotonic()))
        for name, process in processes.items():
            found.cpu[name] = sum(process.cpu_times()[:2]) / (time.monotonic() - began)
        requests, delivered = asker.facts(_END), sender.facts(_END)
        found.messages = {"requests": requests["messages"], "events": delivered["messages"]}
        found.lost = requests["lost"] + delivered["lost"]
    return found


def report(soak: Soak) -> str:
    """For people."""
    rates = ", ".join(
        f"{count:,} {name} ({count / soak.seconds:,.0f}/s)" for name, count in soak.messages.items()
    )
    lines = [f"{soak.seconds / 60:g} minutes at full load: {rates}, {soak.lost} lost", ""]
    lines.append(
        f"{'RSS in MiB':12}  {'start':>8}  {'end':>8}  {'max':>8}  {'1st third':>9}  "
        f"{'last third':>10}  {'growth':>7}  {'cores':>5}"
    )
    for name, samples in soak.samples.items():
        each = judge(samples)
        lines.append(
            f"{name:12}  {each.start:8.1f}  {each.end:8.1f}  {each.most:8.1f}  "
            f"{each.first_third:9.1f}  {each.last_third:10.1f}  {each.growth:7.1%}  "
            f"{soak.cpu[name]:5.2f}  {'flat' if each.flat else 'GROWS'}"
        )
    return "\n".join(lines) + "\n"


def passed(soak: Soak) -> bool:
    """Whether all memory is flat, and nothing was lost."""
    return not soak.lost and all(judge(samples).flat for samples in soak.samples.values())


def document(soak: Soak) -> dict[str, Any]:
    """For machines."""
    judged = {name: judge(samples) for name, samples in soak.samples.items()}
    return {
        **vars(soak),
        "verdicts": {
            name: {**vars(each), "growth": each.growth, "flat": each.flat}
            for name, each in judged.items()
        },
    }
