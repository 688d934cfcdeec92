"""Running CUDA programs: modules compiled by NVRTC through CuPy, launches, products, loops from the host."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

import numpy as np

from minigraph.compiler import cache as disk
from minigraph.compiler.cuda.cublas import Cublas, take_cublas
from minigraph.compiler.cuda.launch_geometry import THREADS
from minigraph.compiler.cuda.program import Command, CudaProgram, Gemm, Launch, Loop, Where, bases_of
from minigraph.core.config import config

OPTIONS = ("--std=c++17", "--fmad=false")
"""The options that modules are compiled with: between ops each product and each sum is rounded, as NumPy rounds it."""

_handles = threading.local()


def cublas(xp: Any) -> Cublas:
    """This thread's handle for the device in use."""
    device: int = xp.cuda.runtime.getDevice()
    handles: dict[int, Cublas] = vars(_handles).setdefault("of", {})
    if device not in handles:
        handles[device] = take_cublas(xp.cuda.runtime.runtimeGetVersion() // 1000)
    return handles[device]


class Module:
    """The kernels of a program, compiled for the device in use when the first of them is asked for, and kept on disk.

    CuPy's own modules would flush denormal numbers to zero, whatever they are told, and never leave memory.
    """

    def __init__(self, xp: Any, code: str) -> None:
        self.xp, self._code = xp, code
        self._kernels: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """A kernel by its name."""
        if name not in self._kernels:
            self._kernels[name] = self._module.get_function(name)
        return self._kernels[name]

    @cached_property
    def _module(self) -> Any:
        """The module, loaded."""
        cuda = self.xp.cuda
        capability = cuda.Device().compute_capability
        name = disk.key(self._code, repr((OPTIONS, capability, cuda.runtime.runtimeGetVersion(), self.xp.__version__)))
        binary = disk.load(name)
        if binary is None:
            binary, _ = cuda.compiler.compile_using_nvrtc(self._code, OPTIONS, cache_in_memory=True)
            disk.save(name, binary)
        module = cuda.function.Module()
        module.load(binary)
        return module


Task = Callable[[], None]
"""Something that is enqueued on the current stream."""


def tasks_of(program: CudaProgram, module: Module, constants: dict[int, int], bases: Sequence[int], failed: int) -> list[Task]:
    """The tasks of a program, with the addresses of its slots; of loops every step.

    module: the kernels. constants: the addresses of constants by the program's id, those of bodies included; bases: those of
    the slots; failed: that of the flag.
    """
    return [task for one in program.commands for task in tasks_of_command(one, module, constants, bases, failed)]


def tasks_of_command(
    command: Command, module: Module, constants: dict[int, int], bases: Sequence[int], failed: int
) -> list[Task]:
    """The tasks of one command of a module.

    constants: the addresses of constants by the program's id; bases: those of the slots; failed: that of the flag.
    """
    match command:
        case Launch(name, blocks, operands):
            given = (*(_address(bases, where) for where in operands), failed)
            return [partial(module[name], (blocks,), (THREADS,), given)]
        case Loop():
            return _loop(command, module, constants, bases, failed)
    return _product(command, module.xp, bases)


def _address(bases: Sequence[int], where: Where) -> int:
    """The address of a place."""
    return bases[where[0]] + where[1]


def _product(call: Gemm, xp: Any, bases: Sequence[int]) -> list[Task]:
    """A product, if there is anything to compute."""
    if not (call.rows and call.columns and call.height):
        return []
    a, b, c = (_address(bases, where) for where in (call.a, call.b, call.c))
    if not call.inner:
        size = call.rows * call.columns * call.height * np.dtype(call.dtype).itemsize
        return [lambda: xp.cuda.runtime.memsetAsync(c, 0, size, xp.cuda.get_current_stream().ptr)]
    return [lambda: cublas(xp).multiply(call, a, b, c, config.allow_tf32)]


def _loop(call: Loop, module: Module, constants: dict[int, int], bases: Sequence[int], failed: int) -> list[Task]:
    """The steps of a loop, one after the other."""
    tasks: list[Task] = []
    for step in range(call.times):
        turn = 0 if step == 0 else 2 - step % 2
        arguments = [_address(bases, one.places[turn]) + step * one.stride for one in call.arguments]
        inner = bases_of(_address(bases, call.memory), constants[id(call.body)], arguments)
        tasks += tasks_of(call.body, module, constants, inner, failed)
    return tasks


Branches = list[list[Task]]
"""Tasks that can run at the same time as those of other branches."""


def in_branches(tasks: Sequence[list[Task]], most: int) -> Branches:
    """Tasks of commands that can run at the same time in at most `most` branches."""
    branches: Branches = [[] for _ in range(min(most, len(tasks)))]
    for k, each in enumerate(tasks):
        branches[k % most] += each
    return branches


def capture(xp: Any, waves: Sequence[Branches]) -> Any:
    """A CUDA graph of what tasks enqueue, the branches of each wave after all of the wave before."""
    main, *others = [xp.cuda.Stream(non_blocking=True) for _ in range(max(map(len, waves), default=1) or 1)]
    with main:
        main.begin_capture()
        try:
            for wave in filter(None, waves):
                _enqueue(xp, wave, main, others[: len(wave) - 1])
        except BaseException:
            with suppress(RuntimeError):  # that branches were not joined
                main.end_capture()
            raise
        return main.end_capture()


def _enqueue(xp: Any, wave: Branches, main: Any, others: Sequence[Any]) -> None:
    """Enqueue the branches of a wave on streams of their own, which begin and end together."""
    beginning = xp.cuda.Event(disable_timing=True)
    beginning.record(main)
    for stream in others:
        stream.wait_event(beginning)
    for stream, branch in zip((main, *others), wave, strict=True):
        with stream:
            for task in branch:
                task()
    for stream in others:
        end = xp.cuda.Event(disable_timing=True)
        end.record(stream)
        main.wait_event(end)


def bodies(program: CudaProgram) -> list[CudaProgram]:
    """A program and those of all loops within it."""
    found = [program]
    for one in found:
        found += [command.body for command in one.commands if isinstance(command, Loop)]
    return found
