"""Programs as text: kernels in order, where values lie in the arena and for how long, and free stretches of it."""

from __future__ import annotations

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.choose import choose
from minigraph.compiler.cpu import jit
from minigraph.compiler.cpu.backend import NATIVE
from minigraph.compiler.cpu.program import NativeFrame, NativeProgram
from minigraph.compiler.cuda.backend import CUDA
from minigraph.compiler.cuda.program import CudaProgram
from minigraph.compiler.interpreted import Backend
from minigraph.compiler.passes import Journal
from minigraph.compiler.plan.arena import FreeSpace
from minigraph.compiler.plan.frame import PLAIN
from minigraph.core.graph import Graph
from support.golden import assert_golden, graph, static, tensor

needs_jit = pytest.mark.skipif(not jit.is_available(), reason="llvmlite is not installed")


def without_places(lines):
    """Lines of programs without the places in the user's code."""
    return [line.partition("   /")[0] for line in lines if not line.startswith("#   ")]


def native(given, *wanted):
    """A program for a processor."""
    backend = choose("native")
    return NativeProgram(Journal().run(NATIVE.shaped, given), wanted, backend)


def memory(frame):
    """Each value of the arena: where it begins, and between which steps it is needed."""
    outline = frame.outline
    lives = {number: [] for number in outline.values.values()}
    for moment, (beginning, ending) in enumerate(outline.turns):
        for number in beginning + ending:
            lives[number].append(moment)
    for variable, number in outline.values.items():
        first, last = lives[number]
        yield f"{type(variable.op).__name__} at {frame.starts[number]}, turns {first} to {last}"
    yield f"{frame.arena_bytes} bytes"


def step():
    """A training step of one layer."""
    x, w = tensor("x", None, 8), tensor("w", 8, 16)
    hidden = mg.tanh(x @ w)
    cost = (hidden**2).sum()
    return static(graph([x, w], cost, w - 0.1 * mg.grad(cost, w)), (32, 8), (8, 16))


@needs_jit
def test_a_training_step():
    program = native(step(), (1, 1))
    frame = NativeFrame(program, PLAIN)
    assert_golden("program", [*without_places(frame.lines()), *memory(frame), f"written over: {program.overwritten}"])


@needs_jit
def test_values_take_turns_in_one_place():
    x = tensor("x", 64, 64)
    y = x
    for _ in range(4):
        y = mg.tanh(y @ x)
    frame = NativeFrame(native(graph([x], y)), PLAIN)
    assert_golden("memory", memory(frame))


@needs_jit
def test_a_loop_works_on_memory_that_advances():
    x, w = tensor("x", None, 4), tensor("w", 4, 4)
    rows = mg.scan(lambda row, state: mg.tanh(row + state @ w), sequences=[x], outputs_info=[x[0]])
    program = native(static(graph([x, w], rows), (5, 4), (4, 4)))
    lines = without_places(NativeFrame(program, PLAIN).lines())
    (loop,) = [one for one in program.steps if hasattr(one, "arguments")]
    advancing = [f"argument {k}: {one.stride} bytes a step" for k, one in enumerate(loop.arguments)]
    assert_golden("program_loop", [*lines, *advancing])


def test_launches_for_gpus():
    backend = Backend("cupy", np, CUDA, Journal())
    program = CudaProgram(Journal().run(CUDA.shaped, step()), ((1, 1),), backend)
    waves = [f"wave: {', '.join(type(one).__name__ for one in wave)}" for wave in program.waves]
    assert_golden("program_gpu", [*without_places(program.lines()), *waves])


def test_kernels_of_one_structure_are_one_text():
    x = tensor("x", 128, 128)
    backend = Backend("cupy", np, CUDA, Journal())
    y = x
    for _ in range(3):
        y = mg.tanh(y @ x)
    program = CudaProgram(Journal().run(CUDA.shaped, Graph((x,), (y,))), (), backend)
    assert len([name for name in program.functions if name.startswith("nest")]) == 1


def test_the_smallest_stretch_that_fits_is_taken():
    free = FreeSpace()
    offsets = [free.take(size) for size in (64, 128, 64, 256)]
    assert offsets == [0, 64, 192, 256]
    free.give(256, 256)
    free.give(64, 128)
    assert free.take(128) == 64  # 256 bytes are free, too
    free.give(64, 128)
    free.give(0, 64)
    assert free.take(192) == 0  # two stretches that became one
    assert free.take(512) == 256  # the last one grows
    assert free.total == 768
