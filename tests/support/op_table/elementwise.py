"""Arithmetic, comparisons, transcendental and special functions, activations."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.special

from minigraph.ops.elementwise import activation, arithmetic, comparison, special, transcendental
from minigraph.ops.elementwise import base as elementwise
from minigraph.ops.reduce import softmax
from support.op_table.makers import ANY_SHAPE, binary, floating, one, raveled, record, unary, wide, with_arguments, zero_wins
from support.op_table.records import (
    EVERY,
    FLOATS,
    INF,
    INTEGERS,
    NAN,
    NUMBERS,
    SPECIAL_FLOATS,
    Array,
    Call,
    Record,
    Wrong,
    anything,
    arguments_first,
    as_floats,
    as_quotients,
    below,
    between,
    common,
    flags,
    matrix,
    off_zero,
    special_integers,
)


def compared(name: str, *aliases: str) -> Record:
    """A comparison, in which integers lose no digits: NumPy's own promotion holds."""
    draws = (between(-2, 2), between(-2, 2))
    return binary(comparison, name, draws=draws, order=0, aliases=aliases, converted=np.result_type)


def logical(name: str) -> Record:
    """A logical op, on the truth of any number."""
    return binary(comparison, name, order=0, converted=lambda *dtypes: np.dtype(bool))


def bitwise(name: str, **facts: Any) -> Record:
    """An op on bits; floats have none."""
    function = vars(comparison)[name]
    wrong = (Wrong(lambda: function(matrix(2), 1), TypeError),)
    mixed = (("int8", "int32"), ("uint8", "int8"), ("uint8", "int64"))
    dtypes = facts.pop("dtypes", (*INTEGERS, "bool"))
    return binary(comparison, name, dtypes=dtypes, mixed=mixed, wrong=wrong, order=0, **facts)


# -- elementwise -----------------------------------------------------------------------------------------------------


def in_floats(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function on floats that leaves whole numbers as they are."""
    return lambda x: function(x) if x.dtype.kind == "f" else x.copy()


EXPONENT_FITS = {"admits": lambda a, b: (b >= 0) if b.dtype.kind in "iu" else b == b}
SHIFT_FITS = {"admits": lambda a, b: (b >= 0) & (b < 8)}

ELEMENTWISE = (
    unary(arithmetic, "abs", draw=off_zero),
    binary(arithmetic, "add"),
    binary(arithmetic, "subtract", dtypes=NUMBERS),
    binary(arithmetic, "multiply"),
    binary(arithmetic, "divide", draws=(anything, off_zero), converted=as_quotients),
    binary(arithmetic, "floor_divide", draws=(between(-3, 3), off_zero), dtypes=NUMBERS),
    binary(arithmetic, "remainder", draws=(between(-3, 3), off_zero), dtypes=NUMBERS),
    binary(
        arithmetic,
        "divmod",
        lambda a, b: (np.floor_divide(a, b), np.remainder(a, b)),
        draws=(between(-3, 3), off_zero),
        dtypes=NUMBERS,
        project=raveled,
    ),
    binary(
        arithmetic,
        "power",
        draws=(between(0.3, 2), between(0, 3)),
        dtypes=NUMBERS,
        **EXPONENT_FITS,
        wrong=(
            Wrong(lambda: arithmetic.power(matrix(2, dtype="int32"), -1), ValueError),
            Wrong(lambda: arithmetic.power(matrix(2, dtype="bool"), matrix(2, dtype="bool")), TypeError),
        ),
    ),
    binary(arithmetic, "maximum"),
    binary(arithmetic, "minimum"),
    binary(arithmetic, "multiply_or_zero", zero_wins, converted=as_floats),
    compared("equal", "eq"),
    compared("not_equal", "neq"),
    compared("less", "lt"),
    compared("less_equal", "le"),
    compared("greater", "gt"),
    compared("greater_equal", "ge"),
    logical("logical_and"),
    logical("logical_or"),
    logical("logical_xor"),
    unary(comparison, "logical_not", order=0),
    unary(comparison, "isnan", order=0),
    unary(comparison, "isinf", order=0),
    unary(comparison, "isfinite", order=0),
    bitwise("bitwise_and", aliases=("and_",)),
    bitwise("bitwise_or", aliases=("or_",)),
    bitwise("bitwise_xor", aliases=("xor",)),
    bitwise("left_shift", draws=(anything, below(6)), dtypes=INTEGERS, **SHIFT_FITS),
    bitwise("right_shift", draws=(anything, below(6)), dtypes=INTEGERS, **SHIFT_FITS),
    unary(
        comparison,
        "invert",
        dtypes=(*INTEGERS, "bool"),
        order=0,
        wrong=(Wrong(lambda: comparison.invert(matrix(2)), TypeError),),
    ),
    unary(
        arithmetic,
        "negative",
        aliases=("neg",),
        dtypes=NUMBERS,
        wrong=(Wrong(lambda: arithmetic.negative(matrix(2, dtype="bool")), TypeError),),
    ),
    unary(arithmetic, "square", dtypes=NUMBERS),
    unary(arithmetic, "reciprocal", lambda x: np.divide(1, x), draw=off_zero, converted=as_quotients),
    unary(arithmetic, "sign", draw=off_zero, dtypes=NUMBERS),
    unary(arithmetic, "floor", in_floats(np.floor)),
    unary(arithmetic, "ceil", in_floats(np.ceil)),
    unary(arithmetic, "trunc", in_floats(np.trunc)),
    unary(arithmetic, "round", in_floats(np.rint)),
    unary(elementwise, "identity", np.copy, like_numpy=False),
    record(
        elementwise,
        "cast",
        lambda x, dtype: x.astype(dtype),
        [
            with_arguments((2, 3), "float64"),
            *(Call(((2, 3),), (dtype,), smooth=False) for dtype in EVERY[1:]),
            with_arguments((), np.float64),
            with_arguments((0, 2), "float64"),
        ],
        dtypes=EVERY,
        draws=(between(0, 3),),
        hard=((np.array(SPECIAL_FLOATS, "float32"),),),
        wrong=(
            Wrong(lambda: elementwise.cast(matrix(2), "complex64"), TypeError),
            Wrong(lambda: elementwise.cast(matrix(2), "no dtype"), TypeError),
            Wrong(lambda: elementwise.cast(matrix(2), "object"), TypeError),
        ),
        elementwise=True,
    ),
    record(
        arithmetic,
        "clip",
        np.clip,
        [
            with_arguments((2, 3), -1, 1),
            with_arguments((2, 3), None, 1),
            with_arguments((2, 3), 1, None),
            with_arguments((2, 3), 1, 0),
            with_arguments((), -1, 1),
            with_arguments((0,), 0, 1),
            Call(((2, 3), (3,), (2, 1))),
            Call(((4,), (4,), (4,))),
        ],
        dtypes=(*FLOATS, "int64", "int32", "int8"),
        draws=(anything, between(-1.5, -0.5), between(0.5, 1.5)),
        hard=((np.array(SPECIAL_FLOATS),), (np.array(special_integers("int8"), "int8"),)),
        wrong=(
            Wrong(lambda: arithmetic.clip(matrix(2)), ValueError),
            Wrong(lambda: arithmetic.clip(matrix(2, dtype="uint8"), -1, 1), ValueError),
            Wrong(lambda: arithmetic.clip(matrix(2), "low", 1), TypeError),
        ),
        elementwise=True,
    ),
    replace(
        record(
            comparison,
            "where",
            lambda condition, a, b: np.where(
                condition != 0, a.astype(common(a.dtype, b.dtype)), b.astype(common(a.dtype, b.dtype))
            ),
            [
                Call(((2, 3), (2, 3), (2, 3))),
                Call(((2, 1), (3,), ())),
                Call(((), (2, 3), (1, 3))),
                Call(((0,), (0,), (1,))),
                Call(((), (), ())),
            ],
            dtypes=(
                ("bool", "float64", "float64"),
                ("bool", "float32", "int64"),
                ("bool", "int8", "uint8"),
                ("int32", "float16", "float16"),
                ("float64", "float32", "float32"),
                ("bool", "bool", "bool"),
            ),
            draws=(flags, anything, anything),
            hard=((np.array([True, False, True, False]), np.array([NAN, INF, -0.0, 0.0]), np.array([1.0, NAN, INF, -0.0])),),
            wrong=(
                Wrong(lambda: comparison.where("text", 1, 2), TypeError),
                Wrong(lambda: comparison.where(matrix(2, dtype="bool"), matrix(3), matrix(3)), ValueError),
                Wrong(lambda: comparison.where(matrix(2, dtype="bool"), np.array([1j]), 0), TypeError),
            ),
            elementwise=True,
        ),
        names=("where", "switch"),
    ),
)

# -- transcendental and special --------------------------------------------------------------------------------------


def transcendental_op(name: str, low: float = -2.0, high: float = 2.0) -> Record:
    """A function of the same name as NumPy's, differentiable inside of (low, high)."""
    return floating(transcendental, name, draw=between(low, high))


POSITIVE = tuple(one for one in SPECIAL_FLOATS if one != one or (one > 0 and one not in (1.0, 2.0)))  # no roots of gammaln

SPECIALS = (
    *(transcendental_op(name) for name in ("exp", "exp2", "expm1", "sin", "cos", "sinh", "cosh", "tanh", "arcsinh", "arctan")),
    *(transcendental_op(name, 0.3, 3.0) for name in ("log", "log2", "log10", "sqrt")),
    *(transcendental_op(name, -0.9, 0.9) for name in ("arcsin", "arccos", "arctanh", "tan")),
    transcendental_op("log1p", -0.6, 3.0),
    transcendental_op("arccosh", 1.3, 3.0),
    binary(transcendental, "arctan2", draws=(off_zero,), converted=as_floats),
    binary(transcendental, "hypot", draws=(off_zero,), converted=as_floats),
    binary(transcendental, "logaddexp", converted=as_floats),
    floating(special, "erf", lambda x: scipy.special.erf(x.astype("float64")).astype(x.dtype)),
    floating(special, "erfc", lambda x: scipy.special.erfc(x.astype("float64")).astype(x.dtype)),
    floating(
        special,
        "gammaln",
        lambda x: scipy.special.gammaln(x.astype("float64")).astype(x.dtype),
        draw=between(0.2, 6.0),
        hard=((np.array(POSITIVE),), (np.array([0.0, -0.0, -1.0, -2.0, -0.5, -3.7]),)),
        tolerance=30,
    ),
    floating(
        special,
        "digamma",
        lambda x: scipy.special.digamma(x.astype("float64")).astype(x.dtype),
        draw=between(0.2, 6.0),
        hard=((np.array([NAN, INF, 0.0, 0.5, 2.0, -0.5, -3.7, 1e30]),),),
        tolerance=30,
    ),
    record(
        special,
        "polygamma",
        lambda n, x: scipy.special.polygamma(n, x.astype("float64")).astype(x.dtype),
        (
            Call(((2, 3),), (1,)),
            Call(((2, 3),), (0,)),
            Call(((4,),), (2,)),
            Call(((4,),), (4,)),
            Call(((),), (1,)),
            Call(((0,),), (3,)),
        ),
        draws=(between(0.2, 6.0),),
        converted=as_floats,
        elementwise=True,
        convention=arguments_first,
        dtypes=("float64", "float32", "int64"),
        hard=((np.array([NAN, INF, 0.5, 2.0, 1e3]),),),
        tolerance=30,
        wrong=(
            Wrong(lambda: special.polygamma(-1, matrix(2)), ValueError),
            Wrong(lambda: special.polygamma(1, "text"), TypeError),
            Wrong(lambda: special.polygamma(0.5, matrix(2)), TypeError),
        ),
    ),
)


def leaky(x: Array, alpha: float = 0.01) -> Array:
    """x where positive, else alpha * x."""
    return np.where(x > 0, x, alpha * x).astype(x.dtype)


SLOPES = (*ANY_SHAPE, with_arguments((2, 3), 0.25), with_arguments((2, 3), 2))
ALONG = (one(2, 3), one(2, 3, axis=0), one(4), one(0, 3), one(2, 3, 2, axis=-2), one(2, 1))
HARD_LOGITS = (
    (np.array([[1000.0, 0.0, -1000.0], [-INF, 0.0, 1.0], [NAN, 0.0, 0.0]]),),
    (np.array([[1e30, 1e30], [-1e30, 1e30]], "float32"),),
)


def along_axis(name: str, reference: Any) -> Record:
    """softmax or log_softmax."""
    function = vars(softmax)[name]
    return record(
        softmax,
        name,
        lambda x, axis=-1: wide(reference)(x, axis=axis),
        ALONG,
        dtypes=EVERY,
        converted=as_floats,
        hard=HARD_LOGITS,
        tolerance=2,
        wrong=(
            Wrong(lambda: function(matrix()), ValueError),
            Wrong(lambda: function(matrix(2, 3), axis=2), ValueError),
            Wrong(lambda: function("text"), TypeError),
        ),
    )


def logistic(x):
    """1 / (1 + exp(-x)), subnormal numbers included."""
    odds = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, odds) / (1 + odds)


def silu(x):
    """x / (1 + exp(-x)), subnormal numbers included, in which exp(x) has lost digits."""
    bounded = np.where(np.isneginf(x), -2000.0, x)
    return np.where(x < 0, bounded * np.exp(bounded / 2) * np.exp(bounded / 2) / (1 + np.exp(bounded)), x * logistic(x))


ACTIVATION = (
    floating(activation, "sigmoid", wide(logistic)),
    floating(activation, "softplus", wide(lambda x: np.logaddexp(0, x))),
    floating(
        activation, "relu", lambda x, alpha=0: leaky(x, alpha) if alpha else np.maximum(x, 0), draw=off_zero, calls=SLOPES
    ),
    floating(activation, "leaky_relu", leaky, draw=off_zero, calls=(*ANY_SHAPE, with_arguments((2, 3), 0.25))),
    floating(
        activation,
        "elu",
        wide(lambda x, alpha=1: np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0)))),
        draw=off_zero,
        calls=(*ANY_SHAPE, with_arguments((2, 3), 0.25)),
        order=2,
    ),
    floating(
        activation,
        "gelu",
        wide(
            lambda x, approximate=False: (
                0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
                if approximate
                else 0.5 * x * scipy.special.erfc(-x / np.sqrt(2))
            )
        ),
        calls=(*ANY_SHAPE, one(2, 3, approximate=True)),
        hard=((np.array([NAN, INF, 0.0, -0.0, 1.0, -1.0, 30.0, -8.0]),),),
        tolerance=4,
    ),
    floating(activation, "silu", wide(silu)),
    along_axis("softmax", scipy.special.softmax),
    along_axis("log_softmax", scipy.special.log_softmax),
)
