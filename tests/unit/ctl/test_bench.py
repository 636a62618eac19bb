"""What a load has shown."""

from iris.ctl.bench import events, percentile, requests, table


def test_percentiles_are_of_what_there_is() -> None:
    values = [float(i) for i in range(100)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [0.0, 50.0, 99.0, 99.0]
    assert percentile([], 0.5) == 0.0


def test_rates_are_per_second() -> None:
    facts = requests([0.002, 0.001], 1, 2.0)
    assert (
        facts["requests"],
        facts["failures"],
        facts["requests_per_second"],
        facts["max_ms"],
    ) == (2, 1, 1.0, 2.0)
    assert events(10, 9, 2.0) == {"published": 10, "received": 9, "published_per_second": 5.0}
    assert table({"requests_per_second": 1_234.5}) == "requests per second        1,234.5\n"
