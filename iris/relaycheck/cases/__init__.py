"""The cases of `relaycheck node`: importing this makes them known to `bench.CASES`."""

from iris.relaycheck.cases import leaving, opening, patterns, splitting, tunnels, values

__all__ = ["leaving", "opening", "patterns", "splitting", "tunnels", "values"]
