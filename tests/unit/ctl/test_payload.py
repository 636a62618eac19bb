"""What irisctl sends: from an argument, a file or standard input."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from iris.ctl import payload
from iris.ctl.outcome import UsageError
from iris.ctl.parser import build
from iris.ctl.payload import Pace


def sent(
    *args: str, stdin: bytes = b"", monkeypatch: pytest.MonkeyPatch | None = None
) -> list[bytes]:
    if monkeypatch is not None:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(stdin)))
    return list(payload.messages(build().parse_args(["publish", "topic", *args])))


def test_an_argument_is_the_message_byte_for_byte() -> None:
    assert sent("hello") == [b"hello"]
    assert sent("gr\udcfc\udcdf") == [b"gr\xfc\xdf"]
    assert sent("") == [b""]


def test_standard_input_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sent(stdin=b"two\nlines\n", monkeypatch=monkeypatch) == [b"two\nlines\n"]
    assert sent("--file", "-", stdin=b"x", monkeypatch=monkeypatch) == [b"x"]


def test_a_file_is_one_message_or_one_for_each_line(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"a\n\nb\r\nc")
    assert sent("--file", str(path)) == [b"a\n\nb\r\nc"]
    assert sent("--file", str(path), "--lines") == [b"a", b"", b"b\r", b"c"]
    assert sent("--file", str(path), "--lines", "--count", "2") == [b"a", b""]


def test_a_count_repeats_the_message() -> None:
    assert sent("x", "--count", "3") == [b"x"] * 3


def test_a_rate_spreads_messages() -> None:
    args = build().parse_args(["publish", "topic", "x", "--count", "3", "--rate", "4"])
    waited: list[float] = []
    assert list(payload.messages(args, clock=lambda: sum(waited), wait=waited.append)) == [b"x"] * 3
    assert waited == [0.25, 0.25]


def test_mistakes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "MESSAGE_SIZE", 10)
    path = tmp_path / "long"
    path.write_bytes(bytes(11))
    for words, args in {
        "cannot be combined with --file or --lines": ("x", "--file", "y"),
        "DATA cannot be combined": ("x", "--lines"),
        "can't read /nonexistent: No such file": ("--file", "/nonexistent"),
        "message exceeds 10 bytes": ("--file", str(path)),
        "exceeds 10 bytes": ("--file", str(path), "--lines"),
        "use a tunnel for more": ("x" * 11,),
    }.items():
        with pytest.raises(UsageError, match=words):
            sent(*args)


def test_how_many_there_will_be_is_known_but_for_lines() -> None:
    parse = build().parse_args
    assert payload.total(parse(["publish", "t", "x"])) == 1
    assert payload.total(parse(["publish", "t", "x", "--count", "7"])) == 7
    assert payload.total(parse(["publish", "t", "--lines", "--count", "7"])) is None


def test_without_a_rate_nothing_waits() -> None:
    pace = Pace(None)
    assert [pace.wait(now) for now in (0.0, 0.0, 5.0)] == [0.0, 0.0, 0.0]


def test_a_rate_counts_from_the_first_message() -> None:
    pace = Pace(10)
    assert pace.wait(1.0) == 0.0
    assert round(pace.wait(1.02), 6) == 0.08
    assert round(pace.wait(1.11), 6) == 0.09


def test_a_long_pause_is_not_made_up_for_in_a_burst() -> None:
    pace = Pace(10)
    pace.wait(0.0)
    waits = [round(pace.wait(9.0), 6) for _ in range(4)]
    assert waits == [0.0, 0.0, 0.1, 0.2]
