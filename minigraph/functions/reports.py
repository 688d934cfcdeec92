"""The reports of a function: on its passes, one measured call, its memory, its transfers."""

from __future__ import annotations

from typing import Any

from minigraph.compiler.passes import Printable, ProfiledStep
from minigraph.core.graph import Graph
from minigraph.core.record import Record
from minigraph.printing import Names, changed_lines, graph_lines

__all__ = ["Memory", "Profile", "Trace", "Transfers"]


class Trace(Record):
    """The result of each pass over a graph: (name of the pass, result); the first entry is the graph at the beginning.

    Results are graphs, and then, for each region and set of sizes that calls have met, graphs of known sizes and the steps of
    a program. As text a stage is the lines that it changed.
    """

    stages: tuple[tuple[str, Graph | Printable], ...]

    def __str__(self) -> str:
        names, lines = Names(), []
        before: list[str] = []
        for name, stage in self.stages:
            comparable = isinstance(stage, Graph)
            text = list(graph_lines(stage, names) if isinstance(stage, Graph) else stage.lines())
            lines.append(f"== {name}: {len(text)} lines")
            lines += (changed_lines(before, text) if before and comparable else text) or ["(nothing changed)"]
            before = text if comparable else []
        return "\n".join(lines)


class Profile(Record):
    """A measured call: its result, the time that each step took, and how calls are made.

    As text the slowest steps come first, each with its share of the time, and gigabytes and gigaflops a second, where known.
    """

    outputs: Any
    steps: tuple[ProfiledStep, ...]
    note: str = ""

    def __str__(self) -> str:
        total = sum(step.seconds for step in self.steps) or 1.0
        rows = [
            f"{step.seconds * 1e6:10.1f} {100 * step.seconds / total:5.1f}% {_rate(step.bytes, step.seconds):>7} "
            f"{_rate(step.operations, step.seconds):>8}  {step.op:<28} {step.line}"
            for step in sorted(self.steps, key=lambda step: -step.seconds)
        ]
        heading = f"{'us':>10} {'share':>6} {'GB/s':>7} {'Gflop/s':>8}  {'op':<28} line"
        return "\n".join([*([self.note] if self.note else []), heading, *rows])


def _rate(amount: int, seconds: float) -> str:
    """Billions a second, empty for an amount that is not known."""
    return f"{amount / max(seconds, 1e-9) / 1e9:.1f}" if amount else ""


class Memory(Record):
    """Bytes of working memory: the arena of intermediate values, the results of compiled steps, and both together."""

    arena: int
    results: int
    peak: int


class Transfers(Record):
    """Copies of arrays between host and GPU that all calls of a function have made so far."""

    to_device: int = 0
    to_host: int = 0
