"""Answers: calls of functions that are one brief plan, from arguments to results in machine code that Python calls like C.

Such a call holds Python's lock throughout, so that neither the state nor the memory to work in needs any other protection.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigraph.compiler.binding import CallSignature
from minigraph.compiler.cpu.answer_text import AnswerWords, MadeWords
from minigraph.compiler.cpu.plan import BRIEF, CallMemory, NativePlan, new_memory
from minigraph.compiler.cpu.runtime import pool
from minigraph.core.locks import once
from minigraph.core.state import Change, locks_of
from minigraph.core.types import as_dtype

Answer = Callable[..., Any]
"""A function of a call's arguments that gives its one result, or a list of several; None where the long way must be gone."""

FASTCALL = 128
"""CPython's word for functions that take a pointer to their arguments, and how many there are."""


class _Method(ctypes.Structure):
    """CPython's description of a function that is written in C."""

    _fields_ = (
        ("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p),
    )  # fmt: skip


@once
def _method() -> _Method:
    """The description of all answers, which exists as long as the process."""
    return _Method(b"answer", pool().answer, FASTCALL, None)


@once
def _memory() -> CallMemory:
    """The memory that all answers work in, one at a time."""
    return new_memory(BRIEF + BRIEF // 4)


def answer_of(plan: NativePlan, signature: CallSignature) -> Answer | None:
    """The answer of a function by a plan, which fits its state; None if it has none."""
    roots = (*signature.outputs, *signature.new_state)
    memory, _, room = _memory()
    if not plan.brief or plan.bytes > room or len({*roots}) < len(roots):
        return None
    targets = signature.target_cells
    locks = locks_of(signature.cells) if targets else ()
    sizes = [np.array(shape, np.intp) for shape, _ in plan.frame.outputs]
    made = [
        MadeWords(plan.overwritten.get(k, -1), id(as_dtype(dtype)), len(shape), sizes[k].ctypes.data)
        for k, (shape, dtype) in enumerate(plan.frame.outputs)
    ]
    tables = [
        signature.sources, _places(signature.cells), [word for one in made for word in one.pack()], signature.new_state,
        _places(targets), _places(locks), signature.outputs,
    ]  # fmt: skip
    objects = np.ndarray, *_LOCKING, True, False, None, object, Change, "last"
    begins = np.cumsum([AnswerWords.count(), *map(len, tables)])
    words = np.zeros(begins[-1], np.int64)
    numbers = signature.inputs, len(signature.sources), len(made), len(targets), len(locks), len(signature.outputs)
    starts = words.ctypes.data + 8 * begins[:-1]
    words[: begins[0]] = AnswerWords(plan.address, memory, *numbers, *starts, *_places(objects)).pack()
    for begin, table in zip(begins, tables, strict=False):
        words[begin : begin + len(table)] = table
    kept = words, plan, signature, locks, sizes, objects
    return _function(ctypes.byref(_method()), kept, None)  # type: ignore[no-any-return]


_LOCKING = type(threading.RLock()).acquire, type(threading.RLock()).release

_function = ctypes.pythonapi.PyCFunction_NewEx
_function.restype, _function.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)


def _places(objects: Sequence[Any]) -> list[int]:
    """The addresses of objects."""
    return [id(one) for one in objects]
