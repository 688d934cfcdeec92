"""Ops run one by one through an array namespace: NumPy, the reference, or CuPy, the same code on a GPU.

A kernel computes one variable from arrays. It checks what the namespace would let pass, a broadcast of a size that is 1
only by chance, and writes into the memory of a dying operand where it is told to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minigraph.errors import ExecutionError, InvalidValueError, MissingExtraError
from minigraph.graph import Array, Op, Variable
from minigraph.ops.elementwise import Elementwise

Kernel = Callable[..., Array]


@dataclass(frozen=True)
class Backend:
    """An array namespace with the ways into it and out of it."""

    name: str
    xp: Any

    def load(self, array: Array) -> Array:
        """A host array as one of this namespace."""
        return array if self.xp is np else self.xp.asarray(array)

    def store(self, array: Array) -> np.ndarray[Any, Any]:
        """An array of this namespace on the host."""
        host: np.ndarray[Any, Any] = array if self.xp is np else self.xp.asnumpy(array)
        return host

    def kernel(self, variable: Variable, reusable: int | None) -> Kernel:
        """What computes `variable`; `reusable` is the position of an operand whose memory may be overwritten."""
        op, xp = variable.op, self.xp
        ufunc = single_ufunc(op, len(variable.inputs)) if xp is np and reusable is not None else None
        compute = _into_operand(ufunc, reusable) if ufunc is not None and reusable is not None else _plain(op, xp)
        if isinstance(op, Elementwise):
            compute = _refusing_chance_broadcast(compute, variable)
        if isinstance(variable.type, tuple) or variable.ndim:
            return compute
        return lambda *arrays: xp.asarray(compute(*arrays))  # NumPy makes scalars of 0-d results


def _plain(op: Op, xp: Any) -> Kernel:
    """The op's own `forward`."""
    return lambda *arrays: op.forward(xp, *arrays)


def _into_operand(ufunc: Any, position: int) -> Kernel:
    """A ufunc that writes its result over one of its operands."""
    return lambda *arrays: ufunc(*arrays, out=arrays[position])


def _refusing_chance_broadcast(compute: Kernel, variable: Variable) -> Kernel:
    """`compute`, raising where an operand was stretched along an axis whose size is not statically 1."""
    places = _places_to_check(variable)
    if not places:
        return compute

    def checked(*arrays: Array) -> Array:
        for axis, first, second in places:
            one, other = arrays[first].shape[axis], arrays[second].shape[axis]
            if one != other:
                shapes = " and ".join(str(array.shape) for array in arrays)
                hint = (
                    "; a size of 1 broadcasts only if it is known to be 1 when the graph is built" if 1 in (one, other) else ""
                )
                raise InvalidValueError(f"operands of shapes {shapes} do not match: sizes {one} and {other}{hint}")
        return compute(*arrays)

    return checked


def _places_to_check(variable: Variable) -> list[tuple[int, int, int]]:
    """(axis from the end, operand, other operand) wherever sizes are not known to agree before the call."""
    shapes = [operand.type.shape for operand in variable.inputs]
    places = []
    for axis in range(-variable.ndim, 0):
        wide = [k for k, shape in enumerate(shapes) if len(shape) >= -axis and shape[axis] != 1]
        unknown = [k for k in wide if shapes[k][axis] is None]
        if unknown and len(wide) > 1:
            places += [(axis, wide[0], k) for k in wide[1:]]
    return places


# -- ops that are one ufunc ------------------------------------------------------------------------------------------


class _Recording:
    """A namespace whose functions only record which of them was called, on what."""

    def __getattr__(self, name: str) -> Callable[..., tuple[str, tuple[Any, ...]]]:
        return lambda *arguments: (name, arguments)


def single_ufunc(op: Op, count: int) -> Any:
    """The NumPy ufunc that is all of an elementwise op's `forward`, None if there is more to it."""
    if not isinstance(op, Elementwise):
        return None
    symbols = tuple(object() for _ in range(count))
    try:
        recorded = op.forward(_Recording(), *symbols)
    except (TypeError, AttributeError):  # it does arithmetic on its arguments
        return None
    if not isinstance(recorded, tuple) or recorded[1] != symbols:
        return None
    function = vars(np).get(recorded[0])
    return function if isinstance(function, np.ufunc) else None


# -- choosing --------------------------------------------------------------------------------------------------------


NUMPY = Backend("numpy", np)


def choose(name: str | None) -> Backend:
    """The backend of this name, NumPy for None; an error that says why where it cannot run."""
    if name in (None, "numpy"):
        return NUMPY
    if name == "cupy":
        return Backend("cupy", _import_cupy())
    raise InvalidValueError(f"there is no backend {name!r}; use 'numpy' or 'cupy'")


def _import_cupy() -> Any:
    """CuPy, if it is installed and sees a GPU; otherwise an error that says what is missing."""
    try:
        import cupy
    except ImportError as error:
        raise MissingExtraError(
            "backend 'cupy' needs CuPy: install minigraph[cuda13] or minigraph[cuda12], whichever fits the CUDA driver"
        ) from error
    if not cupy.cuda.is_available():
        raise ExecutionError("backend 'cupy' needs a CUDA GPU with its driver, and CuPy finds none on this machine")
    return cupy
