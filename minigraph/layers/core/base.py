"""Layers: parameters, children, and applications that leave their traces, as tags, in the graph."""

from __future__ import annotations

import binascii
import re
import sys
from abc import ABCMeta
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from inspect import Signature, signature
from itertools import count
from operator import attrgetter
from types import MappingProxyType
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, Self, TypeVar, cast

import numpy as np

from minigraph.core.context import holds
from minigraph.core.conversion import as_variable, shared
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Identity, Shared, Variable, reachable, toposort
from minigraph.core.guard import BARE, answer, is_bare, with_guarded_methods
from minigraph.core.locks import inside, new_lock
from minigraph.core.origin import current_layer, inside_layer
from minigraph.core.state import Cell, assign
from minigraph.core.types import as_dtype, default_float
from minigraph.layers.core.arguments import instead_of, taken_argument, unknown_arguments
from minigraph.layers.core.initialization import Given, Initializer, Restart
from minigraph.layers.core.roles import (
    INPUT,
    OUTPUT,
    PARAMETER,
    PERSISTENT,
    Role,
    differentiated_inputs,
    has_roles,
    is_any,
    roles_of,
)
from minigraph.layers.core.settings import Setting, as_seed, check_attribute
from minigraph.layers.core.state_values import Array, drawn, fitted
from minigraph.ops.array.shape import specify_shape
from minigraph.ops.random import RandomStream
from minigraph.ops.reduce.normalization import Replaceable

_allocation = new_lock()


@dataclass(frozen=True)
class _Modes:
    """The layers that are in training, and those that were left out of it on purpose."""

    training: frozenset[Layer] = frozenset()
    left_out: frozenset[Layer] = frozenset()


_modes: ContextVar[tuple[_Modes, ...]] = ContextVar("minigraph_modes", default=(_Modes(),))
"""The modes in each of the blocks that were entered and not left; a block object itself has no state."""


@dataclass(frozen=True, eq=False)
class ApplicationCall:
    """One application of a layer; its inputs, outputs and whatever the layer marks carry it as a tag."""

    layer: Layer
    application: str
    call_id: str | None = None


P = ParamSpec("P")
R = TypeVar("R")
L = TypeVar("L")


@dataclass(frozen=True)
class Application(Generic[P, R]):
    """A method that applies a layer, of the class (layer None) or bound to a layer.

    Beside the method's arguments a call takes `call_id`, by which filters find it.
    """

    method: Callable[..., R]
    layer: Layer | None = None

    @property
    def name(self) -> str:
        """The method's name."""
        return self.method.__name__

    def __get__(self, layer: Layer | None, owner: type) -> Application[P, R]:
        return self if layer is None else Application(self.method, layer)

    def __call__(self, *inputs: P.args, **options: P.kwargs) -> R:
        try:
            return self._applied(*inputs, **options)
        except BARE as error:
            answer(error, str(self), inputs, options)

    def _applied(self, *inputs: P.args, **options: P.kwargs) -> R:
        """The tagged outputs of the method on tagged copies of the inputs."""
        layer, call_id = self.layer, cast("str | None", options.pop("call_id", None))
        if layer is None:
            raise InvalidTypeError(f"{self.method.__qualname__} must be called on a layer, not on its class")
        call = ApplicationCall(layer, self.name, call_id)
        names = list(signature(self.method).parameters)[1:]
        copies = []
        for position, given in enumerate(inputs):
            name = names[min(position, len(names) - 1)]
            copies.append(_as_input(given, f"{layer.name}_{self.name}_{name}", call))
        ordered = sorted(options.items(), key=lambda option: names.index(option[0]) if option[0] in names else len(names))
        named = {name: _as_input(given, f"{layer.name}_{self.name}_{name}", call) for name, given in ordered}
        with self._inside(layer):
            layer.allocate_for(*copies, *(given for given in named.values() if isinstance(given, Variable)))
            if copies:
                copies[0] = _narrowed(copies[0], layer)
            elif names[0] in named:
                named[names[0]] = _narrowed(named[names[0]], layer)
            with holds(_call, call):
                outputs = self.method(layer, *copies, **named)
            return cast(R, _as_outputs(outputs, f"{layer.name}_{self.name}_output", call))

    def _inside(self, layer: Layer) -> AbstractContextManager[None]:
        """The path of the layer, which a step within its own application does not change."""
        outer = _call.get()
        within = outer is not None and (outer.layer, outer.application) == (layer, self.name)
        return inside_layer(current_layer() if within else f"{current_layer()}/{layer.name}")

    def __reduce__(self) -> tuple[Any, ...]:
        owner, name = self.method.__qualname__.rpartition(".")[::2]
        if self.layer is not None:
            return getattr, (self.layer, name)
        return _unbound_application, (self.method.__module__, owner, name)

    def __str__(self) -> str:
        return f"{self.layer.name if self.layer else self.method.__qualname__}.{self.name}"

    def __repr__(self) -> str:
        if self.layer is None:
            return self.method.__qualname__
        within, name, _ = f"{current_layer()}/".rpartition(f"/{self.layer.name}/")
        return f"{within if name else ''}/{self.layer.name}.{self.name}"


def _unbound_application(module: str, owner: str, name: str) -> Application[..., Any]:
    """The application of a class, found again when it is unpickled."""
    found: Any = attrgetter(f"{owner}.{name}")(sys.modules[module])
    return cast("Application[..., Any]", found)


def application(method: Callable[Concatenate[Any, P], R]) -> Application[P, R]:
    """Mark a method as one that applies the layer: inputs and outputs are tagged copies with the call and their roles."""
    result: Application[P, R] = Application(method)
    object.__setattr__(result, "__doc__", method.__doc__)
    return result


_call: ContextVar[ApplicationCall | None] = ContextVar("minigraph_call", default=None)


def current_call() -> ApplicationCall:
    """The application that is being built."""
    call = _call.get()
    if call is None:
        raise InvalidValueError("no layer is being applied here")
    return call


def _as_input(given: Any, name: str, call: ApplicationCall) -> Any:
    """A tagged copy of an input that is an array or a variable; anything else as it is."""
    return _own_copy(as_variable(given), name, INPUT, call) if isinstance(given, Variable | np.ndarray) else given


def _narrowed(given: Any, layer: Layer) -> Any:
    """The first input of an application, known from here on to have the sizes that the layer takes; anything else as it is."""
    if not isinstance(given, Variable):
        return given
    sizes = layer.input_shape(given)
    return given if sizes is None or len(sizes) != given.ndim else specify_shape(given, sizes)


def _as_outputs(outputs: Any, name: str, call: ApplicationCall) -> Any:
    """Tagged copies of an output, or of several."""
    several = isinstance(outputs, list | tuple)
    for one in outputs if several else [outputs]:
        if not isinstance(one, Variable):
            raise InvalidTypeError(f"{call.layer!r}: {call.application} must return a variable or several, not {one!r}")
    if several:
        return [_own_copy(one, f"{name}_{k}", OUTPUT, call) for k, one in enumerate(outputs)]
    return _own_copy(outputs, name, OUTPUT, call)


def _own_copy(variable: Variable, name: str, role: type[Role], call: ApplicationCall) -> Variable:
    """A copy that belongs to this application alone, whatever the variable was to others."""
    return Variable(Identity(), (variable,), variable.type, name, (role, call))


class LayerType(ABCMeta):
    """The class of layer classes: a layer is finished when its outermost `__init__` is through."""

    def __call__(cls: type[L], *args: Any, **options: Any) -> L:
        try:
            layer: L = type.__call__(cls, *args, **options)
        except BARE as error:
            taken = taken_argument(cls, options, error) if is_bare(error) else None
            if taken is not None:
                raise InvalidTypeError(instead_of(cls, taken)) from None
            answer(error, cls.__name__, args, options)
        vars(layer)["_is_made"] = True
        return layer

    @property
    def __signature__(cls) -> Signature:
        """The arguments of `__init__`, which is what calling the class takes."""
        own = signature(cls.__init__)  # type: ignore[misc]
        return own.replace(parameters=list(own.parameters.values())[1:])


@with_guarded_methods
class Layer(metaclass=LayerType):
    """A part of a model: named, with parameters of its own and children.

    A subclass says how many sizes it needs in `infer_sizes`, which parameters it has in `allocate_parameters`, and what it
    computes in methods marked with `@application`, of which `apply` is what calling the layer means. Sizes that the user left
    out are inferred at the first application. Parameters are initialized when they are allocated, from `seed`
    (that of the layer above if it has none) and the layer's path, so that layers with one seed and one path start equal;
    `initialize(rng)` draws them anew.

    Attributes are made in `__init__`, or while parameters are allocated. Later only such can be set that are there, and that
    have an effect on what is built from then on: not those that a class lists in `fixed_when_made`, nor, once there are
    parameters, in `fixed_when_allocated`. Names that begin with an underscore are free.
    """

    fixed_when_made: ClassVar[frozenset[str]] = frozenset()
    """Attributes that cannot be set once the layer is made; besides those that the classes above list."""
    fixed_when_allocated: ClassVar[frozenset[str]] = frozenset({"dtype", "seed"})
    """Attributes that cannot be set once the layer has parameters; besides those that the classes above list."""
    keeps_population: ClassVar[bool] = False
    """Whether layers of the class normalize by the minibatch in training, and by a stored population otherwise."""
    seed = Setting(as_seed)
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
        self.name = name or _snake_case(type(self).__name__)
        self.name_is_final = name is not None
        given = list(children) if isinstance(children, Iterable) else [children]
        for child in given:
            if not isinstance(child, Layer):
                raise InvalidTypeError(f"{type(self).__name__} is made of layers, and {child!r} is none")
        self.children: list[Layer] = list(dict.fromkeys(given))
        _name_apart(self.children)
        self.dtype = None if dtype is None else as_dtype(dtype)
        self.seed = seed
        for layer in find_layers(self.children):
            if not layer.allocated:
                layer.seed = seed if layer.seed is None else layer.seed
                layer.dtype = self.dtype if layer.dtype is None else layer.dtype
        self.allocated = False
        self.own_variables: dict[str, Variable] = {}
        """The layer's own state by name, which `add_parameter` fills; that of layers below it is theirs."""
        self._initializers: dict[str, Initializer] = {}
        self._expressions: Mapping[str, Variable] = {}
        self._roles: Mapping[str, type[Role]] = {}
        """The roles here of variables that were given."""

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
        _enter(_Modes(frozenset(find_layers(self, lambda layer: layer.keeps_population))))
        return self

    def __exit__(self, *error: object) -> None:
        _leave()

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
            self._allocate(*inputs)
            self.check_inputs(*inputs)

    def _allocate(self, *inputs: Variable) -> None:
        """Settle sizes and dtype, and make the parameters."""
        with self.being_made():
            self.infer_sizes(*inputs)
            if self.dtype is None:
                floats = [one.dtype for one in inputs if isinstance(one, Variable) and one.dtype.kind == "f"]
                self.dtype = floats[0] if floats else default_float()
            self.allocate_parameters()
            self.allocated = True

    @contextmanager
    def being_made(self) -> Iterator[None]:
        """Let any attribute be set inside the block."""
        before = self._is_made
        self._is_made = False
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

    def add_parameter(
        self, name: str, shape: Iterable[int], initializer: Initializer, role: type[Role], dtype: Any = None
    ) -> Variable:
        """Make state of this layer, initialized; called by `allocate_parameters`.

        A variable that was given is that state itself. ValueError or TypeError, naming the layer and the parameter, for what
        does not fit its shape or its dtype.
        """
        rng, what = np.random.default_rng(self.own_seed(name)), f"{self!r}: {name}"
        settled, sizes = initializer.settled(tuple(shape)), tuple(shape)
        kind = as_dtype(dtype or self.dtype or default_float())
        if isinstance(settled, Given):
            return self._add_given(name, sizes, settled, role, kind)
        value = drawn(settled, rng, sizes, kind, what)
        self.check_value(what, role, value)
        variable = shared(value, name, borrow=True, tags=(role, self))
        self.own_variables[name] = variable
        self._initializers[name] = initializer
        return variable

    def _add_given(self, name: str, shape: tuple[int, ...], given: Given, role: type[Role], dtype: np.dtype[Any]) -> Variable:
        """Take a variable as state of this layer; errors for one that does not fit, or cannot follow where it has to."""
        variable, what = given.variable, f"{self!r}: {name}"
        if variable.dtype.kind != dtype.kind:
            raise InvalidTypeError(f"{what} has dtype {dtype}, and was given {variable!r}")
        if len(variable.type.shape) != len(shape) or any(
            known not in (None, size) for known, size in zip(variable.type.shape, shape, strict=True)
        ):
            raise InvalidValueError(f"{what} has shape {shape}, and was given {variable!r}")
        if isinstance(variable.op, Shared):
            self.check_value(what, role, variable.get_value(borrow=True))
            self.own_variables[name] = variable
            self._initializers[name] = given
            self._roles = {**self._roles, name: role}
        elif issubclass(role, PARAMETER):
            self._expressions = {**self._expressions, name: variable}
        else:
            raise InvalidTypeError(f"{what} follows minibatches, and so must be a shared variable, not {variable!r}")
        return variable

    def parameter(self, name: str) -> Variable:
        """The layer's own variable of this name, or the expression that was given in its place; KeyError for neither."""
        return self._expressions[name] if name in self._expressions else self.own_variables[name]

    def has_parameter(self, name: str) -> bool:
        """Whether the layer has a variable of its own of this name, or was given an expression for it."""
        return name in self._expressions or name in self.own_variables

    def drop_parameter(self, name: str) -> None:
        """Do without a variable of the layer's own, or the expression that was given in its place, if it has either."""
        self.own_variables.pop(name, None)
        self._expressions = {key: one for key, one in self._expressions.items() if key != name}
        self._roles = {key: role for key, role in self._roles.items() if key != name}

    def roles_of_own(self, name: str) -> tuple[type[Role], ...]:
        """The roles of one of the layer's own variables, that which a variable was given for included."""
        own = roles_of(self.own_variables[name])
        return (*own, self._roles[name]) if name in self._roles and self._roles[name] not in own else own

    def add_stream(self, name: str = "stream", stream: RandomStream | None = None) -> RandomStream:
        """Make a random stream of this layer, or take one, whose state is saved and initialized with the layer's; called by
        `allocate_parameters`.
        """
        if stream is not None and not isinstance(stream, RandomStream):
            raise InvalidTypeError(f"{self!r} draws from a RandomStream, not {stream!r}")
        own = RandomStream(self.own_seed(name)) if stream is None else stream
        self.own_variables[name] = own.state
        self._initializers[name] = Restart(tuple(int(one) for one in own.state.get_value()))
        return own

    def own_seed(self, name: str) -> int:
        """A seed for something of this layer, from the layer's seed and the path of its current application."""
        return (self.seed or 0) << 32 | binascii.crc32(f"{current_layer()}.{name}".encode())

    @property
    def own_parameters(self) -> list[Variable]:
        """What is learned for this layer, without what is for layers below it: its own variables, and the shared variables that
        expressions which were given in place of such depend on.
        """
        own = [one for name, one in self.own_variables.items() if is_any(self.roles_of_own(name), PARAMETER)]
        return list(dict.fromkeys([*own, *(one for given in self._expressions.values() for one in _learned_behind(given))]))

    @property
    def parameters(self) -> list[Variable]:
        """What is learned by this layer and all below it, each variable once; empty before they are applied or allocated."""
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

        Counts start from 0, and random streams from where they started. Variables that were given stay as they are. ValueError
        where a size is not known before an application.
        """
        generator = np.random.default_rng(rng)
        with unchanged_on_failure(find_layers(self)):
            if not all(layer.allocated for layer in find_layers(self)):
                self.allocate()
            cells: list[Cell] = []
            values: list[Array] = []
            for layer in find_layers(self):
                starts = {name: layer.start_of(name, generator) for name in layer.own_variables if not layer.was_given(name)}
                layer.check_values(starts)
                cells += [layer.own_variables[name].cell for name in starts]
                values += starts.values()
            assign(cells, values)
        for layer in find_layers(self):
            layer.settle_initial_values()

    def start_of(self, name: str, rng: np.random.Generator | None = None) -> Array:
        """What one of the layer's own variables starts from, drawn anew if it is drawn."""
        variable = self.own_variables[name]
        owner = get_layer(variable)
        if owner is not None and owner is not self and owner.own_variables.get(variable.name or "") is variable:
            return owner.start_of(variable.name or "", rng)
        generator = np.random.default_rng() if rng is None else rng
        shape = variable.get_value(borrow=True).shape
        return drawn(self._initializers[name], generator, shape, variable.dtype, f"{self!r}: {name}")

    def was_given(self, name: str) -> bool:
        """Whether one of the layer's own variables was given to it, and not made by it."""
        return name in self._roles

    def settle_initial_values(self) -> None:
        """Set what starts from the values that others of the layer's own variables were given just now."""

    # -- values ------------------------------------------------------------------------------------------------------

    def check_value(self, what: str, role: type[Role], array: Array) -> None:
        """Raise, naming `what`, if state in this role cannot have this value."""

    def check_values(self, values: Mapping[str, Array]) -> None:
        """Raise if the layer's own variables cannot have these values, given by name, some of them or all."""
        for name, array in values.items():
            for role in self.roles_of_own(name):
                self.check_value(f"{self!r}: {name}", role, array)

    def listed(self) -> list[str]:
        """The names of the arrays that `get_values` lists, in their order."""
        return list(self.own_variables)

    def optional(self) -> set[str]:
        """Which of these `set_values` may be given without."""
        return set()

    def get_values(self) -> dict[str, Array]:
        """Copies of the layer's own arrays by name; of normalizations those that their system lists, in its order.

        These are exchanged with other systems; what a layer has besides, such as a count of minibatches that a system does not
        save, is in `get_parameter_values` alone.
        """
        return {name: self.own_variables[name].get_value() for name in self.listed()}

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Set the layer's own arrays by name, all of them or none; axes of size 1 may be added or dropped, and floats rounded.

        Sizes that are not known yet follow from the arrays. A count of minibatches may be left out, and then stays. ValueError
        for a name that lacks or is unknown, for a shape that does not fit, and for values that the dtype does not reach or that
        cannot be, such as negative variances; TypeError for what is not real numbers. If it fails, nothing has changed.
        """
        with unchanged_on_failure([self]):
            self.allocate_from(values)
            own = self.listed()
            if not set(own) - self.optional() <= set(values) <= set(own):
                raise InvalidValueError(f"{self!r} takes the arrays {own}, not {list(values)}")
            given = {name: self.own_variables[name] for name in own if name in values}
            arrays = {
                name: fitted(values[name], one.get_value(borrow=True).shape, one.dtype, f"{self!r}: {name}")
                for name, one in given.items()
            }
            self.check_values(arrays)
            cells = [one.cell for one in given.values()]
            assign(cells, list(arrays.values()))

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


def _snake_case(name: str) -> str:
    """BatchNormalization -> batch_normalization, MLP -> mlp."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _name_apart(children: Sequence[Layer]) -> None:
    """Number the layers that the user did not name and that share a name; ValueError if names still agree."""
    names = [child.name for child in children]
    taken = {child.name for child in children if child.name_is_final}
    for child in children:
        if not child.name_is_final and names.count(child.name) > 1:
            child.name = next(name for k in count() if (name := f"{child.name}_{k}") not in taken)
            child.name_is_final = True
            taken.add(child.name)
    final = [child.name for child in children]
    for name in final:
        if final.count(name) > 1:
            raise InvalidValueError(f"two layers are named {name!r}; give them names of their own")


# -- finding things --------------------------------------------------------------------------------------------------


def find_layers(tops: Layer | Iterable[Layer], predicate: Callable[[Layer], bool] = lambda layer: True) -> list[Layer]:
    """The layers at and below `tops` for which `predicate` holds, from the top down, each once."""
    several = isinstance(tops, Iterable) and not isinstance(tops, Layer | Variable | str)
    listed: list[Any] = list(tops) if several else [tops]  # type: ignore[arg-type]
    for top in listed:
        if not isinstance(top, Layer):
            raise InvalidTypeError(f"expected layers, one or several, not {top!r}")
    found: dict[Layer, None] = {}
    stack = list(reversed(listed))
    while stack:
        layer = stack.pop()
        if layer not in found:
            found[layer] = None
            stack.extend(reversed(layer.children))
    return [layer for layer in found if predicate(layer)]


@contextmanager
def unchanged_on_failure(layers: Iterable[Layer]) -> Iterator[None]:
    """Leave the layers as they were if the block raises: what they have, though not the values of variables that they had."""
    before = [
        (layer, {**vars(layer), "own_variables": dict(layer.own_variables), "_initializers": dict(layer._initializers)})
        for layer in layers
    ]
    try:
        yield
    except BaseException:
        for layer, attributes in before:
            vars(layer).clear()
            vars(layer).update(attributes)
        raise


def get_application_call(variable: Variable) -> ApplicationCall | None:
    """The application that a variable belongs to, None if there is none."""
    return next((tag for tag in reversed(variable.tags) if isinstance(tag, ApplicationCall)), None)


def get_layer(variable: Variable) -> Layer | None:
    """The layer that a variable belongs to, as parameter or as part of an application; None if there is none."""
    for tag in reversed(variable.tags):
        if isinstance(tag, Layer):
            return tag
        if isinstance(tag, ApplicationCall):
            return tag.layer
    return None


def get_parameters(tops: Layer | Iterable[Layer], role: type[Role] = Role) -> dict[str, Variable]:
    """The state of all layers at and below `tops` by hierarchical name, such as '/mlp/linear_0.W'.

    Population statistics, counts and random streams are included; role PARAMETER leaves only what is learned.
    """
    found: dict[str, Variable] = {}
    for path, layer in paths_below(tops):
        learned = layer.own_parameters
        for name, variable in layer.own_variables.items():
            if role is not Role and not is_any(layer.roles_of_own(name), role):
                continue
            if issubclass(role, PARAMETER) and variable not in learned:
                continue
            if f"{path}.{name}" in found:
                raise InvalidValueError(f"two layers are named {path!r}; give them names of their own")
            found[f"{path}.{name}"] = variable
    return found


def _learned_behind(expression: Variable) -> list[Variable]:
    """The shared variables of floats that an expression depends on in a differentiable way, without state that only follows."""
    reached = reachable([expression], differentiated_inputs)
    layers = {tag.layer for one in reached for tag in one.tags if isinstance(tag, ApplicationCall)}
    kept = {
        variable
        for layer in layers
        for name, variable in layer.own_variables.items()
        if not is_any(layer.roles_of_own(name), PARAMETER)
    }
    return [
        one
        for one in toposort([expression])
        if isinstance(one.op, Shared)
        and one in reached
        and one not in kept
        and one.dtype.kind == "f"
        and (has_roles(one, [PARAMETER]) or not has_roles(one, [PERSISTENT]))
    ]


def paths_below(tops: Layer | Iterable[Layer]) -> Iterator[tuple[str, Layer]]:
    """All layers at and below `tops`, each once, with their hierarchical names."""
    seen: set[Layer] = set()
    stack = [("", layer) for layer in reversed([tops] if isinstance(tops, Layer) else list(tops))]
    while stack:
        path, layer = stack.pop()
        if layer in seen:
            continue
        seen.add(layer)
        here = f"{path}/{layer.name}"
        yield here, layer
        stack.extend((here, child) for child in reversed(layer.children))


# -- modes -----------------------------------------------------------------------------------------------------------


def is_in_training(layer: Layer) -> bool:
    """Whether the graph being built is to train this layer; inference otherwise."""
    return layer in _modes.get()[-1].training


def is_left_out(layer: Layer) -> bool:
    """Whether the user left this layer out of training on purpose, by the predicate of a block."""
    return layer in _modes.get()[-1].left_out


class Untrained(Replaceable):
    """Its input: what an application returned in inference, which in training would be something else."""


def untrained(x: Variable) -> Variable:
    """x, which a layer with two modes returns in inference, marked as that: `function` warns where parameters learn from it.

    It is not marked where the user left the layer out of training by a predicate.
    """
    call = current_call()
    if is_left_out(call.layer):
        return x
    return Variable(Untrained(), (x,), x.type, f"{call.layer.name}_untrained", (call,))


class training:
    """Build training-mode graph inside the block for these layers and all below them: batch statistics, dropout.

    Blocks nest, can be entered again, are left as they were entered, and hold for the current thread (or task) alone.
    `predicate` leaves out layers.
    """

    def __init__(self, *layers: Layer, predicate: Callable[[Layer], bool] = lambda layer: True) -> None:
        if not layers:
            raise InvalidValueError("name at least one layer whose training-mode graph is to be built")
        everything = frozenset(find_layers(layers))
        chosen = frozenset(find_layers(layers, predicate))
        self._modes = _Modes(chosen, everything - chosen)

    def __enter__(self) -> None:
        _enter(self._modes)

    def __exit__(self, *error: object) -> None:
        _leave()


def _enter(own: _Modes) -> None:
    """Begin a block in which these modes hold, too."""
    blocks = _modes.get()
    outer = blocks[-1]
    joined = _Modes(outer.training | own.training, (outer.left_out | own.left_out) - own.training)
    _modes.set((*blocks, joined))


def _leave() -> None:
    """End the block that was entered last."""
    _modes.set(_modes.get()[:-1])
