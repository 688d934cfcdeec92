"""Regions compiled for this machine: planned once for each set of input shapes, then one native call."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any, cast

import numpy as np

from minigraph.backends.interpreted import Backend, Kernel, at_users_line
from minigraph.context import collector_paused
from minigraph.graph import Array, Graph, Input, Variable, items
from minigraph.kernels.blas import library_path
from minigraph.kernels.layout import sizes
from minigraph.kernels.native_program import NativeProgram
from minigraph.kernels.program import FIRST
from minigraph.kernels.runtime import ANYHOW, REFUSED, pool
from minigraph.ops.loop import Scan
from minigraph.rewrite.fuse import Region, computed, fuse, is_compilable_loop
from minigraph.rewrite.specialize import SizeConstant, follows_from_sizes, specialize
from minigraph.state import SUCCESS
from minigraph.types import DTYPES, as_dtype

_IN_ORDER, _OWN = 1 | 256, 4 | 1024
"""Flags of NumPy's arrays: in C order and aligned; owning their memory, which may be written to."""

MOST_PLANS = 64
"""How many sets of input shapes a region keeps its plans for."""


Piece = tuple[int, np.ndarray[Any, Any]]
"""Memory for one call, and the address in it where it is aligned."""


class KernelFailure(Exception):
    """A kernel met an index that is outside of an array."""


def picker(order: Sequence[int]) -> Callable[[tuple[Array, ...]], tuple[Array, ...]]:
    """What takes these elements out of a tuple, as a tuple."""
    if len(order) > 1:
        return itemgetter(*order)
    return lambda given: tuple([given[k] for k in order])


class Plan:
    """A program with memory to run it in, one piece for each call that runs at the same time."""

    def __init__(self, graph: Graph, wanted: Sequence[tuple[int, int]] = ()) -> None:
        """wanted: positions of an input and of the output that shall be written over it, if that is safe."""
        self.program = NativeProgram(graph, wanted)
        self.overwritten = self.program.overwritten
        """The input over which an output is written, by their positions."""
        self._new = [one for k, one in enumerate(self.program.outputs) if k not in self.overwritten]
        follow = iter(range(len(graph.inputs), len(graph.inputs) + len(self._new)))
        over = [self.overwritten.get(k) for k in range(len(graph.outputs))]
        self._as_outputs = picker([next(follow) if place is None else place for place in over])
        self._call, self._pool = pool().call, pool().address
        self._pieces: list[Piece] = []
        count = len(graph.inputs) + len(graph.outputs)
        self._before_arena = 8 * (FIRST + count) + -8 * (FIRST + count) % NativeProgram.alignment
        words = [self.program.address, len(self.program.steps), len(graph.inputs), count, self._before_arena]
        words += [self.program.constants.ctypes.data, id(np.ndarray)]
        for k, one in enumerate(graph.inputs):
            written = k in self.overwritten.values()
            words += [id(as_dtype(one.dtype)), one.ndim, _IN_ORDER | (_OWN if written else 0), written, *sizes(one)]
        self._words = np.array(words, np.int64)
        self._address = self._words.ctypes.data

    def __call__(self, arrays: tuple[Array, ...]) -> tuple[Array, ...] | None:
        """The outputs, in new memory, from inputs in C order; None if this is a plan for others."""
        arrays = self.kept(arrays)
        outputs = self.memory(arrays)
        piece = self.take()
        failed = next(self.attempt(arrays + outputs, piece, ANYHOW))
        self.give(piece)
        if failed == SUCCESS:
            return outputs
        if failed == REFUSED:
            return None
        raise KernelFailure(f"step {failed}")

    def attempt(self, arrays: tuple[Array, ...], piece: Piece, references: int) -> Iterator[int]:
        """An iterator whose one item is computed in one C call: the outputs, which follow the inputs in `arrays`, are written.

        The item is the step that failed, SUCCESS, REFUSED, or SHARED if an input to be written over has more references.
        """
        return map(self._call, (self._pool,), (self._address,), (arrays,), (piece[0],), (references,))

    def kept(self, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """The inputs, those copied that would be written over."""
        if not self.overwritten:
            return arrays
        written = {*self.overwritten.values()}
        return tuple([one.copy() if k in written else one for k, one in enumerate(arrays)])

    def memory(self, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """Memory for the outputs: that of inputs which are written over, or new."""
        return self._as_outputs(arrays + tuple([np.empty(*one) for one in self._new]))

    def timed(self, arrays: tuple[Array, ...]) -> tuple[tuple[Array, ...], list[float]]:
        """The outputs, and the seconds that each step took."""
        arrays = self.kept(arrays)
        outputs = self.memory(arrays)
        piece = self.take()
        bases = np.array(
            [
                piece[0] + self._before_arena,
                self.program.constants.ctypes.data,
                *(one.ctypes.data for one in (*arrays, *outputs)),
            ],
            np.int64,
        )
        seconds = []
        for step in range(len(self.program.steps)):
            start = time.perf_counter()
            failed = pool().run(self.program.address, step, step + 1, bases.ctypes.data)
            seconds.append(time.perf_counter() - start)
            if failed >= 0:
                raise KernelFailure(f"step {failed}")
        self.give(piece)
        return outputs, seconds

    def take(self) -> Piece:
        """Memory for one call: the addresses of its arrays, then the arena."""
        try:
            return self._pieces.pop()
        except IndexError:
            memory = np.empty(self._before_arena + self.program.arena_bytes + NativeProgram.alignment, np.uint8)
            address = memory.ctypes.data
            return address + -address % NativeProgram.alignment, memory

    def give(self, piece: Piece) -> None:
        """Keep memory for the next call."""
        self._pieces.append(piece)


class CompiledRegion:
    """What computes a region: a plan for each set of input shapes that it meets."""

    def __init__(self, region: Region) -> None:
        self.graph = region.graph
        self.wanted: tuple[tuple[int, int], ...] = ()
        """Positions of inputs, and of the outputs that plans shall write over them."""
        self.plans: OrderedDict[tuple[Any, ...], Plan] = OrderedDict()
        self.recent: Plan | None = None
        self._lock = threading.Lock()

    def plan(self, arrays: Sequence[Array]) -> Plan:
        """The plan for the shapes of these arrays."""
        key = tuple([array.shape for array in arrays])
        found = self.plans.get(key)
        if found is None:
            with self._lock:
                found = self.plans.get(key)
                if found is None:
                    types = [
                        type(one.type)(one.dtype, array.shape) for one, array in zip(self.graph.inputs, arrays, strict=True)
                    ]
                    with collector_paused():
                        found = self.plans[key] = Plan(specialize(self.graph, types), self.wanted)
                    if len(self.plans) > MOST_PLANS:
                        self.plans.popitem(last=False)
        self.recent = found
        return found

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """The outputs of the region."""
        ready = tuple([in_order(one) for one in arrays])
        try:
            outputs = self.plan(ready)(ready)
            assert outputs is not None
            return outputs
        except KernelFailure as failure:
            raise self._explanation(ready) or failure from None

    def _explanation(self, arrays: Sequence[Array]) -> Exception | None:
        """The error that NumPy raises where a kernel failed, at the user's line."""
        values: dict[Variable, Any] = dict(zip(self.graph.inputs, arrays, strict=True))
        for variable in self.graph.variables:
            if variable in values:
                continue
            operands = [values[one] for one in variable.inputs]
            try:
                values[variable] = computed(variable, np, operands) if operands else variable.op.value  # type: ignore[attr-defined]
            except Exception as error:
                return at_users_line(error, variable, operands)
        return None

    def profile(self, *arrays: Array) -> tuple[tuple[Array, ...], list[tuple[str, str, float]]]:
        """The outputs, and what each kernel is, where its last op was written, and the seconds that it took."""
        ready = tuple([in_order(one) for one in arrays])
        plan = self.plan(ready)
        outputs, seconds = plan.timed(ready)
        steps = zip(plan.program.steps, seconds, strict=True)
        return outputs, [(step.title, str(step.variables[-1].origin), time) for step, time in steps]

    def lines(self, code: bool) -> Iterator[str]:
        """Every plan as readable text, with `code` that of its kernels, too."""
        for key, plan in self.plans.items():
            yield f"## inputs of shapes {', '.join(map(str, key))}; {plan.program.arena_bytes} bytes of working memory"
            yield from plan.program.lines(code)


class CompiledLoop:
    """What computes a loop by itself: one that may stop, or whose number of steps only its call tells.

    There is a region for each number of steps, and for the other numbers that follow from sizes.
    """

    def __init__(self, variable: Variable) -> None:
        self.variable = variable
        self.op = cast(Scan, variable.op)
        captured = 1 + self.op.sequences + self.op.states
        self.fixed = [k for k, one in enumerate(variable.inputs) if not k or (k >= captured and follows_from_sizes(one))]
        self.given = [k for k in range(len(variable.inputs)) if k not in self.fixed]
        self.regions: OrderedDict[tuple[int, ...], CompiledRegion] = OrderedDict()

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """The results of the loop."""
        numbers = tuple([int(arrays[k]) for k in self.fixed])
        self.op.check_steps(numbers[0])
        results = self.region(numbers)(*[arrays[k] for k in self.given])
        return self._cut(results, numbers[0]) if self.op.stops else results

    def region(self, numbers: tuple[int, ...]) -> CompiledRegion:
        """What computes the loop for these numbers."""
        found = self.regions.get(numbers)
        if found is None:
            inputs = [Variable(Input(), (), self.variable.inputs[k].type) for k in self.given]
            operands = dict(zip(self.given, inputs, strict=True))
            for k, number in zip(self.fixed, numbers, strict=True):
                kind = self.variable.inputs[k].type
                operands[k] = Variable(SizeConstant(np.asarray(number, kind.dtype)), (), kind)
            op = self.op.altered(steps=numbers[0], roomy=self.op.stops)
            ordered = tuple(operands[k] for k in range(len(operands)))
            whole = Variable(op, ordered, op.infer(*[one.type for one in ordered]), None, (), self.variable.origin)
            found = self.regions[numbers] = CompiledRegion(Region(Graph(tuple(inputs), items(whole))))
            if len(self.regions) > MOST_PLANS:
                self.regions.popitem(last=False)
        return found

    def _cut(self, results: tuple[Array, ...], steps: int) -> tuple[Array, ...]:
        """The results without room for what was not done."""
        done = int(results[-1]) if steps else 0
        states, rows = results[: self.op.states], results[self.op.states : -1]
        return (*(one[: done + 1] for one in states), *(one[:done] for one in rows), np.asarray(done))


def in_order(array: Array) -> Array:
    """An array in C order, aligned, and of NumPy's own dtype object, as kernels expect it."""
    plain = array.flags.c_contiguous and array.flags.aligned and type(array) is np.ndarray
    if plain and array.dtype is DTYPES[DTYPES.index(array.dtype)]:
        return array
    result = np.empty(array.shape, as_dtype(array.dtype))
    result[...] = array
    return result


class Native(Backend):
    """NumPy for the steps that need Python, machine code for everything between them."""

    def prepare(self, graph: Graph) -> Graph:
        """The graph with all that can be compiled gathered in regions."""
        return fuse(graph, products=library_path() is not None)

    def loops(self, variable: Variable) -> bool:
        """Whether a loop can be compiled as a whole."""
        settled = [one for one in variable.inputs if follows_from_sizes(one)]
        return is_compilable_loop(variable, settled, library_path() is not None)

    def kernel(self, variable: Variable, reusable: int | None) -> Kernel:
        """What computes `variable`: compiled, if it is a region or a loop."""
        if isinstance(variable.op, Region):
            return CompiledRegion(variable.op)
        return CompiledLoop(variable) if isinstance(variable.op, Scan) else super().kernel(variable, reusable)
