"""The registry: closed label values, and samples as OpenMetrics names them."""

from functools import partial

import pytest

from iris.metrics import Counter, Family, Gauge, Histogram, Metrics


def test_a_label_value_that_was_not_declared_is_refused() -> None:
    metrics = Metrics()
    with pytest.raises(KeyError):
        metrics.dropped["tunnel"]
    with pytest.raises(KeyError):
        metrics.handshakes["dialled"]


def test_every_combination_of_label_values_has_a_sample_from_the_start() -> None:
    family = Family("f", "", {"a": ("1", "2"), "b": ("x", "y", "z")}, [Counter() for _ in range(6)])
    family["2", "y"].inc(3)
    samples = {(labels["a"], labels["b"]): value for _, labels, value in family.samples()}
    assert samples == {(a, b): 3 * (a + b == "2y") for a in "12" for b in "xyz"}


def test_a_counter_is_shown_as_a_total_and_a_gauge_as_it_is() -> None:
    counter, gauge = Counter(), Gauge()
    counter.inc()
    counter.inc(2)
    gauge.inc(5)
    gauge.inc(-1)
    assert list(counter.samples("c", {})) == [("c_total", {}, 3)]
    assert list(gauge.samples("g", {"k": "v"})) == [("g", {"k": "v"}, 4)]


def test_a_histogram_counts_what_is_at_most_as_large_as_a_bound() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value)
    assert histogram.count == 4
    assert list(histogram.samples("h", {})) == [
        ("h_bucket", {"le": "0.1"}, 2),
        ("h_bucket", {"le": "1.0"}, 3),
        ("h_bucket", {"le": "+Inf"}, 4),
        ("h_count", {}, 4),
        ("h_sum", {}, pytest.approx(7.65)),
    ]


def test_no_name_is_declared_twice_and_the_number_of_series_is_bounded() -> None:
    metrics = Metrics()
    names = [family.name for family in metrics.families]
    assert len(set(names)) == len(names)
    series = [(name, tuple(labels.items())) for name, labels, _ in metrics.samples()]
    assert len(set(series)) == len(series) < 250


def test_metrics_of_two_nodes_are_apart() -> None:
    one, other = Metrics(), Metrics()
    one.unsent.inc()
    assert (one.unsent.value, other.unsent.value) == (1, 0)


def test_members_are_made_one_by_one() -> None:
    family = Family(
        "f", "", {"side": ("a", "b")}, [make() for make in 2 * [partial(Histogram, (1,))]]
    )
    family["a"].observe(0.5)
    assert (family["a"].count, family["b"].count) == (1, 0)
