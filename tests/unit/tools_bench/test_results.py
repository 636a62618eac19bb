"""Percentiles, ratios of pairs, and the table and document made of them."""

import random

import pytest

from tools.bench import figures
from tools.bench.figures import FIGURES, ONE, TWO, Figure, Metric
from tools.bench.results import Results, ratios
from tools.bench.stats import Ratio, latencies, median, percentile, ratio
from tools.bench.table import number, table

RATE = Metric("per_second", "/s", True, {ONE: 1.5})
P50 = Metric("p50", "µs", targets={ONE: 1.0, TWO: 0.9})
FIGURE = Figure("thing", "ask", (RATE, P50))


@pytest.mark.parametrize("count", [1, 2, 3, 10, 999, 1_000, 1_001])
@pytest.mark.parametrize("share", [0.5, 0.99, 0.999])
def test_a_percentile_is_the_least_value_that_enough_do_not_exceed(
    count: int, share: float
) -> None:
    ordered = sorted(random.Random(count).choices(range(500), k=count))
    expected = next(
        value
        for value in ordered
        if sum(other <= value for other in ordered) * 1_000 >= round(share * 1_000) * count
    )
    assert percentile(ordered, share) == expected


def test_there_is_no_percentile_of_nothing() -> None:
    assert latencies([]) == {}
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)


def test_latencies_are_in_microseconds() -> None:
    assert latencies(range(1_000, 1_001_000, 1_000)) == {"p50": 500.0, "p99": 990.0, "p99.9": 999.0}


def test_ratios_are_of_pairs_and_above_one_is_better_for_ours() -> None:
    assert ratio([10, 30, 20], [10, 10, 40], more_is_better=True) == Ratio(1.0, 0.5, 3.0)
    assert ratio([10, 30, 20], [10, 10, 40], more_is_better=False) == Ratio(1.0, 1 / 3, 2.0)


@pytest.mark.parametrize(("ours", "others"), [([], []), ([1], []), ([0], [1]), ([1], [0])])
def test_there_is_no_ratio_without_numbers(ours: list[float], others: list[float]) -> None:
    assert ratio(ours, others, more_is_better=True) is None


def test_a_target_is_met_as_the_ratio_is_shown() -> None:
    assert Ratio(1.495, 1.0, 2.0).meets(1.5) == (f"{1.495:.2f}" == "1.50")
    assert Ratio(1.5, 1.0, 2.0).meets(1.5)
    assert not Ratio(1.49, 1.0, 2.0).meets(1.5)


def measured() -> Results:
    """Two pairs in one layout; in the second one Go's figure is missing."""
    results = Results(["ours", "go"])
    results.add(
        ONE,
        "thing",
        "ours",
        {"per_second": 3_000.0, "p50": 100.0, "cpu": {"node": 0.03, "caller": 0.001}},
    )
    results.add(
        ONE,
        "thing",
        "go",
        {"per_second": 1_000.0, "p50": 80.0, "cpu": {"node": 0.05, "caller": 0.002}},
    )
    results.add(
        ONE,
        "thing",
        "ours",
        {"per_second": 9_000.0, "p50": 10.0, "cpu": {"node": 0.03, "caller": 0.001}},
    )
    results.fail(ONE, "thing", "go", "gone")
    results.machine.append(
        {
            "ping_pong_us": 30.0,
            "ping_pong_one_cpu_us": 5.0,
            "stream_mb_per_second": 2_000.0,
            "aes_ctr_us": 0.1,
            "hmac_md5_us": 0.7,
        }
    )
    return results


def test_a_pair_that_lacks_a_run_gives_no_ratio() -> None:
    assert measured().ratio(ONE, "thing", RATE) == Ratio(3.0, 3.0, 3.0)
    assert measured().ratio(TWO, "thing", RATE) is None


def test_lost_messages_are_failures() -> None:
    results = Results(["ours"])
    results.add(TWO, "thing", "ours", {"lost": 3})
    assert results.failures == ["two, thing, ours: 3 messages lost"]


def test_the_table_shows_medians_ratios_targets_and_cpu_times() -> None:
    text = table(measured(), [FIGURE])
    rate, p50 = (line for line in text.splitlines() if "/s  " in line or "p50" in line)
    assert rate.split() == [
        "thing",
        "/s",
        "6,000",
        "1,000",
        "3.00",
        "3.00..3.00",
        "≥",
        "1.5",
        "met",
        "0.0300",
        "0.0010",
        "0.0500",
        "0.0020",
    ]
    assert p50.split() == ["p50", "µs", "55.0", "80.0", "0.80", "0.80..0.80", "≥", "1.0", "MISSED"]
    assert "one, thing, go: gone" in text
    assert "ping-pong over loopback 30.0 µs, on one CPU 5.00 µs" in text


def test_targets_are_for_the_original_alone() -> None:
    results = measured()
    results.targeted = False
    assert "MISSED" not in table(results, [FIGURE])
    assert all(
        found["target"] is None and found["met"] is None for found in ratios(results, [FIGURE])
    )


def test_a_table_of_one_subject_has_no_ratios() -> None:
    results = Results(["ours"])
    results.add(ONE, "thing", "ours", {"per_second": 3_000.0, "p50": 100.0})
    assert "ratio" not in table(results, [FIGURE]).lower()


def test_all_ratios_are_there_for_machines() -> None:
    found = ratios(measured(), [FIGURE])
    assert [(each["metric"], each["median"], each["met"]) for each in found] == [
        ("per_second", 3.0, True),
        ("p50", 0.8, False),
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(1_234.5, "1,234"), (123.45, "123.5"), (1.2345, "1.23"), (0, "0.00")]
)
def test_numbers_have_as_many_digits_as_mean_something(value: float, text: str) -> None:
    assert number(value) == text


def test_figures_have_names_of_their_own_and_can_be_chosen_by_their_beginnings() -> None:
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)
    assert figures.choose("") == list(FIGURES)
    assert [figure.name for figure in figures.choose("tunnel-echo,attach")] == [
        "tunnel-echo-64B",
        "attach",
    ]
    with pytest.raises(ValueError, match="nonsense"):
        figures.choose("attach,nonsense")


def test_the_targets_are_those_that_were_set() -> None:
    wanted = {
        (figure.name, metric.key): dict(metric.targets)
        for figure in FIGURES
        for metric in figure.metrics
        if metric.targets
    }
    assert wanted["request-64x64B", "per_second"] == {ONE: 1.5, TWO: 1.5}
    assert wanted["request-64x64B", "p99"] == {ONE: 1.5, TWO: 1.5}
    assert wanted["request-1x64B", "p50"] == {ONE: 1.0, TWO: 0.9}
    assert wanted["publish-1to1", "delivered_per_second"] == {ONE: 1.2, TWO: 1.5}
    assert wanted["broadcast-1to8", "delivered_per_second"] == {ONE: 1.5, TWO: 1.5}
    assert wanted["tunnel-echo-64B", "p50"] == {ONE: 0.9, TWO: 0.9}
    assert wanted["tunnel-bulk-one-way", "mb_per_second"] == {ONE: 1.2, TWO: 1.2}
    assert wanted["attach", "per_second"] == {ONE: 0.7}


def test_the_middle_of_some() -> None:
    assert median([3, 1, 2]) == 2
