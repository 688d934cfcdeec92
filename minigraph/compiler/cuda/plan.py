"""A compiled graph on a GPU: launched kernel after kernel in new memory, or captured as one graph over memory that stays."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise, starmap
from typing import Any

import numpy as np

from minigraph.compiler.binding import CallSignature
from minigraph.compiler.cuda.cublas import WORKSPACE
from minigraph.compiler.cuda.program import CudaProgram, Gemm, bases_of
from minigraph.compiler.cuda.runtime import Branches, Module, Task, bodies, capture, cublas, in_branches, tasks_of_command
from minigraph.compiler.interpreted import Backend
from minigraph.compiler.passes import ProfiledStep
from minigraph.compiler.plan.frame import PLAIN
from minigraph.compiler.plan.steps import profiled
from minigraph.compiler.shape_cache import Arrays, KernelFailure, Plan
from minigraph.compiler.shaped.layout import sizes
from minigraph.core.config import config
from minigraph.core.graph import Array, Graph
from minigraph.core.locks import holding, new_lock
from minigraph.core.types import as_dtype

FAILED_BYTES = 256
"""Memory for whether a kernel has failed, at the front of what a call works in."""

BRANCHES = 4
"""The number of commands that run at the same time, at most."""


class Copies:
    """The number of copies between host and device."""

    def __init__(self) -> None:
        self.to_device = self.to_host = 0
        self._lock = new_lock()

    def count(self, to_device: bool) -> None:
        """Count a copy."""
        holding((self._lock,), self._count, to_device)

    def _count(self, to_device: bool) -> None:
        """The same, with the lock held."""
        if to_device:
            self.to_device += 1
        else:
            self.to_host += 1


class Device:
    """CuPy, and what the plans of a function share: the count of copies, and what the products of captured graphs work in."""

    def __init__(self, xp: Any) -> None:
        self.xp, self.copies = xp, Copies()
        self._workspaces: list[Array] = []
        self.lent = threading.local()
        """Whether a call of this thread has taken arrays of another library, as the attribute `any`."""

    def workspaces(self, count: int) -> list[Array]:
        """Workspaces, the same for all plans, no two of which run at the same time."""
        while len(self._workspaces) < count:
            self._workspaces.append(self.xp.empty(WORKSPACE, np.uint8))
        return self._workspaces[:count]

    def give_back(self) -> None:
        """Give memory that nothing holds, and the workspaces, back to the GPU."""
        self._workspaces.clear()
        self.xp.get_default_memory_pool().free_all_blocks()

    def to_host(self, array: Array) -> np.ndarray[Any, Any]:
        """A copy on the host."""
        self.copies.count(to_device=False)
        host: np.ndarray[Any, Any] = self.xp.asnumpy(array)
        return host


class CallMemory:
    """Memory of xp for a call of a program: the flag of failures, the arena, and the workspaces of products, one a branch."""

    def __init__(self, xp: Any, program: CudaProgram, workspaces: Sequence[Array]) -> None:
        self.array = xp.empty(FAILED_BYTES + program.frame.arena_bytes, np.uint8)
        self.workspaces = tuple(workspaces)
        self.flag = self.array[:4].view(np.int32)
        self.failed: int = self.array.data.ptr
        self.arena = self.failed + FAILED_BYTES


class DevicePlan(Plan):
    """A program, its module and its constants on a GPU."""

    program: CudaProgram

    def __init__(self, device: Device, graph: Graph, donations: Sequence[tuple[int, int]], backend: Backend) -> None:
        """device, backend: those of the function. graph: of known sizes. donations: positions of an input, and of the output
        to write over it, if that is safe.
        """
        self.device, self.xp = device, device.xp
        self.program = CudaProgram(graph, donations, backend)
        if self.program.fails and len(self.program.overwritten) < len(donations):  # new state is put in its place all at once
            self.program = CudaProgram(graph, (), backend)
        self.frame = self.program.frame
        self.module = Module(self.xp, self.program.code)
        programs = bodies(self.program)
        self._constants = [self.xp.asarray(one.frame.constants) for one in programs]
        self._addresses = {id(one): array.data.ptr for one, array in zip(programs, self._constants, strict=True)}
        self.multiplies = any(isinstance(command, Gemm) for one in programs for command in one.commands)
        self.was_launched = False
        self.captured: Captured | None = None
        self.held_bytes = self.frame.arena_bytes + self.frame.output_bytes + self.frame.constants.nbytes
        """On the GPU, once its calls are one launch."""

    def __call__(self, arrays: Arrays) -> Arrays:
        return self._run(arrays, lambda: None)

    def _run(self, arrays: Arrays, mark: Callable[[], None]) -> Arrays:
        """The outputs of a call, command after command; `mark` is called before the first, and after each."""
        arrays = self.kept(arrays)
        outputs = self.outputs(arrays)
        memory = self.call_memory()
        commands = self.tasks(memory, arrays + outputs)
        for task in self.opening(memory):
            task()
        mark()
        for tasks in commands:
            for task in tasks:
                task()
            mark()
        self.check(memory)
        self.was_launched = True
        return outputs

    def lines(self) -> Iterator[str]:
        return self.program.lines()

    def outputs(self, inputs: Arrays) -> Arrays:
        """Memory for the outputs: that of inputs which are written over, or new."""
        over = self.overwritten
        kinds = enumerate(self.frame.outputs)
        return tuple([inputs[over[k]] if k in over else self.xp.empty(*kind) for k, kind in kinds])

    def call_memory(self) -> CallMemory:
        """Memory for one call."""
        return CallMemory(self.xp, self.program, [self.xp.empty(WORKSPACE, np.uint8)] if self.multiplies else [])

    def opening(self, memory: CallMemory) -> list[Task]:
        """The tasks that a call enqueues before its commands."""
        tasks = self.multiplying(memory, 0)
        if self.program.fails:
            tasks.append(partial(_clear, self.xp, memory.failed))
        return tasks

    def multiplying(self, memory: CallMemory, branch: int) -> list[Task]:
        """The tasks that come before products in a branch."""
        return [partial(_work_in, self.xp, one.data.ptr) for one in memory.workspaces[branch : branch + 1]]

    def tasks(self, memory: CallMemory, arrays: Sequence[Array]) -> list[list[Task]]:
        """The tasks of each command on the current stream, given inputs and outputs."""
        return [each for wave in self._waves(memory, arrays) for each in wave]

    def _waves(self, memory: CallMemory, arrays: Sequence[Array]) -> list[list[list[Task]]]:
        """The tasks of each command, those together that can run at the same time."""
        bases = bases_of(memory.arena, self._addresses[id(self.program)], [one.data.ptr for one in arrays])
        return [
            [tasks_of_command(one, self.module, self._addresses, bases, memory.failed) for one in wave]
            for wave in self.program.waves
        ]

    def branches(self, memory: CallMemory, arrays: Sequence[Array]) -> list[Branches]:
        """The same in branches that can run at the same time, wave after wave."""
        waves = [in_branches(tasks, BRANCHES) for tasks in self._waves(memory, arrays)]
        return [[[*self.multiplying(memory, k), *branch] for k, branch in enumerate(wave)] for wave in waves]

    def has_failed(self, memory: CallMemory) -> bool:
        """Whether a kernel has met an index that is outside, which takes waiting for all that was enqueued."""
        return self.program.fails and bool(self.device.to_host(memory.flag)[0])

    def check(self, memory: CallMemory) -> None:
        """KernelFailure if a kernel has met an index that is outside."""
        if self.has_failed(memory):
            raise KernelFailure("an index is outside of an array")

    def profile(self, arrays: Arrays) -> tuple[Arrays, list[ProfiledStep]]:
        marks = []

        def mark() -> None:
            marks.append(self.xp.cuda.Event())
            marks[-1].record()

        outputs = self._run(arrays, mark)
        marks[-1].synchronize()
        seconds = [self.xp.cuda.get_elapsed_time(*pair) / 1000 for pair in pairwise(marks)]
        commands = [self.program.members(command) for command in self.program.commands]
        return outputs, [profiled(steps, taken, PLAIN) for steps, taken in zip(commands, seconds, strict=True)]


class Captured:
    """A plan captured as a CUDA graph, over memory that stays: what is copied into its inputs it computes with."""

    def __init__(self, plan: DevicePlan, state: Sequence[Array], signature: CallSignature) -> None:
        """state: the arrays of the cells of the signature, by which inputs are bound.

        RuntimeError if what the plan does cannot be captured, MemoryError if there is no memory for it.
        """
        xp, program = plan.xp, plan.program
        assert all(one.flags.c_contiguous for one in state)
        self._plan, self.state, self.tf32 = plan, tuple(state), config.allow_tf32
        if plan.multiplies:
            cublas(xp)  # which allocates, and so must not be made while a stream is captured
        branches = min(BRANCHES, program.side_by_side) if plan.multiplies else 0
        self._memory = CallMemory(xp, program, plan.device.workspaces(branches))
        kinds = [(sizes(one), as_dtype(one.dtype)) for one in program.graph.inputs]
        places = [source - signature.inputs for source in signature.sources]
        self.inputs = tuple([xp.empty(*kind) if k < 0 else state[k] for k, kind in zip(places, kinds, strict=True)])
        self.outputs = plan.outputs(self.inputs)
        self.results = [self.outputs[k] for k in signature.outputs]
        targets = [state[signature.cells.index(cell)] for cell in signature.target_cells]
        pairs = zip(targets, signature.new_state, strict=True)
        moved = [(target, self.outputs[k]) for target, k in pairs if k not in plan.overwritten]
        self.late = moved if program.fails else []
        """State, and its new value, which is put there once it is known that nothing has failed."""
        closing: list[Task] = [] if program.fails else [partial(copy_all, xp, moved)]
        waves = plan.branches(self._memory, self.inputs + self.outputs)
        self.graph = capture(xp, [[plan.opening(self._memory)], *waves, [closing]])

    def has_failed(self) -> bool:
        """Whether the last run has met an index that is outside."""
        return self._plan.has_failed(self._memory)


def _clear(xp: Any, address: int) -> None:
    """Enqueue that nothing has failed yet."""
    xp.cuda.runtime.memsetAsync(address, 0, 4, xp.cuda.get_current_stream().ptr)


def _work_in(xp: Any, workspace: int) -> None:
    """Let the products that follow on the current stream work in this memory."""
    cublas(xp).work_in(xp.cuda.get_current_stream().ptr, workspace)


def copy_all(xp: Any, pairs: Sequence[tuple[Array, Array]]) -> None:
    """Enqueue copies between arrays in C order, (to, from), in one C call, which Ctrl-C cannot split."""
    runtime, stream = xp.cuda.runtime, xp.cuda.get_current_stream().ptr
    kind = runtime.memcpyDeviceToDevice
    calls = [(to.data.ptr, source.data.ptr, to.nbytes, kind, stream) for to, source in pairs if to.size]
    deque(starmap(runtime.memcpyAsync, calls), maxlen=0)
