"""The law of zero cotangents: what a cost does not depend on has gradient 0, whatever its value is, through every op."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import Variable
from support.backends import on_each
from support.op_table import RECORDS
from support.op_table.records import Array, Record

BAD = np.array(
    [np.inf, -np.inf, np.nan, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, -3.5, 1000.0, -1000.0, 1e30, 5e-324], "float64"
)
"""Poles, edges of domains, arguments of overflow, and what is no number."""

BAD_ROWS = np.array(
    [
        [np.nan, 1.0, 2.0], [np.inf, 1.0, 2.0], [-np.inf, 1.0, 2.0], [np.inf, np.inf, 1.0], [np.inf, -np.inf, 0.0],
        [-np.inf] * 3, [0.0] * 3, [1e200, 1e200, -1e200], [1.0, 1.0, 1.0], [1000.0, -1000.0, 0.0], [5e-324, 0.0, -1.0],
    ]
)  # fmt: skip

ELEMENTWISE = [record for record in RECORDS if record.elementwise and record.order and record.names[0] != "divmod"]

FOLDS = {
    **{
        name: partial(vars(mg)[name], axis=-1)
        for name in ("sum", "prod", "max", "min", "ptp", "mean", "var", "std", "logsumexp", "norm", "softmax", "log_softmax")
    },
    "cumsum": lambda x: mg.cumsum(x, -1),
    "cumprod": lambda x: mg.cumprod(x, -1),
    "norm of order 1": lambda x: mg.norm(x, 1, axis=-1),
    "norm of order 3": lambda x: mg.norm(x, 3, axis=-1),
    "norm of order inf": lambda x: mg.norm(x, np.inf, axis=-1),
    "standardize": lambda x: mg.standardize(x, -1)[0],
    "center": lambda x: mg.center(x, -1)[0],
    "scaled": lambda x: mg.standardize(x, -1)[0] * x[:, :1],
    "softmax_crossentropy": lambda x: mg.softmax_crossentropy(x, np.zeros(len(BAD_ROWS), "int64")),
    "softmax_crossentropy of distributions": lambda x: mg.softmax_crossentropy(x, np.full(BAD_ROWS.shape, 1 / 3)),
    "categorical_crossentropy": lambda x: mg.categorical_crossentropy(x, np.zeros(len(BAD_ROWS), "int64")),
    "log of softmax": lambda x: mg.log(mg.softmax(x)),
    "log of sum of exp": lambda x: mg.log(mg.exp(x).sum(-1)),
    "sorted": lambda x: mg.sort(x, -1),
}
"""What folds, or spreads over, the last axis of a matrix."""


def every_meeting(record: Record) -> list[Array]:
    """Operands in which each bad number meets each."""
    count = len(record.calls[0].shapes)
    numbers = BAD if count < 2 else BAD[:9]
    return [np.array(one) for one in zip(*product(*[numbers] * count), strict=True)]


def gradients_of_what_is_left_out(
    y: Variable, inputs: list[Variable], mask: Variable, order: int, sliced: bool
) -> list[Variable]:
    """The gradients of first and second order of a cost that leaves out what a mask does not choose, or what is sliced away."""
    masked = mg.where(mask.reshape((-1,) + (1,) * (y.ndim - 1)), y, 0).sum()
    found = []
    for cost in [masked, y[: mask.sum()].sum()] if sliced else [masked]:
        first = mg.grad(cost, inputs, disconnected_inputs="ignore")
        found += first
        if order > 1:
            weighted = [(one * weight).sum() for one, weight in zip(first, (1.0, 2.0, 3.0), strict=False)]
            found += mg.grad(sum(weighted[1:], weighted[0]), inputs, disconnected_inputs="ignore")
    return found


@pytest.mark.parametrize(("backend", "dtype"), [("numpy", "float64"), ("numpy", "float32"), ("native", "float64")])
def test_elementwise_ops_pass_no_gradient_where_the_cost_does_not_look(backend: str, dtype: str) -> None:
    """At poles, overflow, infinities and NaN, a masked or sliced element has gradient 0, of first and second order."""
    check(
        {record.name: (partial(built, record), every_meeting(record), record.order) for record in ELEMENTWISE},
        backend,
        dtype,
    )


def built(record: Record, *operands: Variable) -> Variable:
    """A record's op with the arguments of its first call."""
    return record.build(record.calls[0], operands)


@on_each
def test_folds_pass_no_gradient_where_the_cost_does_not_look(backend: str) -> None:
    """The same for rows of which the cost leaves out all that folds make of them."""
    order = 2 if backend == "numpy" else 1
    check({name: (build, [BAD_ROWS], order) for name, build in FOLDS.items()}, backend, "float64")


def check(cases: dict[str, tuple[Any, list[Array], int]], backend: str, dtype: str) -> None:
    """Every gradient of every case is zero throughout; all of them are computed by one function."""
    inputs: list[Variable] = []
    operands: list[Array] = []
    expressions: list[Variable] = []
    owners: list[str] = []
    for name, (build, given, order) in cases.items():
        mask = mg.vector(dtype="bool")
        with np.errstate(over="ignore"):
            arrays = [one.astype(dtype) for one in given]
        xs = [mg.tensor(dtype=dtype, shape=one.shape) for one in arrays]
        found = gradients_of_what_is_left_out(build(*xs), xs, mask, order, backend == "numpy")
        inputs += [mask, *xs]
        operands += [np.zeros(len(arrays[0]), bool), *arrays]
        expressions += found
        owners += [f"{name}, result {k}" for k in range(len(found))]
    named = [mg.In(one, name=f"x{k}") for k, one in enumerate(inputs)]
    results = mg.function(named, expressions, backend=backend, on_unused_input="ignore")(*operands)
    wrong = [owner for owner, result in zip(owners, results, strict=True) if not (result == 0).all()]
    assert not wrong
