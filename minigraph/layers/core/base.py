"""The base of all layers: a name, children, sizes that are inferred, and parameters that the first application makes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np

from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Variable
from minigraph.core.guard import with_guarded_methods
from minigraph.core.locks import inside, new_lock
from minigraph.core.origin import current_layer, inside_layer
from minigraph.core.state import Cell, assign
from minigraph.core.types import default_float
from minigraph.layers.core.arguments import unknown_arguments
from minigraph.layers.core.modes import Modes, enter, leave
from minigraph.layers.core.settings import check_attribute
from minigraph.layers.core.state_values import Array
from minigraph.layers.core.stateful import Stateful, unchanged_on_failure
from minigraph.layers.core.tree import find_layers, get_parameters, name_apart, paths_below

_allocation = new_lock()


@with_guarded_methods
class Layer(Stateful):
    """A part of a model: named, with parameters of its own and children.

    A subclass says how many sizes it needs in `infer_sizes`, which parameters it has in `allocate_parameters`, and what it
    computes in methods marked with `@application`, of which `apply` is what calling the layer means. Sizes that the user left
    out are inferred at the first application. Parameters are initialized when they are allocated, from `seed`
    (that of the layer above if it has none) and the layer's path, so that layers with one seed and one path start equal;
    `initialize(rng)` draws them anew.

    Attributes are made in `__init__`, or while parameters are allocated. Later only such can be set that are there, and that
    have an effect on what is built from then on: not those that a class lists in `fixed_when_made`, nor, once there are
    parameters, in `fixed_when_allocated`. Names that begin with an underscore are free.

    name: the class name with underscores if left out; layers beside each other are numbered then. children: the layers that
    this one is made of. dtype: that of its parameters; that of the first input of floats if left out. seed: an int.

    >>> class Scaled(mg.layers.Layer):
    ...     def allocate_parameters(self):
    ...         self.add_parameter("factor", (), mg.layers.Constant(2.0), mg.layers.roles.WEIGHT)
    ...
    ...     @mg.layers.application
    ...     def apply(self, x):
    ...         return x * self.parameter("factor")
    >>> Scaled()(mg.constant([1.0, 2.0])).eval().tolist()
    [2.0, 4.0]
    """

    fixed_when_made: ClassVar[frozenset[str]] = frozenset()
    """Attributes that cannot be set once the layer is made; besides those that the classes above list."""
    fixed_when_allocated: ClassVar[frozenset[str]] = frozenset({"dtype", "seed"})
    """Attributes that cannot be set once the layer has parameters; besides those that the classes above list."""
    keeps_population: ClassVar[bool] = False
    """Whether layers of the class normalize by the minibatch in training, and by a stored population otherwise."""
    _is_made: bool = False
    allocated: bool = False

    def __init__(
        self,
        name: str | None = None,
        *,
        children: Iterable[Layer] = (),
        dtype: Any = None,
        seed: int | None = None,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise InvalidTypeError(unknown_arguments(type(self), list(unknown)))
        if name is not None and not isinstance(name, str):
            raise InvalidTypeError(f"the name of a layer must be a string, not {name!r}")
        super().__init__(dtype, seed)
        self.name = name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()
        self.name_is_final = name is not None
        given = list(children) if isinstance(children, Iterable) else [children]
        for child in given:
            if not isinstance(child, Layer):
                raise InvalidTypeError(f"{type(self).__name__} is made of layers, and {child!r} is none")
        self.children: list[Layer] = list(dict.fromkeys(given))
        name_apart(self.children)
        for layer in find_layers(self.children):
            if not layer.allocated:
                layer.seed = seed if layer.seed is None else layer.seed
                layer.dtype = self.dtype if layer.dtype is None else layer.dtype
        self.allocated = False

    def __setattr__(self, name: str, value: Any) -> None:
        if self._is_made and not name.startswith("_"):
            check_attribute(self, name, value, self.allocated)
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        apply: Any = vars(type(self)).get("apply") or type(self).apply  # type: ignore[attr-defined]
        return apply.__get__(self, type(self))(*inputs, **options)

    def __enter__(self) -> Self:
        """Build training-mode graph for all at and below this layer that keep a population, as `batch_normalization` does."""
        enter(Modes(frozenset(find_layers(self, lambda layer: layer.keeps_population))))
        return self

    def __exit__(self, *error: object) -> None:
        leave()

    # -- parameters --------------------------------------------------------------------------------------------------

    def infer_sizes(self, *inputs: Variable) -> None:
        """Settle the sizes that the user left out, from the inputs of the first application."""

    def allocate_parameters(self) -> None:
        """Make the layer's own parameters with `add_parameter`."""

    def input_shape(self, x: Variable) -> Sequence[int | None] | None:
        """For each axis of the first input the size that the layer takes, None for any; None if it takes any at all.

        An input of unknown sizes has these within the application, and calls check that.
        """
        return None

    def check_inputs(self, *inputs: Variable) -> None:
        """Raise, naming the layer, if the layer cannot be applied to these inputs."""

    def allocate_for(self, *inputs: Variable) -> None:
        """Allocate at the first application; check the inputs of each. If that fails the layer is as it was."""
        inside((_allocation,), self._allocate_once, *inputs)

    def _allocate_once(self, *inputs: Variable) -> None:
        """The same, while no other thread allocates."""
        if self.allocated:
            self.check_inputs(*inputs)
            return
        with unchanged_on_failure([self]):
            with self.being_made():
                self.infer_sizes(*inputs)
                if self.dtype is None:
                    floats = (one.dtype for one in inputs if isinstance(one, Variable) and one.dtype.kind == "f")
                    self.dtype = next(floats, default_float())
                self.allocate_parameters()
                self.allocated = True
            self.check_inputs(*inputs)

    @contextmanager
    def being_made(self) -> Iterator[None]:
        """Let any attribute be set inside the block."""
        before, self._is_made = self._is_made, False
        try:
            yield
        finally:
            self._is_made = before

    def allocate(self) -> None:
        """Allocate this layer and all below it now; ValueError where a size is not known before an application, and then all
        are as they were.
        """
        with unchanged_on_failure(find_layers(self)), inside_layer(f"{current_layer()}/{self.name}"):
            self.allocate_for()
            for child in self.children:
                child.allocate()

    @property
    def parameters(self) -> list[Variable]:
        """The variables that this layer and all below it learn, each once; empty before they are applied or allocated."""
        return list(dict.fromkeys(one for _, layer in paths_below(self) for one in layer.own_parameters))

    @property
    def variables(self) -> Mapping[str, Variable]:
        """The state of this layer, by name, and of all below it, by path and name: 'W', 'linear_0.W', 'upper/linear_0.W'.

        Population statistics are included. It is a view to read from; `own_variables` holds the layer's own.
        """
        start = len(f"/{self.name}.")
        return MappingProxyType({name[start:]: variable for name, variable in get_parameters(self).items()})

    def initialize(self, rng: np.random.Generator | int | None = None) -> None:
        """Draw all state of this layer and those below anew, or none; layers that have none yet are allocated first.

        Counts start from 0, and random streams from where they started. Variables that were given keep their values. ValueError
        where a size is not known before an application.
        """
        generator = np.random.default_rng(rng)
        with unchanged_on_failure(find_layers(self)):
            if not all(layer.allocated for layer in find_layers(self)):
                self.allocate()
            values: list[tuple[Cell, Array]] = []
            for layer in find_layers(self):
                starts = {name: layer.start_of(name, generator) for name in layer.own_variables if not layer.was_given(name)}
                layer.check_values(starts)
                values += [(layer.own_variables[name].cell, value) for name, value in starts.items()]
            assign([cell for cell, _ in values], [value for _, value in values])
        for layer in find_layers(self):
            layer.settle_initial_values()

    def allocate_from(self, values: Mapping[str, Any]) -> None:
        """Allocate the layer, with the sizes of arrays that are about to be set, where it is not yet allocated."""
        self.allocate()

    def need(self, **sizes: Any) -> None:
        """ValueError, naming the layer, if one of the sizes is still unknown."""
        for name, size in sizes.items():
            if size is None:
                raise InvalidValueError(
                    f"{self!r}: {name} is not known; give it, or apply the layer to an input whose size is known"
                )
