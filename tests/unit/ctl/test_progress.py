"""The line that shows the progress of a transfer."""

from iris.ctl.progress import Meter, amount


def test_a_known_total_gives_a_bar_and_a_forecast() -> None:
    meter = Meter(4 << 20, start=100.0)
    assert (
        meter.line(101.0, 1 << 20, 120)
        == " 25% [#####...............]  1.0 MiB of 4.0 MiB  1.0 MiB/s  0:01  0:03 left"
    )
    assert (
        meter.line(104.0, 4 << 20, 120)
        == "100% [####################]  4.0 MiB of 4.0 MiB  1.0 MiB/s  0:04"
    )


def test_an_unknown_total_gives_amount_and_speed() -> None:
    assert Meter(None, start=0.0).line(3_661.0, 3_661 << 10, 120) == "3.6 MiB  1.0 KiB/s  1:01:01"
    assert (
        Meter(None, "events", start=0.0).line(2.0, 2_000, 120)
        == "2,000 events  1,000 events/s  0:02"
    )


def test_the_speed_is_that_of_the_last_seconds() -> None:
    meter = Meter(None, start=0.0)
    lines = [meter.line(float(now), 1_000 * min(now, 10), 120) for now in range(1, 21)]
    assert lines[9] == "9.8 KiB  1000 B/s  0:10"
    assert lines[19] == "9.8 KiB  0 B/s  0:20"


def test_a_line_fits_the_terminal() -> None:
    for width in range(1, 100):
        assert len(Meter(1 << 30, start=0.0).line(1.0, 1 << 20, width)) < width


def test_a_surplus_is_no_more_than_all() -> None:
    assert (
        Meter(10, start=0.0)
        .line(1.0, 20, 120)
        .startswith("100% [####################]  20 B of 10 B")
    )


def test_amounts_are_readable() -> None:
    assert [amount(value) for value in (0, 1_023, 1_024, 1 << 20, 1.5 * 2**30, 2**45)] == [
        "0 B", "1023 B", "1.0 KiB", "1.0 MiB", "1.5 GiB", "32.0 TiB",
    ]  # fmt: skip
