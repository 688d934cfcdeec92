"""Rules over pairs: from (population statistic, estimate) to updates.

All but one are averages, and differ only in the weight of the n-th batch: population + weight(n) * (estimate - population).
A population with several estimates follows them one after another, in their order. Where an estimate is not finite, the
population does not change and the batch is not counted. `pairs` are those of
`minigraph.transforms.get_batch_normalization_updates`; TypeError for anything else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce
from typing import Any

import numpy as np

from minigraph.core.conversion import shared
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Shared, Variable
from minigraph.layers.core.settings import number
from minigraph.layers.normalization.stored_population import Pairs
from minigraph.ops.array.creation import ones_like
from minigraph.ops.elementwise.arithmetic import maximum, minimum
from minigraph.ops.elementwise.base import cast
from minigraph.ops.elementwise.comparison import and_, eq, isfinite, where
from minigraph.ops.reduce.normalization import FiniteOr

Estimates = Iterable[tuple[Variable, Variable]]


def raw_estimate(estimate: Variable) -> Variable:
    """An estimate as it came out of the batch, which may not be finite."""
    if not isinstance(estimate.op, FiniteOr):
        return estimate
    own, otherwise = estimate.inputs
    return FiniteOr()(own, raw_estimate(otherwise)) if isinstance(otherwise.op, FiniteOr) else own


def overwrite(pairs: Estimates) -> Pairs:
    """Updates to the estimates themselves; of several estimates of one statistic the last finite one counts."""
    return averaged(pairs, 1.0)


def moving_average(pairs: Estimates, new_weight: Any = None, *, old_weight: Any = None) -> Pairs:
    """Updates to population + new_weight * (estimate - population): an exponential moving average.

    pairs: (population, estimate). new_weight: that of the new batch, 0.1 by default: a number in (0, 1], or a scalar variable.
    old_weight: the opposite convention, 1 - new_weight, in [0, 1); give one of them. ValueError outside.
    """
    return averaged(pairs, _new_weight(new_weight, old_weight))


def debiased_moving_average(pairs: Estimates, new_weight: Any = None, *, old_weight: Any = None) -> Pairs:
    """A moving average without trace of the population's start: batch n weighs w / (1 - (1 - w)^n), and so the first 1.

    pairs, new_weight, old_weight: as for `moving_average`; w is the weight of the new batch.
    """
    weight = _new_weight(new_weight, old_weight)
    return averaged(pairs, lambda n: weight / (1 - (1 - weight) ** n))


def cumulative_average(pairs: Estimates, count: Variable | None = None) -> Pairs:
    """Updates to the mean of all estimates since the first call: the n-th batch weighs 1 / n.

    Unless a `count` is given, counts are shared variables made here, one for each feature; they start at 0, and do not count
    a batch that left no finite estimate of the feature.
    """
    return averaged(pairs, lambda n: 1 / n, count)


def puzzlelib_average(
    pairs: Estimates, initial_factor: float = 1.0, min_factor: float = 0.1, count: Variable | None = None
) -> Pairs:
    """PuzzleLib's average: the n-th batch weighs max(initial_factor / n, min_factor).

    pairs, count: as for `cumulative_average`.
    """
    for what, factor, most in (("initial_factor", initial_factor, math.inf), ("min_factor", min_factor, 1)):
        _check_factor(factor, what, most)
    return averaged(pairs, lambda n: minimum(maximum(initial_factor / n, min_factor), 1.0), count)


def gomlx_average(pairs: Estimates, momentum: float = 0.99, count: Variable | None = None) -> Pairs:
    """GoMLX's average: the n-th batch weighs 1 - min(momentum, 1 - 1 / n), so that the first overwrites.

    pairs, count: as for `cumulative_average`.
    """
    _check_factor(momentum, "momentum", 1)
    return averaged(pairs, lambda n: 1 - minimum(momentum, 1 - 1 / n), count)


def caffe_average(pairs: Estimates, fraction: float = 0.999) -> Pairs:
    """Caffe's average, where statistics and not sums are stored: the n-th batch weighs 1 / (1 + fraction + fraction^2 + ...),
    with n terms. It equals the result of `decayed_sums`, divided by the weight.
    """
    return debiased_moving_average(pairs, old_weight=fraction)


def decayed_sums(pairs: Estimates, fraction: float = 0.999) -> Pairs:
    """Updates to fraction * population + estimate, where sums are stored, and their weight with them, as Caffe does."""
    if not number(fraction, "fraction", 0, 1) > 0:
        raise InvalidValueError(f"the fraction of a sum that is kept must be above 0 and at most 1, not {fraction!r}")
    newest: dict[Variable, Variable] = {}
    for population, estimate in _checked(pairs):
        raw, old = raw_estimate(estimate), newest.get(population, population)
        newest[population] = where(_counts(estimate, raw), old * fraction + raw, old)
    return list(newest.items())


# -- parts that the averages share -----------------------------------------------------------------------------------


def averaged(pairs: Estimates, weight: Any, count: Variable | None = None) -> Pairs:
    """Updates to population + weight * (estimate - population), where the weight may be a function of the batch's number n.

    `count` is a shared variable that holds n - 1, for all pairs together; without it each pair has one of its own.
    """
    listed = _checked(pairs)
    if count is not None and (not isinstance(count, Variable) or not isinstance(count.op, Shared)):
        raise InvalidTypeError(f"count must be a shared variable of integers, or None, not {count!r}")
    counted = dict.fromkeys(population for population, _ in listed) if callable(weight) else {}
    counts = {population: _new_count(population) if count is None else count for population in counted}
    newest: dict[Variable, Variable] = {}
    for pass_ in _one_each(listed):
        known = {population: _counts(estimate, raw_estimate(estimate)) for population, estimate in pass_}
        for population, estimate in pass_:
            share = weight
            if callable(weight):
                seen = counts[population]
                share = weight(cast(newest.get(seen, seen), "float64") + 1)
            old = newest.get(population, population)
            newest[population] = where(known[population], _towards(old, raw_estimate(estimate), share), old)
        for seen in dict.fromkeys(counts[population] for population, _ in pass_ if counts):
            told = [known[population] for population, _ in pass_ if counts[population] is seen]
            newest[seen] = newest.get(seen, seen) + cast(_jointly(told, seen), seen.dtype)
    return list(newest.items())


def _checked(pairs: Estimates) -> Pairs:
    """The pairs as a list; TypeError for anything else."""
    if isinstance(pairs, str | Variable) or not isinstance(pairs, Iterable):
        raise InvalidTypeError(
            f"averages take pairs (population, estimate), as get_batch_normalization_updates returns them, not {pairs!r}"
        )
    listed = list(pairs)
    for pair in listed:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(one, Variable) for one in pair):
            raise InvalidTypeError(f"expected pairs (population, estimate), not {pair!r}")
    return listed


def _new_weight(new_weight: Any, old_weight: Any) -> Any:
    """The weight of the new batch, given in either convention; ValueError for both, or outside of (0, 1]."""
    if new_weight is not None and old_weight is not None:
        raise InvalidValueError("give the weight of the new batch, or that of the old value, not both")
    if new_weight is None and old_weight is None:
        return 0.1
    given = new_weight if old_weight is None else old_weight
    if not isinstance(given, Variable) and (isinstance(given, bool) or not isinstance(given, int | float | np.number)):
        raise InvalidTypeError(f"the weight of a batch must be a number or a scalar variable, not {given!r}")
    weight = new_weight if old_weight is None else 1 - old_weight
    if not isinstance(weight, Variable) and not 0 < weight <= 1:
        raise InvalidValueError(f"the weight of the new batch must be above 0 and at most 1, not {weight!r}")
    return weight


def _check_factor(factor: Any, what: str, most: float) -> None:
    """ValueError or TypeError for a weight that is no scalar variable, nor a number from 0 to `most`."""
    if not isinstance(factor, Variable):
        number(factor, what, 0, most)


def _new_count(population: Variable) -> Variable:
    """A count of batches for each feature of a population statistic."""
    return shared(np.zeros(population.get_value(borrow=True).shape, np.int64), name=f"{population.name}_count")


def _one_each(pairs: Pairs) -> list[Pairs]:
    """The pairs in rounds, each of which has no population twice."""
    rounds: list[dict[Variable, Variable]] = []
    for population, estimate in pairs:
        free = next((one for one in rounds if population not in one), None)
        if free is None:
            rounds.append(free := {})
        free[population] = estimate
    return [list(one.items()) for one in rounds]


def _counts(estimate: Variable, raw: Variable) -> Variable:
    """A condition that holds where an estimate counts: where it is finite, or everywhere if `allow_nonfinite` was given."""
    return isfinite(raw) if isinstance(estimate.op, FiniteOr) else ones_like(raw, "bool")


def _jointly(known: list[Variable], count: Variable) -> Variable:
    """A condition that holds where all estimates that share a count are known; a scalar if the count is a scalar."""
    joint = reduce(and_, known)
    return joint.all() if count.ndim == 0 else joint


def _towards(population: Variable, estimate: Variable, weight: Any) -> Variable:
    """The population moved towards an estimate."""
    scale = cast(weight, population.dtype)
    # in this form a population that equals the estimate does not change, and a weight of 1 overwrites, to the bit
    return where(eq(scale, 1), estimate, population + (estimate - population) * scale)
