"""Helpers of the hot modules, to behave the same compiled and interpreted (docs/performance.md).

`mypyc_attr(allow_interpreted_subclasses=True)` marks a class with subclasses that aren't compiled.
"""

from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**_):
        """Do nothing: mypyc reads it in the source, and a node needs no mypy."""
        return lambda cls: cls


Error = TypeVar("Error", bound=BaseException)


def with_cause(error: Error, cause: BaseException | None) -> Error:
    """Set the cause: `raise with_cause(error, cause) from cause`, since mypyc drops the `from`."""
    error.__cause__ = cause
    return error


def build() -> str:
    """Tell how the hot modules of this installation were built; pure Python, why."""
    spec = find_spec("iris.runtime.send_buffer")
    if spec is None or not isinstance(spec.loader, SourceFileLoader):
        return "compiled"
    note = Path(__file__).with_name("not_compiled.txt")  # by setup.py
    return f"pure Python: {note.read_text()}" if note.exists() else "pure Python"
