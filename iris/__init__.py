"""Iris: decentralised messaging for backends.

The package holds the node (`python -m iris`, docs/architecture.md) and the Python binding
(docs/python.md), whose names are available here. They are loaded on first use, so that the node
doesn't load the binding. For asyncio: `iris.aio`.
"""

from typing import TYPE_CHECKING

__version__ = "0.4.0"

if TYPE_CHECKING:
    from iris.client import *  # noqa: F403


def __getattr__(name: str) -> object:
    if name == "__all__" or not name.startswith("_"):
        import iris.client

        if name == "__all__" or name in iris.client.__all__:
            return getattr(iris.client, name)
    raise AttributeError(f"module 'iris' has no attribute '{name}'")
