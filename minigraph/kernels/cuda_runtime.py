"""Running CUDA programs: modules compiled by NVRTC through CuPy, launches, products, loops from the host."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from minigraph.config import config
from minigraph.kernels.cublas import Cublas, take_cublas
from minigraph.kernels.cuda import THREADS
from minigraph.kernels.cuda_program import Command, CudaProgram, Gemm, Launch, Loop, Where
from minigraph.kernels.program import ARENA, CONSTANTS, FIRST

OPTIONS = ("--std=c++17", "--fmad=false")
"""How modules are compiled: between ops each product and each sum is rounded, as NumPy rounds it."""

_handles = threading.local()


def cublas(xp: Any) -> Cublas:
    """This thread's handle for the device in use."""
    device: int = xp.cuda.runtime.getDevice()
    handles: dict[int, Cublas] = vars(_handles).setdefault("of", {})
    if device not in handles:
        handles[device] = take_cublas()
    return handles[device]


class Module:
    """The kernels of a program, compiled for the device when the first of them is asked for."""

    def __init__(self, xp: Any, code: str) -> None:
        self.xp = xp
        self._module = xp.RawModule(code=code, options=OPTIONS)
        self._kernels: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """A kernel by its name."""
        if name not in self._kernels:
            self._kernels[name] = self._module.get_function(name)
        return self._kernels[name]


Task = Callable[[], None]
"""Something that is enqueued on the current stream."""


def tasks_of(program: CudaProgram, module: Module, constants: dict[int, int], bases: Sequence[int], failed: int) -> list[Task]:
    """What a program enqueues, with the addresses of its slots; of loops every step.

    constants: the address of the constants of each program, by its id, those of bodies included.
    """
    return [task for one in program.commands for task in tasks_of_command(one, module, constants, bases, failed)]


def tasks_of_command(
    command: Command, module: Module, constants: dict[int, int], bases: Sequence[int], failed: int
) -> list[Task]:
    """What one command enqueues."""
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
    return [lambda: cublas(xp).multiply(call, a, b, c, config.allow_tf32)]


def _loop(call: Loop, module: Module, constants: dict[int, int], bases: Sequence[int], failed: int) -> list[Task]:
    """The steps of a loop, one after the other."""
    tasks: list[Task] = []
    for step in range(call.times):
        turn = 0 if step == 0 else 2 - step % 2
        arguments = [_address(bases, one.places[turn]) + step * one.stride for one in call.arguments]
        inner = [0] * (FIRST + len(arguments))
        inner[ARENA], inner[CONSTANTS], inner[FIRST:] = _address(bases, call.memory), constants[id(call.body)], arguments
        tasks += tasks_of(call.body, module, constants, inner, failed)
    return tasks


Branches = list[list[Task]]
"""Tasks that can run at the same time as those of other branches."""


def in_branches(tasks: Sequence[list[Task]], most: int) -> Branches:
    """Tasks of commands that can run at the same time in so many branches at most."""
    branches: Branches = [[] for _ in range(min(most, len(tasks)))]
    for k, each in enumerate(tasks):
        branches[k % most] += each
    return branches


def capture(xp: Any, waves: Sequence[Branches]) -> Any:
    """A CUDA graph of what tasks enqueue, the branches of each wave after all of the wave before."""
    main, *others = streams = [xp.cuda.Stream(non_blocking=True) for _ in range(max(map(len, waves), default=1) or 1)]
    with main:
        main.begin_capture()
        try:
            for wave in waves:
                beginning = xp.cuda.Event(disable_timing=True)
                beginning.record(main)
                for stream in others[: len(wave) - 1]:
                    stream.wait_event(beginning)
                for stream, branch in zip(streams, wave, strict=False):
                    with stream:
                        for task in branch:
                            task()
                for stream in others[: len(wave) - 1]:
                    end = xp.cuda.Event(disable_timing=True)
                    end.record(stream)
                    main.wait_event(end)
        finally:
            graph = main.end_capture()
    return graph


def bodies(program: CudaProgram) -> list[CudaProgram]:
    """A program and those of all loops within it."""
    found = [program]
    for one in found:
        found += [command.body for command in one.commands if isinstance(command, Loop)]
    return found
