"""Targets of losses: what cannot be meant by them is refused, and never stretched to fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import Variable
from support.backends import on_each

LOGITS = np.float32([[1, 2, 3], [3, 2, 1]])
LOSSES: dict[str, Callable[..., Variable]] = {
    "softmax_crossentropy": mg.softmax_crossentropy,
    "categorical_crossentropy": lambda x, targets: mg.categorical_crossentropy(mg.softmax(x), targets),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "float32"])
def test_targets_in_one_column_are_refused_beside_several_classes(loss: str, dtype: str) -> None:
    """A column is never stretched over the classes: labels lack that axis, and distributions have a column for each class."""
    for classes in (3, None):
        for sizes, example in (((None,), r"labels\[:, 0\]"), ((None, 5), r"labels\[:, :, 0\]"), ((), r"labels\[0\]")):
            x, column = mg.tensor("x", shape=(*sizes, classes)), mg.tensor("column", shape=(*sizes, 1), dtype=dtype)
            with pytest.raises(ValueError, match=f"(?s){example}.*test_targets.py"):
                LOSSES[loss](x, column)
    assert LOSSES[loss](mg.matrix(shape=(None, 1)), mg.matrix(shape=(None, 1), dtype=dtype)).ndim == 1


@pytest.mark.parametrize("loss", LOSSES)
def test_predictions_in_one_column_are_refused_beside_several_probabilities(loss: str) -> None:
    """A single logit is never stretched over distributions of several classes."""
    for columns in (3, None):
        with pytest.raises(ValueError, match=r"(?s)sigmoid_binary_crossentropy.*test_targets.py"):
            LOSSES[loss](mg.matrix(shape=(None, 1)), mg.matrix(shape=(None, columns)))


GATHERS: dict[str, Callable[[Variable, Variable], Variable]] = {
    **LOSSES,
    "gradient": lambda x, y: mg.grad(mg.softmax_crossentropy(x, y).sum(), x),
    "ignore_index": lambda x, y: mg.softmax_crossentropy(x, y, ignore_index=-1),
    "take_along_axis": lambda x, y: mg.take_along_axis(x, y[:, None], -1),
    "index": lambda x, y: x[mg.arange(x.shape[0]), y],
    "set_subtensor": lambda x, y: mg.set_subtensor(x[mg.arange(x.shape[0]), y], 1),
    "inc_subtensor": lambda x, y: mg.inc_subtensor(x[mg.arange(x.shape[0]), y], 1),
    "loop": lambda x, y: mg.map(lambda k: x[mg.arange(x.shape[0]), y + k], mg.arange(2)),
}


@on_each
@pytest.mark.parametrize("name", GATHERS)
def test_one_label_by_chance_is_not_that_of_all_rows(name: str, backend: str) -> None:
    """Indices of unknown size must be as many as the rows; a single one that is known to be one is stretched."""
    x, labels = mg.matrix("x", shape=(None, 3)), mg.lvector("labels")
    f = mg.function([x, labels], GATHERS[name](x, labels), backend=backend)
    f(LOGITS, [0, 1])
    f(LOGITS[:1], [0])
    for wrong in ([0], [0, 1, 1]):
        with pytest.raises(ValueError, match=r"(?s)do not match.*test_targets.py"):
            f(LOGITS, wrong)
    one = mg.function([x], mg.softmax_crossentropy(x, mg.constant([0])), backend=backend)
    np.testing.assert_allclose(one(LOGITS), [2.4076059, 0.4076059], rtol=1e-5)


@pytest.mark.parametrize(
    "n", [2.5, -3, True, None, "3", [3], mg.vector("n"), mg.lvector("n"), mg.constant(-1), mg.constant(2.0)]
)
def test_one_hot_takes_a_number_of_classes(n: Any) -> None:
    """It is an int of 0 or more, or an integer scalar variable."""
    with pytest.raises((TypeError, ValueError), match=r"(?s)n must be.*test_targets.py"):
        mg.one_hot(mg.lvector(), n)


@pytest.mark.parametrize("n", [3, np.int8(3), mg.constant(3)])
def test_one_hot_of_a_number_of_classes_in_any_form(n: Any) -> None:
    """Python's and NumPy's integers and known variables make a known size."""
    assert mg.one_hot(mg.lvector(), n).type.shape == (None, 3)


@pytest.mark.parametrize("loss", [mg.binary_crossentropy, mg.sigmoid_binary_crossentropy])
@pytest.mark.parametrize("wrong", [-1, 2.0, [-1, 1], np.float32([0.5, 1.5]), mg.constant([2]) - 4, np.int8(-1)], ids=str)
def test_known_targets_of_binary_losses_are_probabilities(loss: Callable[..., Variable], wrong: Any) -> None:
    """Beyond [0, 1] the cost would have no bound; what is within passes, and NaN, and what is not known."""
    for predictions in (mg.constant(np.float32([0.2, 0.4])), mg.vector("p", shape=(2,))):
        with pytest.raises(ValueError, match=r"(?s)targets.*must be within \[0, 1\], not.*test_targets\.py"):
            loss(predictions, wrong)
        for right in (0, 1.0, [True, False], [0.0, 1.0], np.float64([np.nan, 0.5]), mg.vector(), mg.shared(np.float32([2, 3]))):
            assert loss(predictions, right).ndim == 1


@pytest.mark.parametrize("loss", [mg.binary_crossentropy, mg.sigmoid_binary_crossentropy])
def test_a_column_and_a_vector_are_not_paired_each_with_each(loss: Callable[..., Variable]) -> None:
    """Where both predictions and targets would be stretched an axis was forgotten; one of them may be, and a scalar."""
    for one, other in (((None, 1), (None,)), ((4, 1), (4,)), ((None, 5, 1), (5,))):
        for shapes in ((one, other), (other, one)):
            predictions, targets = (mg.tensor(shape=shape) for shape in shapes)
            with pytest.raises(ValueError, match=r"(?s)each with each.*test_targets\.py"):
                loss(predictions, targets)
    for one, other in (((None, 5), (5,)), ((None, 1), (1,)), ((None, 1), ()), ((None, 1), (None, 1)), ((4, 1), (1, 5))):
        for shapes in ((one, other), (other, one)):
            assert loss(*(mg.tensor(shape=shape) for shape in shapes)).ndim == max(map(len, shapes))
