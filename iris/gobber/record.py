"""A base for structs that are made by the thousand, and so aren't dataclasses.

Compiled, those would stay Python's.
"""

from iris.gobber.types import struct_info
from iris.runtime.compiling import mypyc_attr


@mypyc_attr(allow_interpreted_subclasses=True)
class Record:
    """Compared and shown field by field, like a dataclass.

    Subclasses have an `__init__` of their own, and are told of by `declare`.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        names = [field.attribute for field in struct_info(type(self)).fields]
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def __repr__(self) -> str:
        fields = struct_info(type(self)).fields
        return f"{type(self).__name__}({', '.join(f'{field.attribute}={getattr(self, field.attribute)!r}' for field in fields)})"
