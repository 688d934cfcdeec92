"""Passes by name: which ones run, in which order, and what each of them made of its graph."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from minigraph.core.errors import ExecutionError, InvalidTypeError, InvalidValueError
from minigraph.core.graph import Graph, Input, Shared, Variable
from minigraph.core.record import Record
from minigraph.core.types import TensorType
from minigraph.printing import Names, graph_lines
from minigraph.rewrite.engine import Rule, rewrite

GraphPass = Callable[[Graph], Graph]


class Pass(Record):
    """A step of compilation: a function from a graph to an equal one, `needed` if no function compiles without it."""

    run: GraphPass
    needed: bool = False

    @property
    def name(self) -> str:
        """The name to leave it out by, that of its function."""
        return self.run.__name__

    @property
    def summary(self) -> str:
        """The first sentence of its docstring."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]


class After(Record):
    """A pass of one's own, and the name of the pass that it comes after each time that one runs."""

    name: str
    run: GraphPass


Wish = str | After | GraphPass
"""The name of a pass to leave out, after a minus sign; or a pass to add, after all others on whole graphs by default."""

_registered: list[After] = []


def register_rule(rule: Rule, after: str) -> None:
    """Let a rewrite rule run in every function that is compiled from now on, after each run of the pass called `after`.

    rule: a function that takes a variable and returns an equal one of the same type, or None where it does not apply.
    after: the name of a pass; functions that leave it out, or whose backend lacks it, do without the rule.
    TypeError if `rule` cannot be called.

    >>> from minigraph.ops.elementwise.arithmetic import Log
    >>> from minigraph.ops.elementwise.transcendental import Exp
    >>> def cancel_log_of_exp(variable):
    ...     match variable:
    ...         case mg.Variable(Log(), (mg.Variable(Exp(), (x,)),)):
    ...             return x
    >>> mg.register_rule(cancel_log_of_exp, after="simplify")
    >>> mg.unregister_rule(cancel_log_of_exp)
    """
    if not callable(rule):
        raise InvalidTypeError(f"a rule is a function from a variable to a variable or None, not {rule!r}")
    _registered.append(After(after, _applying(rule)))


def unregister_rule(rule: Rule) -> None:
    """Leave out a rule that `register_rule` added; ValueError if it was not."""
    found = [one for one in _registered if getattr(one.run, "__wrapped__", None) is rule]
    if not found:
        raise InvalidValueError(f"{rule.__name__} is no rule that was registered")
    for one in found:
        _registered.remove(one)


def _applying(rule: Rule) -> GraphPass:
    """The pass that applies a rule wherever it can."""

    def apply(graph: Graph) -> Graph:
        return rewrite(graph, [rule])

    apply.__name__, apply.__doc__ = rule.__name__, rule.__doc__
    apply.__dict__["__wrapped__"] = rule
    return apply


class Pipeline(Record):
    """The passes of a backend in order: those over graphs of any sizes, and those over regions whose sizes are known."""

    whole: tuple[Pass, ...]
    shaped: tuple[Pass, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all passes, in order."""
        return tuple([one.name for one in (*self.whole, *self.shaped)])

    def changed(self, wishes: Iterable[Wish]) -> Pipeline:
        """The pipeline with passes left out and added; ValueError for a name that it lacks, or a pass that it needs."""
        wished = as_wishes(wishes)
        out = {one.removeprefix("-") for one in wished if isinstance(one, str)}
        for name in out:
            known = [one for one in (*self.whole, *self.shaped) if one.name == name]
            if not known:
                raise InvalidValueError(f"there is no pass {name!r} here; there are {', '.join(dict.fromkeys(self.names))}")
            if known[0].needed:
                raise InvalidValueError(f"the pass {name!r} cannot be left out: {known[0].summary}")
        added = [one if isinstance(one, After) else After("", one) for one in wished if not isinstance(one, str)]
        for one in added:
            if one.name not in ("", *self.names):
                raise InvalidValueError(f"there is no pass {one.name!r} here to come after; there are {', '.join(self.names)}")
        kept = [tuple([one for one in part if one.name not in out]) for part in (self.whole, self.shaped)]
        whole, shaped = (list(_with_added(part, (*_registered, *added))) for part in kept)
        end = next((place for place, one in enumerate(whole) if one.name == "partition"), len(whole))
        whole[end:end] = [Pass(one.run) for one in added if not one.name]
        return Pipeline(tuple(whole), tuple(shaped))


def as_wishes(wishes: Any) -> tuple[Wish, ...]:
    """Wishes one after the other; TypeError for anything that is none."""
    listed = [wishes] if isinstance(wishes, str | After) or callable(wishes) else list(wishes)
    for one in listed:
        fits = one.startswith("-") if isinstance(one, str) else isinstance(one, After) or callable(one)
        if not fits:
            raise InvalidTypeError(
                f"passes are names after a minus sign, such as '-merge', functions, or mg.After, not {one!r}"
            )
    return tuple(listed)


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
    """What planning made of a graph, as text."""

    def lines(self, code: bool = False) -> Iterator[str]:
        """One line after the other, with `code` that of kernels, too."""


class Journal:
    """What passes made, one stage after the other: kept, written to a folder, and checked, as far as that is asked for."""

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
        """Write a numbered file, if there is a folder."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            short = "_".join(re.findall(r"[\w.]+", name))
            path = self.folder / f"{next(self._count):03}_{short}.{ending}"
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
    """ExecutionError, naming the pass, unless a graph computes values of the same types from the same leaves."""
    known = {*before.inputs, *after.inputs, *(one for one in before.variables if not one.inputs)}
    problems = []
    if len(after.roots) != len(before.roots):
        problems.append(f"it has {len(after.roots)} roots in the place of {len(before.roots)}")
    for old, new in zip(before.roots, after.roots, strict=False):
        if isinstance(old.type, TensorType) and not old.type.admits(new.type):
            problems.append(f"a root of type {old.type} became one of {new.type}")
    for one in after.variables:
        if isinstance(one.op, Input | Shared) and one not in known:
            problems.append(f"{one!r} comes from nowhere")
        elif one.inputs and not _is_right(one):
            problems.append(f"{one!r} has another type than {type(one.op).__name__} gives")
    if problems:
        raise ExecutionError(f"the pass {name!r} made a graph that is wrong: {'; '.join(problems[:5])}")


def _is_right(variable: Variable) -> bool:
    """Whether a variable has a type that its op can give it."""
    kinds: Any = variable.op.infer(*[one.type for one in variable.inputs])
    own: Any = variable.type
    if isinstance(kinds, tuple) or isinstance(own, tuple):
        return isinstance(kinds, tuple) == isinstance(own, tuple) and len(kinds) == len(own)
    return bool(kinds.dtype == own.dtype and kinds.ndim == own.ndim)


def dump_folder(given: str | Path | None, name: str | None) -> Path | None:
    """The folder for the files of one function, a new one in `given`, or else in that of MINIGRAPH_DUMP, if any is named."""
    parent = given if given is not None else os.environ.get("MINIGRAPH_DUMP") or None
    if parent is None:
        return None
    for number in count():
        path = Path(parent) / f"{number:03}_{name or 'function'}"
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            continue
    return None
