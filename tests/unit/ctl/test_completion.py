"""Completion and the manual page know what the parser knows."""

import re
import subprocess
from pathlib import Path

import pytest

from iris.ctl.completion import bash, commands, zsh
from iris.ctl.parser import build

ROOT = Path(__file__).parents[3]


def test_the_kept_files_are_those_of_the_parser() -> None:
    for name, made in {"irisctl.bash": bash(build()), "_irisctl": zsh(build())}.items():
        assert (ROOT / "deploy/completion" / name).read_text() == made


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("irisctl subs", ["subscribe"]),
        ("irisctl tunnel --se", ["--send"]),
        ("irisctl publish --format h", ["hex"]),
        ("irisctl --v", ["--version"]),
    ],
)
def test_bash_completes(words: str, completed: list[str]) -> None:
    script = (
        f". deploy/completion/irisctl.bash; COMP_WORDS=({words}); "
        'COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _irisctl; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10
    )
    assert done.stdout.split() == completed


def test_the_manual_page_has_each_subcommand_and_flag() -> None:
    manual = (ROOT / "docs/irisctl.1").read_text().replace("\\-", "-")
    known = commands(build())
    for name, (_, flags) in known.items():
        assert re.search(rf"^\.B {name} ", manual, re.MULTILINE), name
        for flag in flags:
            assert re.search(rf"(?<![\w-]){flag}(?![\w-])", manual), flag
    listed = set(re.findall(r"--[a-z]+", manual))
    assert listed == {
        flag for _, flags in known.values() for flag in flags if flag.startswith("--")
    } | {"--version"}
