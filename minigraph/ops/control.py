"""Ops that leave a value unchanged and affect what happens around it: updates, assertions, branches, gradients."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidTypeError
from minigraph.core.graph import Array, Identity, Op, Shaped, Shared, Variable, is_annotation, reachable, toposort
from minigraph.core.noted import Noted
from minigraph.core.types import TensorType
from minigraph.ops.elementwise.arithmetic import clip
from minigraph.ops.elementwise.base import Cotangents, Operand, cast, promoted

__all__ = ["assert_", "disconnected_grad", "grad_clip", "grad_reverse", "grad_scale", "ifelse", "with_default_update"]


class DefaultUpdate(Noted, Identity):
    """Its first input; whoever computes it also sets each target to the new value that follows it."""

    pure = False

    @property
    def remedy(self) -> str:
        """The advice of the error about several updates of one target."""
        return "give one in updates, or use no_default_updates"


class Advance(DefaultUpdate):
    """A request that goes with others of its kind: of several new values for one target the greatest counts."""


def with_default_update(x: Operand, updates: Mapping[Variable, Operand]) -> Variable:
    """x, with the request that any function computing it also sets these shared variables to these new values.

    TypeError if a key is not a shared variable, or a new value is not of its type.
    """
    flat = [one for target, value in updates.items() for one in (target, updated_value(target, value))]
    return DefaultUpdate()(as_variable(x), *flat) if flat else as_variable(x)


def updated_value(target: Any, value: Operand) -> Variable:
    """`value` as a variable that may become the value of `target`; TypeError, naming both, if it may not."""
    if not isinstance(target, Variable) or not isinstance(target.op, Shared):
        raise InvalidTypeError(f"only shared variables can be updated, not {target!r}")
    new = value if isinstance(value, Variable) else promoted_to(value, target)
    if new.dtype == target.dtype and new.ndim == target.ndim and not _loses_size(target.type, new.type):
        return new
    widened = widening_op(new, target.type)
    culprit = f"; {widened!r} ({widened.origin}) widened it" if widened is not None else ""
    raise InvalidTypeError(
        f"the update of shared variable {target!r} ({target.origin}) is {new!r} ({new.origin}): dtype, number of axes and "
        f"known sizes must agree{culprit}"
    )


def promoted_to(value: Any, target: Variable) -> Variable:
    """A number or array as a variable, in the dtype of `target` if that is their common one; else in its own."""
    _, new = promoted((target, value))
    return new if new.dtype == target.dtype else as_variable(value)


def _loses_size(target: TensorType, new: TensorType) -> bool:
    """Whether a known size of the target differs from a known one of the new value; calls check the unknown ones."""
    return any(
        mine is not None and mine != theirs and theirs is not None for mine, theirs in zip(target.shape, new.shape, strict=True)
    )


def widening_op(value: Variable, expected: TensorType) -> Variable | None:
    """The first variable, going up from `value`, whose dtype differs from the expected one while an input's does not."""
    kinds = {"f": "f", "b": "biuf"}.get(expected.dtype.kind, "iuf")  # others, such as conditions, do not widen
    pending, seen = [value] if value.dtype != expected.dtype else [], {value}
    while pending:
        current = pending.pop()
        followed = [one for one in current.inputs if isinstance(one.type, tuple) or one.dtype.kind in kinds]
        if any(not isinstance(one.type, tuple) and one.dtype == expected.dtype for one in followed):
            return current
        pending += [one for one in reversed(followed) if one not in seen]
        seen.update(followed)
    return None


def with_asked(x: Variable, updates: Mapping[Variable, tuple[DefaultUpdate, Variable]]) -> Variable:
    """x, with the requests to update each target in the way that its op says."""
    for op in dict.fromkeys(op for op, _ in updates.values()):
        own = [part for target, (kind, new) in updates.items() if kind == op for part in (target, new)]
        x = op(x, *own)
    return x


def computed_by(roots: Sequence[Variable], stop: Container[Variable] = ()) -> list[Variable]:
    """The variables that computing `roots` computes, inputs first, without those only kept reachable, as recorded updates."""

    def used(variable: Variable) -> Sequence[Variable]:
        if variable in stop:
            return ()
        return variable.inputs[:1] if is_annotation(variable.op) else variable.inputs

    needed = reachable(roots, used)
    return [variable for variable in toposort(roots, stop) if variable in needed]


class Assert(Noted, Shaped):
    """Its first input, if all conditions hold; an error otherwise."""

    message: str
    view_of = 0
    pure = False

    def may_fail(self, *types: TensorType) -> bool:
        return True

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def forward(self, xp: Any, x: Array, *conditions: Array) -> Array:
        if not all(bool(condition.all()) for condition in conditions):
            raise AssertionError(self.message)
        return x

    def gradient(self, dy: Variable, y: Variable, x: Variable, *conditions: Variable) -> Cotangents:
        return (dy, *(None for _ in conditions))


def assert_(x: Operand, condition: Operand, message: str = "assertion failed") -> Variable:
    """x, provided that every element of `condition` is true when it is computed; AssertionError with `message` if not."""
    return Assert(message)(as_variable(x), cast(condition, "bool"))


class IfElse(Op):
    """The second input if the first is true, else the third; only that one is computed."""

    lazy_from = 1

    def infer(self, *types: TensorType) -> TensorType:
        condition, then, otherwise = types
        if condition.ndim or condition.dtype.kind != "b":
            raise InvalidTypeError(f"the condition of ifelse must be a scalar, not {condition}; reduce it with all or any")
        if then.dtype != otherwise.dtype or then.broadcastable != otherwise.broadcastable:
            raise InvalidTypeError(f"the branches of ifelse must have one type, not {then} and {otherwise}")
        sizes = tuple(a if a == b else None for a, b in zip(then.shape, otherwise.shape, strict=True))
        return TensorType(then.dtype, sizes)

    def forward(self, xp: Any, condition: Array, then: Array, otherwise: Array) -> Array:
        return xp.array(then if bool(condition) else otherwise)

    def gradient(self, dy: Variable, y: Variable, condition: Variable, then: Variable, otherwise: Variable) -> Cotangents:
        # the driver makes each of these zero, and leaves it uncomputed, where its branch is not taken
        return None, dy, dy


def ifelse(condition: Operand, then: Operand, otherwise: Operand) -> Variable:
    """`then` if the scalar condition is true, else `otherwise`; the branch not taken is not computed."""
    return IfElse()(cast(condition, "bool"), *promoted((then, otherwise)))


# -- gradients -------------------------------------------------------------------------------------------------------


class GradientOp(Op):
    """An identity with a gradient of its own."""

    view_of = 0
    of_numbers = True

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def forward(self, xp: Any, x: Array) -> Array:
        return x


class DisconnectedGrad(GradientOp): ...


def disconnected_grad(x: Operand) -> Variable:
    """x, through which no gradient flows."""
    return DisconnectedGrad()(as_variable(x))


class GradClip(GradientOp):
    lower: float
    upper: float

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (clip(dy, self.lower, self.upper),)


def grad_clip(x: Operand, lower: float, upper: float) -> Variable:
    """x, with the gradient through it clipped to [lower, upper], elementwise."""
    return GradClip(float(lower), float(upper))(as_variable(x))


class GradScale(GradientOp):
    factor: float

    def gradient(self, dy: Variable, y: Variable, x: Variable) -> Cotangents:
        return (dy * self.factor,)


def grad_scale(x: Operand, factor: float) -> Variable:
    """x, with the gradient through it multiplied by a number."""
    return GradScale(float(factor))(as_variable(x))


def grad_reverse(x: Operand, factor: float = 1) -> Variable:
    """x, with the gradient through it multiplied by -factor (Ganin and Lempitsky 2015)."""
    return grad_scale(x, -factor)
