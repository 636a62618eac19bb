"""The cases of `relaycheck node`: importing this registers all of them in `CASES`."""

from iris.relaycheck.cases import leaving, opening, patterns, splitting, tunnels, values
from iris.relaycheck.registry import CASES

__all__ = ["CASES", "leaving", "opening", "patterns", "splitting", "tunnels", "values"]
