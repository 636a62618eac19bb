"""What the handlers of both APIs share: decorators, and the text of a failed request. Core."""

import logging
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from iris.client.errors import Fault

F = TypeVar("F", bound=Callable[..., object])
H = TypeVar("H", bound="BaseHandler")

_log = logging.getLogger(__name__)


class BaseHandler:
    """Let functions replace an instance's methods, by decorating them."""

    handle_broadcast: Callable[[bytes], Any]
    handle_request: Callable[[bytes], Any]
    handle_tunnel: Callable[[Any], Any]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "handle_drop" in vars(cls) and "handle_disconnect" not in vars(cls):
            _warn("handle_drop", "handle_disconnect")
            cls.handle_disconnect = vars(cls)["handle_drop"]  # type: ignore[attr-defined]

    def on_init(self, function: F) -> F:
        """Decorate the function that is called with the connection, before any other."""
        return self._set("init", function)

    def on_broadcast(self, function: F) -> F:
        """Decorate the function that handles broadcasts."""
        return self._set("handle_broadcast", function)

    def on_request(self, function: F) -> F:
        """Decorate the function that answers requests."""
        return self._set("handle_request", function)

    def on_tunnel(self, function: F) -> F:
        """Decorate the function that serves tunnels."""
        return self._set("handle_tunnel", function)

    def on_disconnect(self, function: F) -> F:
        """Decorate the function that is called when the connection to the node is lost."""
        return self._set("handle_disconnect", function)

    def on_drop(self, function: F) -> F:
        """Decorate like `on_disconnect`, which replaces this."""
        _warn("on_drop", "on_disconnect")
        return self.on_disconnect(function)

    def _set(self, name: str, function: F) -> F:
        setattr(self, name, function)
        return function


def as_handler(handler: Any, kind: type[H]) -> H:
    """Wrap a plain function, which answers requests, in a handler of that kind.

    Raises: TypeError for what is neither.
    """
    if isinstance(handler, kind):
        return handler
    if not callable(handler):
        raise TypeError(f"handler of type {type(handler).__name__}, not a function or a Handler")
    made = kind()
    made.on_request(handler)
    return made


def renamed(new: F | None, old: F | None) -> F | None:
    """Choose between the argument on_disconnect and its deprecated name on_drop."""
    if old is not None:
        _warn("on_drop", "on_disconnect", stacklevel=4)
    return new or old


def _warn(old: str, new: str, stacklevel: int = 3) -> None:
    warnings.warn(f"{old} was renamed to {new}", DeprecationWarning, stacklevel)


def fault_text(error: BaseException, service: str) -> str:
    """Describe a handler's failure to the caller; log it unless it is a `Fault`. Never empty."""
    if isinstance(error, Fault):
        return str(error) or "failed"
    _log.error("%s: request handler failed", service, exc_info=error)
    return f"{type(error).__name__}: {error}"
