"""What a function tells about itself: its passes, one measured call, its memory, its transfers."""

from __future__ import annotations

from typing import Any

from minigraph.core.graph import Graph
from minigraph.core.record import Record
from minigraph.printing import graph_diff

__all__ = [
    "Memory",
    "Profile",
    "Trace",
    "Transfers",
]


class Trace(Record):
    """What each pass made of a graph: (name of the pass, graph after it); the first entry is what it began with."""

    stages: tuple[tuple[str, Graph], ...]

    def __str__(self) -> str:
        lines = []
        previous: Graph | None = None
        for name, graph in self.stages:
            lines.append(f"== {name}: {len(graph.variables)} variables")
            if previous is not None:
                lines.append(graph_diff(previous, graph) or "(nothing changed)")
            previous = graph
        return "\n".join(lines)


class Profile(Record):
    """One measured call: its result, the seconds that each step took, as (op, user's line, seconds), and how calls are made."""

    outputs: Any
    steps: tuple[tuple[str, str, float], ...]
    note: str = ""

    def __str__(self) -> str:
        total = sum(seconds for *_, seconds in self.steps) or 1.0
        slowest = sorted(self.steps, key=lambda step: -step[2])
        rows = [f"{seconds * 1e6:10.1f} {100 * seconds / total:5.1f}%  {op:<28} {line}" for op, line, seconds in slowest]
        return "\n".join([*([self.note] if self.note else []), f"{'us':>10} {'share':>6}  {'op':<28} line", *rows])


class Memory(Record):
    """Bytes of working memory: the arena of intermediate values, the results of compiled steps, and both together."""

    arena: int
    results: int
    peak: int


class Transfers(Record):
    """Copies of arrays between host and GPU that all calls of a function have made so far."""

    to_device: int = 0
    to_host: int = 0
