"""What the documents name is there: files, modules, and functions in them."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tests/**/*.md")])
# `iris/proto/link/link.py`, `proto/link/link.py:Link.send` (below iris/ where iris/ is left out)
NAMED = re.compile(r"`((?:[\w.-]+/)+[\w.-]*)(?::([A-Za-z_][\w.]*))?`")
LINKED = re.compile(r"\]\((?!https?:)([^)#\s]+)")


def definitions(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if hasattr(inner, "name")}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def missing(document: Path) -> list[str]:
    text, wrong = document.read_text(), []
    for match in NAMED.finditer(text):
        name, inner = match.groups()
        places = [ROOT / name, ROOT / "iris" / name]
        place = next((place for place in places if place.exists()), None)
        if name.split("/")[0] in {"..", "path", ".venv", ""}:
            continue
        if place is None or (inner and inner not in definitions(place)):
            wrong.append(match.group())
    wrong += [link for link in LINKED.findall(text) if not (document.parent / link).exists()]
    return wrong


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_exists(document: Path) -> None:
    assert missing(document) == []


def test_a_name_that_is_gone_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`iris/no.py`, `heart.py`, `proto/link/link.py:Link.nothing`, [x](gone.md)")
    assert missing(page) == ["`iris/no.py`", "`proto/link/link.py:Link.nothing`", "gone.md"]
