"""Iris: decentralised messaging for backends. This package is the node; see docs/architecture.md."""

__version__ = "0.4.0.dev0"
