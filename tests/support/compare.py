"""How results are compared."""

import numpy as np

from minigraph.core.graph import Graph

TOLERANCES = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-9}


def assert_same_values(ours, expected, strict, what, computed_in=None):
    """Equal dtype, shape, NaN, infinities with their signs, numbers up to rounding; if `strict` signs of zeros, too.

    Rounding is that of `computed_in`, or of the dtype.
    """
    assert ours.dtype == expected.dtype, what
    assert ours.shape == expected.shape, what
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(ours, expected, err_msg=what)
        return
    tolerance = TOLERANCES[computed_in or expected.dtype.name]
    finite = np.abs(expected[np.isfinite(expected)])
    scale = min(1.0, float(finite.max(initial=0.0))) if strict else 1.0
    np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance * scale, equal_nan=True, err_msg=what)
    if strict:
        zero = (expected == 0) & (ours == 0)
        np.testing.assert_array_equal(np.signbit(ours[zero]), np.signbit(expected[zero]), err_msg=f"signs of zeros: {what}")


def computed_in(variable):
    """The narrowest float that a variable is computed from, whose rounding is its own."""
    names = {one.dtype.name for one in Graph((), (variable,)) if not isinstance(one.type, tuple) and one.dtype.kind == "f"}
    return next((name for name in ("float16", "float32") if name in names), "float64")
