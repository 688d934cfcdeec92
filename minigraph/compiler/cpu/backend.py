"""Regions compiled for this machine: planned once for each set of input shapes, then one native call."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from minigraph.compiler.binding import CallSignature
from minigraph.compiler.cpu.blas import library_path
from minigraph.compiler.cpu.fast_call import Direct
from minigraph.compiler.cpu.lapack import lapack_kernel, own_namespace
from minigraph.compiler.cpu.ordering import ordering_kernel
from minigraph.compiler.cpu.plan import CallMemory, NativePlan, OpenProgram, in_order
from minigraph.compiler.cpu.program import SHAPED, NativeProgram
from minigraph.compiler.interpreted import Kernel
from minigraph.compiler.passes import Pass, Pipeline
from minigraph.compiler.pipeline import PASSES, SECLUDE
from minigraph.compiler.shape_cache import Arrays, CompilingBackend, PlannedRegion, Shapes
from minigraph.core.dimensions import SMALLEST, Dimensions, Sizes
from minigraph.core.graph import Array, Graph, Op, Variable
from minigraph.rewrite.partition import Kernels, Region
from minigraph.rewrite.partition import partition as regions_of
from minigraph.rewrite.view_transposed import view_transposed

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")

MOST_PROGRAMS = 64
"""The number of programs that a region keeps; each holds for all sizes that answer the questions of its planning alike."""


class CompiledRegion(PlannedRegion[NativePlan]):
    """A region with programs of open sizes, and a plan of one of them for each set of input shapes that it meets."""

    most_plans, most_bytes = 512, 2**26

    def __init__(self, backend: CompilingBackend, region: Region) -> None:
        super().__init__(backend, region)
        self.programs: deque[OpenProgram] = deque(maxlen=MOST_PROGRAMS)
        self._memories: list[CallMemory] = []

    def fast_call(self, signature: CallSignature) -> Direct:
        return Direct(self, signature)

    def make(self, shapes: Shapes) -> NativePlan:
        for one in self.programs:
            sizes = one.open.settled(shapes)
            if sizes is not None:
                return NativePlan(one, sizes, self._memories)
        found, sizes = self._planned(shapes)
        if len(self.programs) == MOST_PROGRAMS:
            oldest = self.programs[-1].program
            for key in [key for key, plan in self.plans.items() if plan.program is oldest]:
                self.held_bytes -= self.plans.pop(key).held_bytes
        self.programs.appendleft(found)
        return NativePlan(found, sizes, self._memories)

    def _planned(self, shapes: Shapes) -> tuple[OpenProgram, Sizes]:
        """A program for these shapes and, as far as it holds for them, others; and the sizes that it leaves open."""
        known = [one.type.shape for one in self.graph.inputs]
        places = [
            (k, axis)
            for k, shape in enumerate(shapes)
            for axis, size in enumerate(shape)
            if known[k][axis] is None and size >= SMALLEST
        ]
        groups: dict[tuple[int, int], int] | None = {place: group for group, place in enumerate(places)}
        while groups:
            open = Dimensions(shapes, groups)
            try:
                found = OpenProgram(open, self._program(open.shapes))
                sizes = open.settled(shapes)
                assert sizes is not None, "a plan holds for what it was made for"
                return found, sizes
            except Exception:  # what cannot be planned with sizes left open is planned, or refused, with fewer
                groups = open.refined()
        closed = Dimensions(shapes, {})
        return OpenProgram(closed, self._program(shapes)), Sizes(())

    def _program(self, shapes: Sequence[Sequence[Any]]) -> NativeProgram:
        """A program for inputs of these shapes, of which sizes may be left open."""
        return NativeProgram(self.shaped(shapes), self.donations, self.backend)


def _products() -> tuple[str, ...]:
    """The dtypes of matrix products that can be compiled: those of floats need OpenBLAS."""
    return INTEGERS if library_path() is None else FLOATS + INTEGERS


def partition(graph: Graph) -> Graph:
    """The graph with everything that can be compiled gathered in regions, as few as the steps that cannot be allow."""
    return regions_of(graph, _kernels())


def _kernels() -> Kernels:
    """The kernels that there are beyond loop nests."""
    return Kernels(_products(), running=True)


NATIVE = Pipeline((SECLUDE, *PASSES, Pass(view_transposed)), (Pass(partition, needed=True),), SHAPED)


class Native(CompilingBackend):
    """NumPy for the steps that need Python, machine code for everything between them."""

    call_names = "native call", "NumPy call"

    def products(self) -> tuple[str, ...]:
        return _products()

    def kernels(self) -> Kernels:
        return _kernels()

    def in_order(self, arrays: Sequence[Array]) -> Arrays:
        return tuple([in_order(one) for one in arrays])

    def region(self, region: Region) -> CompiledRegion:
        return CompiledRegion(self, region)

    def namespace(self, op: Op) -> Any:
        return own_namespace() if op.solves else self.xp

    def kernel(self, variable: Variable, reusable: int | None) -> Kernel:
        found = lapack_kernel(variable.op) or ordering_kernel(variable.op)
        return super().kernel(variable, reusable) if found is None else found
