"""What is done to gradients before a rule uses them: clipping, weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigraph.errors import InvalidValueError
from minigraph.graph import Variable
from minigraph.layers.roles import WEIGHT, Role, has_roles
from minigraph.ops.arithmetic import clip, maximum, square
from minigraph.ops.arranging import stack
from minigraph.ops.elementwise import cast
from minigraph.ops.reduction import norm as norm_of
from minigraph.ops.reduction import sum as sum_of
from minigraph.ops.transcendental import sqrt
from minigraph.training.parameters import Parameters, learned


def clip_gradients(gradients: Sequence[Variable], limit: float) -> list[Variable]:
    """Each element limited to [-limit, limit]."""
    if not limit > 0:
        raise InvalidValueError(f"the limit of gradients must be above 0, not {limit!r}")
    return [clip(gradient, -limit, limit) for gradient in gradients]


def clip_gradient_norm(gradients: Sequence[Variable], max_norm: float) -> list[Variable]:
    """All gradients scaled down together so that their common Euclidean norm is at most `max_norm` (Pascanu et al. 2013)."""
    if not max_norm > 0:
        raise InvalidValueError(f"the norm of gradients must be limited to more than 0, not {max_norm!r}")
    norm = _common_norm(gradients) if gradients else None
    return [gradient * cast(max_norm / maximum(norm, max_norm), gradient.dtype) for gradient in gradients]


def _common_norm(gradients: Sequence[Variable]) -> Variable:
    """The Euclidean norm of all gradients together, in float64, which has room for squares of smaller floats."""
    if any(gradient.dtype == "float64" for gradient in gradients):
        return norm_of(stack([norm_of(cast(gradient, "float64")) for gradient in gradients]))
    squares = [sum_of(square(cast(gradient, "float64"))) for gradient in gradients]
    return sqrt(sum(squares[1:], squares[0]))


def weight_decay(
    gradients: Sequence[Variable], parameters: Parameters, rate: Any, roles: Sequence[type[Role]] = (WEIGHT,)
) -> list[Variable]:
    """The gradients with rate * parameter added for parameters with one of `roles`: that of rate / 2 * |parameter|^2.

    The parameters are those that the gradients are of, in their order: given as to an update rule.
    """
    targets, given = learned(parameters).variables, list(gradients)
    if len(given) != len(targets):
        raise InvalidValueError(f"{len(targets)} parameters need as many gradients, not {len(given)}")
    return [
        gradient + parameter * cast(rate, parameter.dtype) if has_roles(parameter, roles) else gradient
        for gradient, parameter in zip(given, targets, strict=True)
    ]
