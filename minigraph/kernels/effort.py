"""How long ops take: what is computed again rather than read from memory, and what is worth a thread."""

from __future__ import annotations

from minigraph.graph import Op
from minigraph.kernels.layout import Copy
from minigraph.ops.activation import Relu
from minigraph.ops.arithmetic import (
    Absolute,
    Add,
    Divide,
    Maximum,
    Minimum,
    Multiply,
    MultiplyOrZero,
    Negative,
    Reciprocal,
    Square,
    Subtract,
)
from minigraph.ops.comparison import Comparison, LogicalNot, Where
from minigraph.ops.elementwise import Cast, Elementwise
from minigraph.ops.random import RandomBits
from minigraph.ops.requirement import Require
from minigraph.ops.transcendental import Sqrt

CHEAP = (
    Add, Subtract, Multiply, MultiplyOrZero, Divide, Negative, Square, Absolute, Maximum, Minimum, Relu, Cast, Comparison,
    Where, LogicalNot, Require,
)  # fmt: skip
"""What is computed again rather than read from memory."""


def cost(op: Op) -> int:
    """How long an element takes, roughly, in simple operations."""
    if isinstance(op, RandomBits):
        return 40
    return 12 if isinstance(op, Elementwise) and not isinstance(op, (*CHEAP, Copy, Sqrt, Reciprocal)) else 1
