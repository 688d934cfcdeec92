"""Lengths of rows and limits of corrections: what cannot be is refused, when the graph is built or when it comes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph.dialects import torch
from minigraph.layers import BatchRenormalization

WRONG = ([3, -1], [4, 0], [3, 9])
DATA = np.arange(12, dtype="float32").reshape(2, 2, 3)


def masked(layer: Any, x: Any, lengths: Any) -> Any:
    """The training-mode output for rows of these lengths."""
    with mg.training_mode(layer):
        return layer.apply(x, lengths=lengths)


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8"])
@pytest.mark.parametrize("steps", [3, None])
def test_lengths_that_no_row_has_are_refused_when_they_come(dtype: str, steps: int | None) -> None:
    """A length below 0 or beyond the steps fails the call, which changes nothing."""
    layer, x, lengths = torch.BatchNorm1d(2), mg.tensor3("x", shape=(None, 2, steps)), mg.vector("lengths", dtype=dtype)
    step = mg.function([x, lengths], masked(layer, x, lengths))
    step(DATA, np.array([3, 0], dtype))
    before = layer.variables["running_mean"].get_value()
    for wrong in WRONG if dtype != "uint8" else WRONG[1:]:
        with pytest.raises(ValueError, match=r"(?s)lengths must be.*not (-1|4|9).*test_lengths_and_limits\.py"):
            step(DATA, np.array(wrong, dtype))
    assert np.array_equal(layer.variables["running_mean"].get_value(), before) and before.any()


@pytest.mark.parametrize("wrong", WRONG)
def test_known_lengths_that_no_row_has_are_refused_when_the_graph_is_built(wrong: list[int]) -> None:
    """With an unknown number of steps those below 0 are."""
    for steps in (3,) if min(wrong) >= 0 else (3, None):
        with pytest.raises(ValueError, match=r"(?s)lengths must be.*test_lengths_and_limits\.py"):
            masked(torch.BatchNorm1d(2), mg.tensor3("x", shape=(None, 2, steps)), wrong)


@pytest.mark.parametrize(("name", "wrongs"), [("r_max", (0.5, -1.0, np.nan)), ("d_max", (-0.5, np.nan))])
def test_limits_of_renormalization_are_checked_however_they_are_given(name: str, wrongs: tuple[float, ...]) -> None:
    """A number when it is given, variables and what schedules make when a function is called, which then changes nothing."""
    for wrong in wrongs:
        for make in (
            lambda wrong=wrong: BatchRenormalization(2, **{name: wrong}),
            lambda wrong=wrong: setattr(BatchRenormalization(2), name, wrong),
        ):
            with pytest.raises(ValueError, match=f"{name} must be at least"):
                make()
    for schedule in (False, True):
        limit = mg.shared(np.float64(1.0), "limit")
        layer, x = (
            BatchRenormalization(2, **{name: (lambda n, limit=limit: limit + 0 * n) if schedule else limit}),
            mg.matrix("x"),
        )
        with mg.training_mode(layer):
            step = mg.function([x], layer.apply(x))
        step(DATA[0].T)
        before = [one.get_value() for one in layer.population_statistics]
        for wrong in wrongs:
            limit.set_value(wrong)
            with pytest.raises(ValueError, match=rf"(?s){name} must be at least.*test_lengths_and_limits\.py"):
                step(DATA[0].T)
        for one, old in zip(layer.population_statistics, before, strict=True):
            assert np.array_equal(one.get_value(), old)
    for wrong in (None, "3", True, mg.vector("limits")):
        with pytest.raises(TypeError, match=f"{name} must be a number"):
            BatchRenormalization(2, **{name: wrong})
