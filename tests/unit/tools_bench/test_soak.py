"""Whether memory is flat, and what is told of it."""

import json

import pytest

from tools.bench.soak import Soak, document, judge, passed, report


def samples(*sizes: float) -> list[tuple[float, float]]:
    return [(5.0 * i, size) for i, size in enumerate(sizes)]


def test_the_warm_up_does_not_count() -> None:
    found = judge(samples(20.0, *[40.0] * 10))
    assert (found.start, found.end, found.most, found.growth, found.flat) == (
        40.0,
        40.0,
        40.0,
        0.0,
        True,
    )


def test_one_peak_is_no_growth_but_is_told() -> None:
    found = judge(samples(*[40.0] * 25, 90.0, *[40.0] * 4))
    assert (found.most, found.flat) == (90.0, True)


def test_slow_growth_is_growth() -> None:
    assert judge(samples(*(40.0 + 0.02 * i for i in range(120)))).flat
    assert not judge(samples(*(40.0 + 0.05 * i for i in range(120)))).flat


def test_memory_that_is_given_back_is_flat() -> None:
    assert judge(samples(*(60.0 - 0.2 * i for i in range(60)))).flat


def test_too_few_samples_are_not_judged() -> None:
    for few in ([], samples(40.0, 40.0)):
        with pytest.raises(ValueError, match="too few"):
            judge(few)


def soak(*, grows: bool = False, lost: int = 0) -> Soak:
    sizes = {
        "node a": samples(*[40.0] * 12),
        "node b": samples(*(40.0 + grows * i for i in range(12))),
    }
    return Soak(
        60.0,
        sizes,
        [(0.0, 0), (5.0, 10)],
        {"requests": 600, "events": 6_000},
        lost,
        {"node a": 0.5, "node b": 0.25},
    )


def test_growth_of_any_node_or_a_loss_fails() -> None:
    assert passed(soak())
    assert not passed(soak(grows=True))
    assert not passed(soak(lost=1))


def test_the_report_has_rates_and_a_verdict_of_each_node() -> None:
    lines = report(soak(grows=True)).splitlines()
    assert lines[0] == "1 minutes at full load: 600 requests (10/s), 6,000 events (100/s), 0 lost"
    assert [(line[:6], line.split()[-1]) for line in lines[3:]] == [
        ("node a", "flat"),
        ("node b", "GROWS"),
    ]
    assert json.loads(json.dumps(document(soak())))["verdicts"]["node b"]["flat"] is True
