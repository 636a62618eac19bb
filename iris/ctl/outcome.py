"""Exit codes for scripts, and the errors that lead to them."""

from enum import IntEnum

from iris.errors import IrisError


class Exit(IntEnum):
    """The exit codes."""

    OK = 0
    FAULT = 1  # reported by the peer
    USAGE = 2  # a usage error, or input or output that fails
    TIMEOUT = 3
    NO_NODE = 4
    INTERRUPTED = 130  # by SIGINT, as shells report it
    PIPE = 141  # the output's reader is gone, likewise


class UsageError(IrisError):
    """The command can't be carried out; the text says why in one line."""


class NoNode(IrisError):
    """There is no usable node; the text is one line."""


def worse(one: Exit, other: Exit) -> Exit:
    """Choose the exit code of two of many messages: a fault outweighs a timeout."""
    order = [Exit.OK, Exit.TIMEOUT, Exit.FAULT]
    return max(one, other, key=order.index)
