"""Applications of layers: methods whose inputs and outputs are tagged copies, by which they are found in a graph."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from inspect import signature
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast

import numpy as np

from minigraph.core.context import holds
from minigraph.core.conversion import as_variable
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Identity, Variable
from minigraph.core.guard import BARE, answer
from minigraph.core.origin import current_layer, inside_layer
from minigraph.layers.core.roles import INPUT, OUTPUT, Role
from minigraph.ops.array.shape import specify_shape

if TYPE_CHECKING:
    from minigraph.layers.core.base import Layer

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class ApplicationCall:
    """The tag of an application of a layer, which its inputs, its outputs and all that the layer marks carry.

    layer, application: the layer, and the name of its method. call_id: the name that the user gave to this call.
    """

    layer: Layer
    application: str
    call_id: str | None = None


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
        names, start = list(signature(self.method).parameters)[1:], f"{layer.name}_{self.name}"
        copies = [_as_input(given, f"{start}_{names[min(k, len(names) - 1)]}", call) for k, given in enumerate(inputs)]
        ordered = sorted(options.items(), key=lambda option: names.index(option[0]) if option[0] in names else len(names))
        named = {name: _as_input(given, f"{start}_{name}", call) for name, given in ordered}
        with self._inside(layer):
            layer.allocate_for(*copies, *(given for given in named.values() if isinstance(given, Variable)))
            if copies:
                copies[0] = _narrowed(copies[0], layer)
            elif names[0] in named:
                named[names[0]] = _narrowed(named[names[0]], layer)
            with holds(_call, call):
                outputs = self.method(layer, *copies, **named)
            return cast(R, _as_outputs(outputs, f"{start}_output", call))

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
        return self.method.__qualname__ if self.layer is None else f"{self.layer.name}.{self.name}"

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


def get_application_call(variable: Variable) -> ApplicationCall | None:
    """The application that a variable belongs to, None if there is none."""
    return next((tag for tag in reversed(variable.tags) if isinstance(tag, ApplicationCall)), None)


def _as_input(given: Any, name: str, call: ApplicationCall) -> Any:
    """A tagged copy of an input that is an array or a variable; anything else unchanged."""
    return _own_copy(as_variable(given), name, INPUT, call) if isinstance(given, Variable | np.ndarray) else given


def _narrowed(given: Any, layer: Layer) -> Any:
    """The first input of an application, known from here on to have the sizes that the layer takes; anything else unchanged."""
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
