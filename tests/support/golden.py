"""Texts that are compared as wholes: each is a file in tests/golden, which MINIGRAPH_GOLDEN=write writes anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import minigraph as mg
from minigraph.compiler.choose import INTERPRETED
from minigraph.core.graph import Graph, Variable
from minigraph.core.types import tensor_type
from minigraph.printing import Names, graph_lines
from minigraph.rewrite.specialize import specialize

FOLDER = Path(__file__).parents[1] / "golden"


def assert_golden(name: str, lines: Iterable[str]) -> None:
    """The lines are those of the file of this name."""
    text = "\n".join(lines) + "\n"
    path = FOLDER / f"{name}.txt"
    if os.environ.get("MINIGRAPH_GOLDEN") == "write":
        path.write_text(text)
    assert path.exists(), f"{path} is missing; MINIGRAPH_GOLDEN=write writes it, to be read before it is kept"
    assert text == path.read_text()


def tensor(name: str, *shape: int | None, dtype: str = "float32") -> Variable:
    """An input of a shape."""
    return mg.tensor(name, dtype=dtype, shape=shape)


def graph(inputs: Sequence[Variable], *outputs: Variable) -> Graph:
    """The graph of some outputs."""
    return Graph(tuple(inputs), outputs)


def static(given: Graph, *shapes: Sequence[int]) -> Graph:
    """A graph after all passes on whole graphs, for inputs of these shapes."""
    for step in INTERPRETED.whole:
        given = step.run(given)
    return specialize(given, [tensor_type(one.dtype, shape) for one, shape in zip(given.inputs, shapes, strict=True)])


def change(step: Callable[[Graph], Graph], before: Graph) -> Iterator[str]:
    """What a pass makes of a graph: the lines before, and those after."""
    names = Names()
    yield from graph_lines(before, names, origins=False)
    yield "->"
    yield from graph_lines(step(before), names, origins=False)


def nothing(step: Callable[[Graph], Graph], before: Graph) -> bool:
    """Whether a pass leaves a graph as it is."""
    first, second = (list(graph_lines(one, origins=False)) for one in (before, step(before)))
    return first == second


def table(title: str, rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """Rows as lines under a title."""
    yield title
    yield from ("  " + "  ".join(map(str, row)) for row in rows)
