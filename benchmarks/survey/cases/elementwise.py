"""Functions of single elements, and chains of them."""

from __future__ import annotations

from typing import Any

from survey.case import Case, normal, uniform

COUNT = 10**6
FAMILY = "elementwise"

ANY, POSITIVE, UNIT, ABOVE_ONE = (-4.0, 4.0), (0.1, 9.0), (-0.95, 0.95), (1.1, 9.0)

UNARY = {
    "exp": (ANY, lambda xp, x: xp.exp(x)),
    "expm1": (ANY, lambda xp, x: xp.expm1(x)),
    "exp2": (ANY, lambda xp, x: xp.exp2(x)),
    "log": (POSITIVE, lambda xp, x: xp.log(x)),
    "log1p": (POSITIVE, lambda xp, x: xp.log1p(x)),
    "log2": (POSITIVE, lambda xp, x: xp.log2(x)),
    "log10": (POSITIVE, lambda xp, x: xp.log10(x)),
    "sqrt": (POSITIVE, lambda xp, x: xp.sqrt(x)),
    "sin": (ANY, lambda xp, x: xp.sin(x)),
    "cos": (ANY, lambda xp, x: xp.cos(x)),
    "tan": (UNIT, lambda xp, x: xp.tan(x)),
    "arcsin": (UNIT, lambda xp, x: xp.arcsin(x)),
    "arccos": (UNIT, lambda xp, x: xp.arccos(x)),
    "arctan": (ANY, lambda xp, x: xp.arctan(x)),
    "sinh": (ANY, lambda xp, x: xp.sinh(x)),
    "cosh": (ANY, lambda xp, x: xp.cosh(x)),
    "tanh": (ANY, lambda xp, x: xp.tanh(x)),
    "arcsinh": (ANY, lambda xp, x: xp.arcsinh(x)),
    "arccosh": (ABOVE_ONE, lambda xp, x: xp.arccosh(x)),
    "arctanh": (UNIT, lambda xp, x: xp.arctanh(x)),
    "erf": (ANY, lambda xp, x: xp.erf(x)),
    "sigmoid": (ANY, lambda xp, x: xp.sigmoid(x)),
    "softplus": (ANY, lambda xp, x: xp.softplus(x)),
    "gelu": (ANY, lambda xp, x: xp.gelu(x)),
    "silu": (ANY, lambda xp, x: xp.silu(x)),
}
"""The range of arguments, and the expression."""
DOUBLE = ("exp", "log", "sin", "tanh", "erf", "log1p")

BINARY = {
    "arctan2": lambda xp, x, y: xp.arctan2(x, y),
    "power": lambda xp, x, y: xp.power(x, y),
    "hypot": lambda xp, x, y: xp.hypot(x, y),
    "logaddexp": lambda xp, x, y: xp.logaddexp(x, y),
}


def _many(xp: Any, x: Any) -> Any:
    """Ten times two functions."""
    for _ in range(10):
        x = xp.tanh(x * 1.1 + 0.1) + xp.exp(-x * x)
    return x


def _chosen(xp: Any, x: Any, y: Any) -> Any:
    """Elements chosen by others."""
    for _ in range(4):
        x = xp.where(x > y, x * 0.5, xp.clip(x + 0.3, -0.9, 0.9))
    return x


def _rotated(xp: Any, x: Any, angle: Any) -> Any:
    """Halves of vectors turned by angles, as positions are encoded."""
    sine, cosine = xp.sin(angle), xp.cos(angle)
    left, right = x[:, :64], x[:, 64:]
    return xp.concatenate([left * cosine - right * sine, left * sine + right * cosine], axis=1)


CASES = [
    *(
        Case(f"{name} of 1e6 float32", FAMILY, uniform((COUNT,), low=low, high=high), expression, flops=COUNT)
        for name, ((low, high), expression) in UNARY.items()
    ),
    *(
        Case(f"{name} of 1e6 float64", FAMILY, uniform((COUNT,), low=low, high=high, dtype="float64"), expression, flops=COUNT)
        for name in DOUBLE
        for (low, high), expression in [UNARY[name]]
    ),
    *(
        Case(f"{name} of 1e6 pairs", FAMILY, uniform((COUNT,), (COUNT,), low=0.1, high=3.0), expression, flops=COUNT)
        for name, expression in BINARY.items()
    ),
    Case("tanh of 1e4", FAMILY, normal((10**4,)), lambda xp, x: xp.tanh(x), flops=1e4),
    Case(
        "x * 3 + y of 1e6", FAMILY, normal((COUNT,), (COUNT,)), lambda xp, x, y: x * 3.0 + y, flops=2e6,
    ),
    Case("x + 1 of 1e7", FAMILY, normal((10**7,)), lambda xp, x: x + 1.0, flops=1e7),
    Case("chain of 40 functions of 1e6", FAMILY, normal((COUNT,)), _many, flops=6e7, asks=("torch compiled", "pytensor")),
    Case(
        "chain of 40 functions of 1e6, gradient", FAMILY, normal((COUNT,)), lambda xp, x: xp.mean(_many(xp, x)), flops=1.2e8,
        gradients_of=(0,),
    ),
    Case("chain of where and clip of 1e6", FAMILY, normal((COUNT,), (COUNT,)), _chosen, flops=1.6e7),
    Case(
        "mean square difference of 1e6, gradients", FAMILY, normal((COUNT,), (COUNT,)),
        lambda xp, x, y: xp.mean(xp.square(x - y)), flops=5e6, gradients_of=(0, 1), asks=("pytensor",),
    ),
    Case("row plus column 2000x2000", FAMILY, normal((2000, 1), (1, 2000)), lambda xp, x, y: x + y, flops=4e6),
    Case("rotary positions 8192x128", FAMILY, normal((8192, 128), (8192, 64)), _rotated, flops=4e6),
]  # fmt: skip
