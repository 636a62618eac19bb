"""What the handlers of both faces have in common: decorators, and what a caller is told. Core."""

import logging
from collections.abc import Callable
from typing import TypeVar

from iris.client.errors import Fault

F = TypeVar("F", bound=Callable[..., object])

_log = logging.getLogger(__name__)


class Decorators:
    """Lets functions take the place of an instance's methods."""

    def on_init(self, function: F) -> F:
        """Decorate what is called with the connection, before anything is handled."""
        return self._set("init", function)

    def on_broadcast(self, function: F) -> F:
        """Decorate what takes broadcasts."""
        return self._set("handle_broadcast", function)

    def on_request(self, function: F) -> F:
        """Decorate what answers requests."""
        return self._set("handle_request", function)

    def on_tunnel(self, function: F) -> F:
        """Decorate what uses tunnels."""
        return self._set("handle_tunnel", function)

    def on_drop(self, function: F) -> F:
        """Decorate what learns that the node is lost."""
        return self._set("handle_drop", function)

    def _set(self, name: str, function: F) -> F:
        setattr(self, name, function)
        return function


def fault_text(error: BaseException, service: str) -> str:
    """What the caller is told of a request that failed.

    What wasn't meant as an answer is logged, too. Never empty.
    """
    if isinstance(error, Fault):
        return str(error) or "failed"
    _log.error("%s: the handler of a request failed", service, exc_info=error)
    return f"{type(error).__name__}: {error}"
