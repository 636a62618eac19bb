"""What the hot modules tell mypyc, for those installations where they are compiled (docs/performance.md); nothing everywhere else.

`mypyc_attr(allow_interpreted_subclasses=True)` marks a class that others, tests above all, stand in for by inheriting from it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr as mypyc_attr
else:

    def mypyc_attr(**_):
        """Do nothing: mypyc reads it in the source, and a node needs no mypy."""
        return lambda cls: cls
