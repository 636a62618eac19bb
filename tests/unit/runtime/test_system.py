import subprocess
import sys
from types import SimpleNamespace

import pytest

from iris.runtime.system import MIN_USAGE, CpuMeter


class Counters:
    """CPU times that the test sets."""

    def __init__(self, **times: float) -> None:
        self.times = times

    def __call__(self) -> SimpleNamespace:
        return SimpleNamespace(**self.times)


def test_usage_is_the_busy_share_since_the_last_call() -> None:
    counters = Counters(user=10, nice=1, system=5, idle=100)
    meter = CpuMeter(counters)
    counters.times = {"user": 11, "nice": 1.5, "system": 5.5, "idle": 106}
    assert meter() == pytest.approx(2 / 8)
    counters.times = {"user": 14, "nice": 1.5, "system": 5.5, "idle": 107}
    assert meter() == pytest.approx(3 / 4)


def test_an_idle_machine_is_taken_for_a_little_busy() -> None:
    counters = Counters(user=10, system=5, idle=100)
    meter = CpuMeter(counters)
    counters.times["idle"] = 200
    assert meter() == MIN_USAGE


def test_a_platform_without_nice_times_will_do() -> None:
    counters = Counters(user=10, system=5, idle=100)
    meter = CpuMeter(counters)
    counters.times = {"user": 11, "system": 5, "idle": 101}
    assert meter() == pytest.approx(0.5)


def test_without_time_passed_the_last_usage_holds() -> None:
    counters = Counters(user=10, system=5, idle=100)
    meter = CpuMeter(counters)
    assert meter() == 1.0
    counters.times = {"user": 11, "system": 5, "idle": 103}
    assert meter() == meter() == pytest.approx(0.25)


def test_counters_that_step_back_do_no_harm() -> None:
    counters = Counters(user=10, system=5, idle=100)
    meter = CpuMeter(counters)
    counters.times = {"user": 12, "system": 5, "idle": 99}
    assert meter() == 1.0
    counters.times = {"user": 11, "system": 5, "idle": 100}
    assert meter() == MIN_USAGE


def test_this_machine_can_be_measured() -> None:
    meter = CpuMeter()
    assert MIN_USAGE <= meter() <= 1


@pytest.mark.parametrize(("soft", "hard"), [(64, 128), (128, 128)])
def test_as_many_files_may_be_open_as_the_system_permits(soft: int, hard: int) -> None:
    program = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from iris.runtime.system import raise_descriptor_limit
print(raise_descriptor_limit(), resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    assert (
        subprocess.check_output([sys.executable, "-c", program], text=True)
        == f"{hard} ({hard}, {hard})\n"
    )


def test_the_collector_looks_less_often_and_at_less() -> None:
    program = """
import gc
from iris.runtime.system import tune_gc
before = gc.get_threshold(), gc.get_freeze_count()
tune_gc()
print(gc.isenabled(), gc.get_threshold() > before[0], gc.get_freeze_count() > before[1])
"""
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "True True True\n"
