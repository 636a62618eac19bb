"""What the hot modules need so that compiled, as they are in some installations
(docs/performance.md), they do the same.

`mypyc_attr(allow_interpreted_subclasses=True)` marks a class that what isn't compiled, tests above
all, inherits from.
"""

from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**_):
        """Do nothing: mypyc reads it in the source, and a node needs no mypy."""
        return lambda cls: cls


Error = TypeVar("Error", bound=BaseException)


def with_cause(error: Error, cause: BaseException | None) -> Error:
    """Say what an error came of.

    `raise with_cause(error, cause) from cause`, for mypyc drops the `from`.
    """
    error.__cause__ = cause
    return error


def build() -> str:
    """How the hot modules of this installation were built."""
    spec = find_spec("iris.runtime.send_buffer")
    return (
        "pure Python"
        if spec is not None and isinstance(spec.loader, SourceFileLoader)
        else "compiled"
    )
