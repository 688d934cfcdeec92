"""The places of the arguments of a loop's body, at the first step and at all others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from minigraph.compiler.plan.steps import Argument, Where, walking
from minigraph.compiler.shaped.layout import Layout, sizes
from minigraph.core.graph import Input, Variable
from minigraph.core.types import TensorType
from minigraph.ops.loop.loop import Scan


def loop_arguments(variable: Variable, results: Sequence[Variable], layouts: Mapping[Variable, Layout]) -> tuple[Argument, ...]:
    """The arguments of the body of a loop, `variable`: rows of sequences, states and captured values, then new states, rows of
    outputs, and whether to stop.

    results: the memory of each result of the loop. layouts: those of its operands.
    """
    op = cast(Scan, variable.op)
    sequences, states, shared = op.split(variable.inputs[1:])
    last, back = op.steps or 0, op.backwards
    rows = [_rows(layouts[one], one.dtype.itemsize, last - 1 if back else 0, back) for one in sequences]
    old, new = [], []
    for state, result, kept in zip(states, results, op.kept, strict=False):
        if kept:
            old.append(_rows_of_result(result, last if back else 0, back))
            new.append(_rows_of_result(result, last - 1 if back else 1, back))
        else:
            even, odd = _turns(result, last)
            old.append(Argument(((layouts[state].storage, layouts[state].offset), even, odd)))
            new.append(Argument((even, odd, even)))
    captured = [walking((layouts[one].storage, layouts[one].offset)) for one in shared]
    stacks = results[op.states : op.states + op.outputs]
    outputs = [_rows_of_result(one, last - 1 if back else 0, back) for one in stacks]
    stop = [walking((scratch(1, variable), 0))] if op.stops else []
    return (*rows, *old, *captured, *new, *outputs, *stop)


def _rows(layout: Layout, itemsize: int, first: int, back: bool) -> Argument:
    """The rows of a stack, one at each step, from `first` on or back."""
    stride = layout.strides[0]
    return walking((layout.storage, layout.offset + first * stride), (-stride if back else stride) * itemsize)


def _rows_of_result(stack: Variable, first: int, back: bool) -> Argument:
    """The same, of a result that has memory of its own."""
    return _rows(Layout(stack, (math.prod(sizes(stack)[1:]),), 0), stack.dtype.itemsize, first, back)


def _turns(result: Variable, steps: int) -> tuple[Where, Where]:
    """The places of a state that is not kept: after the first, third, ... step, and after the others; last, the result."""
    other = scratch(math.prod(sizes(result)) * result.dtype.itemsize, result)
    pair = ((result, 0), (other, 0))
    return pair if steps % 2 else (pair[1], pair[0])


def scratch(size: int, like: Variable) -> Variable:
    """Memory that a loop works in, of some bytes, at least one."""
    return Variable(Input(), (), TensorType(np.dtype(np.uint8), (max(1, size),)), None, (), like.origin)
