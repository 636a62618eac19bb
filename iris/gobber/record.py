"""A base for frequent structs, which aren't dataclasses: mypyc leaves those interpreted."""

from iris.gobber.types import struct_info
from iris.runtime.compiling import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class Record:
    """Compare and show field by field, like a dataclass.

    Subclasses write their own `__init__`, and are declared by `iris.gobber.types.declare`.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        names = [field.attribute for field in struct_info(type(self)).fields]
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def __repr__(self) -> str:
        names = [field.attribute for field in struct_info(type(self)).fields]
        return f"{type(self).__name__}({', '.join(f'{it}={getattr(self, it)!r}' for it in names)})"
