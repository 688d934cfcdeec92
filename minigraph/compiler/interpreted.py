"""Ops run one by one through an array namespace: NumPy, the reference, or CuPy, the same code on a GPU.

A kernel computes one variable from arrays. It checks what the namespace would let pass, a broadcast of a size that is 1
only by chance, and writes into the memory of a dying operand where it is told to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from minigraph.compiler.passes import Journal, Pipeline
from minigraph.core.conversion import fit
from minigraph.core.errors import (
    FailedAssertionError,
    InvalidIndexError,
    InvalidTypeError,
    InvalidValueError,
    LinearAlgebraError,
    MinigraphError,
)
from minigraph.core.graph import Array, Graph, Op, Variable, located
from minigraph.core.state import on_host
from minigraph.core.types import TensorType
from minigraph.ops.elementwise.base import Elementwise
from minigraph.rewrite.partition import Region
from minigraph.rewrite.specialize import mismatch, places_to_check

Kernel = Callable[..., Array]


@dataclass(frozen=True)
class Backend:
    """An array namespace with the ways into it and out of it.

    name: that of the backend; xp: the namespace; pipeline: the passes that compile a graph for it; journal: what they made.
    """

    name: str
    xp: Any
    pipeline: Pipeline
    journal: Journal

    writes_over_state: ClassVar[bool] = False
    """Whether the arrays of shared variables are written over while other functions may still be reading them."""

    compiles: ClassVar[bool] = False
    """Whether ops are compiled, so that it is worth a warning where one is not for a reason of its own."""

    call_names: ClassVar[tuple[str, str]] = ("compiled call", "NumPy call")
    """The names of a compiled step, and of any other, where steps are counted."""

    def running(self) -> AbstractContextManager[None]:
        """The context in which functions are made and called."""
        return nullcontext()

    def load(self, array: Array) -> Array:
        """An array of this namespace from one of any."""
        return on_host(array)

    def store(self, array: Array) -> np.ndarray[Any, Any]:
        """An array of this namespace on the host."""
        return on_host(array)

    def transfers(self) -> tuple[int, int]:
        """The numbers of arrays that were copied to a GPU, and from it."""
        return 0, 0

    def fit(self, value: Any, expected: TensorType, what: object) -> Array:
        """An input as an array of the expected type: checked, and cast where no value can change; errors name `what`."""
        if hasattr(value, "__cuda_array_interface__"):
            raise InvalidTypeError(f"{what} lies on a GPU, and backend {self.name!r} computes on the host; copy it there first")
        return fit(value, expected, what)

    def partitioned(self, graph: Graph) -> Graph:
        """The optimized body of a loop as this backend takes it, compiled parts gathered in regions if it has such."""
        return self.journal.run(self.pipeline.regions, graph, "loop body: ")

    def loops(self, variable: Variable) -> bool:
        """Whether `kernel` has something better for this loop than a plain one over its body."""
        return False

    def namespace(self, op: Op) -> Any:
        """The array namespace that computes an op."""
        return self.xp

    def kernel(self, variable: Variable, reusable: int | None) -> Kernel:
        """The kernel that computes `variable`; `reusable` is the position of an operand whose memory may be overwritten."""
        op, xp = variable.op, self.namespace(variable.op)
        ufunc: Any = single_ufunc(op, len(variable.inputs)) if xp is np and reusable is not None else None

        def plain(*arrays: Array) -> Array:
            return op.forward(xp, *arrays)

        def into_operand(*arrays: Array) -> Array:
            return ufunc(*arrays, out=arrays[reusable])  # type: ignore[index]

        compute = _refusing_chance_broadcast(plain if ufunc is None else into_operand, variable)
        if isinstance(variable.type, tuple) or variable.ndim:
            return compute
        return lambda *arrays: xp.asarray(compute(*arrays))  # NumPy makes scalars of 0-d results


def _refusing_chance_broadcast(compute: Kernel, variable: Variable) -> Kernel:
    """`compute`, raising where an operand was stretched along an axis whose size is not statically 1."""
    places = places_to_check(variable)
    if not places:
        return compute

    def checked(*arrays: Array) -> Array:
        for axis, first, second in places:
            one, other = arrays[first].shape[axis], arrays[second].shape[axis]
            if one != other:
                raise mismatch(one, other, [array.shape for array in arrays])
        return compute(*arrays)

    return checked


def at_users_line(error: Exception, variable: Variable, operands: Sequence[Any]) -> Exception:
    """An error of a variable's kernel, as one of ours or with a note, that names the op, the operands and the user's line."""
    if isinstance(variable.op, Region) and isinstance(error, MinigraphError):
        return error  # it names the op within the region already
    kinds: list[tuple[type[Exception], type[MinigraphError]]] = [
        (AssertionError, FailedAssertionError),
        (IndexError, InvalidIndexError),
        (np.linalg.LinAlgError, LinearAlgebraError),
        (ValueError, InvalidValueError),
        (ArithmeticError, InvalidValueError),
        (TypeError, InvalidTypeError),
    ]
    shapes = ", ".join(f"{one.dtype} {one.shape}" if hasattr(one, "shape") else type(one).__name__ for one in operands)
    for caught, raised in kinds:
        if isinstance(error, caught):
            what = error.message if isinstance(error, MinigraphError) else error
            described = raised(f"{what}\n  with values {shapes}")
            return located(described, variable.op, variable.inputs, variable.origin)
    error.add_note(f"in {type(variable.op.shown).__name__} with values {shapes}\n  at {variable.origin}")
    return error


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
