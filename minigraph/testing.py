"""Checks for those who write ops and rules: gradients against finite differences, rewrites against what they replace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigraph.core.conversion import tensor
from minigraph.core.errors import FailedAssertionError
from minigraph.core.graph import Composite, Constant, Graph, Op, Shared, Variable, evaluated, toposort
from minigraph.core.guard import guard_all
from minigraph.core.state import snapshot
from minigraph.functions.function import function
from minigraph.gradient import grad
from minigraph.ops.elementwise.base import Cast
from minigraph.printing import graph_lines
from minigraph.rewrite.engine import Rule, rewrite

__all__ = ["assert_rewrites", "compute_plainly", "numeric_gradient", "verify_grad"]


def numeric_gradient(f: Callable[..., Any], points: Sequence[np.ndarray[Any, Any]], step: float = 1e-6) -> list[Any]:
    """The gradient of a scalar-valued function f of float64 arrays at `points` by central differences; `step` is relative."""
    gradients = []
    for which, point in enumerate(points):
        slope = np.zeros_like(point)
        for place in np.ndindex(point.shape):
            width = step * max(1.0, abs(float(point[place])))
            values = []
            for direction in (1, -1):
                moved = [one.copy() for one in points]
                moved[which][place] += direction * width
                values.append(float(f(*moved)))
            slope[place] = (values[0] - values[1]) / (2 * width)
        gradients.append(slope)
    return gradients


def verify_grad(
    build: Callable[..., Variable], points: Sequence[Any], *, order: int = 1, seed: int = 0, step: float = 1e-6,
    rtol: float = 1e-5, atol: float = 1e-7, backend: str | None = None,
) -> None:  # fmt: skip
    """Check the gradient of the result of `build`, a function of variables, at `points` against finite differences in float64.

    The result is projected on a random direction, drawn from `seed`; with order 2 the gradient is checked likewise. step: that
    of the differences, relative to the points. rtol, atol: the tolerated relative and absolute error. backend: as for
    `function`, computes the gradients; the differences are those of values that NumPy computes.
    AssertionError, which says where and by how much, if they differ.

    >>> mg.testing.verify_grad(lambda x: x**2, [[1.0, 2.0]])
    """
    values = [np.asarray(point, dtype=np.float64) for point in points]
    inputs = [tensor(f"x{k}", dtype="float64", shape=value.shape) for k, value in enumerate(values)]
    rng = np.random.default_rng(seed)
    scalar = _projected(build(*inputs), rng)
    for level in range(order):
        slopes = grad(scalar, inputs, disconnected_inputs="ignore")
        f = function(inputs, scalar, on_unused_input="ignore", backend="numpy")
        df = function(inputs, slopes, on_unused_input="ignore", backend=backend)
        expected = numeric_gradient(f, values, step)
        for k, (ours, theirs) in enumerate(zip(df(*values), expected, strict=True)):
            scale = max(1.0, float(np.abs(theirs).max(initial=0.0)))
            if not np.allclose(ours, theirs, rtol=rtol, atol=atol * scale):
                raise FailedAssertionError(
                    f"gradient of order {level + 1} by input {k} differs from finite differences by up to "
                    f"{np.abs(ours - theirs).max():.3g}:\n{ours}\nagainst\n{theirs}"
                )
        scalar = sum((_projected(slope, rng) for slope in slopes[1:]), _projected(slopes[0], rng))


def _projected(variable: Variable, rng: np.random.Generator) -> Variable:
    """The sum of a variable's elements under random weights."""
    if None in variable.type.shape:
        return (variable * rng.uniform(0.5, 1.5)).sum()
    weights = rng.uniform(0.5, 1.5, size=[size or 0 for size in variable.type.shape])
    return (variable * weights).sum()


def assert_rewrites(rule: Rule, before: Variable, after: Variable | None, points: dict[Variable, Any] | None = None) -> None:
    """Check that a rule makes `after` of `before` (None: leaves it alone), and that both have the same values at `points`.

    Graphs are compared by structure. AssertionError, with both graphs, if they differ.
    """
    from_rule = rewrite(Graph((), (before,)), [rule]).outputs[0]
    expected = before if after is None else after
    ours, theirs = _text(from_rule), _text(expected)
    if ours != theirs:
        raise FailedAssertionError(f"{rule.__name__} made\n{ours}\nexpected\n{theirs}")
    if points is not None:
        new, old = compute_plainly([from_rule, before], dict(points))
        np.testing.assert_allclose(new, old, rtol=1e-6)


def compute_plainly(roots: Sequence[Variable], values: dict[Variable, Any]) -> list[Any]:
    """The values of the roots without any pass over the graph: each op by its own `forward`, composites as they expand.

    `values` gives the inputs and receives every value that is computed; both branches of an `ifelse` are.
    """
    with np.errstate(all="ignore"):
        for variable in toposort(roots, stop=values.keys()):
            if variable not in values:
                values[variable] = _plain_value(variable, values)
    return [values[root] for root in roots]


def _plain_value(variable: Variable, values: dict[Variable, Any]) -> Any:
    """The value of one variable (a tuple of several results), those of its inputs being known."""
    op = variable.op
    if isinstance(op, Constant):
        return op.value
    if isinstance(op, Shared):
        return snapshot([op.cell])[0]
    if isinstance(op, Composite) and type(op).forward is Op.forward:
        expanded = op.expand(*variable.inputs)
        results = compute_plainly(expanded if isinstance(expanded, tuple) else [expanded], values)
        return tuple(results) if isinstance(expanded, tuple) else results[0]
    if isinstance(op, Cast) and variable.inputs[0].weak:
        return evaluated(variable.inputs[0]).astype(variable.dtype)
    result = op.forward(np, *[values[one] for one in variable.inputs])
    return result if isinstance(result, tuple) or isinstance(variable.type, tuple) else np.asarray(result)


def _text(variable: Variable) -> str:
    """The structure of a graph, for comparison."""
    return "\n".join(graph_lines(Graph((), (variable,)), origins=False))


guard_all(globals(), __all__)
