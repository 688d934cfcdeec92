"""How results are compared."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minigraph.core.graph import Graph, Variable

TOLERANCES = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-9}


def assert_equal_up_to(
    ours: np.ndarray, expected: np.ndarray, rtol: float, atol: float, exact_zeros: bool = False, what: str = ""
) -> None:
    """Arrays have equal dtypes, shapes, NaN, infinities with their signs, integers, and floats within bounds.

    exact_zeros: the signs of zeros are equal, too.
    """
    assert ours.dtype == expected.dtype, what
    assert ours.shape == expected.shape, what
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(ours, expected, err_msg=what)
        return
    np.testing.assert_allclose(ours, expected, rtol=rtol, atol=atol, equal_nan=True, err_msg=what)
    if exact_zeros:
        zeros = (expected == 0) & (ours == 0)
        np.testing.assert_array_equal(np.signbit(ours[zeros]), np.signbit(expected[zeros]), err_msg=f"signs of zeros: {what}")


def assert_all_equal(
    actual: Sequence[Any],
    expected: Sequence[Any],
    precision: Mapping[str, float],
    factor: float = 1.0,
    exact_zeros: bool = False,
) -> None:
    """Results are those of a reference, each as precise as `factor` times what is said of its dtype."""
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected, strict=True):
        margin = precision.get(theirs.dtype.name, 0.0) * factor
        assert_equal_up_to(ours, theirs, margin, 0.0 if exact_zeros else margin, exact_zeros)


def assert_same_values(ours: np.ndarray, expected: np.ndarray, strict: bool, what: str, computed_in: str | None = None) -> None:
    """Equal up to rounding, which is that of `computed_in`, or of the dtype; if `strict`, relative to the largest number."""
    tolerance = TOLERANCES.get(computed_in or expected.dtype.name, 0.0)
    finite = np.abs(expected[np.isfinite(expected)]) if expected.dtype.kind == "f" else np.zeros(0)
    scale = min(1.0, float(finite.max(initial=0.0))) if strict else 1.0
    assert_equal_up_to(ours, expected, tolerance, tolerance * scale, strict, what)


def computed_in(variable: Variable) -> str:
    """The narrowest float that a variable is computed from, whose rounding is its own."""
    names = {one.dtype.name for one in Graph((), (variable,)) if not isinstance(one.type, tuple) and one.dtype.kind == "f"}
    return next((name for name in ("float16", "float32") if name in names), "float64")
