"""The base of the layers of all dialects: parameters with one number for each feature, averages that calls update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.core.types import as_ints, check_axes
from minigraph.layers.core.initialization import agree
from minigraph.layers.core.settings import Setting, flag, number
from minigraph.layers.normalization.apply_options import Freeze
from minigraph.layers.normalization.conventions import Convention
from minigraph.layers.normalization.population import PopulationNormalization
from minigraph.layers.normalization.stored_population import Pairs
from minigraph.ops.control import DefaultUpdate, updated_value, with_asked


def as_weight(given: Any, what: str) -> Any:
    """A weight of averages: a number from 0 to 1, or a scalar variable; TypeError for anything else, ValueError outside."""
    if isinstance(given, Variable):
        if given.ndim or given.dtype.kind != "f":
            raise InvalidTypeError(f"{what} must be a number or a scalar variable, not {given!r}")
        return given
    return number(given, what, 0, 1)


class Followed(DefaultUpdate):
    """Marks the normalized value of a layer with the request that the population follow the minibatch."""

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
    kept_axes: the axes of the input that are not averaged over. ranks: the numbers of axes that an input may have; any if
    empty. convention, epsilon, and others: see `PopulationNormalization`.
    """

    fixed_when_made = frozenset({"kept_axes", "ranks"})
    fixed_when_allocated = frozenset({"features"})
    automatic = Setting(flag)

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
        if self.features == () and self.kept_axes:
            raise InvalidValueError(f"features must be an int of 1 or more, or one for each kept axis, not {features!r}")
        self.ranks = as_ints(ranks, "ranks", 1)
        self.automatic = automatic

    def rule(self, pairs: Pairs) -> Pairs:
        """The updates that the system makes from pairs."""
        raise TypeError(f"{type(self).__name__} does not define rule")

    def kept(self, x: Variable) -> tuple[int, ...]:
        """The axes of x that are not averaged over."""
        return check_axes(self.kept_axes, x.ndim)

    def averaged_axes(self, x: Variable) -> tuple[int, ...]:
        kept = self.kept(x)
        return tuple(axis for axis in range(x.ndim) if axis not in kept)

    def infer_sizes(self, *inputs: Variable) -> None:
        if inputs:
            x = inputs[0]
            self._check_rank(x)
            if self.features is None:
                sizes = tuple(x.type.shape[axis] for axis in self.kept(x))
                if None in sizes:
                    raise InvalidValueError(f"{self!r} needs to know how many features {x!r} has; give the size of that axis")
                self.features = tuple(size for size in sizes if size is not None)

    def parameter_shape(self) -> tuple[int, ...]:
        self.need(features=self.features)
        return self.features or ()

    def stretched(self, parameter: Variable, x: Variable) -> Variable:
        kept, sizes = self.kept(x), iter(self.features or ())
        return parameter.reshape(tuple(next(sizes) if axis in kept else 1 for axis in range(x.ndim)))

    def allocate_from(self, values: Mapping[str, Any]) -> None:
        if self.features is None and self.convention.mean in values:
            shape = np.shape(values[self.convention.mean])[0 if self.n_iter is None else 1 :]
            wide = tuple(size for size in shape if size != 1)
            same = next((one for one in (shape, wide) if len(one) == len(self.kept_axes)), None)
            self.features = (int(np.prod(shape)),) if same is None else same
        super().allocate_from(values)

    def input_shape(self, x: Variable) -> list[int | None]:
        sizes = dict(zip(self.kept(x), self.features or (), strict=True))
        return [sizes.get(axis) for axis in range(x.ndim)]

    def check_inputs(self, *inputs: Variable) -> None:
        super().check_inputs(*inputs)
        if inputs:
            x = inputs[0]
            self._check_rank(x)
            sizes = tuple(x.type.shape[axis] for axis in self.kept(x))
            if not agree(sizes, self.features or ()):
                raise InvalidValueError(f"{self!r} was made for {self.features} features, not for the {sizes} of {x!r}")

    def _check_rank(self, x: Variable) -> None:
        """ValueError unless x has as many axes as the layer is for, and keeps as many as have sizes, but not all."""
        if self.ranks and x.ndim not in self.ranks:
            wanted = " or ".join(str(rank) for rank in self.ranks)
            raise InvalidValueError(f"{self!r} takes inputs of {wanted} axes, not {x!r}, which has {x.ndim}")
        if len(self.kept(x)) == x.ndim:
            raise InvalidValueError(f"{self!r} keeps all axes of {x!r}, and so has nothing to take statistics of")
        if self.features is not None and len(self.features) != len(self.kept(x)):
            raise InvalidValueError(
                f"{self!r} was made for features of shape {self.features}, and keeps {len(self.kept(x))} axes of {x!r}"
            )

    @property
    def waits_for_pairs(self) -> bool:
        return not self.automatic

    def followed(self, normalized: Variable, pairs: Pairs) -> Variable:
        if not self.automatic:
            return normalized
        kind = Followed(self.name)
        return with_asked(normalized, {target: (kind, updated_value(target, new)) for target, new in self.rule(pairs)})


class TrainableNormalization(DialectNormalization):
    """A dialect whose layers may be told not to train, by `trainable`: training then is inference, and nothing learns.

    convention, epsilon, and others: see `DialectNormalization`.
    """

    def __init__(self, convention: Convention, epsilon: float, *, trainable: bool = True, **options: Any) -> None:
        super().__init__(convention, epsilon, **options)
        self._otherwise = self.freeze
        self.trainable = trainable

    @property
    def trainable(self) -> bool:
        """Whether the layer trains, in graphs that are built from then on; False is `freeze = Freeze.EVERYTHING`."""
        return self.freeze is not Freeze.EVERYTHING

    @trainable.setter
    def trainable(self, value: bool) -> None:
        wanted = flag(value, "trainable")
        if wanted is self.trainable:
            return
        if not wanted:
            self._otherwise = self.freeze
        self.freeze = self._otherwise if wanted else Freeze.EVERYTHING
