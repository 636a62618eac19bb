"""A program that uses Iris needs the standard library and construct alone."""

import ast
import subprocess
import sys
from pathlib import Path

import iris.aio
import iris.client

ROOT = Path(__file__).parents[3]
PROGRAM = """
import importlib.abc, sys

ALLOWED = ("iris", "iris_hot__mypyc", "construct", "sitecustomize")

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ALLOWED:
            raise ImportError(f"{name} isn't there")

sys.meta_path.insert(0, Blocked())
import iris
assert "construct" not in sys.modules, "import iris alone costs nothing"
for name in iris.__all__:
    getattr(iris, name)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_the_binding_needs_the_standard_library_and_construct_alone() -> None:
    sources = [*(ROOT / "iris/client").glob("*.py"), *(ROOT / "iris/aio").glob("*.py")]
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sources]
    assert {"iris.client.connection", "iris.aio.connection"} < set(modules)
    subprocess.run([sys.executable, "-c", PROGRAM, *modules], cwd=ROOT, check=True, timeout=60)


def test_both_apis_have_the_same_names() -> None:
    assert iris.aio.__all__ == iris.client.__all__


def test_the_version_can_be_read_without_running_anything() -> None:
    assignments = [
        ast.literal_eval(node.value)
        for node in ast.parse((ROOT / "iris/__init__.py").read_text()).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__version__"
    ]
    assert len(assignments) == 1
    assert isinstance(assignments[0], str)


def test_an_unknown_name_is_an_attribute_error() -> None:
    import iris

    assert not hasattr(iris, "disconnect")
