"""From one step to a loop: the decorator `recurrent`, and the base of recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from inspect import signature
from typing import Any

from minigraph.core.errors import InvalidValueError
from minigraph.core.graph import Variable
from minigraph.layers.core.application import Application
from minigraph.layers.core.base import Layer
from minigraph.layers.core.initialization import Glorot, Initializer, Orthogonal, as_initializer
from minigraph.layers.core.roles import BIAS, INITIAL_STATE, WEIGHT
from minigraph.layers.core.settings import Setting, check_flags, count, flag, size
from minigraph.layers.linear import last_size, with_last_size
from minigraph.ops.array.arranging import concatenate
from minigraph.ops.array.creation import arange
from minigraph.ops.array.shape import broadcast_to, expand_dims, shape
from minigraph.ops.elementwise.comparison import gt, where
from minigraph.ops.linear.products import dot
from minigraph.ops.loop.scan import scan

__all__ = ["Recurrent", "recurrent"]


@dataclass(frozen=True, repr=False)
class RecurrentApplication(Application[..., Any]):
    """A method that does one step, applied to every row of its sequences, or with `iterate=False` once.

    layer, or None of the class; sequences, states, outputs: names, as for `recurrent`.
    """

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
        return_initial_states: with the states before the first step as first rows. truncate_gradient: the number of
        last steps that gradients flow through, -1 for all. n_steps and batch_size: needed only without sequences.
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
    of the step before; other arguments are the same at every step. outputs: the names of its results, the states if left
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
    """A recurrent layer that is being applied to whole sequences."""

    def __init__(self, applied: RecurrentApplication, given: Mapping[str, Any], n_steps: Any, batch_size: Any) -> None:
        assert applied.layer is not None
        self.applied, self.layer = applied, applied.layer
        self.sequences = {name: given[name] for name in applied.sequences if name in given}
        self.fixed = {name: one for name, one in given.items() if name not in (*applied.sequences, *applied.states)}
        for name, one in signature(applied.method).parameters.items():
            if name in applied.sequences and one.default is one.empty and name not in given:
                raise InvalidValueError(f"{applied} needs the sequence {name!r}")
        first = next(iter(self.sequences.values()), None)
        if first is None and (n_steps is None or batch_size is None):
            raise InvalidValueError(f"{applied} without sequences needs n_steps and batch_size")
        for name, sequence in self.sequences.items():
            if sequence.ndim < 2:
                raise InvalidValueError(f"{applied}: the sequence {name!r} must be (time, batch, ...), not {sequence!r}")
        self.steps = n_steps if first is None or n_steps is not None else shape(first)[0]
        self.batch = batch_size if first is None else shape(first)[1]
        for name, sequence in self.sequences.items():
            if sequence is not first:
                self.sequences[name] = _fitting(sequence, self.steps, self.batch, f"{applied}: the sequence {name!r}")
        own = [] if all(name in given for name in applied.states) else self.layer.initial_states(self.batch)  # type: ignore[attr-defined]
        self.first = dict(zip(applied.states, own, strict=False)) | {n: given[n] for n in applied.states if n in given}

    def results(self, reverse: bool, truncated: int, whole: bool, with_first: bool) -> Any:
        """The outputs at all steps, or after the last."""
        applied = self.applied
        rows = {name: one[::-1] if reverse else one for name, one in self.sequences.items()}
        if "step" in signature(applied.method).parameters and "step" not in self.fixed:
            rows["step"] = arange(self.steps, dtype="int64")
        fed = [name for name in applied.outputs if name in applied.states]
        fixed = [one for one in self.fixed.values() if isinstance(one, Variable)]

        def step(*elements: Variable) -> Any:
            named = dict(zip([*rows, *fed], elements, strict=False))  # fixed arguments come after these
            return Application.__call__(applied, **self.fixed, **named)

        infos = [self.first.get(name) for name in applied.outputs]
        outputs = scan(step, list(rows.values()), infos, fixed, self.steps, truncated, name=self.layer.name)
        listed = outputs if isinstance(outputs, list) else [outputs]
        if not whole:
            listed = [one[-1] for one in listed]
        elif with_first:
            listed = [
                concatenate([expand_dims(self.first[name], 0), one]) if name in self.first else one
                for name, one in zip(applied.outputs, listed, strict=True)
            ]
        return listed if len(listed) > 1 else listed[0]


def _fitting(sequence: Variable, steps: Any, batch: Any, what: str) -> Variable:
    """A sequence of shape (steps, batch, ...), broadcast to it; ValueError, naming `what`, for other sizes."""
    for given, wanted, of in zip(shape(sequence), (steps, batch), ("rows", "elements of the batch"), strict=False):
        known = isinstance(given, int) and isinstance(wanted, int)
        if (known and given != wanted) or (given == 1 and not isinstance(wanted, int)):
            raise InvalidValueError(f"{what} has {given} {of}, and {wanted if known else 'an unknown number'} are needed")
    return broadcast_to(sequence, (steps, batch, *shape(sequence)[2:]))


class Recurrent(Layer):
    """The base of recurrent layers: a size, learned states before the first step, and perhaps a matrix for the inputs.

    dim: the size of a state. input_dim: the size of inputs that the layer multiplies by a matrix of its own, `W_input`, and
    adds `b` to; without it inputs have `gates * dim` features already, as in Blocks. weights_init, input_weights_init,
    biases_init, initial_state_init: for the matrix of the states, the matrix and bias of the inputs, and the states before the
    first step. An initializer, or a number, is for each gate; a variable, an array or a function is for the whole parameter,
    with the gates side by side along the last axis.

    >>> layer = mg.layers.SimpleRecurrent(3, input_dim=2)
    >>> isinstance(layer, mg.layers.Recurrent), layer.features
    (True, 2)
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
    """The number of features that a step takes, divided by `dim`."""
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
                self.add_parameter("b", (self.gates * self.dim,), self._starts_of_biases(), BIAS)

    def _starts_of_biases(self) -> Initializer:
        """The initializer of the bias of all gates together."""
        return self.biases_init

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
                hint = f", {self.gates} for each of its {self.dim} units; or give input_dim" if self.input_dim is None else ""
                raise InvalidValueError(f"{self!r} takes {self.features} features on the last axis{hint}; not {x!r}")

    def projected(self, inputs: Variable) -> Variable:
        """The inputs of a step as its gates take them."""
        if self.input_dim is None:
            return inputs
        product = dot(inputs, self.parameter("W_input"))
        return product + self.parameter("b") if self.has_parameter("b") else product


def masked(new: Variable, old: Variable, mask: Variable | None) -> Variable:
    """The states `new` where a mask is set, `old` ones elsewhere."""
    return new if mask is None else where(gt(expand_dims(mask, 1), 0), new, old)
