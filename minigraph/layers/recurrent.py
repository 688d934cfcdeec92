"""Recurrent layers: a method that does one step becomes a loop over all of them.

Sequences are arrays (time, batch, features), masks (time, batch). As in Blocks a layer takes inputs that were multiplied by a
matrix already, by a `Linear` of as many features as the layer has gates times `dim`; with `input_dim` it does so itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from inspect import signature
from typing import Any

from minigraph.errors import InvalidTypeError, InvalidValueError
from minigraph.graph import Variable
from minigraph.layers.activations import Logistic, Tanh
from minigraph.layers.base import Application, Layer, application
from minigraph.layers.gates import GatesFrom, for_gates, is_whole
from minigraph.layers.initialization import Given, Glorot, Orthogonal, as_initializer
from minigraph.layers.linear import Linear, last_size, with_last_size
from minigraph.layers.normalization import BatchNormalization
from minigraph.layers.roles import BIAS, INITIAL_STATE, WEIGHT
from minigraph.layers.settings import Setting, check_flags, count, finite, flag, listed, size
from minigraph.ops.arranging import concatenate
from minigraph.ops.comparison import gt, where
from minigraph.ops.creation import arange
from minigraph.ops.indexing import index
from minigraph.ops.linear import dot
from minigraph.ops.scanning import scan
from minigraph.ops.shape import broadcast_to, expand_dims, shape


@dataclass(frozen=True, repr=False)
class RecurrentApplication(Application[..., Any]):
    """A method that does one step, applied to every row of its sequences, or with `iterate=False` once."""

    sequences: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    def __get__(self, layer: Layer | None, owner: type) -> RecurrentApplication:
        return self if layer is None else replace(self, layer=layer)

    def __call__(
        self,
        *inputs: Any,
        iterate: bool = True,
        reverse: bool = False,
        return_sequences: bool = True,
        return_initial_states: bool = False,
        truncate_gradient: int = -1,
        n_steps: int | Variable | None = None,
        batch_size: int | Variable | None = None,
        call_id: str | None = None,
        **named: Any,
    ) -> Any:
        """Apply the layer to whole sequences, step after step.

        inputs: sequences, states before the first step, and others, by position or name; states that are not given are the
        layer's own. iterate=False: do one step, for which all states must be given. reverse: begin with the last row; results
        come in the order of the steps. return_sequences=False: the states and outputs after the last step alone.
        return_initial_states: with the states before the first step as first rows. truncate_gradient: through how many of
        the last steps gradients flow, -1 for all. n_steps and batch_size: needed only without sequences.
        """
        check_flags(reverse=reverse, return_sequences=return_sequences, return_initial_states=return_initial_states)
        if not flag(iterate, "iterate"):
            return super().__call__(*inputs, call_id=call_id, **named)

        @wraps(self.method)
        def looped(layer: Layer, *given: Any, **others: Any) -> Any:
            names = list(signature(self.method).parameters)[1:]
            values = dict(zip(names, given, strict=False)) | others
            loop = _Loop(self, {name: value for name, value in values.items() if value is not None}, n_steps, batch_size)
            return loop.results(reverse, truncate_gradient, return_sequences, return_initial_states)

        whole: Application[..., Any] = Application(looped, self.layer)
        return whole(*inputs, call_id=call_id, **named)


def recurrent(
    *, sequences: Sequence[str], states: Sequence[str], outputs: Sequence[str] | None = None
) -> Callable[[Callable[..., Any]], RecurrentApplication]:
    """Mark a method as one that does one step of a recurrent layer.

    sequences, states: the names of its arguments of which it takes a row at each step, and of those that are its own results
    of the step before; other arguments are the same at every step. outputs: the names of what it returns, the states if left
    out. A method that takes `step` is given the number of the step, counted from 0. The layer's `initial_states(batch_size)`
    gives the states before the first step.
    """

    def mark(method: Callable[..., Any]) -> RecurrentApplication:
        wanted = tuple(states if outputs is None else outputs)
        if not set(states) <= set(wanted):
            raise InvalidValueError(f"{method.__qualname__}: the states {tuple(states)} must be among the outputs {wanted}")
        result = RecurrentApplication(method, None, tuple(sequences), tuple(states), wanted)
        object.__setattr__(result, "__doc__", method.__doc__)
        return result

    return mark


class _Loop:
    """One application of a recurrent layer to whole sequences."""

    def __init__(self, applied: RecurrentApplication, given: Mapping[str, Any], n_steps: Any, batch_size: Any) -> None:
        assert applied.layer is not None
        self.applied, self.layer = applied, applied.layer
        self.sequences = {name: given[name] for name in applied.sequences if name in given}
        self.fixed = {name: one for name, one in given.items() if name not in (*applied.sequences, *applied.states)}
        required = [
            name
            for name, one in signature(applied.method).parameters.items()
            if name in applied.sequences and one.default is one.empty and name not in given
        ]
        if required:
            raise InvalidValueError(f"{applied} needs the sequence {required[0]!r}")
        first = next(iter(self.sequences.values()), None)
        if first is None and (n_steps is None or batch_size is None):
            raise InvalidValueError(f"{applied} without sequences needs n_steps and batch_size")
        for name, one in self.sequences.items():
            if one.ndim < 2:
                raise InvalidValueError(f"{applied}: the sequence {name!r} must be (time, batch, ...), not {one!r}")
        self.steps = n_steps if first is None or n_steps is not None else shape(first)[0]
        self.batch = batch_size if first is None else shape(first)[1]
        for name, one in self.sequences.items():
            if one is not first:
                self.sequences[name] = _fitting(one, self.steps, self.batch, f"{applied}: the sequence {name!r}")
        own = [] if all(name in given for name in applied.states) else self.layer.initial_states(self.batch)  # type: ignore[attr-defined]
        self.first = dict(zip(applied.states, own, strict=False)) | {n: given[n] for n in applied.states if n in given}

    def results(self, reverse: bool, truncated: int, whole: bool, with_first: bool) -> Any:
        """The outputs at all steps, or after the last."""
        applied = self.applied
        counts = "step" in signature(applied.method).parameters and "step" not in self.fixed
        numbers = arange(self.steps, dtype="int64") if counts else None
        rows = {**self.sequences, **({} if numbers is None else {"step": numbers})}
        ordered = [one[::-1] if reverse and name != "step" else one for name, one in rows.items()]
        fed = [name for name in applied.outputs if name in applied.states]

        fixed = [one for one in self.fixed.values() if isinstance(one, Variable)]

        def step(*elements: Variable) -> Any:
            named = dict(zip([*rows, *fed], elements, strict=False))  # what is fixed comes after these
            return Application.__call__(applied, **self.fixed, **named)

        infos = [self.first.get(name) for name in applied.outputs]
        outputs = scan(step, ordered, infos, fixed, self.steps, truncated, name=self.layer.name)
        listed = outputs if isinstance(outputs, list) else [outputs]
        if not whole:
            listed = [index(one, -1) for one in listed]
        elif with_first:
            listed = [
                concatenate([expand_dims(self.first[name], 0), one]) if name in self.first else one
                for name, one in zip(applied.outputs, listed, strict=True)
            ]
        return listed if len(listed) > 1 else listed[0]


def _fitting(sequence: Variable, steps: Any, batch: Any, what: str) -> Variable:
    """A sequence, provided that it has a row for every step, and each of those one for every element of the batch."""
    for given, wanted, of in zip(shape(sequence), (steps, batch), ("rows", "elements of the batch"), strict=False):
        known = isinstance(given, int) and isinstance(wanted, int)
        if (known and given != wanted) or (given == 1 and not isinstance(wanted, int)):
            raise InvalidValueError(f"{what} has {given} {of}, and {wanted if known else 'an unknown number'} are needed")
    return broadcast_to(sequence, (steps, batch, *shape(sequence)[2:]))


class Recurrent(Layer):
    """What recurrent layers have in common: a size, states before the first step, which are learned, and perhaps a matrix for
    the inputs.

    dim: the size of a state. input_dim: the size of inputs that the layer multiplies by a matrix of its own, `W_input`, and
    adds `b` to; without it inputs have `gates * dim` features already, as in Blocks. An initializer, or a number, is for each
    gate; what else is given, such as a variable, is the whole parameter, with the gates side by side along the last axis.
    """

    fixed_when_made = frozenset({"dim", "activation", "gate_activation"})
    fixed_when_allocated = frozenset(
        {
            "input_dim",
            "weights_init",
            "input_weights_init",
            "biases_init",
            "initial_state_init",
            "peepholes",
            "peepholes_init",
            "forget_bias",
        }
    )
    dim, input_dim = Setting(count), Setting(size)
    gates = 1
    """How many times `dim` features a step takes."""
    _initial_names: tuple[str, ...] = ()
    """The parameters that are states before the first step, in the order of the states, whether variables or expressions."""

    def __init__(
        self,
        dim: int,
        input_dim: int | None = None,
        *,
        weights_init: Any = None,
        input_weights_init: Any = None,
        biases_init: Any = 0.0,
        initial_state_init: Any = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.dim, self.input_dim = dim, input_dim
        self.weights_init = Orthogonal() if weights_init is None else as_initializer(weights_init, "weights_init")
        self.input_weights_init = (
            Glorot() if input_weights_init is None else as_initializer(input_weights_init, "input_weights_init")
        )
        self.biases_init = as_initializer(biases_init, "biases_init")
        self.initial_state_init = as_initializer(initial_state_init, "initial_state_init")

    @property
    def features(self) -> int:
        """The size of the inputs of a step."""
        return self.gates * self.dim if self.input_dim is None else self.input_dim

    def add_input_weights(self, use_bias: bool = True) -> None:
        """Make the matrix and the bias of the inputs, if the layer has them."""
        if self.input_dim is not None:
            self.add_parameter("W_input", (self.input_dim, self.gates * self.dim), self.input_weights_init, WEIGHT)
            if use_bias:
                self.add_parameter("b", (self.gates * self.dim,), self.biases_init, BIAS)

    def add_initial_states(self, *names: str) -> None:
        """Make the states before the first step."""
        for name in (f"initial_{one}" for one in names):
            self.add_parameter(name, (self.dim,), self.initial_state_init, INITIAL_STATE)
            self._initial_names = (*self._initial_names, name)

    def initial_states(self, batch_size: int | Variable) -> list[Variable]:
        """The states before the first step, for a batch: one for each of the layer's states, (batch_size, dim)."""
        names = dict.fromkeys((*self._initial_names, *self.own_variables, *self._expressions))
        own = [self.parameter(name) for name in names if name.startswith("initial_")]
        return [broadcast_to(expand_dims(one, 0), (batch_size, self.dim)) for one in own]

    def input_shape(self, x: Variable) -> list[int | None]:
        return with_last_size(x, self.features)

    def check_inputs(self, *inputs: Variable) -> None:
        for x in inputs[:1]:
            if x.ndim < 2 or last_size(x) not in (None, self.features):
                hint = (
                    "" if self.input_dim is not None else f", {self.gates} for each of its {self.dim} units; or give input_dim"
                )
                raise InvalidValueError(f"{self!r} takes {self.features} features on the last axis{hint}; not {x!r}")

    def projected(self, inputs: Variable) -> Variable:
        """The inputs of a step as its gates take them."""
        if self.input_dim is None:
            return inputs
        product = dot(inputs, self.parameter("W_input"))
        return product + self.parameter("b") if self.has_parameter("b") else product


def _masked(new: Variable, old: Variable, mask: Variable | None) -> Variable:
    """New states where a mask is set, old ones elsewhere."""
    return new if mask is None else where(gt(expand_dims(mask, 1), 0), new, old)


def _slices(x: Variable, count: int, size: int) -> list[Variable]:
    """Parts of the last axis."""
    return [index(x, (..., slice(k * size, (k + 1) * size))) for k in range(count)]


class SimpleRecurrent(Recurrent):
    """states = activation(inputs + states @ W), Elman's network; tanh unless another activation is given."""

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
        return _masked(new, states, mask)


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) with forget gates (Gers et al. 2000).

    The gates stand in the order input, forget, cell, output: with z = inputs + states @ W,
    cells = sigmoid(z_forget) * cells + sigmoid(z_input) * tanh(z_cell), states = sigmoid(z_output) * tanh(cells).
    peepholes: let the gates see the cells, as Blocks does, by weights that start as `peepholes_init` says. forget_bias: what is
    added to the bias of the forget gate at first, where the layer has a bias, that is, with `input_dim` (Jozefowicz et al.
    2015).

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

    def add_input_weights(self, use_bias: bool = True) -> None:
        plain = self.biases_init
        try:
            self.biases_init = for_gates(plain, 4, (0.0, self.forget_bias, 0.0, 0.0))
            super().add_input_weights(use_bias)
        finally:
            self.biases_init = plain

    @recurrent(sequences=["inputs", "mask"], states=["states", "cells"])
    def apply(
        self, inputs: Variable, states: Variable, cells: Variable, mask: Variable | None = None
    ) -> tuple[Variable, Variable]:
        """The next states and cells, (batch, dim) both, from inputs (batch, features) and perhaps a mask (batch,)."""
        z = self.projected(inputs) + dot(states, self.parameter("W"))
        return self.next_states(z, states, cells, mask, lambda cells: cells)

    def next_states(
        self,
        z: Variable,
        states: Variable,
        cells: Variable,
        mask: Variable | None,
        seen: Callable[[Variable], Variable],
    ) -> tuple[Variable, Variable]:
        """The next states and cells from what enters the gates; `seen` is what the output sees of the cells."""
        first, forget, candidate, last = _slices(z, 4, self.dim)
        if self.peepholes:
            first = first + cells * self.parameter("W_cell_to_input")
            forget = forget + cells * self.parameter("W_cell_to_forget")
        kept = self.gate_activation(forget) * cells
        new_cells = kept + self.gate_activation(first) * self.activation(candidate)
        if self.peepholes:
            last = last + new_cells * self.parameter("W_cell_to_output")
        new_states = self.gate_activation(last) * self.activation(seen(new_cells))
        return _masked(new_states, states, mask), _masked(new_cells, cells, mask)


class GRU(Recurrent):
    """Gated recurrent units (Cho et al. 2014).

    The gates stand in the order update, reset, candidate: with u and r the sigmoids of the first two, states =
    u * tanh(inputs_candidate + (r * states) @ W_candidate) + (1 - u) * states, as in Blocks' GatedRecurrent. Weights that are
    given are (dim, 3 * dim), for the gates and the candidate; a variable then is the parameter `W`.
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
            return index(whole, (..., slice(2 * self.dim))), index(whole, (..., slice(2 * self.dim, None)))
        return self.parameter("W_gates"), self.parameter("W_candidate")

    @recurrent(sequences=["inputs", "mask"], states=["states"])
    def apply(self, inputs: Variable, states: Variable, mask: Variable | None = None) -> Variable:
        """The next states, (batch, dim), from inputs (batch, features), states (batch, dim), and perhaps a mask (batch,)."""
        from_inputs = _slices(self.projected(inputs), 3, self.dim)
        gate_weights, candidate_weights = self._state_weights()
        from_states = _slices(dot(states, gate_weights), 2, self.dim)
        update, reset = (self.gate_activation(a + b) for a, b in zip(from_inputs, from_states, strict=False))
        candidate = self.activation(from_inputs[2] + dot(reset * states, candidate_weights))
        return _masked(update * candidate + (1 - update) * states, states, mask)


class BatchNormalizedLSTM(LSTM):
    """An LSTM that normalizes over the batch at every step (Cooijmans et al. 2016, Recurrent Batch Normalization).

    z = BN(inputs) + BN(states @ W), the gates as in an LSTM, and the output sees tanh(BN(cells)). What comes from the inputs,
    from the states, and the cells are normalized apart, by `normalize_input`, `normalize_states` and `normalize_cells`, whose
    scales start at 0.1; the states' has no shift, and that of the inputs stands for the bias, and starts as it does, by
    `biases_init` and `forget_bias`.

    n_iter: for how many steps there are populations of their own, the last one of which serves for all later steps; None
    for one population of all steps. Other arguments are those of an LSTM.

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
        Recurrent.add_input_weights(self, use_bias=False)

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

        step: the number of the step, which says whose statistics are meant; a loop gives it by itself.
        """
        which = None if self.n_iter is None else step

        def normalized(layer: BatchNormalization, x: Variable) -> Any:
            return layer.apply(x, which) if mask is None else layer.apply(x, which, mask=mask)

        z = normalized(self.normalize_input, self.projected(inputs))
        z = z + normalized(self.normalize_states, dot(states, self.parameter("W")))
        return self.next_states(z, states, cells, mask, lambda new: normalized(self.normalize_cells, new))


class Bidirectional(Layer):
    """A recurrent layer and a copy of it that begins with the last row; their results are joined along the last axis."""

    fixed_when_made = frozenset({"forward", "backward"})

    def __init__(self, prototype: Recurrent, **options: Any) -> None:
        if not isinstance(prototype, Recurrent):
            raise InvalidTypeError(f"Bidirectional takes a recurrent layer, not {prototype!r}")
        if prototype.allocated:
            raise InvalidValueError(f"{prototype!r} has parameters already, and cannot be the prototype of two layers")
        self.forward, self.backward = prototype, copy.deepcopy(prototype)
        self.backward.name = f"{prototype.name}_backward"
        self.forward.name_is_final = self.backward.name_is_final = True
        super().__init__(children=[self.forward, self.backward], **options)

    @property
    def dim(self) -> int:
        """The size of its results: those of both directions."""
        return 2 * self.forward.dim

    @property
    def input_dim(self) -> int | None:
        """The size of the inputs that both directions multiply by a matrix of their own, None if they do not."""
        return self.forward.input_dim

    @property
    def features(self) -> int:
        """The size of the inputs of a step."""
        return self.forward.features

    def input_shape(self, x: Variable) -> list[int | None]:
        return with_last_size(x, self.features)

    @application
    def apply(self, inputs: Variable, mask: Variable | None = None, *, truncate_gradient: int = -1) -> Any:
        """The states (and cells, if there are any) of both directions at every row, (time, batch, 2 * dim)."""
        options: dict[str, Any] = {"mask": mask, "truncate_gradient": truncate_gradient}
        both = [layer.apply(inputs, reverse=layer is self.backward, **options) for layer in (self.forward, self.backward)]  # type: ignore[attr-defined]
        pairs = zip(*both, strict=True) if isinstance(both[0], list) else [both]
        joined = [concatenate([there, back[::-1]], axis=-1) for there, back in pairs]
        return joined if len(joined) > 1 else joined[0]


class RecurrentStack(Layer):
    """Recurrent layers one upon the other: each takes the states of the one below, through a `Linear` unless it has an
    `input_dim`. A layer may be `Bidirectional`; the stack then goes over whole sequences alone.

    skip_connections: every layer takes the inputs, too, through a `Linear`.
    """

    fixed_when_made = frozenset({"transitions", "forks", "skips"})

    def __init__(
        self, transitions: Sequence[Recurrent | Bidirectional], *, skip_connections: bool = False, **options: Any
    ) -> None:
        for one in listed(transitions, "transitions"):
            if not isinstance(one, Recurrent | Bidirectional):
                raise InvalidTypeError(f"a stack is made of recurrent layers, not {one!r}")
        if not transitions:
            raise InvalidValueError("a stack needs at least one recurrent layer")
        self.transitions, skips = list(transitions), flag(skip_connections, "skip_connections")
        self.forks: dict[int, Linear] = {}
        self.skips: dict[int, Linear] = {}
        for k, (below, one) in enumerate(zip(transitions, transitions[1:], strict=False), start=1):
            if one.input_dim is None:
                self.forks[k] = Linear(below.dim, one.features, name=f"fork_{k}")
            elif one.input_dim != below.dim:
                raise InvalidValueError(f"{one!r} takes {one.input_dim} features, and {below!r} below it has {below.dim}")
            if skips:
                self.skips[k] = Linear(transitions[0].features, one.features, use_bias=False, name=f"skip_{k}")
        super().__init__(children=[*self.transitions, *self.forks.values(), *self.skips.values()], **options)

    def input_shape(self, x: Variable) -> list[int | None]:
        return with_last_size(x, self.transitions[0].features)

    @property
    def names(self) -> list[list[str]]:
        """For each layer the names of its states in this stack, which can be given: `states`, `cells`, then `states_1`, ...;
        none of a layer that goes both ways.
        """
        own = [() if isinstance(one, Bidirectional) else one.apply.states for one in self.transitions]  # type: ignore[attr-defined]
        return [[name if not k else f"{name}_{k}" for name in states] for k, states in enumerate(own)]

    @application
    def apply(
        self,
        /,
        inputs: Variable,
        mask: Variable | None = None,
        *,
        iterate: bool = True,
        reverse: bool = False,
        return_sequences: bool = True,
        truncate_gradient: int = -1,
        **states: Any,
    ) -> Any:
        """All states of all layers, from the lowest on; arguments are those of a recurrent layer.

        States before the first step are given by the names in `names`; with iterate=False all of them must be.
        """
        check_flags(iterate=iterate, reverse=reverse, return_sequences=return_sequences)
        unknown = set(states) - {name for own in self.names for name in own}
        if unknown:
            raise InvalidValueError(f"{self!r} has no states named {sorted(unknown)}; they are {self.names}")
        results: list[Variable] = []
        x = inputs
        for k, (layer, names) in enumerate(zip(self.transitions, self.names, strict=True)):
            if k in self.forks:
                x = self.forks[k](x)
            if k in self.skips:
                x = x + self.skips[k](inputs)
            if isinstance(layer, Bidirectional):
                outputs = _both_ways(layer, x, mask, iterate, reverse, truncate_gradient)
            else:
                own = layer.apply.states  # type: ignore[attr-defined]
                given = {mine: states[name] for mine, name in zip(own, names, strict=True) if name in states}
                options = {"reverse": reverse, "truncate_gradient": truncate_gradient} if iterate else {}
                outputs = layer.apply(x, mask=mask, iterate=iterate, **options, **given)  # type: ignore[attr-defined]
            listed = outputs if isinstance(outputs, list) else [outputs]
            results += listed
            x = listed[0][::-1] if reverse and k + 1 < len(self.transitions) else listed[0]
        if iterate and not return_sequences:
            results = [index(one, -1) for one in results]
        return results if len(results) > 1 else results[0]


def _both_ways(
    layer: Bidirectional, x: Variable, mask: Variable | None, iterate: bool, reverse: bool, truncate_gradient: int
) -> Any:
    """The results of a layer of a stack that goes both ways, in the order of the steps."""
    if not iterate:
        raise InvalidValueError(f"{layer!r} needs all rows at once, and cannot do a single step: leave out iterate=False")
    rows, present = (x[::-1], None if mask is None else mask[::-1]) if reverse else (x, mask)
    return layer.apply(rows, mask=present, truncate_gradient=truncate_gradient)


__all__ = [
    "GRU",
    "LSTM",
    "BatchNormalizedLSTM",
    "Bidirectional",
    "Recurrent",
    "RecurrentStack",
    "SimpleRecurrent",
    "recurrent",
]
