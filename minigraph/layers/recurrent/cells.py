"""Recurrent layers: simple ones, LSTM, GRU, and the LSTM with batch normalization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigraph.core.graph import Variable
from minigraph.layers.activations import Logistic, Tanh
from minigraph.layers.core.base import Layer
from minigraph.layers.core.gates import GatesFrom, for_gates, is_whole
from minigraph.layers.core.initialization import Given, Initializer, as_initializer
from minigraph.layers.core.roles import WEIGHT
from minigraph.layers.core.settings import Setting, count, finite, flag
from minigraph.layers.normalization.batch import BatchNormalization
from minigraph.layers.recurrent.driver import Recurrent, masked, recurrent
from minigraph.ops.array.indexing import index
from minigraph.ops.linear.products import dot

__all__ = ["GRU", "LSTM", "BatchNormalizedLSTM", "SimpleRecurrent"]


def _slices(x: Variable, count: int, size: int) -> list[Variable]:
    """Parts of the last axis."""
    return [index(x, (..., slice(k * size, (k + 1) * size))) for k in range(count)]


class SimpleRecurrent(Recurrent):
    """states = activation(inputs + states @ W), Elman's network.

    activation: a layer, `Tanh()` if left out. dim, input_dim and others: see `Recurrent`.

    >>> layer = mg.layers.SimpleRecurrent(dim=3, input_dim=2)
    >>> layer.apply(mg.tensor("x", shape=(None, None, 2))).type.shape  # (time, batch, dim)
    (None, None, 3)
    """

    def __init__(self, dim: int, input_dim: int | None = None, activation: Layer | None = None, **options: Any) -> None:
        self.activation = Tanh() if activation is None else activation
        super().__init__(dim, input_dim, children=[self.activation], **options)

    def allocate_parameters(self) -> None:
        self.add_parameter("W", (self.dim, self.dim), self.weights_init, WEIGHT)
        self.add_input_weights()
        self.add_initial_states("state")

    @recurrent(sequences=["inputs", "mask"], states=["states"])
    def apply(self, inputs: Variable, states: Variable, mask: Variable | None = None) -> Variable:
        """The next states, (batch, dim), from inputs (batch, features), states (batch, dim), and perhaps a mask (batch,)."""
        new = self.activation(self.projected(inputs) + dot(states, self.parameter("W")))
        return masked(new, states, mask)


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) with forget gates (Gers et al. 2000).

    The gates stand in the order input, forget, cell, output: with z = inputs + states @ W,
    cells = sigmoid(z_forget) * cells + sigmoid(z_input) * tanh(z_cell), states = sigmoid(z_output) * tanh(cells).
    dim, input_dim and others: see `Recurrent`. activation, gate_activation: layers in the place of tanh and the sigmoid.
    peepholes: let the gates see the cells, as Blocks does, by weights that start as `peepholes_init` says. forget_bias: the
    term that is added to the bias of the forget gate at first, where the layer has a bias, that is, with `input_dim`
    (Jozefowicz et al. 2015).

    >>> lstm = mg.layers.LSTM(dim=3, input_dim=2)
    >>> x = mg.tensor("x", shape=(None, None, 2))
    >>> states, cells = lstm.apply(x)
    >>> states.eval({x: np.zeros((5, 4, 2), "float32")}).shape
    (5, 4, 3)
    """

    gates = 4
    peepholes, forget_bias = Setting(flag), Setting(finite)

    def __init__(
        self,
        dim: int,
        input_dim: int | None = None,
        activation: Layer | None = None,
        gate_activation: Layer | None = None,
        *,
        peepholes: bool = False,
        peepholes_init: Any = 0.0,
        forget_bias: float = 1.0,
        **options: Any,
    ) -> None:
        self.peepholes_init = as_initializer(peepholes_init, "peepholes_init")
        self.activation = Tanh() if activation is None else activation
        self.gate_activation = Logistic() if gate_activation is None else gate_activation
        super().__init__(dim, input_dim, children=[self.activation, self.gate_activation, *self.own_children(dim)], **options)
        self.peepholes, self.forget_bias = peepholes, forget_bias

    def own_children(self, dim: int) -> list[Layer]:
        """Further layers of a subclass."""
        return []

    def allocate_parameters(self) -> None:
        self.add_parameter("W", (self.dim, 4 * self.dim), for_gates(self.weights_init, 4), WEIGHT)
        self.add_input_weights()
        if self.peepholes:
            for gate in ("input", "forget", "output"):
                self.add_parameter(f"W_cell_to_{gate}", (self.dim,), self.peepholes_init, WEIGHT)
        self.add_initial_states("state", "cells")

    def _starts_of_biases(self) -> Initializer:
        return for_gates(self.biases_init, 4, (0.0, self.forget_bias, 0.0, 0.0))

    @recurrent(sequences=["inputs", "mask"], states=["states", "cells"])
    def apply(
        self, inputs: Variable, states: Variable, cells: Variable, mask: Variable | None = None
    ) -> tuple[Variable, Variable]:
        """The next states and cells, (batch, dim) both, from inputs (batch, features) and perhaps a mask (batch,)."""
        z = self.projected(inputs) + dot(states, self.parameter("W"))
        return self.next_states(z, states, cells, mask, lambda cells: cells)

    def next_states(
        self, z: Variable, states: Variable, cells: Variable, mask: Variable | None, seen: Callable[[Variable], Variable]
    ) -> tuple[Variable, Variable]:
        """The next states and cells, old ones where `mask` is 0, from the values `z` that enter the gates.

        seen: a function from the cells to the value of them that the output reads.
        """
        first, forget, candidate, last = _slices(z, 4, self.dim)
        if self.peepholes:
            first = first + cells * self.parameter("W_cell_to_input")
            forget = forget + cells * self.parameter("W_cell_to_forget")
        kept = self.gate_activation(forget) * cells
        new_cells = kept + self.gate_activation(first) * self.activation(candidate)
        if self.peepholes:
            last = last + new_cells * self.parameter("W_cell_to_output")
        new_states = self.gate_activation(last) * self.activation(seen(new_cells))
        return masked(new_states, states, mask), masked(new_cells, cells, mask)


class GRU(Recurrent):
    """Gated recurrent units (Cho et al. 2014).

    The gates stand in the order update, reset, candidate: with u and r the sigmoids of the first two, states =
    u * tanh(inputs_candidate + (r * states) @ W_candidate) + (1 - u) * states, as in Blocks' GatedRecurrent. Weights that are
    given are (dim, 3 * dim), for the gates and the candidate; a variable then is the parameter `W`. dim, input_dim and others:
    see `Recurrent`. activation, gate_activation: layers in the place of tanh and the sigmoid.

    >>> layer = mg.layers.GRU(dim=3, input_dim=2)
    >>> layer.apply(mg.tensor("x", shape=(None, None, 2))).type.shape  # (time, batch, dim)
    (None, None, 3)
    """

    gates = 3

    def __init__(
        self,
        dim: int,
        input_dim: int | None = None,
        activation: Layer | None = None,
        gate_activation: Layer | None = None,
        **options: Any,
    ) -> None:
        self.activation = Tanh() if activation is None else activation
        self.gate_activation = Logistic() if gate_activation is None else gate_activation
        super().__init__(dim, input_dim, children=[self.activation, self.gate_activation], **options)

    def allocate_parameters(self) -> None:
        whole = self.weights_init
        if isinstance(whole.settled((self.dim, 3 * self.dim)), Given):
            self.add_parameter("W", (self.dim, 3 * self.dim), whole, WEIGHT)
        else:
            gates = GatesFrom(whole, 3, 0, 2) if is_whole(whole) else for_gates(whole, 2)
            candidate = GatesFrom(whole, 3, 2, 3) if is_whole(whole) else whole
            self.add_parameter("W_gates", (self.dim, 2 * self.dim), gates, WEIGHT)
            self.add_parameter("W_candidate", (self.dim, self.dim), candidate, WEIGHT)
        self.add_input_weights()
        self.add_initial_states("state")

    def _state_weights(self) -> tuple[Variable, Variable]:
        """The matrices of the states for the gates and for the candidate, perhaps of one variable that was given for both."""
        if self.has_parameter("W"):
            whole = self.parameter("W")
            return whole[..., : 2 * self.dim], whole[..., 2 * self.dim :]
        return self.parameter("W_gates"), self.parameter("W_candidate")

    @recurrent(sequences=["inputs", "mask"], states=["states"])
    def apply(self, inputs: Variable, states: Variable, mask: Variable | None = None) -> Variable:
        """The next states, (batch, dim), from inputs (batch, features), states (batch, dim), and perhaps a mask (batch,)."""
        from_inputs = _slices(self.projected(inputs), 3, self.dim)
        gate_weights, candidate_weights = self._state_weights()
        from_states = _slices(dot(states, gate_weights), 2, self.dim)
        update, reset = (self.gate_activation(a + b) for a, b in zip(from_inputs, from_states, strict=False))
        candidate = self.activation(from_inputs[2] + dot(reset * states, candidate_weights))
        return masked(update * candidate + (1 - update) * states, states, mask)


class BatchNormalizedLSTM(LSTM):
    """An LSTM that normalizes over the batch at every step (Cooijmans et al. 2016, Recurrent Batch Normalization).

    z = BN(inputs) + BN(states @ W), the gates as in an LSTM, and the output sees tanh(BN(cells)). The parts from the inputs
    and from the states, and the cells, are normalized apart, by `normalize_input`, `normalize_states` and
    `normalize_cells`, whose scales start at 0.1; the one of the states has no shift, and the shift of the one of the inputs
    takes the place of the bias, and starts like it, by `biases_init` and `forget_bias`.

    n_iter: for how many steps there are populations of their own, the last one of which serves for all later steps; None
    for one population of all steps. epsilon, scale_init: those of the normalizations. Other arguments are those of an LSTM.

    >>> lstm = mg.layers.BatchNormalizedLSTM(dim=3, n_iter=5, input_dim=2)
    >>> x = mg.tensor("x", shape=(None, None, 2))
    >>> with mg.layers.batch_normalization(lstm):
    ...     states, cells = lstm.apply(x)
    >>> pairs = mg.transforms.get_batch_normalization_updates(states)
    >>> [(population.name, population.type.shape) for population, estimate in pairs[:2]]
    [('population_mean', (5, 12)), ('population_stdev', (5, 12))]
    """

    fixed_when_made = frozenset({"n_iter", "normalize_input", "normalize_states", "normalize_cells", "biases_init"})

    def __init__(
        self,
        dim: int,
        n_iter: int | None = None,
        input_dim: int | None = None,
        *,
        epsilon: float = 1e-4,
        scale_init: Any = 0.1,
        biases_init: Any = 0.0,
        forget_bias: float = 1.0,
        **options: Any,
    ) -> None:
        dim = count(dim, "dim")
        self.n_iter = n_iter
        shared_options: dict[str, Any] = {"n_iter": n_iter, "epsilon": epsilon, "scale_init": scale_init}
        shift = for_gates(as_initializer(biases_init, "biases_init"), 4, (0.0, finite(forget_bias, "forget_bias"), 0.0, 0.0))
        self.normalize_input = BatchNormalization(4 * dim, name="normalize_input", shift_init=shift, **shared_options)
        self.normalize_states = BatchNormalization(4 * dim, learn_shift=False, name="normalize_states", **shared_options)
        self.normalize_cells = BatchNormalization(dim, name="normalize_cells", **shared_options)
        super().__init__(dim, input_dim, biases_init=biases_init, forget_bias=forget_bias, **options)

    def own_children(self, dim: int) -> list[Layer]:
        return [self.normalize_input, self.normalize_states, self.normalize_cells]

    def add_input_weights(self, use_bias: bool = True) -> None:
        super().add_input_weights(use_bias=False)

    @recurrent(sequences=["inputs", "mask"], states=["states", "cells"])
    def apply(
        self,
        inputs: Variable,
        states: Variable,
        cells: Variable,
        mask: Variable | None = None,
        step: Variable | int | None = None,
    ) -> tuple[Variable, Variable]:
        """The next states and cells, (batch, dim) both, from inputs (batch, features) and perhaps a mask (batch,).

        step: the number of the step, which says whose statistics are meant; loops hand it over.
        """
        which = None if self.n_iter is None else step

        def normalized(layer: BatchNormalization, x: Variable) -> Any:
            return layer.apply(x, which) if mask is None else layer.apply(x, which, mask=mask)

        z = normalized(self.normalize_input, self.projected(inputs))
        z = z + normalized(self.normalize_states, dot(states, self.parameter("W")))
        return self.next_states(z, states, cells, mask, lambda new: normalized(self.normalize_cells, new))
