"""The functions of minigraph that stand for those of NumPy and SciPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minigraph.core.errors import InvalidTypeError
from minigraph.ops.array import arranging, creation, indexing, sorting
from minigraph.ops.array import shape as shapes
from minigraph.ops.elementwise import activation, arithmetic, comparison, special, transcendental
from minigraph.ops.elementwise import base as elementwise
from minigraph.ops.linear import contraction, linalg
from minigraph.ops.linear import products as linear
from minigraph.ops.reduce import crossentropy, reduction, running, softmax, statistics

_MODULES = (
    activation, arithmetic, arranging, comparison, contraction, creation, crossentropy, elementwise, indexing, linear,
    reduction, running, shapes, softmax, sorting, special, statistics, transcendental,
)  # fmt: skip


def _numpy_counterparts() -> dict[Any, Callable[..., Any]]:
    """NumPy's functions and ours of the same name, or of another name of the same function."""
    table: dict[Any, Callable[..., Any]] = {
        np.rint: arithmetic.round,
        np.around: arithmetic.round,
        np.fabs: arithmetic.abs,
        np.positive: elementwise.identity,
        np.amax: reduction.max,
        np.amin: reduction.min,
    }
    for home, names in [(np, module) for module in _MODULES] + [(np.linalg, linalg)]:
        for name in names.__all__:
            theirs = vars(home).get(name)
            if callable(theirs):
                table[theirs] = vars(names)[name]
    return table


_COUNTERPARTS = _numpy_counterparts()

_OF_SCIPY: dict[str, Callable[..., Any]] = {
    "erf": special.erf,
    "erfc": special.erfc,
    "expit": activation.sigmoid,
    "gammaln": special.gammaln,
    "psi": special.digamma,
}
"""Our functions for the ufuncs of scipy.special, by name, so that SciPy need not be there."""


def counterpart(function: Any) -> Callable[..., Any]:
    """Our function for NumPy's; TypeError if there is none."""
    ours = _COUNTERPARTS.get(function)
    name = function.__name__
    if ours is None and isinstance(function, np.ufunc) and vars(np).get(name) is not function:
        home, ours = "scipy.special", _OF_SCIPY.get(name)
    else:
        home = "numpy.linalg" if function.__module__ == "numpy.linalg" else "numpy"
    if ours is None:
        raise InvalidTypeError(f"{home}.{name} has no counterpart on variables; use .eval({{...}}) for a value first")
    return ours
