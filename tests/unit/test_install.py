"""What installing does where nothing can be compiled, and what the binding needs installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from iris.client import __all__ as BINDING

ROOT = Path(__file__).parents[2]
COST = "compiled it carries twice as many requests"
NO_COMPILER = "there is no C compiler (/nonexistent/cc)"
IMPORT_ALONE = """
import importlib, importlib.abc, sys

class OnlyConstruct(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in ("iris", "construct") or "__mypyc" in top:
            return None
        raise ModuleNotFoundError(f"the binding imports {name}", name=name)

sys.meta_path.insert(0, OnlyConstruct())
import iris, iris.aio
print(*(getattr(iris, name).__name__ for name in iris.__all__))
try:
    importlib.import_module("iris.node")
except ModuleNotFoundError as missing:
    print(missing)
"""


def run(
    directory: Path, *command: str, compile_: str | None, compiler: str = "/nonexistent/cc"
) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "CC": compiler, "IRIS_COMPILE": compile_ or ""}
    if compile_ is None:
        del environment["IRIS_COMPILE"]
    return subprocess.run(
        [sys.executable, *command],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what is installed, never compiled."""
    made = tmp_path / "checkout"
    made.mkdir()
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, made)
    shutil.copytree(ROOT / "iris", made / "iris", ignore=shutil.ignore_patterns("*.so", "__py*"))
    return made


def installed(checkout: Path, built: Path) -> str:
    """What the built package says of itself; that it is pure, and that nothing was left behind."""
    assert not list(built.rglob("*.so"))
    assert not {"build", "iris_node.egg-info"} & {path.name for path in checkout.iterdir()}
    command = "import iris.runtime.compiling as c; print(c.__file__); print(c.build())"
    done = run(built, "-c", command, compile_=None)
    where, _, kind = done.stdout.strip().partition("\n")
    assert where == str(built / "iris" / "runtime" / "compiling.py"), done.stderr
    return kind


@pytest.mark.parametrize(
    ("compile_", "why"),
    [pytest.param(None, f"{NO_COMPILER}; {COST}", id="unset"), pytest.param("0", "", id="0")],
)
def test_without_a_compiler_a_pure_node_is_installed_that_says_why(
    checkout: Path, tmp_path: Path, compile_: str | None, why: str
) -> None:
    built = tmp_path / "built"
    done = run(checkout, "setup.py", "-q", "build", f"--build-lib={built}", compile_=compile_)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("iris:")]
    assert lines == ([f"iris: installing as pure Python: {why}"] if why else [])
    assert installed(checkout, built) == (f"pure Python: {why}" if why else "pure Python")


@pytest.mark.slow
def test_when_the_compiler_fails_a_pure_node_is_installed_that_says_so(
    checkout: Path, tmp_path: Path
) -> None:
    pytest.importorskip("mypyc")
    compiler, built = shutil.which("false"), tmp_path / "built"
    assert compiler is not None
    options = ("setup.py", "-q", "build", f"--build-lib={built}")
    done = run(checkout, *options, compile_=None, compiler=compiler)
    assert done.returncode == 0, done.stderr
    why = f"compiling failed (pip install -v tells more); {COST}"
    assert f"iris: installing as pure Python: {why}\n" in done.stderr
    assert installed(checkout, built) == f"pure Python: {why}"


@pytest.mark.parametrize(
    ("command", "reason"),
    [("build", NO_COMPILER), ("egg_info", NO_COMPILER), ("editable_wheel", "an editable install")],
)
def test_what_must_be_compiled_and_cannot_be_is_not_installed(
    checkout: Path, command: str, reason: str
) -> None:
    before = sorted(checkout.iterdir())
    done = run(checkout, "setup.py", "-q", command, compile_="1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"IRIS_COMPILE=1: {reason}")
    assert sorted(checkout.iterdir()) == before


def test_the_binding_needs_the_standard_library_and_construct_alone() -> None:
    done = run(ROOT, "-c", IMPORT_ALONE, compile_=None)
    names, _, node = done.stdout.partition("\n")
    assert names.split() == BINDING, done.stderr
    assert node.startswith("the binding imports ")  # what the node needs, so the hook works
