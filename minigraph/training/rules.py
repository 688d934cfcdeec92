"""Update rules: gradient descent, with momentum, and with rates that adapt to each element.

cost_or_gradients: the cost, a scalar, or a list of gradients, one for each parameter. parameters: shared variables, a layer or
several (of which those are updated that the cost depends on), or a `ComputationGraph`; an empty list, and a parameter that the
cost does not depend on, are errors. learning_rate: a number, a shared variable, or a schedule, which is a function from the
number of steps made to a rate.

A rule returns pairs (shared variable, new value) for `function(..., updates=...)`, in which p is the parameter, g its gradient,
and the other letters state that the rule makes. The pairs of that state are among them.

Numbers are checked, TypeError or ValueError by name: rates, decays and epsilons must be finite and 0 or more, momentum, rho and
betas in [0, 1). Variables in their place are not checked. Gradient ascent is descent of the negative cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from minigraph.core.conversion import shared
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.core.record import Record
from minigraph.layers.core.computation_graph import ComputationGraph
from minigraph.layers.core.roles import WEIGHT, Role, has_roles
from minigraph.ops.elementwise.arithmetic import maximum, square
from minigraph.ops.elementwise.base import cast
from minigraph.ops.elementwise.transcendental import sqrt
from minigraph.training.hyperparameters import amount, checked_roles, fraction
from minigraph.training.parameters import Parameters, learned

Pairs = list[tuple[Variable, Variable]]
Rate = float | Variable | Callable[[Variable], Variable]


def _gradients(cost_or_gradients: Any, parameters: Parameters) -> dict[Variable, Variable]:
    """The gradient for each parameter that is updated; TypeError or ValueError for gradients that do not fit."""
    targets = learned(parameters)
    if isinstance(cost_or_gradients, Variable):
        return targets.differentiated(cost_or_gradients)
    if isinstance(cost_or_gradients, ComputationGraph):
        raise InvalidTypeError("a rule takes the cost, or gradients, not the graph: give graph.outputs[0]")
    if not isinstance(cost_or_gradients, Iterable):
        raise InvalidTypeError(f"a rule takes the cost, or a list of gradients, not {cost_or_gradients!r}")
    gradients = list(cost_or_gradients)
    if len(gradients) != len(targets.variables):
        raise InvalidValueError(f"{len(targets.variables)} parameters need as many gradients, not {len(gradients)}")
    for parameter, gradient in zip(targets.variables, gradients, strict=True):
        if not isinstance(gradient, Variable):
            raise InvalidTypeError(f"gradients must be variables, as mg.grad returns them, not {gradient!r}")
        if not parameter.type.admits(gradient.type):
            raise InvalidTypeError(f"the gradient {gradient!r} ({gradient.origin}) does not have the type of {parameter!r}")
    return dict(zip(targets.variables, gradients, strict=True))


class Slot(Record):
    """The numbers that a rule reads of a parameter, in 32 bits at least, so that no square is lost: value, gradient, rate."""

    parameter: Variable
    p: Variable
    g: Variable
    rate: Variable

    def state(self, what: str) -> Variable:
        """A new shared variable of zeros of the shape of the parameter."""
        value = np.zeros_like(self.parameter.get_value(borrow=True), dtype=self.p.dtype)
        return shared(value, f"{self.parameter.name}_{what}", borrow=True, shape=self.parameter.type.shape)


Rule = Callable[[Slot], tuple[Variable, Pairs]]
"""From a slot to the new value of the parameter, and the updates of the rule's own state."""


def _rate(learning_rate: Rate) -> tuple[Any, Pairs]:
    """The rate of this step, and the update of the count of steps that a schedule needs."""
    if not callable(learning_rate):
        return amount(learning_rate, "learning_rate"), []
    step = shared(np.int64(0), name="step")
    return amount(learning_rate(step), "what the schedule learning_rate returns"), [(step, step + 1)]


def _updates(cost_or_gradients: Any, parameters: Parameters, learning_rate: Rate, rule: Rule) -> Pairs:
    """The pairs that a rule gives for every parameter."""
    gradients = _gradients(cost_or_gradients, parameters)
    rate, pairs = _rate(learning_rate)
    for parameter, gradient in gradients.items():
        wide = np.promote_types(parameter.dtype, "float32")
        new, state = rule(Slot(parameter, cast(parameter, wide), cast(gradient, wide), cast(rate, wide)))
        pairs = [*pairs, *state, (parameter, cast(new, parameter.dtype))]
    return pairs


def sgd(cost_or_gradients: Any, parameters: Parameters, learning_rate: Rate) -> Pairs:
    """p - rate * g.

    cost_or_gradients, parameters, learning_rate: as the module says.
    """
    return _updates(cost_or_gradients, parameters, learning_rate, lambda slot: (slot.p - slot.rate * slot.g, []))


def _with_velocity(cost_or_gradients: Any, parameters: Parameters, learning_rate: Rate, momentum: float, ahead: bool) -> Pairs:
    """The common part of both momentums: a velocity for each parameter, which is followed once more to look ahead."""
    momentum = fraction(momentum, "momentum")

    def rule(slot: Slot) -> tuple[Variable, Pairs]:
        velocity = slot.state("velocity")
        step = slot.rate * slot.g
        new = velocity * momentum - step
        return slot.p + new * momentum - step if ahead else slot.p + new, [(velocity, new)]

    return _updates(cost_or_gradients, parameters, learning_rate, rule)


def momentum(cost_or_gradients: Any, parameters: Parameters, learning_rate: Rate, momentum: float = 0.9) -> Pairs:
    """v = momentum * v - rate * g; p + v (Polyak 1964).

    cost_or_gradients, parameters, learning_rate: as the module says.
    """
    return _with_velocity(cost_or_gradients, parameters, learning_rate, momentum, ahead=False)


def nesterov(cost_or_gradients: Any, parameters: Parameters, learning_rate: Rate, momentum: float = 0.9) -> Pairs:
    """v = momentum * v - rate * g; p + momentum * v - rate * g (Nesterov 1983, in the form of Bengio et al. 2013).

    cost_or_gradients, parameters, learning_rate: as the module says.
    """
    return _with_velocity(cost_or_gradients, parameters, learning_rate, momentum, ahead=True)


def adagrad(cost_or_gradients: Any, parameters: Parameters, learning_rate: Rate = 0.01, epsilon: float = 1e-6) -> Pairs:
    """s = s + g^2; p - rate * g / sqrt(s + epsilon) (Duchi et al. 2011).

    cost_or_gradients, parameters, learning_rate: as the module says.
    """
    epsilon = amount(epsilon, "epsilon")

    def rule(slot: Slot) -> tuple[Variable, Pairs]:
        squares = slot.state("squares")
        new = squares + square(slot.g)
        return slot.p - slot.rate * slot.g / sqrt(new + epsilon), [(squares, new)]

    return _updates(cost_or_gradients, parameters, learning_rate, rule)


def rmsprop(
    cost_or_gradients: Any, parameters: Parameters, learning_rate: Rate = 0.001, rho: float = 0.9, epsilon: float = 1e-6
) -> Pairs:
    """s = rho * s + (1 - rho) * g^2; p - rate * g / sqrt(s + epsilon) (Tieleman and Hinton 2012).

    cost_or_gradients, parameters, learning_rate: as the module says.
    """
    rho, epsilon = fraction(rho, "rho"), amount(epsilon, "epsilon")

    def rule(slot: Slot) -> tuple[Variable, Pairs]:
        squares = slot.state("squares")
        new = squares * rho + square(slot.g) * (1 - rho)
        return slot.p - slot.rate * slot.g / sqrt(new + epsilon), [(squares, new)]

    return _updates(cost_or_gradients, parameters, learning_rate, rule)


def adadelta(
    cost_or_gradients: Any, parameters: Parameters, learning_rate: Rate = 1.0, rho: float = 0.95, epsilon: float = 1e-6
) -> Pairs:
    """s = rho * s + (1 - rho) * g^2; d = g * sqrt(t + epsilon) / sqrt(s + epsilon); t = rho * t + (1 - rho) * d^2; p - rate * d
    (Zeiler 2012).

    cost_or_gradients, parameters, learning_rate: as the module says.
    """
    rho, epsilon = fraction(rho, "rho"), amount(epsilon, "epsilon")

    def rule(slot: Slot) -> tuple[Variable, Pairs]:
        squares, steps = slot.state("squares"), slot.state("steps")
        new = squares * rho + square(slot.g) * (1 - rho)
        step = slot.g * sqrt(steps + epsilon) / sqrt(new + epsilon)
        return slot.p - slot.rate * step, [(squares, new), (steps, steps * rho + square(step) * (1 - rho))]

    return _updates(cost_or_gradients, parameters, learning_rate, rule)


def _adam(
    cost_or_gradients: Any,
    parameters: Parameters,
    learning_rate: Rate,
    beta1: float,
    beta2: float,
    epsilon: float,
    *,
    weight_decay: float = 0.0,
    decayed: Sequence[type[Role]] = (),
    keep_maximum: bool = False,
) -> Pairs:
    """The common part of Adam, AdamW and AMSGrad: one count of steps, two moments for each parameter."""
    beta1, beta2, epsilon = fraction(beta1, "beta1"), fraction(beta2, "beta2"), amount(epsilon, "epsilon")
    step = shared(np.int64(0), name="step")
    number = cast(step + 1, "float64")
    correction1, correction2 = 1 - beta1**number, sqrt(1 - beta2**number)

    def rule(slot: Slot) -> tuple[Variable, Pairs]:
        first, second = slot.state("first_moment"), slot.state("second_moment")
        new_first = first * beta1 + slot.g * (1 - beta1)
        new_second = second * beta2 + square(slot.g) * (1 - beta2)
        state = [(first, new_first), (second, new_second)]
        scale = new_second
        if keep_maximum:
            greatest = slot.state("greatest_second_moment")
            scale = maximum(greatest, new_second)
            state.append((greatest, scale))
        wide = slot.p.dtype
        # the corrections are multiplied into the numbers, so that an element costs one division
        rate = slot.rate * cast(correction2 / correction1, wide)
        step = rate * new_first / (sqrt(scale) + cast(correction2 * epsilon, wide))
        kept = slot.p * (1 - slot.rate * cast(weight_decay, wide)) if has_roles(slot.parameter, decayed) else slot.p
        return kept - step, state

    return [(step, step + 1), *_updates(cost_or_gradients, parameters, learning_rate, rule)]


def adam(
    cost_or_gradients: Any,
    parameters: Parameters,
    learning_rate: Rate = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> Pairs:
    """m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g^2; p - rate * m^ / (sqrt(v^) + epsilon), where ^ means
    divided by 1 - beta^step (Kingma and Ba 2015).

    cost_or_gradients, parameters, learning_rate: as the module says.
    """
    return _adam(cost_or_gradients, parameters, learning_rate, beta1, beta2, epsilon)


def adamw(
    cost_or_gradients: Any,
    parameters: Parameters,
    learning_rate: Rate = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    *,
    weight_decay: float = 0.01,
    roles: Sequence[type[Role]] = (WEIGHT,),
) -> Pairs:
    """Adam, with parameters of one of `roles` also multiplied by 1 - rate * weight_decay (Loshchilov and Hutter 2019).

    cost_or_gradients, parameters, learning_rate: as the module says. beta1, beta2, epsilon: see `adam`.
    """
    decay, decayed = amount(weight_decay, "weight_decay"), checked_roles(roles)
    return _adam(cost_or_gradients, parameters, learning_rate, beta1, beta2, epsilon, weight_decay=decay, decayed=decayed)


def amsgrad(
    cost_or_gradients: Any,
    parameters: Parameters,
    learning_rate: Rate = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> Pairs:
    """Adam, with the greatest v so far in place of v (Reddi et al. 2018).

    cost_or_gradients, parameters, learning_rate: as the module says. beta1, beta2, epsilon: see `adam`.
    """
    return _adam(cost_or_gradients, parameters, learning_rate, beta1, beta2, epsilon, keep_maximum=True)
