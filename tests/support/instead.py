"""A stand-in for an object of which a test replaces a method.

Compiled ones let nobody do that to themselves.
"""

from typing import Any


class Instead:
    """Like `of`, but for what is named."""

    def __init__(self, of: object, **replaced: Any) -> None:
        self._of = of
        vars(self).update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)
