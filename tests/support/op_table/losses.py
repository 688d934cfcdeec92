"""Crossentropies."""

from dataclasses import replace
from typing import Any

import numpy as np
import scipy.special

from minigraph.ops.reduce import crossentropy
from support.op_table.makers import record, two, with_arguments, zero_wins
from support.op_table.records import (
    INTEGERS,
    NAN,
    Array,
    Draw,
    Record,
    Wrong,
    anything,
    as_floats,
    below,
    between,
    distribution,
    matrix,
    no_array,
)

# -- crossentropy ----------------------------------------------------------------------------------------------------


def weighed(weights: Array, logarithms: Array) -> Array:
    """-sum of weights * logarithms over the last axis, or minus the logarithm that an index picks; 0 * inf is 0."""
    if weights.ndim < logarithms.ndim:
        return -np.take_along_axis(logarithms, weights[..., None].astype(int), -1)[..., 0]
    return -zero_wins(weights.astype(logarithms.dtype), logarithms).sum(-1)


def softmax_loss(logits: Array, targets: Array) -> Array:
    """The crossentropy of softmax(logits), in the dtype of the logits."""
    return weighed(targets, scipy.special.log_softmax(logits.astype("float64"), -1)).astype(as_floats(logits.dtype))


def class_loss(p: Array, targets: Array) -> Array:
    """The crossentropy of probabilities, in their dtype."""
    return weighed(targets, np.log(p.astype("float64"))).astype(p.dtype)


def binary_loss(p: Array, t: Array) -> Array:
    """-(t log p + (1 - t) log(1 - p))."""
    return -(zero_wins(t, np.log(p)) + zero_wins(1 - t, np.log1p(-p)))


def binary_logit_loss(x: Array, t: Array) -> Array:
    """The binary crossentropy of sigmoid(x)."""
    return t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x)


CLASSES = (two((4, 3), (4,)), two((3,), ()), two((2, 4, 3), (2, 4)), two((0, 3), (0,)))
SOFT = (two((4, 3), (4, 3)), two((3,), (3,)), two((0, 3), (0, 3)), two((4, 3), (1, 3)))
ONE_BY_ONE = (two((4, 3), (4, 3)), two((), ()), two((4, 3), (1, 3)), two((0,), (0,)))


def class_losses(name: str, reference: Any, draw: Draw, hard: Any) -> tuple[Record, Record]:
    """A crossentropy over classes: for class indices, and for distributions."""
    function = vars(crossentropy)[name]
    wrong = (
        Wrong(lambda: function(matrix(4, 3), matrix(4)), TypeError),
        Wrong(lambda: function(matrix(4, 3), matrix(2, 4, 3)), TypeError),
        Wrong(lambda: function("text", [0]), TypeError),
        Wrong(lambda: function(matrix(4, 3), matrix(5, 3)), ValueError),
    )
    indices = record(
        crossentropy,
        name,
        reference,
        CLASSES,
        dtypes=(("float64", "int64"), ("float32", "int32"), ("float32", "uint8"), ("float16", "int8")),
        draws=(draw, below(3)),
        wrong=wrong,
        tolerance=4,
    )
    soft = replace(
        indices,
        calls=SOFT,
        dtypes=("float64", "float32", ("float32", "int64"), ("float32", "float64")),
        draws=(draw, distribution),
        hard=hard,
    )
    return indices, soft


ONE_HOT = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
CROSSENTROPY = (
    record(
        crossentropy,
        "one_hot",
        lambda x, n, dtype="float32": (x[..., None] == np.arange(n)).astype(dtype),
        [
            with_arguments((4,), 3),
            with_arguments((4,), 300),
            with_arguments((2, 3), 5, dtype="bool"),
            with_arguments((), 3),
            with_arguments((0,), 3),
            with_arguments((0,), 0),
        ],
        dtypes=INTEGERS,
        draws=(below(3),),
        order=0,
        wrong=(
            Wrong(lambda: crossentropy.one_hot(matrix(2), 3), TypeError),
            Wrong(lambda: crossentropy.one_hot([0, 3], 3), IndexError),
            Wrong(lambda: crossentropy.one_hot([0, -1], 3), IndexError),
            Wrong(lambda: crossentropy.one_hot(matrix(2, dtype="int64"), 3, dtype="complex64"), TypeError),
        ),
    ),
    *class_losses(
        "categorical_crossentropy", class_loss, distribution, ((np.array([[0.0, 1.0, 0.0], [0.0, 0.5, 0.5]]), ONE_HOT),)
    ),
    *class_losses(
        "softmax_crossentropy", softmax_loss, anything, ((np.array([[1000.0, 0.0, -1000.0], [-1000.0, 0.0, 1000.0]]), ONE_HOT),)
    ),
    record(
        crossentropy,
        "binary_crossentropy",
        binary_loss,
        ONE_BY_ONE,
        dtypes=("float64", "float32", "float16", ("float32", "int64"), ("float32", "float64")),
        draws=(between(0.1, 0.9), between(0.2, 0.8)),
        converted=as_floats,
        hard=((np.array([0.0, 1.0, 0.0, 1.0, NAN]), np.array([0.0, 1.0, 1.0, 0.0, 0.5])),),
        elementwise=True,
        wrong=(
            *no_array(crossentropy.binary_crossentropy, 1.0),
            Wrong(lambda: crossentropy.binary_crossentropy(matrix(2), matrix(3)), ValueError),
        ),
        tolerance=4,
    ),
    record(
        crossentropy,
        "sigmoid_binary_crossentropy",
        binary_logit_loss,
        ONE_BY_ONE,
        dtypes=("float64", "float32", "float16", ("float32", "int64"), ("float32", "float64")),
        draws=(anything, between(0.2, 0.8)),
        converted=as_floats,
        hard=((np.array([1000.0, -1000.0, 1000.0, -1000.0, NAN]), np.array([0.0, 1.0, 1.0, 0.0, 0.5])),),
        elementwise=True,
        wrong=(
            *no_array(crossentropy.sigmoid_binary_crossentropy, 1.0),
            Wrong(lambda: crossentropy.sigmoid_binary_crossentropy(matrix(2), matrix(3)), ValueError),
        ),
        tolerance=4,
    ),
)
