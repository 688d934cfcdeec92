"""The arguments of `function`, checked: inputs with options, the form of outputs, updates, givens."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minigraph.core.conversion import as_variable, fit
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Array, Constant, Graph, Input, Shared, Variable
from minigraph.core.origin import warn
from minigraph.core.record import Record
from minigraph.core.walks import rebuild, replace
from minigraph.core.wishes import Wish
from minigraph.ops.control import computed_by, updated_value
from minigraph.ops.loop.asked import asked_updates
from minigraph.rewrite.anonymous import anonymous

__all__ = ["In", "Out"]


class In(Record):
    """An input with options: a default `value`, a `name` to give it by, `borrow` to let results share its memory, and `cast` to
    round floats, such as float64 data for a float32 input.
    """

    variable: Variable
    value: Any = None
    name: str | None = None
    borrow: bool = False
    cast: bool = False

    @property
    def key(self) -> str | None:
        """The name by which callers give it."""
        return self.name or self.variable.name


class Out(Record):
    """An output with options: `borrow`, to let it share memory with inputs, state, or constants, so that it must not be written
    to; `host`, to get a NumPy array whatever the backend.
    """

    variable: Variable
    borrow: bool = False
    host: bool = False


class Structure(Record):
    """The form in which outputs were asked for: a variable, a list or a dict, which may borrow, and which the host gets."""

    kind: str
    keys: tuple[Any, ...]
    borrow: tuple[bool, ...]
    host: tuple[bool, ...] = ()

    def pack(self, values: Sequence[Array]) -> Any:
        """The results in the form that was asked for."""
        if self.kind == "single":
            return values[0]
        return dict(zip(self.keys, values, strict=True)) if self.kind == "dict" else list(values)


# -- building --------------------------------------------------------------------------------------------------------


class Specification(Record):
    """All arguments that a function was made with, checked; pickle keeps them."""

    inputs: tuple[In, ...]
    graph: Graph
    structure: Structure
    backend: str | None = None
    name: str | None = None
    trace: bool = False
    passes: tuple[Wish, ...] = ()
    dump: str | Path | None = None

    def portable(self) -> Specification:
        """The same without what tells how the graph was made, so that it can be loaded without the code that made it."""
        graph = anonymous(self.graph)
        pairs = zip(graph.inputs, self.inputs, strict=True)
        inputs = tuple([In(leaf, one.value, one.name, one.borrow, one.cast) for leaf, one in pairs])
        return Specification(inputs, graph, self.structure, self.backend, self.name, self.trace, self.passes)


Updates = Mapping[Variable, Any] | Iterable[tuple[Variable, Any]]


def as_spec(given: Variable | In, cast: bool) -> In:
    """An input with its options."""
    spec = given if isinstance(given, In) else In(given)
    return In(spec.variable, spec.value, spec.name, spec.borrow, spec.cast or cast)


def check_inputs(specs: Sequence[In], on_unused_input: str) -> None:
    """Raise for an input that is no variable, shared, a constant, or given twice, and for an unknown `on_unused_input`."""
    if on_unused_input not in ("raise", "warn", "ignore"):
        raise InvalidValueError(f"on_unused_input must be 'raise', 'warn' or 'ignore', not {on_unused_input!r}")
    seen: set[Variable] = set()
    for spec in specs:
        variable = spec.variable
        if not isinstance(variable, Variable):
            raise InvalidTypeError(f"an input must be a variable, not {variable!r}")
        if isinstance(variable.op, Shared):
            raise InvalidTypeError(
                f"{variable!r} ({variable.origin}) is shared, and cannot be an input; replace it by one with givens"
            )
        if isinstance(variable.op, Constant):
            raise InvalidTypeError(f"{variable!r} ({variable.origin}) is a constant, and cannot be an input")
        if variable in seen:
            raise InvalidValueError(f"{variable!r} ({variable.origin}) is given as an input twice")
        seen.add(variable)


def _as_leaf(variable: Variable) -> Variable:
    """An input as a leaf: a computed variable that the caller gives is not computed."""
    if not variable.inputs:
        return variable
    return Variable(Input(), (), variable.type, variable.name, variable.tags, variable.origin)


def structure_of(outputs: Any) -> tuple[Structure, list[Variable]]:
    """The form of the outputs, and the variables."""
    if outputs is None:
        return Structure("list", (), (), ()), []
    if isinstance(outputs, Mapping):
        kind, keys, listed = "dict", tuple(outputs), list(outputs.values())
    elif isinstance(outputs, list | tuple):
        kind, keys, listed = "list", (), list(outputs)
    else:
        kind, keys, listed = "single", (), [outputs]
    wrapped = [one if isinstance(one, Out) else Out(one) for one in listed]
    variables = []
    for one in wrapped:
        if not isinstance(one.variable, Variable | np.ndarray | int | float):
            raise InvalidTypeError(f"an output must be a variable, not {one.variable!r}")
        variables.append(as_variable(one.variable))
        if isinstance(variables[-1].type, tuple):
            raise InvalidTypeError(f"{variables[-1]!r} has several results, and cannot be an output; ask for one of them")
    return Structure(kind, keys, tuple(one.borrow for one in wrapped), tuple(one.host for one in wrapped)), variables


def as_pairs(given: Any, what: str) -> list[tuple[Any, Any]]:
    """A mapping or a sequence of pairs as a list of pairs; TypeError otherwise."""
    if isinstance(given, Mapping):
        return list(given.items())
    pairs = [tuple(pair) if isinstance(pair, list | tuple) else (pair,) for pair in given]
    for pair in pairs:
        if len(pair) != 2:
            raise InvalidTypeError(f"{what} must be pairs, or a dict, not {pair!r}")
    return pairs


def checked_updates(updates: Any) -> list[tuple[Variable, Variable]]:
    """The updates as pairs of variables, each target once and of the type of its new value."""
    result: dict[Variable, Variable] = {}
    for target, value in as_pairs(updates, "updates"):
        new = updated_value(target, value)
        if target in result:
            raise InvalidValueError(f"shared variable {target!r} ({target.origin}) has two updates; combine them into one")
        result[target] = new
    return list(result.items())


def with_givens(roots: Sequence[Variable], givens: Any, leaves: Mapping[Variable, Variable], on_unused: str) -> list[Variable]:
    """The roots with computed inputs turned into `leaves`, so that nothing before them counts, and the `givens` replaced.

    A given that does not occur causes a warning, unless `on_unused` is "ignore".
    """
    roots = rebuild(roots, leaves)
    pairs = as_pairs(givens, "givens")
    replacements = {old: as_variable(new) if isinstance(new, Variable) else _typed_like(old, new) for old, new in pairs}
    if len(replacements) != len(pairs):
        raise InvalidValueError("a variable is replaced twice in givens")
    if not replacements:
        return roots
    replacements = dict(zip(replacements, rebuild(list(replacements.values()), leaves), strict=True))
    with warnings.catch_warnings():
        if on_unused == "ignore":
            warnings.simplefilter("ignore", UserWarning)
        return replace(roots, replacements)


def _typed_like(old: Any, new: Any) -> Variable:
    """An array given for a variable, as a constant of its dtype."""
    if not isinstance(old, Variable):
        raise InvalidTypeError(f"givens replace variables, not {old!r}")
    return as_variable(fit(new, old.type, f"what is given for {old!r} ({old.origin})"))


def default_updates(
    roots: Sequence[Variable], explicit: Iterable[Variable] = (), disabled: bool | Sequence[Variable] = False
) -> list[tuple[Variable, Variable]]:
    """The updates that computing `roots`, or a new value, asks for, without those of `explicit` and `disabled` targets."""
    if disabled is True:
        return []
    excluded = set(explicit) | set(disabled or ())
    asked = asked_updates(roots, lambda target: isinstance(target.op, Shared) and target not in excluded)
    return [(target, new) for target, (_, new) in asked.items()]


def check_leaves(graph: Graph, on_unused: str) -> None:
    """Raise for an input that is missing; raise, warn or pass for one that is not used."""
    given = set(graph.inputs)
    order = computed_by(graph.roots, stop=given)
    for variable in order:
        if isinstance(variable.op, Input) and variable not in given:
            raise InvalidValueError(
                f"{variable!r}, made at {variable.origin}, is needed to compute the outputs or updates, "
                "but is not among the inputs"
            )
    used = set(order)
    names = [one.name for one in graph.inputs if one.name is not None]
    for variable in graph.inputs:
        if variable not in used:
            twin = f", beside another input named {variable.name!r}," if names.count(variable.name or "") > 1 else ""
            message = (
                f"input {variable!r}, made at {variable.origin}{twin or ','} is not used by any output or update; leave it "
                "out, or pass on_unused_input='ignore'"
            )
            if on_unused == "raise":
                raise InvalidValueError(message)
            if on_unused == "warn":
                warn(message)
