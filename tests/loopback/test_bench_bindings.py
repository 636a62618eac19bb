"""The programs that `tools/bench --clients` compares, with our binding at both ends of one node."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.support.lab import ROOT


def command(role: str, **options: Any) -> list[str]:
    return [sys.executable, "-m", "tools.bench.bindings", role, json.dumps(options)]


@pytest.mark.parametrize("face", ["threads", "aio"])
@pytest.mark.parametrize("in_flight", [1, 64])
def test_a_face_is_measured(port: int, face: str, in_flight: int) -> None:
    what = {"port": port, "cluster": f"bench-{face}-{in_flight}", "size": 64}
    times = {"in_flight": in_flight, "warm_up": 0.05, "seconds": 0.2, "pids": {"me": os.getpid()}}
    with subprocess.Popen(
        command(f"serve-{face}", **what), cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as service:
        try:
            assert service.stdout is not None
            assert service.stdout.readline() == "ready\n"
            run = subprocess.run(
                command(f"ask-{face}", **what, **times),
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=30.0,
                check=False,
            )
        finally:
            service.terminate()
    assert run.returncode == 0, run.stderr + run.stdout
    facts = json.loads(run.stdout)
    assert facts["messages"] >= in_flight
    assert 0 < facts["p50"] <= facts["p99"] <= facts["p99.9"]
    assert facts["per_second"] == pytest.approx(facts["messages"] / 0.2, rel=0.5)
    assert set(facts["cpu"]) == {"me", "caller"}


def test_a_node_that_is_not_there_is_told_as_json() -> None:
    run = subprocess.run(
        command(
            "ask-threads", port=1, cluster="x", size=1, in_flight=1, warm_up=0, seconds=1, pids={}
        ),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30.0,
        check=False,
    )
    assert run.returncode == 1
    assert json.loads(run.stdout)["error"].startswith("ask-threads: ")
