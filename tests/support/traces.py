"""Data-driven tests: text files of commands and of what they print, one scenario after the other.

    == the title of a scenario
    command argument
    ----
    what it prints

A blank line ends what a command prints. `IRIS_REWRITE_TRACES=1 pytest …` writes down what commands
print now; read the difference before you commit it.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

REWRITE = os.environ.get("IRIS_REWRITE_TRACES") == "1"


@dataclass
class Step:
    """One command, and what it is expected to print."""

    command: str
    output: list[str] = field(default_factory=list)


@dataclass
class Scenario:
    """Commands that belong together, with the comments above its title."""

    file: Path
    title: str
    steps: list[Step] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.file.stem}: {self.title}"

    def run(self, execute: Callable[[str], list[str]]) -> None:
        """Execute the commands; fail where the output isn't what the file says."""
        for number, step in enumerate(self.steps, 1):
            output = execute(step.command)
            if REWRITE:
                step.output = output
            assert output == step.output, f"step {number} of {self}: {step.command}"


def load(folder: Path) -> list[Scenario]:
    """Read all files of a folder."""
    return [scenario for file in sorted(folder.glob("*.txt")) for scenario in parse(file)]


def parse(file: Path) -> list[Scenario]:
    """Read a file. Raises: ValueError for a line outside of a scenario or command."""
    scenarios: list[Scenario] = []
    step: Step | None = None
    for line in file.read_text().splitlines():
        if line.startswith("== "):
            scenarios.append(Scenario(file, line[3:]))
        elif line == "----" and scenarios and scenarios[-1].steps:
            step = scenarios[-1].steps[-1]
        elif not line:
            step = None
        elif step is not None:
            step.output.append(line)
        elif scenarios:
            scenarios[-1].steps.append(Step(line))
        else:
            raise ValueError(f"{file.name}: {line!r} belongs to no scenario")
    return scenarios


def save(scenarios: list[Scenario]) -> None:
    """Write scenarios that were run with REWRITE back to their files."""
    for file in {scenario.file for scenario in scenarios}:
        blocks = []
        for scenario in scenarios:
            if scenario.file == file:
                blocks.append(f"== {scenario.title}")
                blocks += ["\n".join((s.command, "----", *s.output)) + "\n" for s in scenario.steps]
        file.write_text("\n".join(blocks).rstrip() + "\n")
