"""Calls that many ops have, and functions that make records of one kind."""

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

import numpy as np

import minigraph as mg
from support.op_table.records import (
    EVERY,
    INF,
    MIXED,
    NAN,
    Array,
    Call,
    Draw,
    Record,
    Wrong,
    anything,
    as_floats,
    common,
    hard_operands,
    matrix,
    no_array,
    numpy_reference,
)

ANY_SHAPE = tuple(Call(shapes=(size,)) for size in ((2, 3), (), (5,), (0,), (2, 0, 3), (1, 4), (3, 1, 2)))
ANY_SHAPES = tuple(
    Call(shapes=pair)
    for pair in (
        ((2, 3), (2, 3)),
        ((2, 3), (1, 3)),
        ((), ()),
        ((4,), ()),
        ((2, 1), (3,)),
        ((1, 3), (2, 1)),
        ((0,), (0,)),
        ((2, 0), (1, 1)),
        ((3, 1, 2), (1, 4, 1)),
    )
)


def unary(module: ModuleType, name: str, reference: Any = None, draw: Draw = anything, **facts: Any) -> Record:
    """An elementwise op on one operand."""
    function = vars(module)[name]
    dtypes = facts.setdefault("dtypes", EVERY)
    facts.setdefault("hard", hard_operands(1, dtypes))
    wrong = no_array(function) + tuple(facts.pop("wrong", ()))
    aliases = facts.pop("aliases", ())
    facts.setdefault("calls", ANY_SHAPE)
    facts.setdefault("elementwise", True)
    return Record(module, (name, *aliases), function, reference or numpy_reference(name), draws=(draw,), wrong=wrong, **facts)


def floating(module: ModuleType, name: str, reference: Any = None, draw: Draw = anything, **facts: Any) -> Record:
    """An elementwise op on one operand, computed in floats."""
    return unary(module, name, reference, draw, **{"converted": as_floats, **facts})


def binary(module: ModuleType, name: str, reference: Any = None, draws: tuple[Draw, ...] = (anything,), **facts: Any) -> Record:
    """An elementwise op on two operands, which are promoted to one dtype."""
    function = vars(module)[name]
    dtypes = (*facts.pop("dtypes", EVERY), *facts.pop("mixed", MIXED))
    facts.setdefault("converted", common)
    facts.setdefault("hard", hard_operands(2, dtypes, facts.pop("admits", None)))
    wrong = (
        *no_array(function, 1.0),
        Wrong(lambda: function(matrix(2, 3, dtype=dtypes[0]), matrix(4, 3, dtype=dtypes[0])), ValueError),
        Wrong(lambda: function(matrix(2, 3, dtype=dtypes[0]), "text"), TypeError),
        *facts.pop("wrong", ()),
    )
    aliases = facts.pop("aliases", ())
    return Record(
        module,
        (name, *aliases),
        function,
        reference or numpy_reference(name),
        ANY_SHAPES,
        dtypes,
        draws,
        wrong=wrong,
        elementwise=True,
        **facts,
    )


def record(module: ModuleType, name: str, reference: Any, calls: Iterable[Call], **facts: Any) -> Record:
    """Any other op."""
    facts.setdefault("draws", (anything,))
    function = facts.pop("function", None) or vars(module)[name]
    return Record(module, (name,), function, reference, tuple(calls), **facts)


def restructuring(module: ModuleType, name: str, reference: Any, calls: Iterable[Call], **facts: Any) -> Record:
    """An op that moves elements without computing any, and so takes every dtype."""
    first, *_ = calls
    hard = ((np.resize([NAN, -0.0, INF, -INF, 1.0], first.shapes[0]),),)
    return record(module, name, reference, calls, **{"dtypes": EVERY, "hard": hard, **facts})


def raveled(*variables: mg.Variable) -> mg.Variable:
    """Several results as one vector."""
    return mg.concatenate([mg.ravel(one) for one in variables])


def one(*sizes: int, **options: Any) -> Call:
    """A call on one operand of these sizes."""
    return Call((sizes,), options=options)


def with_arguments(size: tuple[int, ...], *args: Any, **options: Any) -> Call:
    """A call on one operand with arguments after it."""
    return Call((size,), args, options)


def zero_wins(a: Array, b: Array) -> Array:
    """a * b, with 0 wherever a is 0."""
    return np.where(a == 0, np.zeros_like(a), a * b)


def wide(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reference computed in float64 and rounded to the dtype of its first operand."""
    return lambda x, *rest, **options: np.asarray(function(x.astype("float64"), *rest, **options)).astype(x.dtype)


def two(left: tuple[int, ...], right: tuple[int, ...], *args: Any, **options: Any) -> Call:
    """A call on two operands."""
    return Call((left, right), args, options)
