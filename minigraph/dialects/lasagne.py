"""Batch normalization as Lasagne has it: `BatchNormLayer`, `batch_norm`."""

from __future__ import annotations

from collections.abc import Sequence as Listed
from typing import Any

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.core.types import as_ints, as_sizes, check_axes
from minigraph.dialects.base import DialectNormalization, as_weight
from minigraph.layers.convolution import Convolutional, ConvolutionalTranspose
from minigraph.layers.core.application import application, current_call
from minigraph.layers.core.base import Layer
from minigraph.layers.core.settings import Setting, State, flag, flag_or_none
from minigraph.layers.linear import Linear
from minigraph.layers.mlp import Sequence
from minigraph.layers.normalization.apply_options import Freeze, Request, checked_index
from minigraph.layers.normalization.conventions import Convention, InverseStdev
from minigraph.layers.normalization.population import recorded
from minigraph.layers.normalization.stored_population import Pairs
from minigraph.transforms.averages import averaged

LASAGNE = Convention(
    "Lasagne", "gamma", "beta", "mean", "inv_std", InverseStdev(), 1e-4, listed=("beta", "gamma", "mean", "inv_std")
)


class BatchNormLayer(DialectNormalization):
    """Lasagne's layer: stores mean and 1 / sqrt(variance + epsilon), of which a moving average with weight `alpha` is taken.

    incoming: the shape of the input, or None or the layer before to infer it. axes: those averaged over; 'auto': all but the
    second. mode: 'low_mem' or 'high_mem', which is not looked at, since memory is planned when a function is compiled. beta,
    gamma: initializers, or None for a fixed 0 or 1. mean, inv_std: initializers of the averages. Each of these four may also be
    an array, a function of the shape, or a variable, which then is the parameter, and may be shared by layers.

    >>> layer = mg.dialects.lasagne.BatchNormLayer(None)
    >>> layer.apply(mg.matrix("x", shape=(None, 3))).type.shape, layer.listed()
    ((None, 3), ['beta', 'gamma', 'mean', 'inv_std'])
    """

    fixed_when_made = frozenset({"axes"})
    alpha = Setting(as_weight)
    beta = State("The term that is added to normalized values.")
    gamma = State("The factor of normalized values.")
    mean = State("The average of means.")
    inv_std = State("The average of 1 / sqrt(variance + epsilon).")

    def __init__(
        self,
        incoming: Layer | Listed[int | None] | None = None,
        axes: str | int | Listed[int] = "auto",
        epsilon: float = 1e-4,
        alpha: float = 0.1,
        mode: str = "low_mem",
        beta: Any = 0.0,
        gamma: Any = 1.0,
        mean: Any = 0.0,
        inv_std: Any = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(
            LASAGNE,
            epsilon,
            scale_init=gamma,
            shift_init=beta,
            learn_scale=gamma is not None,
            learn_shift=beta is not None,
            population_init={"mean": mean, "inv_std": inv_std},
            **options,
        )
        if isinstance(axes, str) and axes != "auto":
            raise InvalidValueError(f"axes must be 'auto', an int, or ints, not {axes!r}")
        self.axes = axes if isinstance(axes, str) else as_ints(axes, "axes")
        if not isinstance(mode, str) or mode not in ("low_mem", "high_mem"):
            raise InvalidValueError(f"mode must be 'low_mem' or 'high_mem', not {mode!r}")
        self.alpha = alpha
        if incoming is not None and not isinstance(incoming, Layer):
            shape = as_sizes(incoming, "incoming")
            if len(shape) < 2:
                raise InvalidValueError(f"incoming must be a shape of two axes or more, not {incoming!r}")
            sizes = [shape[axis] for axis in self._kept(len(shape))]
            if None in sizes:
                raise InvalidValueError(
                    f"{self!r} needs to know the sizes of the axes of {incoming} that are not averaged over"
                )
            self.features = tuple(size for size in sizes if size is not None)

    def _kept(self, ndim: int) -> tuple[int, ...]:
        """The axes of an input of `ndim` axes that are not averaged over."""
        if isinstance(self.axes, str):
            return (1,)
        averaged = check_axes(self.axes, ndim)
        return tuple(axis for axis in range(ndim) if axis not in averaged)

    def kept(self, x: Variable) -> tuple[int, ...]:
        return self._kept(x.ndim)

    def rule(self, pairs: Pairs) -> Pairs:
        return averaged(pairs, self.alpha)

    @application
    def get_output_for(
        self,
        /,
        x: Variable,
        deterministic: bool = False,
        batch_norm_use_averages: bool | None = None,
        batch_norm_update_averages: bool | None = None,
        **others: Any,
    ) -> Variable:
        """x normalized, by the stored averages if `deterministic`, else by the minibatch, which the averages then follow.

        batch_norm_use_averages, batch_norm_update_averages: override it, each in part. Using and updating averages at once
        normalizes by the old ones. Others are for other layers, and not looked at: one set of switches is handed to all layers
        of a network.
        """
        flag(deterministic, "deterministic")
        flag_or_none(batch_norm_use_averages, "batch_norm_use_averages")
        flag_or_none(batch_norm_update_averages, "batch_norm_update_averages")
        use = deterministic if batch_norm_use_averages is None else batch_norm_use_averages
        update = not deterministic if batch_norm_update_averages is None else batch_norm_update_averages
        checked_index(None, self.n_iter)  # these switches name no population, and so there must be one
        request = Request(freeze=self.freeze)
        if not update and not request.freezes(Freeze.AVERAGES):
            request = Request(freeze=Freeze.AVERAGES)
        if use and not update and not deterministic and not request.freezes(Freeze.STATISTICS):
            request = Request(freeze=Freeze.STATISTICS)  # training by fixed averages was asked for
        if not use or request.freezes(Freeze.AVERAGES):
            return self.scaled(self.normalize(x, current_call(), request, not use or not deterministic), request)
        normalized, statistics = self.normalize_by_population(x, current_call(), request)
        followed = self.followed(normalized, self.population.pairs(self.estimate(x, request)[2], request))
        built = recorded(followed, x, current_call(), request, False, self.population_statistics, statistics)
        return self.scaled(built, request)


def batch_norm(layer: Layer, **options: Any) -> Sequence:
    """Normalization slipped between a linear or convolutional layer and its nonlinearity; the bias, which it would undo, is
    dropped.

    layer: a `Linear`, `Convolutional` or `ConvolutionalTranspose`, or a `Sequence` (or MLP) that starts with one. options:
    those of `BatchNormLayer`, whose name is by default that of `layer` and "_bn"; a nonlinearity without a name of its own is
    named after it, with "_nonlin".
    """
    stages = list(layer.stages) if isinstance(layer, Sequence) else [layer]
    linear = stages[0] if stages else layer
    if not isinstance(linear, Linear | Convolutional | ConvolutionalTranspose):
        raise InvalidTypeError(
            "batch_norm takes a Linear, Convolutional or ConvolutionalTranspose, or a Sequence that starts with one, "
            f"not {layer!r}"
        )
    normalization = BatchNormLayer(**{"name": f"{layer.name}_bn", **options})
    linear.drop_bias()
    for stage in stages[1:2]:
        if isinstance(stage, Layer) and not stage.name_is_final:
            stage.name = f"{normalization.name}_nonlin"
    return Sequence([linear, normalization, *stages[1:]], name=f"{layer.name}_bn")
