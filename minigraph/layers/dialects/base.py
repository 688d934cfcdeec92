"""What the layers of all dialects share: parameters with one number for each feature, averages that follow by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigraph.errors import InvalidTypeError, InvalidValueError
from minigraph.graph import Variable
from minigraph.layers.conventions import Convention
from minigraph.layers.population import Pairs, PopulationNormalization
from minigraph.ops.control import DefaultUpdate, updated_value, with_asked
from minigraph.ops.shape import reshape
from minigraph.types import as_ints, check_axes


def as_weight(given: Any, what: str) -> Any:
    """A weight of averages, which systems take as it is: any number, or a scalar variable; TypeError for anything else."""
    if isinstance(given, Variable) or (isinstance(given, int | float | np.number) and not isinstance(given, bool)):
        return given
    raise InvalidTypeError(f"{what} must be a number or a scalar variable, not {given!r}")


class Followed(DefaultUpdate):
    """What a layer normalized, with the request that its population follow the minibatch."""

    layer: str

    @property
    def remedy(self) -> str:
        return (
            f"the layer {self.layer!r} is applied more than once in training mode: give function the updates "
            "layer.rule(get_batch_normalization_updates(graph, duplicates=...)), with a member of Duplicates that says what "
            "becomes of the estimates, or use no_default_updates; in a loop make the layer with automatic=False besides"
        )


class DialectNormalization(PopulationNormalization):
    """Normalization with one number for each feature, whose population follows the minibatches by a rule of its own.

    Any function that computes a training-mode output also updates the population, unless `automatic` is False, or the function
    has updates of the population of its own, or `no_default_updates`. Two training-mode applications in one function are
    an error of `function`; give it the updates `layer.rule(get_batch_normalization_updates(graph, duplicates=...))` then.

    features: the number of features, or the sizes of the kept axes; inferred at the first application if left out.
    kept_axes: the axes of the input that are not averaged over. ranks: how many axes an input may have; any if empty.
    """

    def __init__(
        self,
        convention: Convention,
        epsilon: float,
        *,
        features: int | Sequence[int] | None = None,
        kept_axes: int | Sequence[int] = 1,
        ranks: Sequence[int] = (),
        automatic: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(convention, epsilon, **options)
        if self.n_iter is not None and convention.count is not None:
            raise InvalidValueError(f"{convention.name} counts the minibatches of one population: leave out n_iter")
        self.features: tuple[int, ...] | None = None if features is None else as_ints(features, "features", 1)
        self.kept_axes = as_ints(kept_axes, "the axes that are not averaged over")
        self.ranks = tuple(ranks)
        self.automatic = automatic

    def rule(self, pairs: Pairs) -> Pairs:
        """The updates that the system makes of pairs."""
        raise TypeError(f"{type(self).__name__} does not define rule")

    def kept(self, x: Variable) -> tuple[int, ...]:
        """The axes of x that are not averaged over."""
        return check_axes(self.kept_axes, x.ndim)

    def averaged_axes(self, x: Variable) -> tuple[int, ...]:
        kept = self.kept(x)
        return tuple(axis for axis in range(x.ndim) if axis not in kept)

    def infer_sizes(self, *inputs: Variable) -> None:
        if inputs:
            self._check_rank(inputs[0])
        if self.features is None and inputs:
            sizes = tuple(inputs[0].type.shape[axis] for axis in self.kept(inputs[0]))
            if None in sizes:
                raise InvalidValueError(
                    f"{self!r} needs to know how many features {inputs[0]!r} has; give the size of that axis"
                )
            self.features = tuple(size for size in sizes if size is not None)

    def parameter_shape(self) -> tuple[int, ...]:
        self.need(features=self.features)
        return self.features or ()

    def stretched(self, parameter: Variable, x: Variable) -> Variable:
        kept, sizes = self.kept(x), iter(self.features or ())
        return reshape(parameter, tuple(next(sizes) if axis in kept else 1 for axis in range(x.ndim)))

    def allocate_from(self, values: Mapping[str, Any]) -> None:
        if self.features is None and self.convention.mean in values:
            shape = np.shape(values[self.convention.mean])[0 if self.n_iter is None else 1 :]
            self.features = shape if len(shape) == len(self.kept_axes) else (int(np.prod(shape)),)
        super().allocate_from(values)

    def input_shape(self, x: Variable) -> list[int | None]:
        sizes = dict(zip(self.kept(x), self.features or (), strict=True))
        return [sizes.get(axis) for axis in range(x.ndim)]

    def check_inputs(self, *inputs: Variable) -> None:
        super().check_inputs(*inputs)
        for x in inputs[:1]:
            self._check_rank(x)
            sizes = tuple(x.type.shape[axis] for axis in self.kept(x))
            if any(None not in pair and pair[0] != pair[1] for pair in zip(sizes, self.features or (), strict=True)):
                raise InvalidValueError(f"{self!r} was made for {self.features} features, not for the {sizes} of {x!r}")

    def _check_rank(self, x: Variable) -> None:
        """ValueError unless x has a number of axes that the layer is for, and not all of them are kept."""
        if self.ranks and x.ndim not in self.ranks:
            wanted = " or ".join(str(rank) for rank in self.ranks)
            raise InvalidValueError(f"{self!r} takes inputs of {wanted} axes, not {x!r}, which has {x.ndim}")
        if len(self.kept(x)) == x.ndim:
            raise InvalidValueError(f"{self!r} keeps all axes of {x!r}, and so has nothing to take statistics of")

    def followed(self, normalized: Variable, pairs: Pairs) -> Variable:
        if not self.automatic:
            return normalized
        kind = Followed(self.name)
        return with_asked(normalized, {target: (kind, updated_value(target, new)) for target, new in self.rule(pairs)})
