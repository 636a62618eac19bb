"""How irisctl ends: exit codes that scripts can use, and what ends it early."""

from enum import IntEnum

from iris.errors import IrisError


class Exit(IntEnum):
    """The exit codes."""

    OK = 0
    FAULT = 1  # from the other side
    USAGE = 2  # what the user can set right
    TIMEOUT = 3
    NO_NODE = 4
    INTERRUPTED = 130  # by SIGINT, as shells say it
    PIPE = 141  # nobody reads what we print, likewise


class UsageError(IrisError):
    """What was asked for can't be done; the text is one line that says why."""


class NoNode(IrisError):
    """There is no node; the text is one line that says how to start one."""


def worse(one: Exit, other: Exit) -> Exit:
    """Of the ends of two of many messages, the one that a script has to know.

    A fault outweighs a timeout.
    """
    order = [Exit.OK, Exit.TIMEOUT, Exit.FAULT]
    return max(one, other, key=order.index)
