"""Walks over graphs that build other graphs: transforming, rebuilding, replacing; all of them iterative."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from minigraph.core.errors import InvalidTypeError
from minigraph.core.graph import Input, Structural, Variable, toposort
from minigraph.core.origin import warn

Change = Callable[[list[Variable]], list[Variable]]


def with_bodies(variables: Iterable[Variable]) -> list[Variable]:
    """The variables, and those of the bodies among them, each body's before the variable that holds it."""
    found: dict[Variable, None] = {}
    for variable in variables:
        if isinstance(variable.op, Structural):
            found.update(dict.fromkeys(with_bodies(variable.op.body.variables)))
        found[variable] = None
    return list(found)


def _applied(variable: Variable, done: Mapping[Variable, Variable], change: Change) -> Variable:
    """A variable over what its inputs became, its body changed, too, if it has one; itself if nothing differs."""
    op, inputs = variable.op, tuple([done[one] for one in variable.inputs])
    if isinstance(op, Structural):
        roots = op.body.roots
        changed = change(roots)
        if changed != roots:
            op, inputs = op.with_body(changed, inputs)
            kinds = op.infer(*[one.type for one in inputs])
            return Variable(op, inputs, kinds, variable.name, variable.tags, variable.origin)
    return variable.with_inputs(inputs) if inputs != variable.inputs else variable


def transform(roots: Sequence[Variable], step: Callable[[Variable], Variable]) -> list[Variable]:
    """The roots of a graph in which each variable, its inputs transformed already, became `step(variable)`, in bodies, too."""
    done: dict[Variable, Variable] = {}
    for variable in toposort(roots):
        done[variable] = step(_applied(variable, done, lambda inner: transform(inner, step)))
    return [done[root] for root in roots]


def from_inside(roots: list[Variable], change: Change) -> list[Variable]:
    """The roots of a graph after `change` was made to the roots of each body, inner ones first, and to these in the end."""
    done: dict[Variable, Variable] = {}
    for variable in toposort(roots):
        done[variable] = _applied(variable, done, lambda inner: from_inside(inner, change))
    return change([done[root] for root in roots])


def rebuild(roots: Sequence[Variable], substitutes: Mapping[Variable, Variable]) -> list[Variable]:
    """The roots with each key of `substitutes` swapped for its value as it stands; what does not change stays itself."""
    done = dict(substitutes)
    for variable in toposort(roots, stop=substitutes.keys()):
        if variable not in done:
            done[variable] = _applied(variable, done, lambda inner: rebuild(inner, substitutes))
    return [done[root] for root in roots]


def replace(roots: Sequence[Variable], replacements: Mapping[Variable, Variable]) -> list[Variable]:
    """The roots with every key of `replacements` replaced.

    Replacements compose: inside the replacement of a variable, the keys that the variable itself depends on are
    replaced too. Any other key stays unchanged, so that a replacement may mention its own key, and two inputs may swap.
    A key that is not in the graph causes a warning.
    """
    for key, value in replacements.items():
        check_replacement(key, value)
    order = with_bodies(toposort([*roots, *replacements]))
    unknown = set(replacements) - set(with_bodies(toposort(roots)))
    for key in replacements:
        if key in unknown:
            warn(f"{key!r} is not in the graph and is not replaced")
    final: dict[Variable, Variable] = {}
    for key in (variable for variable in order if variable in replacements):
        value = replacements[key]
        mentioned = [one for one in toposort([value]) if one in final and one is not key]
        if mentioned:
            upstream = set(toposort([key]))
            value = rebuild([value], {one: final[one] for one in mentioned if one in upstream})[0]
        final[key] = value
    return rebuild(roots, final)


_replaced = replace  # under a name that the parameter of `clone` does not hide


def clone(
    outputs: Any,
    replace: Mapping[Variable, Variable] | Iterable[tuple[Variable, Variable]] | None = None,
    share_inputs: bool = True,
) -> Any:
    """`outputs`, a variable or a list, with others replaced as `minigraph.replace` does it; over fresh inputs on request.

    Inputs are fresh if `share_inputs` is False. Shared variables stay the same, since a copy would be other state; `replace`
    exchanges them for others.
    """
    listed = [outputs] if isinstance(outputs, Variable) else list(outputs)
    results = _replaced(listed, dict(replace)) if replace else listed
    if not share_inputs:
        leaves = [one for one in toposort(results) if isinstance(one.op, Input)]
        results = rebuild(results, {one: Variable(Input(), (), one.type, one.name, one.tags) for one in leaves})
    return results[0] if isinstance(outputs, Variable) else results


def check_replacement(old: Any, new: Any) -> None:
    """TypeError unless both are variables, and `new` may stand wherever `old` stood."""
    for one in (old, new):
        if not isinstance(one, Variable):
            raise InvalidTypeError(f"replacements map variables to variables, not {type(one).__name__} {one!r}")
    if not old.type.admits(new.type):
        raise InvalidTypeError(
            f"{old!r} ({old.origin}) cannot be replaced by {new!r} ({new.origin}): the dtype, the number of axes, the known "
            "sizes, and which axes broadcast must agree"
        )
