"""Changes of gradients before a rule uses them: clipping, weight decay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, ValuesView
from typing import Any

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.layers.core.roles import WEIGHT, Role, has_roles
from minigraph.ops.array.arranging import stack
from minigraph.ops.elementwise.arithmetic import clip, maximum, square
from minigraph.ops.elementwise.base import cast
from minigraph.ops.elementwise.transcendental import sqrt
from minigraph.training.hyperparameters import above_zero, amount, checked_roles
from minigraph.training.parameters import Parameters, learned


def clip_gradients(gradients: Sequence[Variable], limit: float | Variable) -> list[Variable]:
    """Each element limited to [-limit, limit]; the limit is a finite number above 0, or a scalar variable."""
    most, listed = above_zero(limit, "limit for gradients"), _checked(gradients)
    bounds = [cast(most, one.dtype) if isinstance(most, Variable) else most for one in listed]
    return [clip(gradient, -bound, bound) for gradient, bound in zip(listed, bounds, strict=True)]


def clip_gradient_norm(gradients: Sequence[Variable], max_norm: float | Variable) -> list[Variable]:
    """All gradients scaled down together so that their common Euclidean norm is at most `max_norm` (Pascanu et al. 2013), a
    finite number above 0, or a scalar variable.
    """
    most = above_zero(max_norm, "max_norm for gradients")
    listed = _checked(gradients)
    if not listed:
        return []
    scale = most / maximum(_common_norm(listed), most)
    return [gradient * cast(scale, gradient.dtype) for gradient in listed]


def _checked(gradients: Any) -> list[Variable]:
    """Gradients as a list; TypeError for anything but variables of floats."""
    listed: list[Any] = list(gradients) if isinstance(gradients, list | tuple | Iterator | ValuesView) else [gradients]
    wrong = [one for one in listed if not isinstance(one, Variable) or one.dtype.kind != "f"]
    if wrong or isinstance(gradients, Variable):
        shown = wrong[0] if wrong else gradients
        raise InvalidTypeError(f"gradients must be a list of variables of floats, as mg.grad returns it, not {shown!r}")
    return listed


def _common_norm(gradients: Sequence[Variable]) -> Variable:
    """The Euclidean norm of all gradients together, in float64, which has room for squares of smaller floats."""
    if any(gradient.dtype == "float64" for gradient in gradients):
        return stack([gradient.astype("float64").norm() for gradient in gradients]).norm()
    squares = [square(gradient.astype("float64")).sum() for gradient in gradients]
    return sqrt(sum(squares[1:], squares[0]))


def weight_decay(
    gradients: Sequence[Variable], parameters: Parameters, rate: Any, roles: Sequence[type[Role]] = (WEIGHT,)
) -> list[Variable]:
    """The gradients with rate * parameter added for parameters with one of `roles`: that of rate / 2 * |parameter|^2.

    The parameters are those that the gradients are of, in their order: given as to an update rule.
    """
    targets, given, wanted = learned(parameters).variables, _checked(gradients), checked_roles(roles)
    rate = amount(rate, "rate")
    if len(given) != len(targets):
        raise InvalidValueError(f"{len(targets)} parameters need as many gradients, not {len(given)}")
    return [
        gradient + parameter * cast(rate, parameter.dtype) if has_roles(parameter, wanted) else gradient
        for gradient, parameter in zip(given, targets, strict=True)
    ]
