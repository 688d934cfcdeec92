"""Ops that join, repeat and move arrays."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minigraph.ops.array import arranging
from support.op_table.makers import one, raveled, record, restructuring, with_arguments
from support.op_table.records import EVERY, MIXED, Call, Wrong, common, listed, matrix, no_array

# -- arranging -------------------------------------------------------------------------------------------------------


def several(*sizes: tuple[int, ...], **options: Any) -> Call:
    """A call on a list of operands."""
    return Call(sizes, options=options)


def joined(function: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's joining of arrays, promoted by our law first."""
    return lambda arrays, **options: function([one.astype(common(*[a.dtype for a in arrays])) for one in arrays], **options)


ARRANGING = (
    record(
        arranging,
        "concatenate",
        joined(np.concatenate),
        [
            several((2, 3), (1, 3)),
            several((2, 3), (2, 2), (2, 1), axis=1),
            several((2, 3), axis=-1),
            several((0,), (3,)),
            several((2, 0), (2, 2), axis=1),
            several((2, 1, 3), (2, 2, 3), axis=-2),
        ],
        dtypes=(*EVERY, *MIXED),
        convention=listed,
        wrong=(
            Wrong(lambda: arranging.concatenate([]), ValueError),
            Wrong(lambda: arranging.concatenate([matrix(2, 3), matrix(2, 4)]), ValueError),
            Wrong(lambda: arranging.concatenate([matrix(2, 3), matrix(2)]), TypeError),
            Wrong(lambda: arranging.concatenate([matrix(), matrix()]), ValueError),
            Wrong(lambda: arranging.concatenate([matrix(2)], axis=1), ValueError),
        ),
    ),
    record(
        arranging,
        "stack",
        joined(np.stack),
        [several((2, 3), (2, 3)), several((3,), (3,), (3,), axis=1), several((), ()), several((0,), (0,), axis=-1)],
        dtypes=(*EVERY, *MIXED),
        convention=listed,
        wrong=(
            Wrong(lambda: arranging.stack([]), ValueError),
            Wrong(lambda: arranging.stack([matrix(2), matrix(3)]), ValueError),
            Wrong(lambda: arranging.stack([matrix(2), matrix(2)], axis=2), ValueError),
        ),
    ),
    restructuring(
        arranging,
        "split",
        np.split,
        [
            Call(((6, 2),), (3,), known=True),
            with_arguments((6, 2), [1, 4]),
            with_arguments((2, 6), (2,), axis=1),
            Call(((2, 6),), (2,), {"axis": -1}, known=True),
            Call(((0,),), (2,), known=True),
            with_arguments((3,), [5]),
        ],
        project=raveled,
        wrong=(
            Wrong(lambda: arranging.split(matrix(5), 2), ValueError),
            Wrong(lambda: arranging.split(matrix(4), 0), ValueError),
            Wrong(lambda: arranging.split(matrix(4), 2, axis=1), ValueError),
        ),
    ),
    restructuring(
        arranging,
        "tile",
        np.tile,
        [
            with_arguments((2, 3), 2),
            with_arguments((2, 3), (2, 1)),
            with_arguments((3,), (2, 2)),
            with_arguments((), 3),
            with_arguments((2, 3), (1, 0)),
            with_arguments((0,), 2),
            with_arguments((2, 3), (2,)),
        ],
        wrong=(
            Wrong(lambda: arranging.tile(matrix(2), "twice"), TypeError),
            Wrong(lambda: arranging.tile(matrix(2), (1.5,)), TypeError),
            Wrong(lambda: arranging.tile(matrix(2), -1), ValueError),
        ),
    ),
    restructuring(
        arranging,
        "repeat",
        np.repeat,
        [
            with_arguments((2, 3), 2),
            with_arguments((2, 3), 2, axis=0),
            with_arguments((2, 3), 3, axis=-1),
            with_arguments((), 3),
            with_arguments((2,), 0),
            with_arguments((0,), 2),
        ],
        wrong=(
            Wrong(lambda: arranging.repeat(matrix(2), [1, 2]), TypeError),
            Wrong(lambda: arranging.repeat(matrix(2), 2, axis=1), ValueError),
            Wrong(lambda: arranging.repeat(matrix(2), -1), ValueError),
            Wrong(lambda: arranging.repeat(matrix(2), 1.5), TypeError),
        ),
    ),
    restructuring(
        arranging,
        "flip",
        np.flip,
        [one(2, 3), one(2, 3, axis=0), one(2, 3, 4, axis=(0, -1)), one(), one(0, 2)],
        wrong=(
            Wrong(lambda: arranging.flip(matrix(2, 3), axis=2), ValueError),
            Wrong(lambda: arranging.flip(matrix(2, 3), axis=(0, 0)), ValueError),
        ),
    ),
    restructuring(
        arranging,
        "roll",
        np.roll,
        [
            with_arguments((2, 3), 1),
            with_arguments((2, 3), -2, axis=1),
            with_arguments((5,), 12, axis=0),
            with_arguments((0,), 1),
            with_arguments((), 1),
        ],
        wrong=(
            Wrong(lambda: arranging.roll(matrix(2, 3), 1, axis=2), ValueError),
            Wrong(lambda: arranging.roll(matrix(2, 3), "one"), TypeError),
            Wrong(lambda: arranging.roll(matrix(2, 3), 0.5), TypeError),
        ),
    ),
    restructuring(
        arranging,
        "pad",
        np.pad,
        [
            with_arguments((2, 3), 1),
            with_arguments((2, 3), (1, 2)),
            with_arguments((2, 3), ((0, 1), (2, 0))),
            with_arguments((3,), (1, 0), constant_values=1),
            with_arguments((0,), 2),
            with_arguments((2,), 0),
        ],
        wrong=(
            Wrong(lambda: arranging.pad(matrix(2, 3), -1), ValueError),
            Wrong(lambda: arranging.pad(matrix(2, 3), 1.5), ValueError),
            Wrong(lambda: arranging.pad(matrix(2, 3), ((1, 1),) * 3), ValueError),
        ),
    ),
    restructuring(
        arranging,
        "diag",
        np.diag,
        [
            one(3),
            with_arguments((3,), 1),
            with_arguments((2,), -2),
            one(3, 3),
            with_arguments((3, 4), 1),
            with_arguments((4, 3), -2),
            with_arguments((2, 3), 5),
            one(0, 0),
            one(0),
        ],
        wrong=(Wrong(lambda: arranging.diag(matrix()), TypeError), Wrong(lambda: arranging.diag(matrix(2, 2, 2)), TypeError)),
    ),
    restructuring(
        arranging,
        "tril",
        np.tril,
        [one(3, 3), with_arguments((3, 4), 1), with_arguments((4, 3), -2), one(2, 3, 3), one(0, 2)],
        wrong=(Wrong(lambda: arranging.tril(matrix(2)), TypeError), Wrong(lambda: arranging.tril("text"), TypeError)),
    ),
    restructuring(
        arranging,
        "triu",
        np.triu,
        [one(3, 3), with_arguments((3, 4), 1), with_arguments((4, 3), -2), one(2, 3, 3), one(0, 2)],
        wrong=(Wrong(lambda: arranging.triu(matrix(2)), TypeError), Wrong(lambda: arranging.triu("text"), TypeError)),
    ),
    record(
        arranging,
        "outer",
        np.outer,
        [Call(((2,), (3,))), Call(((2, 2), (3,))), Call(((), (2,))), Call(((0,), (3,)))],
        dtypes=(*EVERY, *MIXED),
        converted=common,
        wrong=(*no_array(arranging.outer, 1), Wrong(lambda: arranging.outer(matrix(2), "text"), TypeError)),
    ),
)
