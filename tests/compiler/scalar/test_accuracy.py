"""How far the values of elementwise ops are from the exact ones, in units of the last place: tails, edges, all of float16.

In float64 the reference is mpmath. Against that, in turn, float64 is exact enough to be the reference of float32 and float16.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import mpmath
import numpy as np
import pytest

import minigraph as mg
from support.backends import on_each
from support.sweep import rounds

pytestmark = pytest.mark.shipped_code

Array = np.ndarray[Any, Any]


def _erfc(x: Any) -> Any:
    """erfc, of which mpmath computes no digits that matter for large numbers."""
    return mpmath.erfc(x) if abs(x) < 100 else mpmath.mpf(0 if x > 0 else 2)


def _softplus(x: Any) -> Any:
    """log(1 + exp(x))."""
    return mpmath.log1p(mpmath.exp(x)) if x < 2000 else x


def _logistic(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + mpmath.exp(-x))


def _normal_cdf(x: Any) -> Any:
    """The probability that a standard normal variable is below x."""
    return _erfc(-x / mpmath.sqrt(2)) / 2


def _by_tanh(x: Any) -> Any:
    """The approximation of x times the normal distribution function."""
    inner = mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf(0.044715) * x**3)
    return x * _logistic(2 * inner)


def _gammaln(x: Any) -> Any:
    """log |gamma(x)|."""
    if x > 1e17:
        return x * mpmath.log(x) - x
    return mpmath.log(abs(mpmath.gamma(x))) if abs(x) < 1000 else mpmath.re(mpmath.loggamma(x))


UNARY: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], tuple[float, float], tuple[float, float, float]]] = {
    "exp": (mg.exp, mpmath.exp, (-np.inf, np.inf), (1, 3, 1)),
    "exp2": (mg.exp2, lambda x: mpmath.mpf(2) ** x, (-np.inf, np.inf), (1, 2, 1)),
    "expm1": (mg.expm1, mpmath.expm1, (-np.inf, np.inf), (2, 2, 1)),
    "log": (mg.log, mpmath.log, (0, np.inf), (1, 2, 1)),
    "log2": (mg.log2, lambda x: mpmath.log(x, 2), (0, np.inf), (1, 2, 1)),
    "log10": (mg.log10, mpmath.log10, (0, np.inf), (2, 2, 1)),
    "log1p": (mg.log1p, mpmath.log1p, (-1, np.inf), (1, 2, 1)),
    "sqrt": (mg.sqrt, mpmath.sqrt, (0, np.inf), (0.5, 0.5, 0.5)),
    "reciprocal": (mg.reciprocal, lambda x: 1 / x, (0, np.inf), (0.5, 0.5, 0.5)),
    "reciprocal of negative numbers": (mg.reciprocal, lambda x: 1 / x, (-np.inf, 0), (0.5, 0.5, 0.5)),
    "square": (mg.square, lambda x: x * x, (-np.inf, np.inf), (0.5, 0.5, 0.5)),
    "sin": (mg.sin, mpmath.sin, (-np.inf, np.inf), (1, 2, 1)),
    "cos": (mg.cos, mpmath.cos, (-np.inf, np.inf), (1, 2, 1)),
    "tan": (mg.tan, mpmath.tan, (-np.inf, np.inf), (1, 2, 1)),
    "arcsin": (mg.arcsin, mpmath.asin, (-1, 1), (1, 2, 1)),
    "arccos": (mg.arccos, mpmath.acos, (-1, 1), (1, 2, 1)),
    "arctan": (mg.arctan, mpmath.atan, (-np.inf, np.inf), (1, 2, 1)),
    "sinh": (mg.sinh, mpmath.sinh, (-np.inf, np.inf), (2, 2, 1)),
    "cosh": (mg.cosh, mpmath.cosh, (-np.inf, np.inf), (1, 2, 1)),
    "tanh": (mg.tanh, mpmath.tanh, (-np.inf, np.inf), (2, 2, 1)),
    "arcsinh": (mg.arcsinh, mpmath.asinh, (-np.inf, np.inf), (2, 2, 1)),
    "arccosh": (mg.arccosh, mpmath.acosh, (1, np.inf), (2, 2, 1)),
    "arctanh": (mg.arctanh, mpmath.atanh, (-1, 1), (2, 2, 1)),
    "erf": (mg.erf, mpmath.erf, (-np.inf, np.inf), (4, 4, 1)),
    "erfc": (mg.erfc, _erfc, (-np.inf, np.inf), (8, 1, 1)),
    "gammaln": (mg.gammaln, _gammaln, (0, np.inf), (32, 1, 1)),
    "digamma": (mg.digamma, mpmath.digamma, (1.6, np.inf), (32, 1, 1)),
    "sigmoid": (mg.sigmoid, _logistic, (-np.inf, np.inf), (3, 3, 1)),
    "softplus": (mg.softplus, _softplus, (-np.inf, np.inf), (3, 3, 2)),
    "log_sigmoid": (lambda x: mg.log(mg.sigmoid(x)), lambda x: -_softplus(-x), (-np.inf, np.inf), (3, 3, 2)),
    "silu": (mg.silu, lambda x: x * _logistic(x), (-np.inf, np.inf), (4, 4, 1)),
    "elu": (mg.elu, lambda x: x if x >= 0 else mpmath.expm1(x), (-np.inf, np.inf), (2, 2, 1)),
    "gelu": (mg.gelu, lambda x: x * _normal_cdf(x), (-np.inf, np.inf), (16, 64, 5)),
    "gelu by tanh": (lambda x: mg.gelu(x, approximate=True), _by_tanh, (-np.inf, np.inf), (800, 256, 20)),
}
"""Of each op: itself, the exact function, its domain, and by how many units of the last place float64, float32 and float16 may
be off: many where the argument of an exponential is rounded, or, of `silu`, where the result is hardly a number any more."""

BINARY: dict[
    str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any], tuple[float, float], tuple[float, float, float]]
] = {
    "divide": (mg.divide, lambda a, b: a / b, (-np.inf, np.inf), (0.5, 0.5, 0.5)),
    "power": (mg.power, lambda a, b: a**b, (0, np.inf), (1, 2, 1)),
    "hypot": (mg.hypot, mpmath.hypot, (-np.inf, np.inf), (1, 2, 1)),
    "arctan2": (mg.arctan2, mpmath.atan2, (-np.inf, np.inf), (1, 2, 1)),
    "logaddexp": (mg.logaddexp, lambda a, b: b + _softplus(a - b) if a > b else a + _softplus(b - a), (0, np.inf), (2, 2, 1)),
}
"""The same of ops on two numbers."""


BY_NUMPY = {"silu": (4, 8, 1)}
"""Bounds on the backend NumPy where they are not those of the op, with at least `SINGLE_OF_NUMPY` in float32."""
SINGLE_OF_NUMPY = 3
"""The units that NumPy's own functions of float32 may be off; which of them are depends on the processor."""


def edges(dtype: str, domain: tuple[float, float], each: int) -> Array:
    """Numbers at every scale that a dtype has, some of each exponent, around 0 and 1, near where functions of them overflow."""
    facts, rng = np.finfo(dtype), np.random.default_rng(5)
    exponents = np.repeat(np.arange(facts.minexp - facts.nmant, facts.maxexp), each)
    scattered = np.ldexp(rng.uniform(1, 2, exponents.size), exponents)
    ends = np.log(np.array([facts.max, facts.smallest_normal, facts.smallest_subnormal], "float64"))
    ends = np.array([*ends, *ends / 2, *ends / np.log(2), np.sqrt(float(facts.max)), float(facts.max), 1.0, 2.0, 40.0])
    with np.errstate(over="ignore"):
        near = np.concatenate([ends * factor for factor in (1 - 1e-3, 1 - 1e-7, 1.0, 1 + 1e-7, 1 + 1e-3)])
    special = [0.0, facts.smallest_subnormal, facts.smallest_normal, facts.max, 1 - facts.epsneg, 1 + facts.eps, 0.5]
    dense = np.concatenate([rng.uniform(-1, 1, 40 * each) * size for size in (1.0, 3.0, 15.0, abs(ends).min(), 120.0, 800.0)])
    numbers = np.concatenate([special, scattered, near, dense])
    with np.errstate(over="ignore"):
        numbers = np.concatenate([numbers, -numbers]).astype(dtype)
    return np.unique(numbers[(numbers > domain[0]) & (numbers < domain[1]) & np.isfinite(numbers)])


def every_half(domain: tuple[float, float]) -> Array:
    """All finite numbers of 16 bits in a domain."""
    numbers = np.arange(2**16, dtype=np.uint16).view(np.float16)
    return numbers[np.isfinite(numbers) & (numbers > domain[0]) & (numbers < domain[1])]


def rounded(exact: Any) -> np.longdouble:
    """A number of mpmath's with 64 bits."""
    mantissa, exponent = mpmath.frexp(exact)
    high = float(mantissa)
    low = float(mantissa - high)
    return np.ldexp(np.longdouble(high) + np.longdouble(low), int(max(-16000, min(16000, exponent))))


def units_off(ours: Array, exact: Array) -> Array:
    """How far results are from exact ones, given in more digits, in units of the last place of the exact one."""
    facts = np.finfo(ours.dtype)
    wide = exact.astype("longdouble")
    beyond = np.ldexp(np.longdouble(1), facts.maxexp)  # the next number, were there more exponents
    found = np.where(np.isinf(ours), np.copysign(beyond, ours), ours.astype("longdouble"))
    wide = np.clip(wide, -beyond, beyond)
    nearest = np.minimum(abs(wide), float(facts.max)).astype(ours.dtype)
    _, exponents = np.frexp(np.maximum(nearest, facts.smallest_normal).astype("longdouble"))
    return (abs(found - wide) / np.ldexp(np.longdouble(1), exponents - 1 - facts.nmant)).astype("float64")


@cache
def exact_values(name: str) -> tuple[tuple[Array, ...], Array]:
    """Operands in float64, and what mpmath makes of them."""
    _, exact, domain, _ = (UNARY | BINARY)[name]  # type: ignore[operator]
    numbers = edges("float64", domain, rounds(1))[:: 6 if name in UNARY else 1]
    operands = (numbers,) if name in UNARY else tuple(np.random.default_rng(k).permutation(numbers)[:600] for k in (1, 2))
    with mpmath.workprec(120):
        values = [rounded(exact(*map(mpmath.mpf, map(float, one)))) for one in zip(*operands, strict=True)]
    return operands, np.array(values)


def check(name: str, backend: str) -> None:
    """An op in all floats is within its bounds of what is exact."""
    op, _, domain, bounds = (UNARY | BINARY)[name]  # type: ignore[operator]
    if backend == "numpy":
        bounds = BY_NUMPY.get(name, (bounds[0], max(bounds[1], SINGLE_OF_NUMPY), bounds[2]))
    operands, exact = exact_values(name)
    single = edges("float32", domain, rounds(4))
    half = every_half(domain) if name in UNARY else edges("float16", domain, 8)
    cases = [operands]
    for numbers in (single, half):
        cases.append((numbers,) if name in UNARY else tuple(np.random.default_rng(k).permutation(numbers) for k in (1, 2)))
    inputs = [[mg.vector(dtype=one.dtype) for one in case] for case in cases]
    double = [[mg.vector(dtype="float64") for _ in case] for case in cases[1:]]
    f = mg.function([one for each in inputs for one in each], [op(*each) for each in inputs], backend=backend)
    results = f(*[one for case in cases for one in case])
    exacts = [exact]
    for case, xs in zip(cases[1:], double, strict=True):
        exacts.append(mg.function(xs, op(*xs), backend="numpy")(*[one.astype("float64") for one in case]))
    for ours, theirs, case, bound in zip(results, exacts, cases, bounds, strict=True):
        off = units_off(ours, theirs)
        worst = int(np.argmax(np.where(np.isnan(off), np.inf, off)))
        assert off[worst] <= bound, f"{ours.dtype}: {off[worst]} units off at {[one[worst] for one in case]}"


@on_each
@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_ops_are_exact_to_a_few_units_of_the_last_place(name: str, backend: str) -> None:
    """Tails, subnormal numbers, what overflows or almost does, and large arguments are as exact as anything else."""
    check(name, backend)
