"""A whole run: candidates in turn, figure by figure, pair by pair. Shell.

The nodes of all candidates run at the same time, but one is measured at a time: what else the
machine does, hits all alike. The order alternates, since the first one is measured while all nodes
still search for others.
"""

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tools.bench.figures import Figure
from tools.bench.results import START, Results
from tools.bench.table import number
from tools.bench.testbed import NodeUnderTest, Testbed
from tools.bench.wire import Failure

Report = Callable[[str], None]


def run(
    candidates: Sequence[NodeUnderTest],
    figures: Sequence[Figure],
    layouts: Sequence[str],
    *,
    pairs: int,
    seconds: float,
    warm_up: float,
    report: Report,
) -> Results:
    """Measure everything; `report` gets a line of text per step."""
    results = Results(
        [candidate.name for candidate in candidates], targeted=not candidates[-1].checkout
    )
    with tempfile.TemporaryDirectory(prefix="irisbench") as directory:
        key = network_key(Path(directory))
        for pair in range(1, pairs + 1):
            in_turn = candidates if pair % 2 else candidates[::-1]
            for layout in layouts:
                wanted = [figure for figure in figures if layout in figure.layouts]
                _layout(
                    results,
                    in_turn,
                    wanted,
                    layout,
                    key,
                    seconds,
                    warm_up,
                    lambda text, pair=pair: report(f"{pair}/{pairs} {text}"),  # type: ignore[misc]
                )
    return results


def _layout(
    results: Results,
    candidates: Sequence[NodeUnderTest],
    figures: Sequence[Figure],
    layout: str,
    key: Path,
    seconds: float,
    warm_up: float,
    report: Report,
) -> None:
    """One pair in one layout."""
    with contextlib.ExitStack() as stack:
        fields = []
        for candidate in candidates:
            report(f"{layout}: {candidate.name} starts")
            each = Testbed(candidate, layout, key)
            try:
                stack.enter_context(each)
            except Failure as exc:
                report(f"{layout}: {candidate.name} FAILED: {exc}")
                for figure in (START, *figures):
                    results.fail(
                        layout,
                        figure.name,
                        candidate.name,
                        f"no nodes: {exc}" if figure is START else "no nodes",
                    )
                continue
            fields.append(each)
            results.add(layout, START.name, candidate.name, each.start)
        if fields:
            results.machine.append({"layout": layout, **fields[0].machine(seconds)})
        for figure in figures:
            parts = []
            for each in fields:
                try:
                    facts = each.measure(figure, seconds, warm_up)
                except Failure as exc:
                    results.fail(layout, figure.name, each.candidate.name, str(exc))
                    parts.append(f"{each.candidate.name} FAILED: {exc}")
                    continue
                results.add(layout, figure.name, each.candidate.name, facts)
                first = figure.metrics[0]
                parts.append(f"{each.candidate.name} {number(facts[first.key])} {first.unit}")
            report(f"{layout}: {figure.name:20} {', '.join(parts)}")


def network_key(directory: Path) -> Path:
    """Make a network's key, in the form that a Go node takes as well."""
    path = directory / "network.pem"
    key = rsa.generate_private_key(65537, 2048)
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    path.chmod(0o600)
    return path
