"""How long ops take: what is computed again rather than read from memory, and what is worth a thread."""

from __future__ import annotations

from minigraph.compiler.shaped.layout import Copy
from minigraph.core.graph import Op
from minigraph.ops.elementwise.activation import Relu
from minigraph.ops.elementwise.arithmetic import (
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
from minigraph.ops.elementwise.base import Cast, Elementwise
from minigraph.ops.elementwise.comparison import Comparison, LogicalNot, Where
from minigraph.ops.elementwise.requirement import Require
from minigraph.ops.elementwise.transcendental import Sqrt
from minigraph.ops.random import RandomBits

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
