"""`tools.bench` itself, with figures too short to mean anything.

That it measures, loses nothing, and leaves nothing.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.lab import ROOT, Lab
from tests.support.waiting import wait_for
from tools.bench import figures, plot
from tools.bench.figures import ONE, TWO

pytestmark = pytest.mark.netns

BENCH = [sys.executable, "-m", "tools.bench"]  # in ROOT
ONLY = "request-64x1K,publish-1to8,tunnel-echo,tunnel-bulk-both,attach"


def bench(*args: str) -> Any:
    run = subprocess.run(
        [*BENCH, *args, "--json", "-"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60.0,
        check=False,
    )
    assert run.returncode == 0, run.stderr + run.stdout
    return json.loads(run.stdout)


def test_figures_of_one_node_and_of_two(lab: Lab) -> None:  # the lab tells whether there can be any
    found = bench("--only", ONLY, "--seconds", "0.2")
    for layout, nodes in ((ONE, ["node"]), (TWO, ["node a", "node b"])):
        facts = {name: by_subject["ours"] for name, by_subject in found["facts"][layout].items()}
        assert list(facts) == [
            "start",
            *(figure.name for figure in figures.choose(ONLY) if layout in figure.layouts),
        ]
        assert 0 < facts["start"][0]["join"] < facts["start"][0]["converge"]
        for figure in figures.choose(ONLY):
            if layout in figure.layouts:
                (each,) = facts[figure.name]
                assert (each["lost"], each["messages"] > 0) == (0, True)
                assert all(each[metric.key] > 0 for metric in figure.metrics)
                assert set(each["cpu"]) == {
                    *nodes,
                    "caller",
                    *(["callee"] if figure.callee else []),
                }
                assert all(seconds > 0 for seconds in each["cpu"].values())
    assert [each["layout"] for each in found["machine"]] == [ONE, TWO]
    assert found["failures"] == []


def test_two_checkouts_compared(lab: Lab, tmp_path: Path) -> None:
    picture = tmp_path / "ratios.svg"
    drawn = ["--plot", str(picture)] if plot.unavailable() is None else []
    found = bench(
        "--against",
        str(ROOT),
        "--layout",
        ONE,
        "--only",
        "request-64x64B",
        "--seconds",
        "0.1",
        "--pairs",
        "1",
        *drawn,
    )
    assert found["candidates"] == ["ours", ROOT.name]
    assert {(each["figure"], each["metric"]) for each in found["ratios"]} >= {
        ("request-64x64B", "per_second"),
        ("start", "join"),
    }
    assert all(0 < each["least"] <= each["median"] <= each["greatest"] for each in found["ratios"])
    assert all(
        len(runs) == 1
        for by_subject in found["facts"][ONE].values()
        for runs in by_subject.values()
    )
    assert not drawn or "svg" in picture.read_text()


def test_a_node_that_does_not_start_is_a_failure_that_is_told(lab: Lab) -> None:
    run = subprocess.run(
        [*BENCH, "--node", "false", "--only", "attach", "--layout", ONE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "no nodes: the node ended" in run.stdout


def test_growth_to_two_nodes_and_a_short_soak(lab: Lab, tmp_path: Path) -> None:
    picture = tmp_path / "growth.svg"
    drawn = ["--plot", str(picture)] if plot.unavailable() is None else []
    found = bench("--growth", "--up-to", "2", "--only", "topics,nodes", "--seconds", "0.5", *drawn)
    assert [(each["axis"], each["size"], each["lost"], each["why"]) for each in found] == [
        ("topics", 1, 0, ""),
        ("nodes", 2, 0, ""),
    ]
    assert all(each["cost"] > 0 and each["converge"] > 0 and each["memory"] > 0 for each in found)
    assert not drawn or "svg" in picture.read_text()
    soaked = bench("--soak", "0.02")
    assert soaked["lost"] == 0
    assert all(count > 0 for count in soaked["messages"].values())


def test_an_interrupted_run_leaves_nothing(lab: Lab) -> None:
    with subprocess.Popen(
        [*BENCH, "--only", "request"],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def left() -> list[str]:
            return [
                name
                for name in os.listdir("/run/netns")
                if name.startswith(f"irislab-{process.pid}-")
            ]

        wait_for(lambda: len(left()) > 1, 10.0, "a lab")
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.wait(20.0) == 130
        assert left() == []
        assert process.stderr is not None
        assert process.stderr.read().endswith("bench: interrupted\n")
