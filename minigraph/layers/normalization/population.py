"""Layers that normalize by the minibatch in training and by a stored population in inference, whatever system they follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable, items
from minigraph.layers.core.application import ApplicationCall, application, current_call
from minigraph.layers.core.modes import is_in_training, is_left_out
from minigraph.layers.core.roles import BATCH_NORM_DIVISOR, BATCH_NORM_MINIBATCH_ESTIMATE, BATCH_NORM_OFFSET, Role
from minigraph.layers.core.settings import Setting
from minigraph.layers.normalization.apply_options import Freeze, Request, as_freeze, checked_index, held
from minigraph.layers.normalization.conventions import BLOCKS, Batch, Convention, Stdev
from minigraph.layers.normalization.masks import checked_mask
from minigraph.layers.normalization.minibatch import GhostBatches
from minigraph.layers.normalization.stored_population import Pairs, StoresPopulation, count_or_none
from minigraph.ops.array.shape import broadcast_like
from minigraph.ops.control import ifelse
from minigraph.ops.elementwise.comparison import eq, ge, gt, where
from minigraph.ops.reduce.normalization import Center, Normalized, Reduction, Sample, Standardize, normalize_by

INFERENCE_IS_MEANT = "inference is meant"
"""The tag of an application that was switched to inference, or left out of training, on purpose."""


def _as_reduction(given: Any, what: str) -> Reduction | None:
    """A function that adds arrays up over processes, or None; TypeError for anything else."""
    if given is not None and not callable(given):
        raise InvalidTypeError(f"{what} must be a function from an array to an array, not {given!r}")
    return given  # type: ignore[no-any-return]


class PopulationNormalization(StoresPopulation):
    """A layer that normalizes by the minibatch in training and by a stored population in inference, the default.

    convention, epsilon, and more: see `StoresPopulation`. freeze: the parts that stand still in training, unless an
    application says otherwise. virtual_batch_size: normalize that many rows at a time ("ghost batches", Hoffer et al. 2017);
    the population follows all of them together. all_reduce: a function from an array to the sum of such arrays over the
    processes that each hold a part of the batch.

    >>> x, layer = mg.matrix("x"), mg.layers.BatchNormalization(4)
    >>> isinstance(layer, mg.layers.PopulationNormalization), [one.name for one in layer.population_statistics]
    (True, [])
    >>> layer.allocate()
    >>> [one.name for one in layer.population_statistics]
    ['population_mean', 'population_stdev']
    """

    fixed_when_made = frozenset({"virtual_batch_size", "all_reduce"})
    keeps_population = True
    freeze = Setting(lambda given, what: as_freeze(given))
    virtual_batch_size, all_reduce = Setting(count_or_none), Setting(_as_reduction)

    def __init__(
        self,
        convention: Convention = BLOCKS,
        epsilon: float | None = None,
        *,
        freeze: Freeze | Variable = Freeze.NOTHING,
        virtual_batch_size: int | None = None,
        all_reduce: Reduction | None = None,
        **options: Any,
    ) -> None:
        super().__init__(convention, epsilon, **options)
        self.freeze, self.virtual_batch_size, self.all_reduce = freeze, virtual_batch_size, all_reduce
        if virtual_batch_size is not None and all_reduce is not None:
            raise InvalidValueError(
                "virtual batches are parts of one process' batch; leave out virtual_batch_size or all_reduce"
            )

    # -- for subclasses to define ------------------------------------------------------------------------------------

    def averaged_axes(self, x: Variable) -> tuple[int, ...]:
        """The axes of the input that statistics are taken over."""
        raise TypeError(f"{type(self).__name__} does not define averaged_axes")

    def stretched(self, parameter: Variable, x: Variable) -> Variable:
        """A parameter with the axes of the input, so that it broadcasts."""
        raise TypeError(f"{type(self).__name__} does not define stretched")

    def acting(self, request: Request, in_training: bool) -> tuple[Request, bool]:
        """The request and the mode that an application follows; a subclass may follow others than it is given."""
        return request, in_training

    @property
    def waits_for_pairs(self) -> bool:
        """Whether the population follows by pairs alone, so that training need not know at once which population is meant."""
        return True

    def followed(self, normalized: Variable, pairs: Pairs) -> Variable:
        """A value normalized by the minibatch, perhaps with a request to update the population when it is computed."""
        return normalized

    def axes_of_lengths(self) -> tuple[int, int] | None:
        """The axis whose rows have lengths, and the axis of their steps; None to take them from the averaged axes."""
        return None

    def check_inputs(self, *inputs: Variable) -> None:
        for x in inputs[:1]:
            if x.dtype.kind != "f":
                raise InvalidTypeError(f"{self!r} takes floats, not {x!r}; cast them first")

    @property
    def own_parameters(self) -> list[Variable]:
        return [] if self.freeze is Freeze.EVERYTHING else super().own_parameters

    # -- application -------------------------------------------------------------------------------------------------

    @application
    def apply(
        self,
        x: Variable,
        index: Any = None,
        *,
        mask: Variable | None = None,
        lengths: Variable | None = None,
        freeze: Freeze | Variable | None = None,
        i: Any = None,
    ) -> Variable:
        """x normalized, times scale, plus shift.

        index, or i: which of the `n_iter` populations; an int or an integer scalar, not looked at if there is one population.
        In training it may be left out where the population follows by pairs; step k of a loop then is about number k. mask:
        where it is 0 an element counts for nothing, and is normalized to 0; it has the axis of the batch and then those that
        are averaged over, as many as there are, or all axes of x. lengths: instead of a mask, how many steps of each row there
        are along the first axis behind the batch that is averaged over. freeze: what stands still in training; the layer's own
        if left out.
        """
        degree = self.freeze if freeze is None else as_freeze(freeze)
        elements = checked_mask(x, mask, lengths, self.averaged_axes(x), self.axes_of_lengths())
        if i is not None and index is not None:
            raise InvalidValueError(f"{self!r}: index and i are two names for one thing; leave one out")
        may_lack = self.waits_for_pairs and is_in_training(self) and isinstance(degree, Freeze) and degree < Freeze.STATISTICS
        row = checked_index(i if index is None else index, self.n_iter, may_lack)
        request = Request(elements, row, degree)
        return self.scaled(self.normalize(x, current_call(), request, is_in_training(self)), request)

    def scaled(self, normalized: Variable, request: Request) -> Variable:
        """A normalized value times scale, plus shift."""
        names = (self.convention.scale, self.convention.shift)
        scale, shift = (self.parameter(name) if self.has_parameter(name) else None for name in names)
        result, call = normalized, current_call()
        if scale is not None:
            result = result * self.stretched(held(scale, request, call), normalized)
        if shift is not None:
            result = result + self.stretched(held(shift, request, call), normalized)
        return result

    def normalize(self, x: Variable, call: ApplicationCall, request: Request, in_training: bool) -> Variable:
        """x normalized as `request` and `in_training` say, with all by which the application `call` is found in a graph."""
        acting, by_minibatch = self.acting(request, in_training)
        if not by_minibatch or acting.freezes(Freeze.STATISTICS):
            normalized, statistics = self.normalize_by_population(x, call, acting)
        else:
            normalized, statistics = self.normalize_by_minibatch(x, call, acting)
            if isinstance(acting.freeze, Variable):
                stored, _ = self.normalize_by_population(x, call, acting)
                normalized = ifelse(ge(acting.freeze, int(Freeze.STATISTICS)), stored, normalized)
        return recorded(normalized, x, call, request, in_training, self.population_statistics, statistics)

    def normalize_by_population(self, x: Variable, call: ApplicationCall, request: Request) -> tuple[Variable, list[Variable]]:
        """x normalized by the stored statistics, where the mask of `request` is set; and these, marked as in use by `call`."""
        in_use = _in_use(self.population_in(x, request), call)
        normalized = normalize_by(x, *in_use)
        for weights in request.weights:
            normalized = where(gt(broadcast_like(weights, x), 0), normalized, 0)
        return normalized, in_use

    def population_in(self, x: Variable, request: Request) -> list[Variable]:
        """The mean and perhaps deviation of the population that an application is about, with the axes of its input."""
        mean, *spread = (self.stretched(one, x) for one in self.population.read(request))
        # where nothing deviates, and epsilon does not help, x is normalized to 0, like in training
        return [mean, *(spread if self.epsilon else (where(eq(one, 0), np.inf, one) for one in spread))]

    def normalize_by_minibatch(self, x: Variable, call: ApplicationCall, request: Request) -> tuple[Variable, list[Variable]]:
        """x normalized by its own statistics, and these: those in use by `call`, the variance, the count; as `request` says."""
        normalized, statistics, batch = self.estimate(x, request)
        in_use = _in_use(statistics, call, BATCH_NORM_MINIBATCH_ESTIMATE)
        own = Batch(in_use[0], batch.variance, batch.count)
        if not request.freezes(Freeze.AVERAGES) and not self.waits_for_pairs:
            normalized = self.followed(normalized, self.population.pairs(own, request))
        return normalized, [*in_use, *([] if batch.variance is None else [batch.variance]), batch.count]

    def estimate(self, x: Variable, request: Request) -> tuple[Variable, list[Variable], Batch]:
        """x normalized by its minibatch, the mean and perhaps deviation in use, and the statistics of the batch."""
        axes, weights = self.averaged_axes(x), request.weights
        if self.virtual_batch_size is not None:
            ghosts = GhostBatches(x, axes, weights, self.virtual_batch_size)
            normalized, *statistics = self._normalized(ghosts.x, ghosts.axes, ghosts.weights)
            batch = ghosts.pooled(statistics)
            used = [batch.mean] if batch.variance is None else [batch.mean, Stdev().keep(batch.variance, self.epsilon)]
            return ghosts.joined(normalized), used, batch
        normalized, mean, *spread = self._normalized(x, axes, weights)
        count = Sample(x, axes, self.all_reduce, weights).count
        return normalized, [mean, *spread[:1]], Batch(mean, spread[1] if spread else None, count)

    def _normalized(self, x: Variable, axes: tuple[int, ...], weights: Sequence[Variable]) -> tuple[Variable, ...]:
        """x normalized, its mean, and unless `mean_only` its deviation and variance."""
        op = Center(axes, self.all_reduce) if self.mean_only else Standardize(axes, self.all_reduce, self.epsilon)
        return items(op(x, *weights))


def recorded(
    normalized: Variable,
    x: Variable,
    call: ApplicationCall,
    request: Request,
    in_training: bool,
    population: Sequence[Variable],
    statistics: Sequence[Variable],
) -> Variable:
    """The value `normalized` of x in an application `call`, with request, mode `in_training`, population and statistics."""
    flag = request.freeze if isinstance(request.freeze, Variable) else None
    options = [one for one in request.options if one is not None]
    op = Normalized(
        training=in_training,
        freeze=None if flag is not None else int(request.freeze),
        options=tuple(one is not None for one in request.options),
        populations=len(population),
    )
    result = op(normalized, x, *options, *population, *statistics)
    tags = (call, INFERENCE_IS_MEANT) if is_left_out(call.layer) else (call,)
    return Variable(result.op, result.inputs, result.type, f"{call.layer.name}_normalized", tags, result.origin)


def _in_use(statistics: Sequence[Variable], call: ApplicationCall, *roles: type[Role]) -> list[Variable]:
    """Copies of a mean and perhaps a deviation, marked as those that an application subtracts and divides by."""
    own = (("offset", BATCH_NORM_OFFSET), ("divisor", BATCH_NORM_DIVISOR))
    return [
        one.copy(f"{call.layer.name}_{name}", tags=(role, *roles, call))
        for one, (name, role) in zip(statistics, own, strict=False)
    ]
