"""Run the checks of a mode, several at a time. Shell."""

import re
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from iris.relaycheck.report import Check, Report


@dataclass(frozen=True)
class Checkable:
    """A case or a scenario: a unique name, and the rule that it checks."""

    id: str
    description: str


T = TypeVar("T", bound=Checkable)


def run_checks(
    mode: str, known: Iterable[T], run: Callable[[T, Check], None], only: str, skip: str, jobs: int
) -> Report:
    """Run those whose ids match `only` and not `skip`, `jobs` at a time.

    Raises: ValueError when no id matches.
    """
    chosen = [each for each in known if re.search(only, each.id) and not re.search(skip, each.id)]
    if not chosen:
        raise ValueError(f"no id matches '{only}'")

    def check(each: T) -> Check:
        threading.current_thread().name = each.id
        result, begin = Check(each.id, each.description), time.monotonic()
        run(each, result)
        result.seconds = time.monotonic() - begin
        return result

    with ThreadPoolExecutor(jobs, mode) as pool:
        return Report(mode, list(pool.map(check, chosen)))
