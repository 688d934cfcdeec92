"""The arguments of `scan`, and the results of step functions, checked: sequences and states with their taps, lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigraph.core.conversion import as_variable, is_weak
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Constant, Variable
from minigraph.core.record import Record
from minigraph.core.types import TensorType
from minigraph.ops.array.indexing import index
from minigraph.ops.array.shape import shape
from minigraph.ops.elementwise.arithmetic import minimum
from minigraph.ops.elementwise.base import Operand, cast, promoted
from minigraph.ops.loop.loop import steps_constant


class until(Record):
    """The condition that a step function returns, alone or last, to end the loop after the step in which it is true."""

    condition: Variable


class SequenceTaps(Record):
    """A sequence and the rows of it, relative to the step, that a step takes."""

    variable: Variable
    taps: tuple[int, ...]


class StateTaps(Record):
    """An output that is fed back, with its values before the first step, and the former values that a step takes.

    `initial` is one value, or for `taps` that reach further back the values as rows, the oldest first.
    """

    initial: Variable
    taps: tuple[int, ...]
    stacked: bool

    @property
    def depth(self) -> int:
        """The number of steps that the farthest tap reaches back."""
        return -min(self.taps)

    def firsts(self) -> list[Variable]:
        """The values before the first step, the latest first."""
        return [index(self.initial, self.depth - 1 - k) for k in range(self.depth)] if self.stacked else [self.initial]


def listed(given: Any) -> list[Any]:
    """An argument of `scan`, which takes one or a list of them, as a list."""
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def _as_taps(given: Any, default: int, what: str) -> tuple[int, ...]:
    """Taps as a tuple of distinct ints."""
    taps = tuple(listed(default if given is None else given))
    if not taps or any(isinstance(tap, bool) or not isinstance(tap, int | np.integer) for tap in taps):
        raise InvalidTypeError(f"the taps of {what} must be ints, not {given!r}")
    if len(set(taps)) < len(taps):
        raise InvalidValueError(f"a tap of {what} is named twice in {given!r}")
    return tuple(int(tap) for tap in taps)


def as_sequence(given: Any) -> SequenceTaps:
    """An entry of `sequences` with its taps; TypeError or ValueError for one without rows, or with taps that do not fit."""
    if isinstance(given, Mapping):
        unknown = set(given) - {"input", "taps"}
        if unknown or "input" not in given:
            raise InvalidValueError(f"a sequence is given as dict(input=..., taps=[...]), not {given!r}")
    variable = as_variable(given["input"] if isinstance(given, Mapping) else given)
    if not variable.ndim:
        raise InvalidTypeError(f"scan runs over the first axis of sequences, and {variable!r} ({variable.origin}) is a scalar")
    taps = given.get("taps") if isinstance(given, Mapping) else None
    return SequenceTaps(variable, _as_taps(taps, 0, f"sequence {variable!r}"))


def as_state(given: Any, others: Sequence[Variable]) -> StateTaps | None:
    """An entry of `outputs_info`; a Python number takes the dtype that it would have beside the other operands of the loop."""
    if given is None:
        return None
    taps = None
    if isinstance(given, Mapping):
        unknown = set(given) - {"initial", "taps"}
        if unknown:
            raise InvalidValueError(f"an output is described by dict(initial=..., taps=[...]), not {given!r}")
        taps, given = given.get("taps"), given.get("initial")
        if given is None:
            if taps:
                raise InvalidValueError(f"an output with taps {taps} needs the values before the first step: initial=...")
            return None
    initial = promoted([given, *others])[0] if is_weak(given) else as_variable(given)
    offsets = _as_taps(taps, -1, f"the output that begins with {initial!r}")
    if max(offsets) >= 0:
        raise InvalidValueError(f"taps of outputs reach back: they must be negative, not {taps}")
    depth, stacked = -min(offsets), offsets != (-1,)
    rows = initial.type.shape[0] if initial.ndim else 0
    if stacked and rows is not None and rows < depth:
        raise InvalidValueError(
            f"taps {offsets} of an output need the {depth} values before the first step as rows, and {initial!r} "
            f"({initial.origin}) is {initial.type}"
        )
    return StateTaps(initial, offsets, stacked)


def rows_of(
    given: Sequence[SequenceTaps], n_steps: Any, backwards: bool
) -> tuple[Variable, list[tuple[Variable, SequenceTaps, int]]]:
    """The number of steps, and for each tap of each `given` sequence its rows, reversed if `backwards`, of that length.

    It is `n_steps`, or the length of the shortest; ValueError if there is neither, or a sequence is shorter.
    """
    views: list[tuple[Variable, SequenceTaps, int]] = []
    for one in given:
        lowest, highest = min(0, *one.taps, 0), max(0, *one.taps, 0)
        for tap in one.taps:
            start, stop = tap - lowest, tap - highest
            view = one.variable if not start and not stop else index(one.variable, slice(start, stop or None))
            views.append((index(view, slice(None, None, -1)) if backwards else view, one, tap))
    count = _count([view for view, _, _ in views], n_steps)
    known = length_of(count)
    if len(views) == 1 and n_steps is None:
        return count, views
    part = slice(0, count if known is None else known)
    return count, [
        (view if known is not None and view.type.shape[0] == known else index(view, part), one, tap) for view, one, tap in views
    ]


def _count(views: Sequence[Variable], n_steps: Any) -> Variable:
    """The number of steps: the one given, or that of the rows of the shortest sequence."""
    if n_steps is not None:
        return _given_count(views, n_steps)
    if not views:
        raise InvalidValueError("scan needs sequences, or n_steps, to know when to end (with until, n_steps is the most)")
    lengths = [shape(view)[0] for view in views]
    known = [one for one in lengths if isinstance(one, int)]
    unknown = list(dict.fromkeys(one for one in lengths if isinstance(one, Variable)))
    total = steps_constant(min(known)) if known else unknown.pop(0)
    for one in unknown:
        total = minimum(total, one)
    return total


def _given_count(views: Sequence[Variable], n_steps: Any) -> Variable:
    """`n_steps` as a variable; ValueError where a sequence is known to be shorter."""
    if isinstance(n_steps, Variable) and not isinstance(n_steps.op, Constant):
        if n_steps.ndim or n_steps.dtype.kind not in "iu":
            raise InvalidTypeError(f"n_steps must be an integer scalar, not {n_steps!r}")
        return cast(n_steps, "int64")
    value = length_of(n_steps) if isinstance(n_steps, Variable) else n_steps
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise InvalidValueError(
            f"n_steps must be a number of steps, 0 or more, not {n_steps!r}; see go_backwards for the reverse"
        )
    for view in views:
        rows = view.type.shape[0]
        if rows is not None and rows < value:
            raise InvalidValueError(f"n_steps is {value}, and {view!r} ({view.origin}) has {rows} rows")
    return steps_constant(int(value))


def length_of(count: Variable) -> int | None:
    """A number of steps, if it is known."""
    return int(count.op.value) if isinstance(count.op, Constant) else None


def kept_type(position: int, state: Variable, new: Variable) -> TensorType:
    """The type that fits the state at `position` and the `new` value after a step; TypeError if none does."""
    one_sided = state.ndim == new.ndim and any(
        (a == 1) != (b == 1) or (a != b and None not in (a, b)) for a, b in zip(state.type.shape, new.type.shape, strict=True)
    )
    if state.dtype != new.dtype or state.ndim != new.ndim or one_sided:
        raise InvalidTypeError(
            f"state {position} of the loop begins as {state.type} and is {new.type} ({new!r}, {new.origin}) after a step: give "
            "outputs_info, or cast the output, so that dtype, number of axes, and sizes of 1 agree"
        )
    sizes = tuple(a if b is not None else None for a, b in zip(state.type.shape, new.type.shape, strict=True))
    return TensorType(state.dtype, sizes)


def understood(returned: Any) -> tuple[list[Variable], Mapping[Variable, Operand], Variable | None]:
    """The outputs, perhaps in a list of their own, the updates, and the condition to end, of what a step function returned."""
    outputs: list[Variable] = []
    updates: Mapping[Variable, Operand] = {}
    condition: Variable | None = None
    for one in (one for part in listed(returned) for one in listed(part)):
        if isinstance(one, until):
            condition = as_variable(one.condition)
            if condition.ndim:
                raise InvalidTypeError(f"the condition of until must be a scalar, not {condition!r}; reduce it with all or any")
            condition = cast(condition, "bool")
        elif isinstance(one, Mapping):
            updates = one
        elif one is not None:
            outputs.append(as_variable(one))
    return outputs, updates, condition
