"""The command line: what is refused in one line, and what names a node."""

import sys
from pathlib import Path

import pytest

from tests.support import lab
from tests.support.lab import OURS, ROOT
from tools.bench import __main__ as command
from tools.bench import clients, plot, testbed


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--only", "nonsense"], "no figure's name begins with 'nonsense'"),
        (["--node", "/no/such/node"], "neither a directory nor a command"),
        (["--against", ""], "neither a directory nor a command"),
        (["--plot", "ratios.png"], "needs --against"),
        (["--seconds", "0"], "--seconds"),
        (["--pairs", "0"], "--pairs"),
        (["--growth", "--only", "request"], "no axis is called 'request'"),
        (["--soak", "0"], "--soak"),
        (["--layout", "three"], "--layout"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    args: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(args)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("module", "args"),
    [(lab, []), (plot, ["--clients", "--plot", "x.png"]), (clients, ["--clients"])],
)
def test_what_is_missing_is_told_in_a_line(
    module: object,
    args: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for each in (lab, plot, clients):
        monkeypatch.setattr(each, "unavailable", lambda: None)
    monkeypatch.setattr(module, "unavailable", lambda: "something is missing")
    with pytest.raises(SystemExit) as stopped:
        command.main(args)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "bench: something is missing\n"


def test_our_node_is_this_one_unless_told_otherwise() -> None:
    assert testbed.ours(None).command == OURS
    assert testbed.ours("env LANG=C iris").command == ("env", "LANG=C", "iris")
    assert testbed.ours("env LANG=C iris").name == "ours"


def test_a_directory_is_a_checkout_and_runs_its_own_code() -> None:
    found = testbed.candidate(str(ROOT))
    assert found.checkout
    assert found.command[1:] == ("-m", "iris")
    assert found.cwd == ROOT


def test_a_directory_without_our_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkout"):
        testbed.candidate(str(tmp_path))


def test_a_binary_is_named_with_its_directory() -> None:
    binary = Path(sys.executable)
    assert (
        testbed.candidate(sys.executable).name
        == f"{binary.resolve().parent.name}/{binary.resolve().name}"
    )
