"""Regions compiled for a CUDA GPU, arrays that stay on it, and a count of the copies between it and the host."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np

from minigraph.backends.interpreted import Backend, Kernel
from minigraph.backends.regions import CompiledLoop, KernelFailure, PlannedRegion, explanation
from minigraph.config import config
from minigraph.errors import InvalidTypeError, OutOfMemoryError
from minigraph.graph import Array, Graph, Variable, check_shape, fit
from minigraph.kernels.cublas import WORKSPACE
from minigraph.kernels.cuda_program import CudaProgram, Gemm
from minigraph.kernels.cuda_runtime import (
    Branches,
    Module,
    Task,
    bodies,
    capture,
    cublas,
    in_branches,
    tasks_of,
    tasks_of_command,
)
from minigraph.kernels.layout import sizes
from minigraph.kernels.program import ARENA, CONSTANTS, FIRST
from minigraph.ops.loop import Scan
from minigraph.rewrite.fuse import Region, fuse, is_compilable_loop
from minigraph.rewrite.moments import gather_moments
from minigraph.rewrite.specialize import follows_from_sizes
from minigraph.types import TensorType, as_dtype

VECTORS = 16
"""The alignment that kernels expect of arrays, in bytes."""

FAILED_BYTES = 256
"""Memory for whether a kernel has failed, at the front of what a call works in."""

BRANCHES = 4
"""How many commands run at the same time, at most."""

PRODUCTS = ("float16", "float32", "float64")
"""The dtypes of products that cuBLAS computes."""


DLPACK_GPUS = (2, 13)
"""DLPack's numbers for memory of CUDA GPUs, and for memory that they share with the host."""


class Piece:
    """Memory for one call: whether a kernel has failed, the arena, and what cuBLAS works in, for each branch."""

    def __init__(self, xp: Any, program: CudaProgram, branches: int = 1) -> None:
        multiplies = any(isinstance(command, Gemm) for one in bodies(program) for command in one.commands)
        workspaces = branches if multiplies else 0
        self.memory = xp.empty(FAILED_BYTES + program.arena_bytes + workspaces * WORKSPACE, np.uint8)
        self.failed: int = self.memory.data.ptr
        self.arena = self.failed + FAILED_BYTES
        self.workspaces = [self.arena + program.arena_bytes + k * WORKSPACE for k in range(workspaces)]


class DevicePlan:
    """A program with memory to run it in, one piece for each call that runs at the same time."""

    def __init__(self, gpu: Gpu, graph: Graph, wanted: Sequence[tuple[int, int]]) -> None:
        """wanted: positions of an input and of the output that shall be written over it, if that is safe."""
        self.gpu, self.xp = gpu, gpu.xp
        self.program = CudaProgram(graph, wanted)
        if self.program.fails and len(self.program.overwritten) < len(wanted):  # new state is put in its place all at once
            self.program = CudaProgram(graph)
        self.overwritten = self.program.overwritten
        self.module = Module(self.xp, self.program.code)
        self._constants = [self.xp.asarray(one.constants) for one in bodies(self.program)]
        self._addresses = {id(one): array.data.ptr for one, array in zip(bodies(self.program), self._constants, strict=True)}
        self._pieces: list[Piece] = []
        self.bound: Binding | None = None

    def __call__(self, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """The outputs, in new memory; KernelFailure where an index is outside."""
        arrays, outputs = self.memory(arrays)
        piece = self.take()
        for task in (*self.opening(piece), *self.tasks(piece, arrays + outputs)):
            task()
        self.check(piece)
        self.give(piece)
        return outputs

    def memory(self, arrays: tuple[Array, ...]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """The inputs, copies of those that would be written over, and memory for the outputs."""
        written = {*self.overwritten.values()}
        kept = tuple([one.copy() if k in written else one for k, one in enumerate(arrays)])
        outputs = tuple(
            [
                kept[self.overwritten[k]] if k in self.overwritten else self.xp.empty(*one)
                for k, one in enumerate(self.program.outputs)
            ]
        )
        return kept, outputs

    def take(self) -> Piece:
        """Memory for one call."""
        try:
            return self._pieces.pop()
        except IndexError:
            return Piece(self.xp, self.program)

    def give(self, piece: Piece) -> None:
        """Keep memory for the next call."""
        self._pieces.append(piece)

    def opening(self, piece: Piece) -> list[Task]:
        """What a call enqueues before its commands."""
        tasks: list[Task] = []
        stream = self.xp.cuda.get_current_stream
        if self.program.fails:
            tasks.append(lambda: self.xp.cuda.runtime.memsetAsync(piece.failed, 0, 4, stream().ptr))
        return tasks + self.multiplying(piece, 0)

    def multiplying(self, piece: Piece, branch: int) -> list[Task]:
        """What comes before products in a branch."""
        return [partial(_work_in, self.xp, one) for one in piece.workspaces[branch : branch + 1]]

    def tasks(self, piece: Piece, arrays: Sequence[Array]) -> list[Task]:
        """What the commands enqueue on the current stream, given inputs and outputs."""
        return tasks_of(self.program, self.module, self._addresses, self._bases(piece, arrays), piece.failed)

    def waves(self, piece: Piece, arrays: Sequence[Array]) -> list[Branches]:
        """The same in branches, wave after wave."""
        bases = self._bases(piece, arrays)
        found = []
        for wave in self.program.waves:
            tasks = [tasks_of_command(one, self.module, self._addresses, bases, piece.failed) for one in wave]
            branches = in_branches(tasks, BRANCHES)
            found.append([[*self.multiplying(piece, k), *branch] for k, branch in enumerate(branches)])
        return found

    def _bases(self, piece: Piece, arrays: Sequence[Array]) -> list[int]:
        """The addresses of the program's slots."""
        bases = [0] * FIRST + [one.data.ptr for one in arrays]
        bases[ARENA], bases[CONSTANTS] = piece.arena, self._addresses[id(self.program)]
        return bases

    def has_failed(self, piece: Piece) -> bool:
        """Whether a kernel has met an index that is outside, which takes waiting for all that was enqueued."""
        return self.program.fails and bool(self.gpu.store(piece.memory[:4].view(np.int32))[0])

    def check(self, piece: Piece) -> None:
        """KernelFailure if a kernel has met an index that is outside."""
        if self.has_failed(piece):
            self.give(piece)
            raise KernelFailure("an index is outside of an array")

    def timed(self, arrays: tuple[Array, ...]) -> tuple[tuple[Array, ...], list[tuple[str, str, float]]]:
        """The outputs, and what each command is, where its last op was written, and the seconds that it took."""
        arrays, outputs = self.memory(arrays)
        piece = self.take()
        bases = self._bases(piece, arrays + outputs)
        event = self.xp.cuda.Event
        for task in self.opening(piece):
            task()
        marks = [event()]
        marks[0].record()
        for command in self.program.commands:
            for task in tasks_of_command(command, self.module, self._addresses, bases, piece.failed):
                task()
            marks.append(event())
            marks[-1].record()
        marks[-1].synchronize()
        self.check(piece)
        self.give(piece)
        measured = []
        for command, before, after in zip(self.program.commands, marks, marks[1:], strict=False):
            line = str(self.program.steps[command.steps[-1]].variables[-1].origin)
            measured.append((self.program.title(command), line, self.xp.cuda.get_elapsed_time(before, after) / 1000))
        return outputs, measured


class Binding:
    """A plan captured as a CUDA graph, over memory that stays: what is copied into its inputs it computes with."""

    def __init__(self, plan: DevicePlan, state: Sequence[Array], read: Mapping[int, int], news: Mapping[int, int]) -> None:
        """state: the arrays of shared variables; read: which of them the inputs are; news: which take the values of outputs.

        RuntimeError if what the plan does cannot be captured.
        """
        xp = plan.xp
        self.plan, self.piece, self.state = plan, Piece(xp, plan.program, BRANCHES), tuple(state)
        kinds = [(sizes(one), as_dtype(one.dtype)) for one in plan.program.graph.inputs]
        self.inputs = tuple([state[read[k]] if k in read else xp.empty(*kind) for k, kind in enumerate(kinds)])
        self.outputs = tuple(
            [
                self.inputs[plan.overwritten[k]] if k in plan.overwritten else xp.empty(*kind)
                for k, kind in enumerate(plan.program.outputs)
            ]
        )
        moved = [(state[place], self.outputs[k]) for k, place in news.items() if k not in plan.overwritten]
        self.late = moved if plan.program.fails else []
        """State, and its new value, which is put there once it is known that nothing has failed."""
        closing: list[Task] = [] if plan.program.fails else [partial(copy_all, xp, moved)]
        waves = plan.waves(self.piece, self.inputs + self.outputs)
        self._graph = capture(xp, [[plan.opening(self.piece)], *waves, [closing]])
        self._stream: Any = None

    def launch(self) -> None:
        """Run what was captured on the current stream, after what was run on another."""
        stream = self.plan.xp.cuda.get_current_stream()
        if self._stream is not None and self._stream.ptr != stream.ptr:
            self._stream.synchronize()
        self._stream = stream
        self._graph.launch()

    def has_failed(self) -> bool:
        """Whether the last run has met an index that is outside."""
        return self.plan.has_failed(self.piece)


def _work_in(xp: Any, workspace: int) -> None:
    """Let the products that follow on the current stream work in this memory."""
    cublas().work_in(xp.cuda.get_current_stream().ptr, workspace)


def copy_all(xp: Any, pairs: Sequence[tuple[Array, Array]]) -> None:
    """Enqueue copies between arrays in C order, (to, from), in one C call, which Ctrl-C cannot split."""
    runtime, stream = xp.cuda.runtime, xp.cuda.get_current_stream().ptr
    targets, sources = ([pair[side].data.ptr for pair in pairs] for side in (0, 1))
    counts = [source.nbytes for _, source in pairs]
    kind = runtime.memcpyDeviceToDevice
    deque(map(runtime.memcpyAsync, targets, sources, counts, repeat(kind), repeat(stream)), maxlen=0)


class DeviceRegion(PlannedRegion[DevicePlan]):
    """What computes a region on a GPU: a plan for each set of input shapes that it meets."""

    def __init__(self, gpu: Gpu, region: Region) -> None:
        super().__init__(region)
        self.gpu = gpu

    def make(self, graph: Graph) -> DevicePlan:
        return DevicePlan(self.gpu, graph, self.wanted)

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """The outputs of the region."""
        ready = tuple([self.gpu.in_order(one) for one in arrays])
        try:
            return self.plan(ready)(ready)
        except KernelFailure as failure:
            raise explanation(self.graph, [self.gpu.store(one) for one in ready]) or failure from None

    def profile(self, *arrays: Array) -> tuple[tuple[Array, ...], list[tuple[str, str, float]]]:
        """The outputs, and what was measured."""
        ready = tuple([self.gpu.in_order(one) for one in arrays])
        return self.plan(ready).timed(ready)

    def lines(self, code: bool) -> Iterator[str]:
        """Every plan as readable text, with `code` that of its kernels, too."""
        for key, plan in self.plans.items():
            yield f"## inputs of shapes {', '.join(map(str, key))}; {plan.program.arena_bytes} bytes of working memory"
            yield from plan.program.lines(code)


class Copies:
    """How many copies there were between host and device."""

    def __init__(self) -> None:
        self.to_device = self.to_host = 0
        self._lock = threading.Lock()

    def count(self, to_device: bool) -> None:
        """One more."""
        with self._lock:
            if to_device:
                self.to_device += 1
            else:
                self.to_host += 1


@dataclass(frozen=True)
class Gpu(Backend):
    """CuPy for the steps that need Python, kernels of our own and cuBLAS for everything between them."""

    adaptations = (gather_moments,)
    copies: Copies = field(default_factory=Copies, compare=False)

    def prepare(self, graph: Graph) -> Graph:
        """The graph with all that can be compiled gathered in regions."""
        return fuse(graph, PRODUCTS)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Use the GPU that was chosen; say so where its memory does not suffice, and give back what is not in use."""
        try:
            with self.xp.cuda.Device(config.device):
                yield
        except self.xp.cuda.memory.OutOfMemoryError as error:
            self.xp.get_default_memory_pool().free_all_blocks()
            raise OutOfMemoryError(f"GPU {config.device} has too little memory: {error}; no state was changed") from error

    def load(self, array: Array) -> Array:
        """An array on the GPU, copied there if it is not."""
        if isinstance(array, self.xp.ndarray):
            return array
        self.copies.count(to_device=True)
        return self.xp.asarray(array)

    def store(self, array: Array) -> np.ndarray[Any, Any]:
        """A copy on the host."""
        self.copies.count(to_device=False)
        host: np.ndarray[Any, Any] = self.xp.asnumpy(array)
        return host

    def fit(self, value: Any, expected: TensorType, what: str) -> Array:
        """An input on the GPU: what lies there already is taken as it is, without a copy if its dtype fits."""
        if not self._lies_on_a_gpu(value):
            return self.load(fit(value, expected, what))
        array = value if isinstance(value, self.xp.ndarray) else self.xp.from_dlpack(value)
        if array.dtype != expected.dtype:
            if not np.can_cast(array.dtype, expected.dtype, "safe"):
                raise InvalidTypeError(f"{what} has dtype {array.dtype} on the GPU, expected {expected}; cast it with astype")
            array = array.astype(expected.dtype)
        check_shape(array, expected, what)
        return array

    def _lies_on_a_gpu(self, value: Any) -> bool:
        """Whether a value is an array in a GPU's memory, of whatever library."""
        if hasattr(value, "__dlpack_device__"):
            return value.__dlpack_device__()[0] in DLPACK_GPUS
        return isinstance(value, self.xp.ndarray)

    def loops(self, variable: Variable) -> bool:
        """Whether a loop can be compiled as a whole."""
        settled = [one for one in variable.inputs if follows_from_sizes(one)]
        assert isinstance(variable.op, Scan)
        return is_compilable_loop(variable, settled, PRODUCTS) and not variable.op.stops

    def kernel(self, variable: Variable, reusable: int | None) -> Kernel:
        """What computes `variable`: compiled, if it is a region or a loop."""
        if isinstance(variable.op, Region):
            return DeviceRegion(self, variable.op)
        if isinstance(variable.op, Scan):
            return CompiledLoop(variable, partial(DeviceRegion, self))
        return super().kernel(variable, reusable)

    def in_order(self, array: Array) -> Array:
        """An array in C order that begins where vectors may."""
        if array.flags.c_contiguous and not array.data.ptr % VECTORS:
            return array
        return self.xp.array(array, order="C")
