"""Passes by name: which ones run, in which order, and what each of them made of its graph."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple, Protocol

from minigraph.core.errors import ExecutionError, InvalidValueError
from minigraph.core.graph import Graph, Input, Shared, Structural, Variable
from minigraph.core.record import Record
from minigraph.core.types import TensorType
from minigraph.core.walks import with_bodies
from minigraph.core.wishes import After, Wish
from minigraph.printing import Names, graph_lines

GraphPass = Callable[[Graph], Graph]


class Pass(Record):
    """A step of compilation: a function from a graph to an equal one, `needed` if no function compiles without it."""

    run: GraphPass
    needed: bool = False

    @property
    def name(self) -> str:
        """The name to leave it out by, that of its function."""
        return getattr(self.run, "__name__", type(self.run).__name__)

    @property
    def summary(self) -> str:
        """The first sentence of its docstring."""
        text = " ".join((self.run.__doc__ or "").split())
        return re.split(r"(?<=\.) ", text, maxsplit=1)[0]


class Pipeline(Record):
    """The passes of a backend in order: those over graphs of any sizes, and those over regions whose sizes are known."""

    whole: tuple[Pass, ...]
    regions: tuple[Pass, ...] = ()
    """Passes that gather compiled ops in regions, in the bodies of loops as well."""
    shaped: tuple[Pass, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all passes, in order."""
        return tuple([one.name for one in (*self.whole, *self.regions, *self.shaped)])

    def changed(self, wishes: Iterable[Wish], elsewhere: Sequence[str] = ()) -> Pipeline:
        """The pipeline with passes left out and added; ValueError for a name that it lacks, or a pass that it needs.

        elsewhere: names of passes of other pipelines, which may be left out and followed here as well, to no effect.
        """
        known = (*self.whole, *self.regions, *self.shaped)
        listed = list(wishes)
        out = {one.removeprefix("-") for one in listed if isinstance(one, str)}
        added = [one for one in listed if isinstance(one, After)]
        last = [Pass(one) for one in listed if not isinstance(one, str | After)]
        for name in (*out, *(one.name for one in added)):
            check_name(name, (*self.names, *elsewhere))
        for one in known:
            if one.needed and one.name in out:
                raise InvalidValueError(f"the pass {one.name!r} cannot be left out: {one.summary}")
        parts = [
            tuple(_with_added([one for one in part if one.name not in out], added))
            for part in (self.whole, self.regions, self.shaped)
        ]
        return Pipeline((*parts[0], *last), *parts[1:])


def check_name(name: str, names: Iterable[str]) -> None:
    """ValueError unless a pass has this name."""
    if name not in names:
        raise InvalidValueError(f"there is no pass {name!r}; there are {', '.join(dict.fromkeys(names))}")


def _with_added(passes: Sequence[Pass], added: Sequence[After]) -> Iterator[Pass]:
    """The passes, each followed by those that come after it."""
    for step in passes:
        yield step
        yield from (Pass(one.run) for one in added if one.name == step.name)


class ProfiledStep(NamedTuple):
    """A step of a measured call: its ops, the user's line, its seconds, and how many bytes it moved and operations it did, 0 if
    that is not known.
    """

    op: str
    line: str
    seconds: float
    bytes: int = 0
    operations: int = 0


class Printable(Protocol):
    """A plan of a graph, as text."""

    def lines(self) -> Iterator[str]:
        """The lines of the text, in order."""


class Journal:
    """The graphs that passes made, stage by stage: kept, written to a folder, and verified, as far as that is asked for."""

    def __init__(self, kept: bool = False, folder: Path | None = None, verified: bool = False) -> None:
        self.kept, self.folder, self.verified = kept, folder, verified
        self.stages: list[tuple[str, Graph | Printable]] = []
        self.names = Names()
        self._count = count()

    @property
    def is_open(self) -> bool:
        """Whether stages are kept or written at all."""
        return self.kept or self.folder is not None

    def note(self, name: str, stage: Graph | Printable) -> None:
        """Keep a stage, and write it."""
        if self.kept:
            self.stages.append((name, stage))
        if self.folder is not None:
            text = graph_lines(stage, self.names) if isinstance(stage, Graph) else stage.lines()
            self.write(name, "txt", text)

    def write(self, name: str, ending: str, lines: Iterable[str]) -> None:
        """Write lines to a numbered file with this name and ending, if there is a folder."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{next(self._count):03}_{_in_paths(name)}.{ending}"
            path.write_text("\n".join(lines) + "\n")

    def run(self, passes: Sequence[Pass], graph: Graph, title: str = "") -> Graph:
        """The graph after some passes, each of which is a stage whose name begins with `title`."""
        for step in passes:
            after = step.run(graph)
            if self.verified:
                verify(step.name, graph, after)
            if self.is_open:
                self.note(f"{title}{step.name}", after)
            graph = after
        return graph


def verify(name: str, before: Graph, after: Graph) -> None:
    """ExecutionError, with the name of the pass, unless the roots after it have the types and leaves of those before."""
    known = {*before.inputs, *after.inputs, *(one for one in with_bodies(before.variables) if not one.inputs)}
    everything = with_bodies(after.variables)
    known.update(one for loop in everything if isinstance(loop.op, Structural) for one in loop.op.body.inputs)
    problems = []
    if len(after.roots) != len(before.roots):
        problems.append(f"it has {len(after.roots)} roots in the place of {len(before.roots)}")
    for old, new in zip(before.roots, after.roots, strict=False):
        if isinstance(old.type, TensorType) and not old.type.admits(new.type):
            problems.append(f"a root of type {old.type} became one of {new.type}")
    for one in everything:
        if isinstance(one.op, Input | Shared) and one not in known:
            problems.append(f"{one!r} comes from nowhere")
        elif one.inputs and not _is_right(one):
            problems.append(f"{one!r} has another type than {type(one.op).__name__} gives")
    if problems:
        raise ExecutionError(f"the pass {name!r} made a graph that is wrong: {'; '.join(problems[:5])}")


def _is_right(variable: Variable) -> bool:
    """Whether a variable has a type that its op can give it."""
    found = [variable.op.infer(*[one.type for one in variable.inputs]), variable.type]
    given, own = ([(one.dtype, one.ndim) for one in (kind if isinstance(kind, tuple) else (kind,))] for kind in found)
    return given == own and isinstance(found[0], tuple) == isinstance(found[1], tuple)


def dump_folder(given: str | Path | None, name: str | None) -> Path | None:
    """The folder for the files of one function, a new one in `given`, or else in that of MINIGRAPH_DUMP, if any is named."""
    parent = given if given is not None else os.environ.get("MINIGRAPH_DUMP") or None
    if parent is None:
        return None
    numbers = count()
    while True:
        path = Path(parent) / f"{next(numbers):03}_{_in_paths(name or 'function')}"
        with suppress(FileExistsError):
            path.mkdir(parents=True)
            return path


def _in_paths(name: str) -> str:
    """A name without what means something in paths."""
    return "_".join(re.findall(r"[\w.]+", name))
