"""Imports between packages are held to a table: they run down only, and never in circles."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Of each package: what it may import besides itself, iris.config and iris.errors, as drawn in
# docs/architecture.md. Those that aren't here are the floor: they import nothing but these two.
TABLE = {
    "__main__": "node crypto relay_protocol runtime",
    "node": "service proto.iris proto.scribe proto.pastry proto.bootstrap proto.session"
    " proto.wire crypto metrics runtime",
    "service": "proto.iris proto.wire relay_protocol metrics runtime",
    "proto.iris": "proto.scribe proto.session proto.link proto.addresses proto.wire metrics"
    " runtime",
    "proto.scribe": "proto.pastry proto.wire balancer heart metrics runtime",
    "proto.pastry": "proto.session proto.bootstrap proto.link proto.addresses proto.wire heart"
    " metrics runtime",
    "proto.bootstrap": "proto.addresses proto.wire gobber metrics runtime",
    "proto.session": "proto.link proto.wire gobber crypto metrics runtime",
    "proto.link": "proto.wire gobber metrics runtime",
    "proto.addresses": "runtime",
    "proto.wire": "gobber runtime",
    "gobber": "runtime",
    "balancer": "runtime",
    "ctl": "aio client relaycheck relay_protocol runtime",
    "__init__": "client",
    "aio": "client relay_protocol runtime",
    "client": "relay_protocol runtime",
    "relaycheck": "relay_protocol runtime",
    "relay_protocol": "runtime",
}
EVERYBODY_MAY = {"config", "errors", "__init__"}  # the version is in iris/__init__.py


def modules() -> dict[str, Path]:
    found = {}
    for path in (ROOT / "iris").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def package(module: str) -> str:
    """Return the room of a module, as TABLE calls it."""
    parts = module.split(".")[1:] or ["__init__"]
    return ".".join(parts[:2]) if parts[0] == "proto" and len(parts) > 1 else parts[0]


def imports(module: str) -> Iterator[str]:
    """Yield what a module imports of ours, also only for types, or within functions."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "iris")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "iris":
            assert node.module is not None
            assert node.level == 0, f"{module} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_run_down_only(module: str) -> None:
    here = package(module)
    allowed = {here, *EVERYBODY_MAY, *TABLE.get(here, "").split()}
    wrong = {f"{module} -> {name}" for name in imports(module) if package(name) not in allowed}
    assert not wrong


def test_the_table_names_packages_that_exist_and_has_no_circles() -> None:
    known = {package(module) for module in MODULES}
    order = list(TABLE)
    for here, allowed in TABLE.items():
        assert {here, *allowed.split()} <= known
        later = order[order.index(here) + 1 :]
        assert all(name in later or name not in TABLE for name in allowed.split()), here


def test_no_modules_import_in_circles() -> None:
    graph = {module: {name for name in imports(module) if name != module} for module in MODULES}
    assert "iris.proto.link.link" in graph["iris.proto.session.session"]
    assert sum(map(len, graph.values())) > len(MODULES)
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for name in sorted(graph[module]):
                visit(name, [*path, module])
            done.add(module)

    for module in sorted(graph):
        visit(module, [])


def test_node_alone_chooses_implementations() -> None:
    chosen = {
        "iris.proto.session.classic",
        "iris.proto.bootstrap.subnet",
        "iris.service.relay.server",
    }
    above = ("node", "__main__")
    for module in MODULES:
        if package(module) not in above and module not in chosen:
            assert not chosen & set(imports(module)), module
