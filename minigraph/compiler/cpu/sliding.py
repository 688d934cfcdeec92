"""Folds over windows that slide over planes as kernels that a program can run.

Each window is folded in one order, whatever plane or band it is in, so that threads do not change a bit.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np

from minigraph.compiler.cpu.jit import Code, register_bytes
from minigraph.compiler.cpu.product_calls import Seen
from minigraph.compiler.cpu.runtime import pool
from minigraph.compiler.cpu.sliding_text import CELLS, sliding_text
from minigraph.compiler.cpu.sliding_writer import PRODUCTS, SlidingWords, cell_type
from minigraph.compiler.shaped.target_ops import SlidingFold
from minigraph.core.graph import Variable
from minigraph.core.locks import once
from minigraph.core.record import Record

BAND = 2**14
"""The bytes of a band that stays in the first cache, beside what is read and written."""
WORK_A_PART = 200_000
"""Elements of windows that are worth a part of their own."""
PARTS_A_THREAD = 8
"""The number of parts that large work has for each thread, so that none waits long for another."""


class SlidingCall(Record):
    """The address of the kernel that folds windows, its words, the number of parts, and tables whose addresses are words."""

    kernel: int
    words: SlidingWords
    parts: int
    tables: tuple[np.ndarray[Any, Any], ...]


def can_slide(op: SlidingFold, dtype: np.dtype[Any], width: int) -> bool:
    """Whether the kernel's memory holds the rows of one row of windows, for an `op` on planes of a `width` and a `dtype`."""
    cells = cell_type(op.fold, dtype)
    pitch, _ = _pitch(op, width, register_bytes() // cells.itemsize)
    return op.spans[0] * pitch * cells.itemsize <= CELLS


def _pitch(op: SlidingFold, width: int, lanes: int) -> tuple[int, int]:
    """The cells from one row of a band to the next, and from the columns of one remainder to those of the next."""
    whole, step = width + sum(op.widths[1]), op.strides[1]
    segment = -(-whole // step)
    return -(-segment * step // lanes) * lanes, segment


def sliding_call(variable: Variable, seen: Seen) -> SlidingCall:
    """The call that computes a variable, which is a fold of windows."""
    op, x = cast(SlidingFold, variable.op), variable.inputs[0]
    (*_, height, width), (*leading, rows, columns) = seen.shape(x), seen.shape(variable)
    cells = cell_type(op.fold, x.dtype)
    pitch, segment = _pitch(op, width, register_bytes() // cells.itemsize)
    shared, filters = (leading[-1], math.prod(leading[-2:])) if op.multiplied else (1, 1)
    stride, span, row = op.strides[0], op.spans[0], pitch * cells.itemsize
    fitting = [max(0, room // row - span) // stride + 1 for room in (BAND, CELLS)]
    bands = max(1, -(-rows // min(max(fitting[0], 4), fitting[1])))
    band = max(1, -(-rows // bands))
    down = [place * op.dilations[0] * pitch for place in range(op.sizes[0])]
    across = [_offset(place * op.dilations[1], op.strides[1], segment) for place in range(op.sizes[1])]
    twice = op.fold != PRODUCTS and math.prod(op.sizes) > 2 * sum(op.sizes)
    first, second = (down, across) if twice else ([i + j for i in down for j in across], [])
    tables = np.array(first, np.int64), np.array(second, np.int64)
    planes = math.prod(leading)
    words = SlidingWords(
        planes=planes, shared=max(shared, 1), filters=max(filters, 1), height=height, width=width, rows=rows, columns=columns,
        top=op.widths[0][0], left=op.widths[1][0], stride=stride, step=op.strides[1], span=span, pitch=pitch, segment=segment,
        band=band, bands=-(-rows // band) if rows else 0, first=len(first), after=len(second), weights=math.prod(op.sizes),
        taps=tables[0].ctypes.data, across=tables[1].ctypes.data,
    )  # fmt: skip
    divides = variable.inputs[-1].dtype.name if op.divided else None
    kernel = _code(op.fold, x.dtype.name, op.dtype, divides).address("sliding")
    return SlidingCall(kernel, words, _parts(words), tables)


def _offset(column: int, step: int, segment: int) -> int:
    """The cell of a padded column, relative to the first of its row."""
    return column % step * segment + column // step


def _parts(words: SlidingWords) -> int:
    """The number of parts of a call."""
    work = words.planes * words.rows * words.columns * (words.first + words.after)
    most = max(1, min(work // WORK_A_PART, words.planes * words.bands))
    threads = pool().threads
    return PARTS_A_THREAD * threads if most >= PARTS_A_THREAD * threads else min(most, threads)


@once
def _code(fold: str, given: str, made: str, divides: str | None) -> Code:
    """The kernel of a kind of fold."""
    return Code(sliding_text(fold, given, made, divides), as_written=True)
