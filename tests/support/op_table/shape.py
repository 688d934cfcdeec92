"""Ops that change shapes."""

from typing import Any

import numpy as np

from minigraph.ops.array import shape
from support.op_table.makers import one, record, restructuring, with_arguments
from support.op_table.records import EVERY, Array, Wrong, matrix, no_array

# -- shape -----------------------------------------------------------------------------------------------------------


def shuffled(x: Array, *pattern: Any) -> Array:
    """dimshuffle by transposition and reshaping."""
    kept = [axis for axis in pattern if axis != "x"]
    dropped = [axis for axis in range(x.ndim) if axis not in kept]
    sizes = iter([x.shape[axis] for axis in kept])
    return x.transpose(kept + dropped).reshape([1 if axis == "x" else next(sizes) for axis in pattern])


SHAPES = (
    restructuring(
        shape,
        "dimshuffle",
        shuffled,
        [
            with_arguments((2, 3), 1, 0),
            with_arguments((2, 3), "x", 1, "x", 0),
            with_arguments((1, 3), 1),
            with_arguments((1, 1)),
            with_arguments((), "x"),
            with_arguments((2, 0, 1), 1, 0),
        ],
        wrong=(
            Wrong(lambda: shape.dimshuffle(matrix(2, 3), 0), ValueError),
            Wrong(lambda: shape.dimshuffle(matrix(None, 3), 1), ValueError),
            Wrong(lambda: shape.dimshuffle(matrix(2, 3), 0, 0), ValueError),
            Wrong(lambda: shape.dimshuffle(matrix(2, 3), 0, 2), ValueError),
            Wrong(lambda: shape.dimshuffle(matrix(2, 3), 0, 1.0), TypeError),
        ),
    ),
    restructuring(
        shape,
        "transpose",
        np.transpose,
        [one(2, 3), with_arguments((2, 3, 4), (2, 0, 1)), one(), one(3), one(0, 2), with_arguments((2, 3, 4), [0, -1, 1])],
        wrong=(
            Wrong(lambda: shape.transpose(matrix(2, 3), (0, 0)), ValueError),
            Wrong(lambda: shape.transpose(matrix(2, 3), (0,)), ValueError),
            Wrong(lambda: shape.transpose(matrix(2, 3), (0, "x")), TypeError),
        ),
    ),
    restructuring(
        shape,
        "swapaxes",
        np.swapaxes,
        [
            with_arguments((2, 3), 0, 1),
            with_arguments((2, 3, 4), -1, 0),
            with_arguments((2, 3), 1, 1),
            with_arguments((0, 3), 0, 1),
        ],
        wrong=(
            Wrong(lambda: shape.swapaxes(matrix(2, 3), 0, 2), ValueError),
            Wrong(lambda: shape.swapaxes(matrix(2, 3), -3, 0), ValueError),
        ),
    ),
    restructuring(
        shape,
        "moveaxis",
        np.moveaxis,
        [with_arguments((2, 3, 4), 0, -1), with_arguments((2, 3, 4), (0, 2), (1, 0)), with_arguments((2, 0, 4), 2, 0)],
        wrong=(
            Wrong(lambda: shape.moveaxis(matrix(2, 3), 2, 0), ValueError),
            Wrong(lambda: shape.moveaxis(matrix(2, 3), (0, 1), (0,)), ValueError),
            Wrong(lambda: shape.moveaxis(matrix(2, 3), (0, 0), (0, 1)), ValueError),
        ),
    ),
    restructuring(
        shape,
        "expand_dims",
        np.expand_dims,
        [
            with_arguments((2, 3), 0),
            with_arguments((2, 3), -1),
            with_arguments((2, 3), (0, 3)),
            with_arguments((), 0),
            with_arguments((0,), 1),
        ],
        wrong=(
            Wrong(lambda: shape.expand_dims(matrix(2, 3), 3), ValueError),
            Wrong(lambda: shape.expand_dims(matrix(2, 3), (0, 0)), ValueError),
        ),
    ),
    restructuring(
        shape,
        "squeeze",
        np.squeeze,
        [
            one(1, 3, 1),
            one(1, 3, 1, axis=0),
            one(1, 3, 1, axis=-1),
            one(1, 3, 1, axis=(0, 2)),
            one(1, 1),
            one(),
            one(2, 3),
            one(1, 0),
        ],
        wrong=(
            Wrong(lambda: shape.squeeze(matrix(1, 3), axis=1), ValueError),
            Wrong(lambda: shape.squeeze(matrix(None, 3), axis=0), ValueError),
            Wrong(lambda: shape.squeeze(matrix(1, 3), axis=2), ValueError),
        ),
    ),
    restructuring(
        shape,
        "shape_padleft",
        lambda x, n=1: x.reshape((1,) * n + x.shape),
        [one(2, 3), with_arguments((3,), 2), one(), one(0)],
        wrong=no_array(shape.shape_padleft),
    ),
    restructuring(
        shape,
        "shape_padright",
        lambda x, n=1: x.reshape(x.shape + (1,) * n),
        [one(2, 3), with_arguments((3,), 2), one(), one(0)],
        wrong=no_array(shape.shape_padright),
    ),
    restructuring(
        shape,
        "reshape",
        np.reshape,
        [
            with_arguments((2, 3), (3, 2)),
            with_arguments((2, 3), (-1,)),
            with_arguments((2, 3), -1),
            with_arguments((2, 3), [6, 1]),
            with_arguments((), (1, 1)),
            with_arguments((1,), ()),
            with_arguments((2, 0), (0, 5)),
            with_arguments((2, 3, 4), (2, -1)),
            with_arguments((2, 3), (2, 3)),
        ],
        wrong=(
            Wrong(lambda: shape.reshape(matrix(2, 3), (4, 2)), ValueError),
            Wrong(lambda: shape.reshape(matrix(2, 3), (-1, -1)), ValueError),
            Wrong(lambda: shape.reshape(matrix(2, 3), (-1, 4)), ValueError),
            Wrong(lambda: shape.reshape(matrix(2, 3), (2.0, 3)), TypeError),
            Wrong(lambda: shape.reshape(matrix(2, 3), (-2, 3)), ValueError),
        ),
    ),
    restructuring(
        shape,
        "flatten",
        lambda x, ndim=1: x.reshape((*x.shape[: ndim - 1], int(np.prod(x.shape[ndim - 1 :], dtype=int)))),
        [one(2, 3), with_arguments((2, 3, 4), 2), with_arguments((2, 3), 2), one(), one(2, 0), one(4)],
        wrong=(
            Wrong(lambda: shape.flatten(matrix(2, 3), 3), ValueError),
            Wrong(lambda: shape.flatten(matrix(2, 3), 0), ValueError),
        ),
    ),
    restructuring(shape, "ravel", np.ravel, [one(2, 3), one(), one(2, 0), one(4)], wrong=no_array(shape.ravel)),
    restructuring(
        shape,
        "broadcast_to",
        np.broadcast_to,
        [
            with_arguments((1, 3), (2, 3)),
            with_arguments((3,), (2, 3)),
            with_arguments((), (2, 2)),
            with_arguments((2, 3), (2, 3)),
            with_arguments((1,), (0,)),
            with_arguments((1, 3), (4, 0, 3)),
            with_arguments((), ()),
        ],
        wrong=(
            Wrong(lambda: shape.broadcast_to(matrix(2, 3), (3,)), ValueError),
            Wrong(lambda: shape.broadcast_to(matrix(2, 3), (4, 3)), ValueError),
            Wrong(lambda: shape.broadcast_to(matrix(2, 3), (2.5, 3)), TypeError),
            Wrong(lambda: shape.broadcast_to(matrix(1), (-2,)), ValueError),
        ),
    ),
    restructuring(
        shape,
        "specify_shape",
        lambda x, sizes: x,
        [
            with_arguments((2, 3), (2, 3)),
            with_arguments((1, 3), (None, 3)),
            with_arguments((3,), 3),
            with_arguments((), ()),
            with_arguments((2, 0), (None, 0)),
        ],
        wrong=(
            Wrong(lambda: shape.specify_shape(matrix(2, 3), (3,)), ValueError),
            Wrong(lambda: shape.specify_shape(matrix(1, 3), (2, 3)), ValueError),
            Wrong(lambda: shape.specify_shape(matrix(None, 3), (2, 4)), ValueError),
            Wrong(lambda: shape.specify_shape(matrix(None), ("text",)), TypeError),
        ),
    ),
    restructuring(
        shape,
        "addbroadcast",
        lambda x, *axes: x,
        [with_arguments((1, 3), 0), with_arguments((2, 1), -1), with_arguments((2, 3)), with_arguments((1, 0, 1), 0, 2)],
        wrong=(
            Wrong(lambda: shape.addbroadcast(matrix(2, 3), 0), ValueError),
            Wrong(lambda: shape.addbroadcast(matrix(None, 3), 2), ValueError),
        ),
    ),
    restructuring(
        shape,
        "unbroadcast",
        lambda x, *axes: x,
        [with_arguments((1, 3), 0), with_arguments((2, 1), -1), with_arguments((2, 3), 0), with_arguments((1, 0, 1), 0, 2)],
        wrong=(
            Wrong(lambda: shape.unbroadcast(matrix(2, 3), 2), ValueError),
            Wrong(lambda: shape.unbroadcast(matrix(2, 3), "text"), TypeError),
        ),
    ),
    restructuring(
        shape,
        "patternbroadcast",
        lambda x, broadcastable: x,
        [
            with_arguments((1, 3), (True, False)),
            with_arguments((1, 1), (False, True)),
            with_arguments((2, 1), (False, False)),
            with_arguments((), ()),
        ],
        wrong=(
            Wrong(lambda: shape.patternbroadcast(matrix(2, 3), (True, False)), ValueError),
            Wrong(lambda: shape.patternbroadcast(matrix(2, 3), (False,)), ValueError),
        ),
    ),
    record(
        shape,
        "shape",
        np.shape,
        [one(2, 3), one(0, 4), one(1)],
        dtypes=EVERY,
        order=0,
        wrong=no_array(shape.shape),
    ),
    record(
        shape,
        "size",
        lambda x, axis=None: x.size if axis is None else int(np.prod([x.shape[one] for one in np.atleast_1d(axis)])),
        [one(2, 3), one(), one(0, 4), with_arguments((2, 3, 4), 1), with_arguments((2, 3, 4), (0, -1))],
        dtypes=EVERY,
        order=0,
        wrong=(
            Wrong(lambda: shape.size(matrix(2, 3), 2), ValueError),
            Wrong(lambda: shape.size(matrix(2, 3), (0, 0)), ValueError),
        ),
    ),
)
