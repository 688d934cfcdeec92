"""Batch normalization: statistics of the batch in training, of the population in inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.errors import InvalidTypeError, InvalidValueError
from minigraph.graph import Variable
from minigraph.layers.base import ApplicationCall, Layer, application, current_call, is_in_training, training
from minigraph.layers.initialization import Constant, as_initializer
from minigraph.layers.roles import (
    BATCH_NORM_DIVISOR,
    BATCH_NORM_MINIBATCH_ESTIMATE,
    BATCH_NORM_OFFSET,
    BATCH_NORM_POPULATION_MEAN,
    BATCH_NORM_POPULATION_STDEV,
    BATCH_NORM_SCALE_PARAMETER,
    BATCH_NORM_SHIFT_PARAMETER,
    Role,
)
from minigraph.ops.normalization import WithStatistics, center, normalize_by, standardize
from minigraph.ops.shape import expand_dims
from minigraph.types import Shape


class BatchNormalization(Layer):
    """Features made to have mean 0 and deviation 1, then scaled and shifted (Ioffe and Szegedy 2015), as Blocks has it.

    In inference, the default, the statistics are the layer's `population_mean` and `population_stdev`, which start as 0 and 1,
    so that a fresh layer is the identity. Inside `batch_normalization(...)` they are those of the minibatch, and the graph
    remembers them as pairs: see `minigraph.transforms.get_batch_normalization_updates`.

    input_dim: an int, or the shape without the batch axis; inferred at the first application if left out.
    broadcastable: for each of those axes whether it is averaged over, too; its parameters then have size 1 there.
    conserve_memory: accepted for the sake of Blocks' models; memory is planned when a function is compiled, either way.
    epsilon: added to the variance, inside the root, when statistics are taken.
    mean_only: subtract the mean and divide by nothing; then there is no scale.
    learn_scale, learn_shift: whether there is a learned scale (else 1) and shift (else 0).
    n_iter: must be None; statistics per time step are not supported yet.
    """

    def __init__(
        self,
        input_dim: int | Sequence[int] | None = None,
        broadcastable: Sequence[bool] | None = None,
        conserve_memory: bool = True,
        epsilon: float = 1e-4,
        scale_init: Any = None,
        shift_init: Any = None,
        mean_only: bool = False,
        learn_scale: bool = True,
        learn_shift: bool = True,
        n_iter: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if n_iter is not None:
            raise InvalidValueError(f"n_iter={n_iter!r}: statistics per time step are not supported yet; leave it out")
        given = (int(input_dim),) if isinstance(input_dim, int | np.integer) else input_dim
        self.input_dim: Shape | None = None if given is None else tuple(given)
        self.broadcastable = None if broadcastable is None else tuple(bool(one) for one in broadcastable)
        self.conserve_memory = conserve_memory
        if isinstance(epsilon, bool) or not isinstance(epsilon, int | float | np.number) or not epsilon >= 0:
            raise InvalidValueError(f"epsilon must be a number of 0 or more, not {epsilon!r}")
        self.epsilon = float(epsilon)
        self.scale_init = Constant(1.0) if scale_init is None else as_initializer(scale_init, "scale_init")
        self.shift_init = Constant(0.0) if shift_init is None else as_initializer(shift_init, "shift_init")
        self.mean_only, self.learn_scale, self.learn_shift = mean_only, learn_scale, learn_shift
        self._check_lengths()

    def _check_lengths(self) -> None:
        """ValueError unless input_dim and broadcastable, where both are known, have one length."""
        if self.input_dim is not None and self.broadcastable is not None and len(self.input_dim) != len(self.broadcastable):
            raise InvalidValueError(
                f"{self!r}: input_dim {self.input_dim} has {len(self.input_dim)} axes, broadcastable {self.broadcastable} has "
                f"{len(self.broadcastable)}"
            )

    # -- sizes and parameters ----------------------------------------------------------------------------------------

    def infer_sizes(self, *inputs: Variable) -> None:
        if self.input_dim is None and inputs:
            if inputs[0].ndim < 2:
                raise InvalidValueError(f"{self!r} takes a batch axis and at least one axis of features, not {inputs[0]!r}")
            self.input_dim = inputs[0].type.shape[1:]
            self._check_lengths()

    @property
    def averaged(self) -> tuple[bool, ...]:
        """For each axis but that of the batch, whether it is averaged over."""
        return self.broadcastable or (False,) * len(self.input_dim or ())

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of the input that statistics are taken over."""
        return (0, *(axis + 1 for axis, averaged in enumerate(self.averaged) if averaged))

    def allocate_parameters(self) -> None:
        self.need(input_dim=self.input_dim)
        shape: list[int] = []
        for axis, (size, averaged) in enumerate(zip(self.input_dim or (), self.averaged, strict=True)):
            if size is None and not averaged:
                raise InvalidValueError(f"{self!r}: the size of axis {axis + 1} is not known; give input_dim")
            shape.append(1 if averaged or size is None else size)
        statistics = "float32" if self.dtype == np.dtype("float16") else self.dtype
        if self.learn_scale and not self.mean_only:
            self.add_parameter("scale", shape, self.scale_init, BATCH_NORM_SCALE_PARAMETER)
        if self.learn_shift:
            self.add_parameter("shift", shape, self.shift_init, BATCH_NORM_SHIFT_PARAMETER)
        self.add_parameter("population_mean", shape, Constant(0.0), BATCH_NORM_POPULATION_MEAN, statistics)
        if not self.mean_only:
            self.add_parameter("population_stdev", shape, Constant(1.0), BATCH_NORM_POPULATION_STDEV, statistics)

    def check_inputs(self, *inputs: Variable) -> None:
        for x in inputs:
            dims = self.input_dim or ()
            if x.ndim != len(dims) + 1 or any(
                None not in (size, given) and size != given for size, given in zip(dims, x.type.shape[1:], strict=True)
            ):
                raise InvalidValueError(f"{self!r} takes a batch of shape {dims}, not {x!r}")
            if x.dtype.kind != "f":
                raise InvalidTypeError(f"{self!r} takes floats, not {x!r}; cast them first")

    @property
    def population_statistics(self) -> list[Variable]:
        """The population mean, and unless `mean_only` the population deviation."""
        return [self.variables[name] for name in ("population_mean", "population_stdev") if name in self.variables]

    # -- application -------------------------------------------------------------------------------------------------

    @application
    def apply(self, x: Variable) -> Variable:
        """x normalized, times scale, plus shift."""
        normalize = self.normalize_by_minibatch if is_in_training(self) else self.normalize_by_population
        result = normalize(x, current_call())
        if "scale" in self.variables:
            result = result * expand_dims(self.variables["scale"], 0)
        if "shift" in self.variables:
            result = result + expand_dims(self.variables["shift"], 0)
        return result

    def normalize_by_population(self, x: Variable, call: ApplicationCall) -> Variable:
        """x normalized by the stored statistics, which are marked as those in use."""
        statistics = [expand_dims(one, 0) for one in self.population_statistics]
        return _marked(normalize_by(x, *_in_use(statistics, call)), call)

    def normalize_by_minibatch(self, x: Variable, call: ApplicationCall) -> Variable:
        """x normalized by its own statistics, which stay reachable and are marked as those in use."""
        if self.mean_only:
            normalized, *statistics = center(x, self.axes)
        else:
            normalized, *statistics = standardize(x, self.axes, self.epsilon)
        in_use = _in_use(statistics, call, BATCH_NORM_MINIBATCH_ESTIMATE)
        return _marked(WithStatistics()(normalized, x, *in_use), call)


def _in_use(statistics: Sequence[Variable], call: ApplicationCall, *roles: type[Role]) -> list[Variable]:
    """Copies of a mean and perhaps a deviation, marked as what an application subtracts and divides by."""
    own = (("offset", BATCH_NORM_OFFSET), ("divisor", BATCH_NORM_DIVISOR))
    return [
        one.copy(f"{call.layer.name}_{name}", tags=(role, *roles, call))
        for one, (name, role) in zip(statistics, own, strict=False)
    ]


def _marked(variable: Variable, call: ApplicationCall) -> Variable:
    """The same variable made with the call among its tags, where the transforms look for it."""
    return Variable(variable.op, variable.inputs, variable.type, f"{call.layer.name}_normalized", (call,), variable.origin)


class SpatialBatchNormalization(BatchNormalization):
    """Batch normalization of (channels, *spatial) that averages over the batch and all spatial axes."""

    def __init__(self, input_dim: Sequence[int] | None = None, **options: Any) -> None:
        if input_dim is not None and (isinstance(input_dim, int) or len(input_dim) < 2):
            raise InvalidValueError(f"input_dim must be (channels, *spatial) with at least one spatial axis, not {input_dim!r}")
        if "broadcastable" in options:
            raise InvalidTypeError("SpatialBatchNormalization averages over all spatial axes: it takes no broadcastable")
        broadcastable = None if input_dim is None else (False,) + (True,) * (len(input_dim) - 1)
        super().__init__(input_dim, broadcastable, **options)

    def infer_sizes(self, *inputs: Variable) -> None:
        super().infer_sizes(*inputs)
        if self.input_dim is not None and self.broadcastable is None:
            if len(self.input_dim) < 2:
                raise InvalidValueError(f"{self!r} takes (batch, channels, *spatial), not {inputs[0]!r}")
            self.broadcastable = (False,) + (True,) * (len(self.input_dim) - 1)

    def check_inputs(self, *inputs: Variable) -> None:
        for x in inputs:
            channels = self.input_dim[0] if self.input_dim else None
            if x.ndim != len(self.input_dim or ()) + 1 or (
                None not in (channels, x.type.shape[1]) and x.type.shape[1] != channels
            ):
                raise InvalidValueError(f"{self!r} takes a batch of shape {self.input_dim}, not {x!r}")


def batch_normalization(*layers: Layer) -> training:
    """Build training-mode graph inside the block for every `BatchNormalization` at or below these layers.

    The mode is fixed when the graph is built. Blocks nest, can be entered again, are left as they were entered, also
    by an exception, and hold for the current thread alone.

    >>> x, layer = mg.matrix("x"), mg.layers.BatchNormalization(4)
    >>> with mg.layers.batch_normalization(layer):
    ...     y = layer.apply(x)
    >>> [population.name for population, _ in mg.transforms.get_batch_normalization_updates(y)]
    ['population_mean', 'population_stdev']
    """
    return training(*layers, predicate=lambda layer: isinstance(layer, BatchNormalization))
