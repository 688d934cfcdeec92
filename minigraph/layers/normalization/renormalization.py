"""Batch renormalization: minibatches normalized almost as inference will do it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.layers.core.initialization import Constant
from minigraph.layers.core.roles import BATCH_NORM_POPULATION_WEIGHT
from minigraph.layers.core.settings import Setting
from minigraph.layers.normalization.apply_options import Request
from minigraph.layers.normalization.batch import BatchNormalization
from minigraph.layers.normalization.conventions import Batch
from minigraph.ops.array.shape import broadcast_like
from minigraph.ops.control import disconnected_grad, with_default_update
from minigraph.ops.elementwise.arithmetic import clip
from minigraph.ops.elementwise.base import cast
from minigraph.ops.elementwise.comparison import ge, gt, where
from minigraph.ops.elementwise.requirement import require

Limit = float | Variable | Callable[[Variable], Variable]
"""A number, a scalar variable, or a schedule: a function from the number of steps made to a number."""


class BatchRenormalization(BatchNormalization):
    """Batch normalization whose minibatches are corrected towards the population (Ioffe 2017).

    In training x_hat becomes x_hat * r + d with r = stdev / population_stdev limited to [1 / r_max, r_max], and
    d = (mean - population_mean) / population_stdev limited to [-d_max, d_max]; no gradient flows through them. r_max = 1 and
    d_max = 0 make it batch normalization; the paper relaxes them slowly, by schedules, to 3 and 5. A schedule needs the
    number of steps, which any function that computes a training-mode output counts in the layer's `steps`.

    input_dim and others: see `BatchNormalization`. r_max, d_max: numbers, scalar variables, or schedules.

    >>> x, layer = mg.matrix("x"), mg.layers.BatchRenormalization(4, r_max=1.5, d_max=0.5)
    >>> with mg.batch_normalization(layer):
    ...     y = layer.apply(x)
    >>> round(float(y.eval({x: [[0.0] * 4, [4.0] * 4]}).max()), 2)  # 1 * 1.5 + 0.5
    2.0
    """

    r_max = Setting(lambda given, name: given if _is_open(given) else _at_least(1.0, given, name))
    d_max = Setting(lambda given, name: given if _is_open(given) else _at_least(0.0, given, name))
    fixed_when_allocated = frozenset({"r_max", "d_max"})

    def __init__(
        self, input_dim: int | Sequence[int] | None = None, *, r_max: Limit = 3.0, d_max: Limit = 5.0, **options: Any
    ) -> None:
        super().__init__(input_dim, **options)
        if self.mean_only:
            raise InvalidValueError(f"{self!r} corrects deviations, too: leave out mean_only")
        if self.virtual_batch_size is not None:
            raise InvalidValueError(f"{self!r} corrects whole minibatches: leave out virtual_batch_size")
        self.r_max, self.d_max = r_max, d_max
        self._counted: tuple[Variable, Variable] | None = None

    def allocate_parameters(self) -> None:
        super().allocate_parameters()
        if callable(self.r_max) or callable(self.d_max):
            steps = self.add_parameter("steps", (), Constant(0), BATCH_NORM_POPULATION_WEIGHT, np.int64)
            self._counted = steps, steps + 1

    def estimate(self, x: Variable, request: Request) -> tuple[Variable, list[Variable], Batch]:
        normalized, (mean, stdev), batch = super().estimate(x, request)
        population_mean, population_stdev = self.population_in(x, request)
        most_r = cast(_at_least(1.0, self._now(self.r_max), "r_max"), mean.dtype)
        most_d = cast(_at_least(0.0, self._now(self.d_max), "d_max"), mean.dtype)
        r = disconnected_grad(clip(stdev / population_stdev, 1 / most_r, most_r))
        d = disconnected_grad(clip((mean - population_mean) / population_stdev, -most_d, most_d))
        corrected = cast(cast(normalized, mean.dtype) * r + d, x.dtype)
        for weights in request.weights:
            corrected = where(gt(broadcast_like(weights, x), 0), corrected, 0)
        if self._counted is not None:
            steps, following = self._counted
            corrected = with_default_update(corrected, {steps: following})
        return corrected, [mean, stdev], batch

    def _now(self, limit: Limit) -> Any:
        """The value of a limit at the current step."""
        return limit(self.own_variables["steps"]) if callable(limit) else limit


def _at_least(least: float, limit: Any, name: str) -> Any:
    """A limit that is not below its least value, a number or a scalar variable; errors for others, when the value comes."""
    if isinstance(limit, Variable) and not limit.ndim:
        return require(limit, ge(limit, least), f"{name} must be at least {least:g}", InvalidValueError)
    if isinstance(limit, bool) or not isinstance(limit, int | float | np.number):
        raise InvalidTypeError(f"{name} must be a number, a scalar variable, or a schedule, not {limit!r}")
    if not limit >= least:
        raise InvalidValueError(f"{name} must be at least {least:g}, not {limit!r}")
    return limit


def _is_open(limit: Any) -> bool:
    """Whether a limit is known only when a function is called."""
    return callable(limit) or (isinstance(limit, Variable) and not limit.ndim)
