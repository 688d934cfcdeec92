"""Regions compiled for a CUDA GPU, arrays that stay on it, and a count of the copies between it and the host."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from minigraph.backends.interpreted import Backend, Kernel
from minigraph.backends.regions import CompiledLoop, KernelFailure, PlannedRegion, explanation
from minigraph.config import config
from minigraph.errors import InvalidTypeError, OutOfMemoryError
from minigraph.graph import Array, Graph, Variable, check_shape, fit
from minigraph.kernels.cublas import WORKSPACE
from minigraph.kernels.cuda_program import CudaProgram, Gemm
from minigraph.kernels.cuda_runtime import Module, Task, bodies, cublas, tasks_of
from minigraph.kernels.program import CONSTANTS, FIRST
from minigraph.ops.loop import Scan
from minigraph.rewrite.fuse import Region, fuse, is_compilable_loop
from minigraph.rewrite.specialize import follows_from_sizes
from minigraph.types import TensorType

VECTORS = 16
"""The alignment that kernels expect of arrays, in bytes."""

FAILED_BYTES = 256
"""Memory for whether a kernel has failed, at the front of what a call works in."""

PRODUCTS = ("float16", "float32", "float64")
"""The dtypes of products that cuBLAS computes."""


DLPACK_GPUS = (2, 13)
"""DLPack's numbers for memory of CUDA GPUs, and for memory that they share with the host."""


class Piece:
    """Memory for one call: whether a kernel has failed, the arena, and what cuBLAS works in."""

    def __init__(self, xp: Any, program: CudaProgram) -> None:
        works = any(isinstance(command, Gemm) for one in bodies(program) for command in one.commands)
        self.memory = xp.empty(FAILED_BYTES + program.arena_bytes + works * WORKSPACE, np.uint8)
        self.failed: int = self.memory.data.ptr
        self.arena = self.failed + FAILED_BYTES
        self.workspace = self.arena + program.arena_bytes if works else 0


class DevicePlan:
    """A program with memory to run it in, one piece for each call that runs at the same time."""

    def __init__(self, gpu: Gpu, graph: Graph, wanted: Sequence[tuple[int, int]]) -> None:
        """wanted: positions of an input and of the output that shall be written over it, if that is safe."""
        self.gpu, self.xp = gpu, gpu.xp
        self.program = CudaProgram(graph, wanted)
        self.module = Module(self.xp, self.program.code)
        self._constants = [self.xp.asarray(one.constants) for one in bodies(self.program)]
        self._addresses = {
            id(one): array.data.ptr for one, array in zip(bodies(self.program), self._constants, strict=True)
        }
        self._pieces: list[Piece] = []

    def __call__(self, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        """The outputs, in new memory; KernelFailure where an index is outside."""
        outputs = tuple([self.xp.empty(*one) for one in self.program.outputs])
        piece = self.take()
        for task in self.tasks(piece, arrays + outputs):
            task()
        self.check(piece)
        self.give(piece)
        return outputs

    def take(self) -> Piece:
        """Memory for one call."""
        try:
            return self._pieces.pop()
        except IndexError:
            return Piece(self.xp, self.program)

    def give(self, piece: Piece) -> None:
        """Keep memory for the next call."""
        self._pieces.append(piece)

    def tasks(self, piece: Piece, arrays: Sequence[Array]) -> list[Task]:
        """What a call enqueues on the current stream, given inputs and outputs."""
        bases = [0] * FIRST + [one.data.ptr for one in arrays]
        bases[0], bases[CONSTANTS] = piece.arena, self._addresses[id(self.program)]
        stream = self.xp.cuda.get_current_stream().ptr
        tasks: list[Task] = []
        if self.program.fails:
            tasks.append(lambda: self.xp.cuda.runtime.memsetAsync(piece.failed, 0, 4, stream))
        if piece.workspace:
            tasks.append(lambda: cublas().work_in(stream, piece.workspace))
        return tasks + tasks_of(self.program, self.module, self._addresses, bases, piece.failed)

    def check(self, piece: Piece) -> None:
        """KernelFailure if a kernel has met an index that is outside, which takes waiting for all that was enqueued."""
        if self.program.fails and int(self.gpu.store(piece.memory[:4].view(np.int32))[0]):
            self.give(piece)
            raise KernelFailure("an index is outside of an array")

    def timed(self, arrays: tuple[Array, ...]) -> tuple[tuple[Array, ...], list[tuple[str, str, float]]]:
        """The outputs, and what each command is, where its last op was written, and the seconds that it took."""
        outputs = tuple([self.xp.empty(*one) for one in self.program.outputs])
        piece = self.take()
        measured = []
        wait = self.xp.cuda.get_current_stream().synchronize
        wait()
        start = time.perf_counter()
        for task in self.tasks(piece, arrays + outputs):
            task()
        wait()
        measured.append(("all commands", "", time.perf_counter() - start))
        self.check(piece)
        self.give(piece)
        return outputs, measured


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
