"""The hot modules can be compiled (docs/performance.md).

That they are, where they should be, and keep to what mypyc understands.
"""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from pathlib import Path
from typing import TypeVar

import pytest

from iris.errors import ProtocolError
from iris.runtime.compiling import build, with_cause

T = TypeVar("T", bound=ast.AST)

ROOT = Path(__file__).parents[2]
RECURSION = """
import threading
from iris.runtime.thread_cache import STACK_SIZE
from tests.support.applications import Application
from tests.support.fake_scribe import FakeNetwork

network, count, told = FakeNetwork(), 2_000, []
connections = [network[1].connect(str(number), Application()) for number in range(count)]
for number, connection in enumerate(connections[1:]):
    connections[number].request(
        str(number + 1), b"", 60.0, lambda outcome, number=number: connections[number].close()
    )


def close():
    try:
        connections[-1].close()
    except RecursionError:
        told.append("RecursionError")


threading.stack_size(STACK_SIZE)
thread = threading.Thread(target=close)
thread.start()
thread.join()
print(told)
"""


def hot_modules() -> list[str]:
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "HOT":
            return [
                path.removesuffix(".py").replace("/", ".") for path in ast.literal_eval(node.value)
            ]
    raise AssertionError("setup.py names no hot modules")


HOT = hot_modules()


def source(name: str) -> ast.Module:
    return ast.parse((ROOT / f"{name.replace('.', '/')}.py").read_text())


def test_all_hot_modules_are_compiled_or_none_is() -> None:
    """IRIS_EXPECT_COMPILED, 1 or 0, says what must have been installed."""
    expected = os.environ.get("IRIS_EXPECT_COMPILED", str(int(build() == "compiled")))
    loader = ExtensionFileLoader if expected == "1" else SourceFileLoader
    assert {name: type(import_module(name).__loader__) for name in HOT} == dict.fromkeys(
        HOT, loader
    )
    assert build() == ("compiled" if expected == "1" else "pure Python")


def test_an_error_tells_what_it_came_of() -> None:
    cause = KeyError("lost")
    error = with_cause(ProtocolError("wrong"), cause)
    assert error.__cause__ is cause
    with pytest.raises(ProtocolError) as raised:
        import_module("iris.relay_protocol.parser").decode_utf8(b"\xff")
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def hot_nodes(kind: type[T]) -> Iterator[tuple[str, T]]:
    """Nodes of the hot modules' syntax trees, each with where it stands."""
    for name in HOT:
        for node in ast.walk(source(name)):
            if isinstance(node, kind):
                yield f"{name}:{getattr(node, 'lineno', 0)}", node


def test_a_cause_is_told_in_words_that_mypyc_understands() -> None:
    raises = [
        (where, ast.unparse(node.cause), ast.unparse(node))
        for where, node in hot_nodes(ast.Raise)
        if node.cause is not None
    ]
    assert raises
    for where, cause, text in raises:
        assert re.fullmatch(rf"raise with_cause\(.*, {re.escape(cause)}\) from .*", text), where


def handlers(function: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(function):
        if isinstance(node, ast.ExceptHandler) and node.name is not None and node.type is not None:
            yield node.name, ast.unparse(node.type)


def test_the_name_of_a_compiled_exception_is_used_for_no_other() -> None:
    native = {node.name for _, node in hot_nodes(ast.ClassDef)}
    found = 0
    for where, function in hot_nodes(ast.FunctionDef):
        caught = set(handlers(function))
        for variable, kind in caught:
            if kind.rpartition(".")[2] in native:
                found += 1
                assert {other for called, other in caught if called == variable} == {kind}, where
    assert found


def test_no_attribute_has_a_name_that_c_keeps_for_itself() -> None:
    names: dict[str, str] = {}
    for where, node in hot_nodes(ast.Attribute):
        if ast.unparse(node.value) == "self":
            names.setdefault(node.attr, where)
    assert len(names) > 100
    for name in ("_thread", "_Thread_local", "_Atomic", "_Bool"):
        assert name not in names, names[name]


def test_a_recursion_without_end_is_an_error_and_no_crash() -> None:
    """In a client's thread: each connection that closes has the next one closed."""
    done = subprocess.run(
        [sys.executable, "-c", RECURSION], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "['RecursionError']\n", (done.returncode, done.stderr)
