"""Differentiation: one reverse pass, from which products with Jacobians and Hessians of any order follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, overload

from minigraph.core.context import alone, without_collector
from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Composite, Input, Item, Op, Variable, toposort
from minigraph.core.origin import carry_origin, warn
from minigraph.core.types import TensorType
from minigraph.core.walks import rebuild
from minigraph.ops.array.arranging import stack
from minigraph.ops.array.creation import ones_like, zeros_like
from minigraph.ops.array.shape import dimshuffle, ravel, reshape, shape
from minigraph.ops.control import IfElse
from minigraph.ops.elementwise.arithmetic import Add
from minigraph.ops.elementwise.base import Cotangents, cast
from minigraph.ops.loop.gradient import loop_cotangents
from minigraph.ops.loop.loop import Scan
from minigraph.ops.reduce.reduction import sum as sum_over
from minigraph.rewrite.stability.rules import stable_forms

__all__ = ["grad", "hessian", "hessian_vector_product", "jacobian", "jvp", "vjp"]

Several = list[Variable] | tuple[Variable, ...]


@overload
def grad(
    cost: Variable | None, wrt: Variable, *, consider_constant: Iterable[Variable] = (), disconnected_inputs: str = "raise",
    known_grads: Mapping[Variable, Any] | None = None, return_disconnected: str = "zero",
) -> Variable: ...  # fmt: skip
@overload
def grad(
    cost: Variable | None, wrt: Several, *, consider_constant: Iterable[Variable] = (), disconnected_inputs: str = "raise",
    known_grads: Mapping[Variable, Any] | None = None, return_disconnected: str = "zero",
) -> list[Variable]: ...  # fmt: skip
def grad(
    cost: Variable | None, wrt: Variable | Several, *, consider_constant: Iterable[Variable] = (),
    disconnected_inputs: str = "raise", known_grads: Mapping[Variable, Any] | None = None, return_disconnected: str = "zero",
) -> Any:  # fmt: skip
    """The derivative of a scalar with respect to a variable, or to each of a list.

    `consider_constant` are not differentiated through; they may be differentiated by. `known_grads` gives cotangents of other
    variables, which are added to what flows from the cost; with cost None they alone are the start. A wrt that the cost does
    not depend on raises, unless `disconnected_inputs` is "warn" or "ignore"; its gradient is then zero, or None if
    `return_disconnected` is "none".

    TypeError: a cost that is no float scalar, a wrt that is no float variable. ValueError: a disconnected wrt.
    """
    wanted = _variables(wrt, "wrt")
    for option, value, choices in (
        ("disconnected_inputs", disconnected_inputs, ("raise", "warn", "ignore")),
        ("return_disconnected", return_disconnected, ("zero", "none")),
    ):
        if value not in choices:
            raise InvalidValueError(f"{option} must be one of {choices}, not {value!r}")
    start = {variable: _known_cotangent(variable, given) for variable, given in (known_grads or {}).items()}
    if cost is not None:
        _check_cost(cost)
        start[cost] = start[cost] + ones_like(cost) if cost in start else ones_like(cost)
    elif not start:
        raise InvalidValueError("grad needs a cost, known_grads, or both")
    constant = [consider_constant] if isinstance(consider_constant, Variable) else consider_constant
    cotangents = without_collector(alone, _stable_cotangents, start, wanted, set(constant))
    results: list[Variable | None] = []
    for variable in wanted:
        found = cotangents.get(variable)
        if found is None:
            _report_disconnected(variable, cost, disconnected_inputs)
            found = zeros_like(variable) if return_disconnected == "zero" else None
        results.append(found)
    return results if isinstance(wrt, list | tuple) else results[0]


def _stable_cotangents(
    start: Mapping[Variable, Variable], wanted: Sequence[Variable], constant: set[Variable]
) -> dict[Variable, Variable]:
    """The cotangents of what is wanted, by way of stable forms of what is differentiated."""
    begun: dict[Variable, list[Variable]] = {}
    for form, cotangent in zip(stable_forms(list(start), {*wanted, *constant}), start.values(), strict=True):
        begun.setdefault(form, []).append(cotangent)
    return _backpropagate({form: reduce(Add(), parts) for form, parts in begun.items()}, wanted, constant)


def _variables(given: Any, what: str) -> list[Variable]:
    """`given` as a list of float variables; TypeError otherwise."""
    listed = list(given) if isinstance(given, list | tuple) else [given]
    for variable in listed:
        if not isinstance(variable, Variable):
            raise InvalidTypeError(f"{what} must be a variable or a list of them, not {variable!r}")
        if isinstance(variable.type, TensorType) and variable.dtype.kind != "f":
            raise InvalidTypeError(
                f"{what} {variable!r} ({variable.origin}) has dtype {variable.dtype}: derivatives are defined for floats only; "
                "cast it to a float where it enters the graph"
            )
    return listed


def _check_cost(cost: Any) -> None:
    """TypeError unless the cost is a float scalar."""
    if not isinstance(cost, Variable):
        raise InvalidTypeError(f"the cost must be a variable, not {cost!r}")
    if cost.ndim or cost.dtype.kind != "f":
        raise InvalidTypeError(
            f"the cost must be a float scalar, but {cost!r} ({cost.origin}) is {cost.type}; reduce it with mean or sum"
        )


def _known_cotangent(variable: Variable, given: Any) -> Variable:
    """A given cotangent as a variable of the right type; TypeError otherwise."""
    _variables(variable, "a variable with a known gradient")
    cotangent = cast(as_variable(given), variable.dtype)
    if cotangent.ndim != variable.ndim or cotangent.broadcastable != variable.broadcastable:
        raise InvalidTypeError(f"the known gradient {cotangent!r} does not have the shape of {variable!r}")
    return cotangent


def _report_disconnected(variable: Variable, cost: Variable | None, how: str) -> None:
    """Raise, warn, or neither, for a variable that the cost does not depend on."""
    message = (
        f"the cost {cost if cost is not None else 'given by known_grads'} does not depend on {variable!r} ({variable.origin}) "
        "in a differentiable way; pass disconnected_inputs='ignore' for a gradient of zero"
    )
    if variable.inputs:
        message += "; an expression that is written twice, such as x[0], is two variables: name it once, and use that"
    if how == "raise":
        raise InvalidValueError(message)
    if how == "warn":
        warn(message)


def _backpropagate(
    start: Mapping[Variable, Variable], wanted: Sequence[Variable], constant: set[Variable]
) -> dict[Variable, Variable]:
    """The cotangents of all variables between `start` and `wanted`."""
    order = toposort(start, stop=constant)
    relevant: set[Variable] = set()
    targets = set(wanted)
    for variable in order:
        if variable in targets or (variable not in constant and any(one in relevant for one in variable.inputs)):
            relevant.add(variable)
    branches = _Branches(order, start)
    parts: dict[Variable, list[Variable]] = {variable: [cotangent] for variable, cotangent in start.items()}
    item_parts: dict[Variable, dict[int, list[Variable]]] = {}
    found: dict[Variable, Variable] = {}
    for variable in reversed(order):
        if variable not in relevant:
            continue
        with carry_origin(variable.origin):
            if variable in item_parts:
                kinds: Any = variable.type
                dy: Any = tuple(_total(item_parts[variable].get(k, [])) for k in range(len(kinds)))
            else:
                dy = found[variable] = _total(parts.pop(variable, []))  # type: ignore[assignment]
            if dy is None or not variable.inputs or variable in constant:
                continue
            if isinstance(variable.op, Item):
                whole = variable.inputs[0]
                passed = branches.leave(dy, variable, branches.of(variable), branches.of(whole))
                item_parts.setdefault(whole, {}).setdefault(variable.op.index, []).append(passed)
                continue
            for place, (one, cotangent) in enumerate(zip(variable.inputs, _input_cotangents(variable, dy), strict=True)):
                if cotangent is not None and one in relevant:
                    fitting = _sum_to(cotangent, one, variable.op)
                    passed = branches.leave(fitting, one, branches.at(variable, place), branches.of(one))
                    parts.setdefault(one, []).append(passed)
    return {
        variable: branches.leave(cotangent, variable, branches.of(variable), None)
        for variable, cotangent in found.items()
        if cotangent is not None and (variable in targets or variable in start)
    }


@dataclass(frozen=True, eq=False)
class _Branch:
    """A side of an `ifelse`, perhaps within a side of another."""

    condition: Variable
    taken_if_true: bool
    outside: _Branch | None
    depth: int


class _Branches:
    """For each variable the innermost branch that alone needs it: only there may its cotangent be computed."""

    def __init__(self, order: Sequence[Variable], start: Iterable[Variable]) -> None:
        self._homes: dict[Variable, _Branch | None] = {}
        self._sides: dict[tuple[Variable, int], _Branch] = {}
        if not any(variable.op.lazy_from is not None for variable in order):
            return
        self._homes = dict.fromkeys(start)
        for variable in reversed(order):
            home = self.of(variable)
            for place, one in enumerate(variable.inputs):
                side = home
                if variable.op.lazy_from is not None and place:
                    depth = 1 + (home.depth if home else 0)
                    side = self._sides[variable, place] = _Branch(variable.inputs[0], place == 1, home, depth)
                self._homes[one] = _innermost_common(self._homes[one], side) if one in self._homes else side

    def of(self, variable: Variable) -> _Branch | None:
        """The branch that a variable lives in, None if it is needed in any case."""
        return self._homes.get(variable)

    def at(self, variable: Variable, place: int) -> _Branch | None:
        """The branch from which a variable passes a cotangent on to one of its inputs."""
        return self._sides.get((variable, place)) or self.of(variable)

    def leave(self, cotangent: Variable, of: Variable, inner: _Branch | None, outer: _Branch | None) -> Variable:
        """A cotangent of a variable, from within `inner` as seen in `outer`: zero unless all branches between are taken."""
        while inner is not outer and inner is not None:
            pair = (cotangent, zeros_like(of))
            cotangent = IfElse()(inner.condition, *(pair if inner.taken_if_true else reversed(pair)))
            inner = inner.outside
        return cotangent


def _innermost_common(one: _Branch | None, other: _Branch | None) -> _Branch | None:
    """The innermost branch that both lie in."""
    while one is not other:
        if one is None or other is None:
            return None
        if one.depth >= other.depth:
            one = one.outside
        else:
            other = other.outside
    return one


def _total(parts: Sequence[Variable]) -> Variable | None:
    """The sum of cotangents, None of none."""
    return reduce(add, parts) if parts else None


def _input_cotangents(variable: Variable, dy: Any) -> Cotangents:
    """The cotangents of a variable's inputs: its op's gradient, or that of what a composite expands to."""
    op = variable.op
    if isinstance(op, Scan) and type(op).gradient is Op.gradient:
        return loop_cotangents(variable, dy, lambda start, wanted: _backpropagate(start, wanted, set()))
    if not isinstance(op, Composite) or type(op).gradient is not Op.gradient:
        return op.gradient(dy, variable, *variable.inputs)
    # over copies: an input that another input depends on must not be counted twice
    copies = [one.copy() for one in variable.inputs]
    expanded = op.expand(*copies)
    start: dict[Variable, Variable] = {}
    for result, cotangent in zip(expanded, dy, strict=True) if isinstance(expanded, tuple) else [(expanded, dy)]:
        if cotangent is not None:  # one variable may be several of the results
            start[result] = start[result] + cotangent if result in start else cotangent
    cotangents = _backpropagate(start, copies, set())
    return [cotangents.get(copy) for copy in copies]


def _sum_to(cotangent: Variable, variable: Variable, op: Op) -> Variable:
    """A cotangent summed over the axes along which an input was broadcast, with sizes of 1 where that has them."""
    type = variable.type
    if cotangent.dtype != type.dtype:
        raise InvalidTypeError(f"the gradient of {op} has dtype {cotangent.dtype} for an input of {type}")
    extra = cotangent.ndim - type.ndim
    stretched = [axis for axis, known in enumerate(type.shape, extra) if known == 1 and cotangent.type.shape[axis] != 1]
    if not extra and not stretched:
        by_chance = any(size == 1 != known for size, known in zip(cotangent.type.shape, type.shape, strict=True))
        return reshape(cotangent, shape(variable)) if by_chance else cotangent
    summed = sum_over(cotangent, [*range(extra), *stretched], dtype=type.dtype)
    remaining = iter(range(summed.ndim))
    return dimshuffle(summed, [None if axis + extra in stretched else next(remaining) for axis in range(type.ndim)])


# -- products with Jacobians -----------------------------------------------------------------------------------------


def vjp(outputs: Variable | Several, wrt: Variable | Several, cotangents: Any) -> Any:
    """Cotangents of `wrt` from those of the outputs: the product of a row vector with the Jacobian.

    cotangents: one for each output, of its shape and dtype. Returns a variable or a list, as `wrt` is; zeros where no output
    depends on it. ValueError for another number of cotangents.
    """
    heads = _variables(outputs, "an output")
    rows = list(cotangents) if isinstance(cotangents, list | tuple) and isinstance(outputs, list | tuple) else [cotangents]
    if len(heads) != len(rows):
        raise InvalidValueError(f"{len(heads)} outputs need as many cotangents, not {len(rows)}")
    start: dict[Variable, Variable] = {}
    for head, row in zip(heads, rows, strict=True):
        known = _known_cotangent(head, row)
        start[head] = start[head] + known if head in start else known
    return grad(None, wrt, known_grads=start, disconnected_inputs="ignore")


def jvp(outputs: Variable | Several, wrt: Variable | Several, tangents: Any) -> Any:
    """Tangents of the outputs from those of `wrt`: the product of the Jacobian with a column vector.

    It is computed as the transpose of a vjp, which is linear in its cotangent. tangents: one for each of `wrt`, of its shape
    and dtype. Returns a variable or a list, as `outputs` is. ValueError for another number of tangents.
    """
    heads, sources = _variables(outputs, "an output"), _variables(wrt, "wrt")
    columns = list(tangents) if isinstance(tangents, list | tuple) and isinstance(wrt, list | tuple) else [tangents]
    if len(sources) != len(columns):
        raise InvalidValueError(f"{len(sources)} variables need as many tangents, not {len(columns)}")
    probes = [Variable(Input(), (), head.type) for head in heads]
    pulled = vjp(heads, sources, probes)
    pushed = vjp(pulled, probes, columns)
    zeros = {probe: zeros_like(head) for probe, head in zip(probes, heads, strict=True)}
    results = rebuild(pushed, zeros)
    return results if isinstance(outputs, list | tuple) else results[0]


def _known_length(x: Variable, what: str) -> int:
    """The number of elements of x; ValueError if a size is unknown."""
    if not isinstance(x.size, int):
        raise InvalidValueError(f"{what} {x!r} ({x.origin}) must have known sizes: declare them with shape=...")
    return x.size


def jacobian(expression: Variable, wrt: Variable | Several) -> Any:
    """The derivative of each element of `expression` (of known size) by each of `wrt`: shape expression.shape + wrt.shape."""
    sources = _variables(wrt, "wrt")
    flat = ravel(_variables(expression, "the expression")[0])
    rows = [grad(flat[k], sources, disconnected_inputs="ignore") for k in range(_known_length(expression, "the expression"))]
    results = []
    for k, source in enumerate(sources):
        table = stack([row[k] for row in rows]) if rows else zeros_like(source)[None][:0]
        results.append(reshape(table, (*expression.shape, *source.shape)))
    return results if isinstance(wrt, list | tuple) else results[0]


def hessian(cost: Variable, wrt: Variable | Several) -> Any:
    """The second derivatives of a scalar by each of `wrt` (of known sizes): shape wrt.shape + wrt.shape."""
    results = [jacobian(grad(cost, source), source) for source in _variables(wrt, "wrt")]
    return results if isinstance(wrt, list | tuple) else results[0]


def hessian_vector_product(cost: Variable, wrt: Variable | Several, vectors: Any) -> Any:
    """The product of the Hessian of a scalar `cost` with vectors shaped like `wrt`, without building the Hessian."""
    return vjp(grad(cost, wrt, disconnected_inputs="ignore"), wrt, vectors)
