"""Learning rates that change: functions from the number of steps made (an int64 scalar) to a rate."""

from __future__ import annotations

import math
from collections.abc import Callable

from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Variable
from minigraph.ops.elementwise.arithmetic import minimum
from minigraph.ops.elementwise.base import cast
from minigraph.ops.elementwise.transcendental import cos
from minigraph.training.hyperparameters import amount

Schedule = Callable[[Variable], Variable]


def _check_steps(steps: int) -> None:
    """ValueError unless the number of steps is a positive int."""
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InvalidValueError(f"a number of steps must be an int of 1 or more, not {steps!r}")


def exponential_decay(initial: float, factor: float, steps: int = 1) -> Schedule:
    """initial * factor^(step / steps)."""
    initial, factor = amount(initial, "initial"), amount(factor, "factor")
    _check_steps(steps)
    return lambda step: initial * factor ** (cast(step, "float64") / steps)


def step_decay(initial: float, factor: float, steps: int) -> Schedule:
    """initial, multiplied by `factor` after every `steps` steps."""
    initial, factor = amount(initial, "initial"), amount(factor, "factor")
    _check_steps(steps)
    return lambda step: initial * factor ** cast(step // steps, "float64")


def cosine_decay(initial: float, steps: int, final: float = 0.0) -> Schedule:
    """From initial to final in half a cosine wave over `steps` steps, then constant (Loshchilov and Hutter 2017)."""
    initial, final = amount(initial, "initial"), amount(final, "final")
    _check_steps(steps)

    def rate(step: Variable) -> Variable:
        progress = minimum(cast(step, "float64") / steps, 1.0)
        return final + (initial - final) * 0.5 * (1 + cos(progress * math.pi))

    return rate


def linear_warmup(schedule: Schedule | float, steps: int) -> Schedule:
    """`schedule` (or a constant rate), scaled up in a line from 1 / steps to 1 over the first `steps` steps."""
    _check_steps(steps)
    known = None if callable(schedule) else amount(schedule, "schedule")

    def rate(step: Variable) -> Variable:
        target = amount(schedule(step), "what the schedule returns") if callable(schedule) else known
        return minimum((cast(step, "float64") + 1) / steps, 1.0) * target

    return rate
