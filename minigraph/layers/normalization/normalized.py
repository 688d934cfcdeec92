"""Applications of normalizations as a graph holds them, and how they are found there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from minigraph.core.conversion import as_variable
from minigraph.core.graph import Structural, Variable
from minigraph.core.record import Record
from minigraph.layers.core.application import ApplicationCall, get_application_call
from minigraph.layers.normalization.apply_options import Freeze, Request
from minigraph.layers.normalization.conventions import Batch, pooled
from minigraph.layers.normalization.loop_statistics import by_row, counts_steps, in_rows, is_constant
from minigraph.layers.normalization.population import INFERENCE_IS_MEANT, PopulationNormalization
from minigraph.ops.array.arranging import concatenate
from minigraph.ops.array.shape import broadcast_like, reshape, shape, shape_padright
from minigraph.ops.control import DefaultUpdate
from minigraph.ops.elementwise.comparison import lt, where
from minigraph.ops.loop.loop import exposed, goes_on_from
from minigraph.ops.reduce.normalization import Normalized


class Normalization(Record):
    """An application of a layer, as a graph holds it; `statistics` are those in use, then variance and count of the batch."""

    variable: Variable
    layer: PopulationNormalization
    call: ApplicationCall
    x: Variable
    request: Request
    population: tuple[Variable, ...]
    statistics: tuple[Variable, ...]
    loops: tuple[Variable, ...] = ()
    """The loops in whose bodies it stands, the outermost first."""
    rest: Normalization | None = None
    """The same application in a loop that goes on where the one in which it stands ended."""

    def within(self, loop: Variable) -> Normalization:
        """The application, with one more loop around the loops in which it stands."""
        rest = None if self.rest is None else self.rest.within(loop)
        return Normalization(**(vars(self) | {"loops": (loop, *self.loops), "rest": rest}))

    @property
    def is_training(self) -> bool:
        """Whether it was built in training mode."""
        return self.variable.op.training  # type: ignore[attr-defined, no-any-return]

    @property
    def estimates(self) -> bool:
        """Whether it estimates statistics that the population may follow."""
        acting, by_minibatch = self.layer.acting(self.request, self.is_training)
        return self.is_training and by_minibatch and not acting.freezes(Freeze.AVERAGES)

    @property
    def forgets_training(self) -> bool:
        """Whether it was built in inference mode where training mode would have made a difference, and nothing says that this
        is meant: it is not frozen, not switched to inference, and its population does not follow without pairs.
        """
        followed = isinstance(self.variable.inputs[0].op, DefaultUpdate)
        if self.is_training or followed or not self.population or INFERENCE_IS_MEANT in self.variable.tags:
            return False
        (_, as_it_is), (acting, trained) = (self.layer.acting(self.request, mode) for mode in (False, True))
        return trained and not as_it_is and not acting.freezes(Freeze.STATISTICS)

    @property
    def own_batch(self) -> Batch:
        """The statistics of its minibatch, of the body's if it stands in a loop."""
        mean, *rest, count = self.statistics
        return Batch(mean, rest[1] if rest else None, count)

    @property
    def parts(self) -> list[Normalization]:
        """The application as it stands in each of the loops that go on where the one before ended; itself if there is one."""
        return [self] if self.rest is None else [self, *self.rest.parts]

    def outside(self, values: Callable[[Normalization], Sequence[Variable]]) -> list[Variable]:
        """Values that are computed where an application stands, outside of all loops, a row for each step of each loop."""
        listed = list(values(self))
        for whole in reversed(self.loops):
            listed = exposed(whole, listed)
        extra = len(self.loops) - 1
        rows = [reshape(one, (-1, *shape(one)[extra + 1 :])) for one in listed] if extra > 0 else listed
        more = [] if self.rest is None else self.rest.outside(values)
        return [concatenate(both) for both in zip(rows, more, strict=True)] if more else rows

    def _in_a_row(self) -> list[Variable]:
        """The mean, the count, and perhaps the variance of its minibatch, laid out as the population, or a row of it, is."""
        batch = self.layer.population.in_a_row(self.own_batch)
        flag = self.request.freeze
        count = where(lt(flag, int(Freeze.AVERAGES)), batch.count, 0) if isinstance(flag, Variable) else batch.count
        return [batch.mean, count, *([] if batch.variance is None else [batch.variance])]

    @property
    def steps(self) -> Batch:
        """The statistics of every step of the loops it stands in, as rows laid out as the population, or a row of it, is."""
        mean, count, *variance = self.outside(Normalization._in_a_row)
        missing = mean.ndim - count.ndim
        return Batch(mean, variance[0] if variance else None, broadcast_like(shape_padright(count, missing), mean))

    @property
    def rows(self) -> Variable:
        """The row of the population that each step of the loops it stands in is about."""
        (rows,) = self.outside(lambda one: [as_variable(one.request.row(one.layer.n_iter))])
        return rows

    @property
    def batch(self) -> Batch:
        """The statistics of its minibatch; of all steps together, if it stands in a loop."""
        return pooled(self.steps) if self.loops else self.own_batch

    @property
    def aligned(self) -> Batch:
        """The statistics laid out as the population is, see `Population.aligned`; steps of a loop that are about
        one row of it count together.
        """
        layer, index = self.layer, self.request.index
        if not self.loops or layer.n_iter is None or (index is not None and is_constant(index)):
            return layer.population.aligned(self.batch, self.request if not self.loops else Request(index=index))
        if len(self.loops) == 1 and (index is None or counts_steps(self.loops[0], index)):
            return in_rows(self.steps, layer.n_iter)
        return by_row(self.steps, self.rows, layer.n_iter)


def find_normalizations(variables: Iterable[Variable]) -> list[Normalization]:
    """The applications of normalizing layers among variables, and in the bodies of loops among them, in their order.

    One in a loop, and the same in the loop that goes on where that ended, are one application.
    """
    found: list[Normalization] = []
    for variable in variables:
        if isinstance(variable.op, Structural):
            inner = [one.within(variable) for one in find_normalizations(variable.op.body.variables)]
            former = goes_on_from(variable)
            for place, one in enumerate(found if former is not None else ()):
                mine = [other for other in inner if one.loops[:1] == (former,) and one.rest is None and other.call is one.call]
                for rest in mine[:1]:
                    found[place] = Normalization(**(vars(one) | {"rest": rest}))
                    inner.remove(rest)
            found += inner
        own = normalization_of(variable)
        found += [] if own is None else [own]
    return found


def normalization_of(variable: Variable) -> Normalization | None:
    """The application of a normalizing layer that a variable is the result of, None if there is none."""
    op, call = variable.op, get_application_call(variable)
    if not isinstance(op, Normalized) or call is None or not isinstance(call.layer, PopulationNormalization):
        return None
    _, x, *rest = variable.inputs
    given = iter(rest[: sum(op.options)])
    mask, index, flag = (next(given) if there else None for there in op.options)
    freeze: Any = flag if op.freeze is None else Freeze(op.freeze)
    population, statistics = rest[sum(op.options) :][: op.populations], rest[sum(op.options) :][op.populations :]
    request = Request(mask, index, freeze)
    return Normalization(variable, call.layer, call, x, request, tuple(population), tuple(statistics))
