"""The time that counts, and whose CPU time is counted."""

import os
import subprocess
import sys
import time

import pytest

from tools.bench.raw_connection import Window, cpu_times


def test_cpu_time_of_a_process_is_that_of_all_its_threads() -> None:
    before = time.process_time_ns()
    (seen,) = cpu_times({"me": os.getpid()}).values()
    assert before <= seen <= time.process_time_ns()


def test_cpu_time_of_another_process_can_be_read() -> None:
    busy = (
        "import time\nwhile time.process_time() < 0.05: pass\n"
        "print(time.process_time_ns(), flush=True)\ninput()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = int(process.stdout.readline())
        assert told <= cpu_times({"it": process.pid})["it"] < told + 50_000_000
        process.communicate("\n")


def test_cpu_time_of_a_process_that_is_gone_is_an_error() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(OSError, match="Invalid"):
        cpu_times({"it": process.pid})


def test_a_window_counts_from_its_beginning_to_its_end() -> None:
    window = Window(0.0, 0.01, {"me": os.getpid()})
    window.begin()
    while time.perf_counter_ns() < window.closes:
        pass
    window.end()
    assert 0.0 < window.seconds < 5.0
    used = window.cpu(1_000)
    assert set(used) == {"me", "caller"}
    assert 0.0 < used["caller"] <= window.seconds + 0.01
