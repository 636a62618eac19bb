"""irisctl's command line: a mistake gets one line and exit code 2; no node exit code 4."""

import subprocess
import sys
import time

import pytest

from iris.ctl.__main__ import main
from iris.ctl.parser import build
from tests.support.node import free_port


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "required: COMMAND"),
        (["bogus"], "invalid choice: 'bogus'"),
        (["request"], "required: CLUSTER"),
        (["request", ""], "argument CLUSTER: a name of 0 bytes"),
        (["request", "n" * 4_097, "x"], "4097 bytes; 1 to 4096 are allowed"),
        (["request", "\udcff", "x"], "isn't text in this terminal's encoding"),
        (["request", "c", "x", "y"], "unrecognized arguments: y"),
        (["request", "c", "x", "--port", "0"], "'0' isn't a port"),
        (["request", "c", "x", "--port", "http"], "'http' isn't a port"),
        (["request", "c", "x", "--timeout", "0"], "'0' isn't a number from 0.001"),
        (["request", "c", "x", "--timeout", "nan"], "'nan' isn't a number"),
        (["request", "c", "x", "--rate", "fast"], "'fast' isn't a number"),
        (["request", "c", "x", "--count", "-1"], "'-1' isn't a whole number from 1"),
        (
            ["request", "c", "x", "--count", str(10**13)],
            "isn't a whole number from 1 to 1000000000000",
        ),
        (["request", "c", "x", "--format", "xml"], "invalid choice: 'xml'"),
        (["serve", "c"], "one of the arguments --exec --echo is required"),
        (["serve", "c", "--echo", "--exec", "cat"], "not allowed with"),
        (["subscribe"], "required: TOPIC"),
        (["subscribe", ""], "argument TOPIC: a name of 0 bytes"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    args: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(args)
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "args",
    [
        ["request", "c", "x"],
        ["serve", "c", "--echo"],
        ["broadcast", "c", "x"],
        ["publish", "t", "x"],
        ["subscribe", "t"],
    ],
)
def test_without_a_node_one_line_says_how_to_start_one(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    assert main([*args, "--port", str(port)]) == 4
    assert capsys.readouterr().err == (
        f"irisctl: no node at port {port} of this host; "
        "start one with 'iris -net NAME', or with 'iris -dev' for a trial\n"
    )


def test_flags_and_arguments_come_in_any_order() -> None:
    parse = build().parse_args
    for args in (
        ["--count", "3", "c", "x"],
        ["c", "--count", "3", "x"],
        ["c", "x", "--count=3"],
        ["c", "--count", "3", "--", "x"],
    ):
        parsed = parse(["request", *args])
        assert (parsed.cluster, parsed.data, parsed.count) == ("c", "x", 3)
    assert parse(["request", "c", "--", "--count"]).data == "--count"


def test_help_and_version_are_quick_and_complete() -> None:
    best = 9.0
    for _ in range(3):
        before = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "iris.ctl", "-h"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
        best = min(best, time.monotonic() - before)
    for word in (
        "request",
        "serve",
        "broadcast",
        "publish",
        "subscribe",
        "exit codes",
        "iris -dev",
    ):
        assert word in done.stdout
    assert best < 0.25
    done = subprocess.run(
        [sys.executable, "-m", "iris.ctl", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    assert done.stdout.startswith("irisctl ")


def test_the_parser_loads_nothing_of_the_binding() -> None:
    program = "import sys, iris.ctl.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=10
    )
    loaded = set(done.stdout.split())
    assert "iris.ctl.parser" in loaded
    assert not {"construct", "iris.client", "cryptography"} & loaded


def test_check_is_relaycheck(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "node", "--port", str(free_port())]) == 2
    assert capsys.readouterr().err.startswith("relaycheck: ")
    with pytest.raises(SystemExit, match="0"):
        main(["check", "--help"])
    assert "usage: relaycheck" in capsys.readouterr().out


def test_irisctl_doesnt_load_the_node() -> None:
    names = ["bench", "request", "send", "serve", "subscribe", "tunnel", "__main__"]
    program = f"""
import importlib, sys
for name in {names}:
    importlib.import_module("iris.ctl." + name)
print([name for name in sys.modules if name.split(".")[:2] in NODE])
""".replace("NODE", str([["iris", name] for name in ("crypto", "node", "proto", "service")]))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == "[]\n"
