"""The op table: one record per public op says what it computes, on what, how smooth it is, and what it refuses.

`tests/test_ops.py` turns every record into tests of values, dtypes, layouts, special values, gradients, errors, memory, and
of NumPy's function of the same name. A record is called as its op is called: with arrays where the op takes variables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import Any
from zlib import crc32

import convolution_reference as by_hand
import numpy as np
import scipy.special

import minigraph as mg
from minigraph.ops import control
from minigraph.ops.array import arranging, creation, indexing, shape, windows
from minigraph.ops.elementwise import activation, arithmetic, comparison, special, transcendental
from minigraph.ops.elementwise import base as elementwise
from minigraph.ops.linear import convolution, linalg, pooling
from minigraph.ops.linear import products as linear
from minigraph.ops.reduce import crossentropy, normalization, reduction, running, softmax, statistics

MODULES = (
    arithmetic,
    comparison,
    elementwise,
    transcendental,
    special,
    shape,
    creation,
    reduction,
    statistics,
    running,
    softmax,
    indexing,
    arranging,
    activation,
    linear,
    linalg,
    crossentropy,
    normalization,
    control,
    windows,
    convolution,
    pooling,
)

FLOATS = ("float64", "float32", "float16")
INTEGERS = ("int64", "int32", "int8", "uint8")
NUMBERS = FLOATS + INTEGERS
EVERY = (*NUMBERS, "bool")
MIXED = (
    ("int32", "float32"),
    ("float32", "int64"),
    ("float32", "float64"),
    ("int8", "uint8"),
    ("int8", "float16"),
    ("int64", "float16"),
    ("uint8", "int32"),
)

Array = np.ndarray[Any, Any]
Draw = Callable[[np.random.Generator, tuple[int, ...], np.dtype[Any]], Array]


# -- what a record says ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """One way to call an op: the shapes of its operands, and the arguments that are no arrays.

    `known` says that the sizes must be known when the graph is built; `smooth` is False where kinks forbid a gradient check.
    """

    shapes: tuple[tuple[int, ...], ...] = ()
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    known: bool = False
    smooth: bool = True


@dataclass(frozen=True)
class Wrong:
    """A call that must raise `error`; Python itself raises it, without the user's line, if `plain`."""

    build: Callable[[], Any]
    error: type[Exception]
    plain: bool = False


def spread(function: Callable[..., Any], operands: list[Any], call: Call) -> Any:
    """f(x, y, ..., arguments)."""
    return function(*operands, *call.args, **call.options)


def listed(function: Callable[..., Any], operands: list[Any], call: Call) -> Any:
    """f([x, y, ...], arguments)."""
    return function(operands, *call.args, **call.options)


def arguments_first(function: Callable[..., Any], operands: list[Any], call: Call) -> Any:
    """f(arguments, x, y, ...)."""
    return function(*call.args, *operands, **call.options)


@dataclass(frozen=True)
class Record:
    """All that the tests need to know of one op."""

    module: ModuleType
    names: tuple[str, ...]  # the op's name, then its aliases
    function: Callable[..., Any]
    reference: Callable[..., Any]
    calls: tuple[Call, ...]
    dtypes: tuple[str | tuple[str, ...], ...] = FLOATS
    draws: tuple[Draw, ...] = ()
    converted: Callable[..., Any] | None = None  # the dtype that operands have when the reference meets them
    convention: Callable[..., Any] = spread
    order: int = 2  # how often it can be differentiated; 0: its results carry no gradient
    project: Callable[..., Any] | None = None  # of several results to the one whose gradient is checked
    wrong: tuple[Wrong, ...] = ()
    elementwise: bool = False
    hard: tuple[tuple[Array, ...], ...] = ()  # operands with NaN, infinities, overflow, for the first call
    tolerance: float = 1.0  # a factor on what is allowed to each dtype
    like_numpy: bool = True  # whether NumPy's function of that name, if there is one, is called the same way
    symmetric: bool = False  # whether gradients are those of the op on (a + a.T) / 2

    @property
    def name(self) -> str:
        """The op's name with its module's."""
        return f"{self.module.__name__.rpartition('.')[2]}.{self.names[0]}"

    def build(self, call: Call, operands: Iterable[Any]) -> Any:
        """The op called on variables."""
        return self.convention(self.function, list(operands), call)

    def expect(self, call: Call, operands: Iterable[Array]) -> list[Array]:
        """The results of the reference."""
        arrays = list(operands)
        if self.converted is not None and arrays:
            dtype = self.converted(*[one.dtype for one in arrays])
            arrays = [one.astype(dtype) for one in arrays]
        with np.errstate(all="ignore"):
            return as_list(self.convention(self.reference, arrays, call))

    def draw(self, call: Call, dtypes: str | tuple[str, ...]) -> list[Array]:
        """Operands for a call, the same ones every time."""
        rng = np.random.default_rng(crc32(f"{self.name} {call.shapes}".encode()))
        given = (dtypes,) if isinstance(dtypes, str) else dtypes
        results = []
        for position, size in enumerate(call.shapes):
            draw = self.draws[min(position, len(self.draws) - 1)]
            dtype = np.dtype(given[min(position, len(given) - 1)])
            results.append(np.asarray(draw(rng, size, dtype)))
        return results


def as_list(results: Any) -> list[Any]:
    """One result, or several, as a list of arrays (or variables)."""
    several = list(results) if isinstance(results, tuple | list) else [results]
    return [one if isinstance(one, mg.Variable) else np.asarray(one) for one in several]


# -- operands --------------------------------------------------------------------------------------------------------


def between(low: float, high: float) -> Draw:
    """Numbers spread over [low, high]: within the range of unsigned integers for those."""

    def draw(rng: np.random.Generator, size: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        if dtype.kind == "b":
            return rng.integers(0, 2, size).astype(dtype)
        if dtype.kind in "iu":
            least = 0 if dtype.kind == "u" else low
            return rng.integers(int(np.floor(max(low, least))), int(np.ceil(high)) + 1, size).astype(dtype)
        return rng.uniform(low, high, size).astype(dtype)

    return draw


def off_zero(rng: np.random.Generator, size: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Numbers of both signs (where there are signs), none of them near 0."""
    values = between(0.3, 2.5)(rng, size, dtype)
    if dtype.kind in "iu":
        values = np.maximum(values, dtype.type(1))
    return values * rng.choice(np.array([-1, 1]), size).astype(dtype) if dtype.kind in "if" else values


def below(count: int) -> Draw:
    """Integers from 0 up to but without `count`."""
    return lambda rng, size, dtype: rng.integers(0, count, size).astype(dtype)


def distribution(rng: np.random.Generator, size: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Rows of positive numbers that add up to 1."""
    weights = rng.uniform(0.2, 1.0, size)
    return (weights / weights.sum(-1, keepdims=True)).astype(dtype)


def well_conditioned(rng: np.random.Generator, size: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Matrices far from singular, with a determinant above 0."""
    values = rng.uniform(-1, 1, size) + 3 * np.eye(*size[-2:])
    return np.round(values * 8).astype(dtype) if dtype.kind == "i" else values.astype(dtype)


def positive_definite(rng: np.random.Generator, size: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Symmetric matrices with positive, well separated eigenvalues."""
    noise = rng.uniform(-0.3, 0.3, size)
    return (noise + np.swapaxes(noise, -1, -2) + np.diag(np.arange(2.0, 2.0 + size[-1]))).astype(dtype)


anything = between(-2, 2)
flags = below(2)


# -- dtypes of the reference's operands: NumPy's promotion, except that integers never widen a float -----------------


def common(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """The promotion law: floats alone decide where there are floats."""
    return np.result_type(*([one for one in dtypes if one.kind == "f"] or dtypes))


def as_floats(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which NumPy computes exp."""
    return np.exp(np.zeros(1, common(*dtypes))).dtype


def as_quotients(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which NumPy divides."""
    one = np.ones(1, common(*dtypes))
    return np.divide(one, one).dtype


# -- common errors, and helpers that make records --------------------------------------------------------------------


def matrix(*sizes: int | None, dtype: str = "float32") -> mg.Variable:
    """An operand of a call that must fail."""
    return mg.tensor("operand", dtype=dtype, shape=sizes)


def no_array(function: Callable[..., Any], *rest: Any) -> tuple[Wrong, Wrong]:
    """What every op refuses as its first operand: text, and complex numbers."""
    return (
        Wrong(lambda: function("text", *rest), TypeError),
        Wrong(lambda: function(np.array([1j]), *rest), TypeError),
    )


def numpy_reference(name: str) -> Callable[..., Any]:
    """NumPy's function of this name."""
    return vars(np)[name]


NAN, INF = np.nan, np.inf
SPECIAL_FLOATS = (NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -3.0, 1e-30, 89.0, -745.0, 1e30)


def special_integers(dtype: str) -> tuple[int, ...]:
    """The ends of an integer dtype, and what lies around 0."""
    ends = np.iinfo(dtype)
    return tuple(one for one in (ends.min, ends.max, 0, 1, -1, 2, 7) if ends.min <= one <= ends.max)


def every_combination(operands: int, dtype: str, admits: Callable[..., Any] | None = None) -> tuple[Array, ...]:
    """Special numbers of a dtype, each meeting each."""
    values = np.array(SPECIAL_FLOATS if np.dtype(dtype).kind == "f" else special_integers(dtype), dtype)
    grids = [grid.ravel() for grid in np.meshgrid(*[values] * operands)]
    if admits is None:
        return tuple(grids)
    kept = admits(*grids)
    return tuple(grid[kept] for grid in grids)


def hard_operands(count: int, dtypes: Iterable[Any], admits: Callable[..., Any] | None = None) -> tuple[tuple[Array, ...], ...]:
    """Special operands for the widest float, single precision, and every integer dtype among `dtypes`."""
    plain = [one for one in dtypes if isinstance(one, str) and one not in ("bool", "float16")]
    return tuple(every_combination(count, one, admits) for one in plain)


ANY_SHAPE = tuple(Call(shapes=(size,)) for size in ((2, 3), (), (5,), (0,), (2, 0, 3), (1, 4), (3, 1, 2)))
ANY_SHAPES = tuple(
    Call(shapes=pair)
    for pair in (
        ((2, 3), (2, 3)),
        ((2, 3), (1, 3)),
        ((), ()),
        ((4,), ()),
        ((2, 1), (3,)),
        ((1, 3), (2, 1)),
        ((0,), (0,)),
        ((2, 0), (1, 1)),
        ((3, 1, 2), (1, 4, 1)),
    )
)


def unary(module: ModuleType, name: str, reference: Any = None, draw: Draw = anything, **facts: Any) -> Record:
    """An elementwise op on one operand."""
    function = vars(module)[name]
    dtypes = facts.setdefault("dtypes", EVERY)
    facts.setdefault("hard", hard_operands(1, dtypes))
    wrong = no_array(function) + tuple(facts.pop("wrong", ()))
    aliases = facts.pop("aliases", ())
    facts.setdefault("calls", ANY_SHAPE)
    facts.setdefault("elementwise", True)
    return Record(module, (name, *aliases), function, reference or numpy_reference(name), draws=(draw,), wrong=wrong, **facts)


def floating(module: ModuleType, name: str, reference: Any = None, draw: Draw = anything, **facts: Any) -> Record:
    """An elementwise op on one operand, computed in floats."""
    return unary(module, name, reference, draw, **{"converted": as_floats, **facts})


def binary(module: ModuleType, name: str, reference: Any = None, draws: tuple[Draw, ...] = (anything,), **facts: Any) -> Record:
    """An elementwise op on two operands, which are promoted to one dtype."""
    function = vars(module)[name]
    dtypes = (*facts.pop("dtypes", EVERY), *facts.pop("mixed", MIXED))
    facts.setdefault("converted", common)
    facts.setdefault("hard", hard_operands(2, dtypes, facts.pop("admits", None)))
    wrong = (
        *no_array(function, 1.0),
        Wrong(lambda: function(matrix(2, 3, dtype=dtypes[0]), matrix(4, 3, dtype=dtypes[0])), ValueError),
        Wrong(lambda: function(matrix(2, 3, dtype=dtypes[0]), "text"), TypeError),
        *facts.pop("wrong", ()),
    )
    aliases = facts.pop("aliases", ())
    return Record(
        module,
        (name, *aliases),
        function,
        reference or numpy_reference(name),
        ANY_SHAPES,
        dtypes,
        draws,
        wrong=wrong,
        elementwise=True,
        **facts,
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


AXES = (
    Call(((2, 3),)),
    Call(((2, 3),), options={"axis": 0}),
    Call(((2, 3, 4),), options={"axis": -1, "keepdims": True}),
    Call(((2, 3, 4),), options={"axis": (0, -1)}),
    Call(((2, 3),), options={"keepdims": True}),
    Call(((),)),
    Call(((4,),), options={"axis": (0,)}),
    Call(((1, 3),), options={"axis": 0}),
    Call(((3, 1, 2),), options={"axis": (1, 2)}),
    Call(((2, 0, 3),), options={"axis": 0}),
    Call(((0, 3),), options={"axis": 1}),
)
AXES_OF_NONE = (
    Call(((0,),)),
    Call(((2, 0, 3),), options={"axis": 1}),
    Call(((2, 0, 3),), options={"axis": (1, 2), "keepdims": True}),
)
ONE_AXIS = tuple(call for call in AXES if not isinstance(call.options.get("axis"), tuple))
HARD_ROWS = tuple(
    (np.array(row),)
    for row in (
        [[1.0, NAN, INF], [0.0, -INF, NAN]],
        [[INF, -INF, 1.0]],
        [[INF, INF, 1.0]],
        [[-INF, -INF, -INF]],
        [[-0.0, 0.0, -0.0]],
        [[-0.0, -0.0]],
        [[1e308, 1e308, -1e308]],
        [[1e200, 1.0, 1e-200]],
        [[NAN]],
    )
)
HARD_INTEGERS = (
    (np.array([[127, 127, 1], [-128, -128, -1]], "int8"),),
    (np.array([[255, 255, 1]], "uint8"),),
    (np.array([[2**63 - 1, 1, 0], [-(2**63), -1, 5]], "int64"),),
)


def reducing(name: str, reference: Any = None, draw: Draw = anything, **facts: Any) -> Record:
    """A reduction over axes."""
    home = next(module for module in (reduction, statistics, running) if name in module.__all__)
    function = vars(home)[name]
    facts = {"calls": AXES + AXES_OF_NONE, "dtypes": EVERY, "hard": HARD_ROWS + HARD_INTEGERS, **facts}
    wrong = (
        *no_array(function),
        Wrong(lambda: function(matrix(2, 3), axis=2), ValueError),
        Wrong(lambda: function(matrix(2, 3), axis=-3), ValueError),
        Wrong(lambda: function(matrix(2, 3), axis="rows"), TypeError),
        *facts.pop("wrong", ()),
    )
    return Record(home, (name,), function, reference or numpy_reference(name), draws=(draw,), wrong=wrong, **facts)


def record(module: ModuleType, name: str, reference: Any, calls: Iterable[Call], **facts: Any) -> Record:
    """Any other op."""
    facts.setdefault("draws", (anything,))
    function = facts.pop("function", None) or vars(module)[name]
    return Record(module, (name,), function, reference, tuple(calls), **facts)


def restructuring(module: ModuleType, name: str, reference: Any, calls: Iterable[Call], **facts: Any) -> Record:
    """An op that moves elements without computing any, and so takes every dtype."""
    first, *_ = calls
    hard = ((np.resize([NAN, -0.0, INF, -INF, 1.0], first.shapes[0]),),)
    return record(module, name, reference, calls, **{"dtypes": EVERY, "hard": hard, **facts})


def raveled(*variables: mg.Variable) -> mg.Variable:
    """Several results as one vector."""
    return mg.concatenate([mg.ravel(one) for one in variables])


def one(*sizes: int, **options: Any) -> Call:
    """A call on one operand of these sizes."""
    return Call((sizes,), options=options)


def with_arguments(size: tuple[int, ...], *args: Any, **options: Any) -> Call:
    """A call on one operand with arguments after it."""
    return Call((size,), args, options)


# -- elementwise -----------------------------------------------------------------------------------------------------


def in_floats(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function on floats that leaves whole numbers as they are."""
    return lambda x: function(x) if x.dtype.kind == "f" else x.copy()


def zero_wins(a: Array, b: Array) -> Array:
    """a * b, with 0 wherever a is 0."""
    return np.where(a == 0, np.zeros_like(a), a * b)


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

# -- shape -----------------------------------------------------------------------------------------------------------


def shuffled(x: Array, *pattern: Any) -> Array:
    """dimshuffle by transposition and reshaping."""
    kept = [axis for axis in pattern if axis != "x"]
    dropped = [axis for axis in range(x.ndim) if axis not in kept]
    sizes = iter([x.shape[axis] for axis in kept])
    return x.transpose(kept + dropped).reshape([1 if axis == "x" else next(sizes) for axis in pattern])


SHAPES = (
    restructuring(
        shape,
        "dimshuffle",
        shuffled,
        [
            with_arguments((2, 3), 1, 0),
            with_arguments((2, 3), "x", 1, "x", 0),
            with_arguments((1, 3), 1),
            with_arguments((1, 1)),
            with_arguments((), "x"),
            with_arguments((2, 0, 1), 1, 0),
        ],
        wrong=(
            Wrong(lambda: shape.dimshuffle(matrix(2, 3), 0), ValueError),
            Wrong(lambda: shape.dimshuffle(matrix(None, 3), 1), ValueError),
            Wrong(lambda: shape.dimshuffle(matrix(2, 3), 0, 0), ValueError),
            Wrong(lambda: shape.dimshuffle(matrix(2, 3), 0, 2), ValueError),
            Wrong(lambda: shape.dimshuffle(matrix(2, 3), 0, 1.0), TypeError),
        ),
    ),
    restructuring(
        shape,
        "transpose",
        np.transpose,
        [one(2, 3), with_arguments((2, 3, 4), (2, 0, 1)), one(), one(3), one(0, 2), with_arguments((2, 3, 4), [0, -1, 1])],
        wrong=(
            Wrong(lambda: shape.transpose(matrix(2, 3), (0, 0)), ValueError),
            Wrong(lambda: shape.transpose(matrix(2, 3), (0,)), ValueError),
            Wrong(lambda: shape.transpose(matrix(2, 3), (0, "x")), TypeError),
        ),
    ),
    restructuring(
        shape,
        "swapaxes",
        np.swapaxes,
        [
            with_arguments((2, 3), 0, 1),
            with_arguments((2, 3, 4), -1, 0),
            with_arguments((2, 3), 1, 1),
            with_arguments((0, 3), 0, 1),
        ],
        wrong=(
            Wrong(lambda: shape.swapaxes(matrix(2, 3), 0, 2), ValueError),
            Wrong(lambda: shape.swapaxes(matrix(2, 3), -3, 0), ValueError),
        ),
    ),
    restructuring(
        shape,
        "moveaxis",
        np.moveaxis,
        [with_arguments((2, 3, 4), 0, -1), with_arguments((2, 3, 4), (0, 2), (1, 0)), with_arguments((2, 0, 4), 2, 0)],
        wrong=(
            Wrong(lambda: shape.moveaxis(matrix(2, 3), 2, 0), ValueError),
            Wrong(lambda: shape.moveaxis(matrix(2, 3), (0, 1), (0,)), ValueError),
            Wrong(lambda: shape.moveaxis(matrix(2, 3), (0, 0), (0, 1)), ValueError),
        ),
    ),
    restructuring(
        shape,
        "expand_dims",
        np.expand_dims,
        [
            with_arguments((2, 3), 0),
            with_arguments((2, 3), -1),
            with_arguments((2, 3), (0, 3)),
            with_arguments((), 0),
            with_arguments((0,), 1),
        ],
        wrong=(
            Wrong(lambda: shape.expand_dims(matrix(2, 3), 3), ValueError),
            Wrong(lambda: shape.expand_dims(matrix(2, 3), (0, 0)), ValueError),
        ),
    ),
    restructuring(
        shape,
        "squeeze",
        np.squeeze,
        [
            one(1, 3, 1),
            one(1, 3, 1, axis=0),
            one(1, 3, 1, axis=-1),
            one(1, 3, 1, axis=(0, 2)),
            one(1, 1),
            one(),
            one(2, 3),
            one(1, 0),
        ],
        wrong=(
            Wrong(lambda: shape.squeeze(matrix(1, 3), axis=1), ValueError),
            Wrong(lambda: shape.squeeze(matrix(None, 3), axis=0), ValueError),
            Wrong(lambda: shape.squeeze(matrix(1, 3), axis=2), ValueError),
        ),
    ),
    restructuring(
        shape,
        "shape_padleft",
        lambda x, n=1: x.reshape((1,) * n + x.shape),
        [one(2, 3), with_arguments((3,), 2), one(), one(0)],
        wrong=no_array(shape.shape_padleft),
    ),
    restructuring(
        shape,
        "shape_padright",
        lambda x, n=1: x.reshape(x.shape + (1,) * n),
        [one(2, 3), with_arguments((3,), 2), one(), one(0)],
        wrong=no_array(shape.shape_padright),
    ),
    restructuring(
        shape,
        "reshape",
        np.reshape,
        [
            with_arguments((2, 3), (3, 2)),
            with_arguments((2, 3), (-1,)),
            with_arguments((2, 3), -1),
            with_arguments((2, 3), [6, 1]),
            with_arguments((), (1, 1)),
            with_arguments((1,), ()),
            with_arguments((2, 0), (0, 5)),
            with_arguments((2, 3, 4), (2, -1)),
            with_arguments((2, 3), (2, 3)),
        ],
        wrong=(
            Wrong(lambda: shape.reshape(matrix(2, 3), (4, 2)), ValueError),
            Wrong(lambda: shape.reshape(matrix(2, 3), (-1, -1)), ValueError),
            Wrong(lambda: shape.reshape(matrix(2, 3), (-1, 4)), ValueError),
            Wrong(lambda: shape.reshape(matrix(2, 3), (2.0, 3)), TypeError),
            Wrong(lambda: shape.reshape(matrix(2, 3), (-2, 3)), ValueError),
        ),
    ),
    restructuring(
        shape,
        "flatten",
        lambda x, ndim=1: x.reshape((*x.shape[: ndim - 1], int(np.prod(x.shape[ndim - 1 :], dtype=int)))),
        [one(2, 3), with_arguments((2, 3, 4), 2), with_arguments((2, 3), 2), one(), one(2, 0), one(4)],
        wrong=(
            Wrong(lambda: shape.flatten(matrix(2, 3), 3), ValueError),
            Wrong(lambda: shape.flatten(matrix(2, 3), 0), ValueError),
        ),
    ),
    restructuring(shape, "ravel", np.ravel, [one(2, 3), one(), one(2, 0), one(4)], wrong=no_array(shape.ravel)),
    restructuring(
        shape,
        "broadcast_to",
        np.broadcast_to,
        [
            with_arguments((1, 3), (2, 3)),
            with_arguments((3,), (2, 3)),
            with_arguments((), (2, 2)),
            with_arguments((2, 3), (2, 3)),
            with_arguments((1,), (0,)),
            with_arguments((1, 3), (4, 0, 3)),
            with_arguments((), ()),
        ],
        wrong=(
            Wrong(lambda: shape.broadcast_to(matrix(2, 3), (3,)), ValueError),
            Wrong(lambda: shape.broadcast_to(matrix(2, 3), (4, 3)), ValueError),
            Wrong(lambda: shape.broadcast_to(matrix(2, 3), (2.5, 3)), TypeError),
            Wrong(lambda: shape.broadcast_to(matrix(1), (-2,)), ValueError),
        ),
    ),
    restructuring(
        shape,
        "specify_shape",
        lambda x, sizes: x,
        [
            with_arguments((2, 3), (2, 3)),
            with_arguments((1, 3), (None, 3)),
            with_arguments((3,), 3),
            with_arguments((), ()),
            with_arguments((2, 0), (None, 0)),
        ],
        wrong=(
            Wrong(lambda: shape.specify_shape(matrix(2, 3), (3,)), ValueError),
            Wrong(lambda: shape.specify_shape(matrix(1, 3), (2, 3)), ValueError),
            Wrong(lambda: shape.specify_shape(matrix(None, 3), (2, 4)), ValueError),
            Wrong(lambda: shape.specify_shape(matrix(None), ("text",)), TypeError),
        ),
    ),
    restructuring(
        shape,
        "addbroadcast",
        lambda x, *axes: x,
        [with_arguments((1, 3), 0), with_arguments((2, 1), -1), with_arguments((2, 3)), with_arguments((1, 0, 1), 0, 2)],
        wrong=(
            Wrong(lambda: shape.addbroadcast(matrix(2, 3), 0), ValueError),
            Wrong(lambda: shape.addbroadcast(matrix(None, 3), 2), ValueError),
        ),
    ),
    restructuring(
        shape,
        "unbroadcast",
        lambda x, *axes: x,
        [with_arguments((1, 3), 0), with_arguments((2, 1), -1), with_arguments((2, 3), 0), with_arguments((1, 0, 1), 0, 2)],
        wrong=(
            Wrong(lambda: shape.unbroadcast(matrix(2, 3), 2), ValueError),
            Wrong(lambda: shape.unbroadcast(matrix(2, 3), "text"), TypeError),
        ),
    ),
    restructuring(
        shape,
        "patternbroadcast",
        lambda x, broadcastable: x,
        [
            with_arguments((1, 3), (True, False)),
            with_arguments((1, 1), (False, True)),
            with_arguments((2, 1), (False, False)),
            with_arguments((), ()),
        ],
        wrong=(
            Wrong(lambda: shape.patternbroadcast(matrix(2, 3), (True, False)), ValueError),
            Wrong(lambda: shape.patternbroadcast(matrix(2, 3), (False,)), ValueError),
        ),
    ),
    record(
        shape,
        "shape",
        np.shape,
        [one(2, 3), one(0, 4), one(1)],
        dtypes=EVERY,
        order=0,
        wrong=no_array(shape.shape),
    ),
    record(
        shape,
        "size",
        lambda x, axis=None: x.size if axis is None else int(np.prod([x.shape[one] for one in np.atleast_1d(axis)])),
        [one(2, 3), one(), one(0, 4), with_arguments((2, 3, 4), 1), with_arguments((2, 3, 4), (0, -1))],
        dtypes=EVERY,
        order=0,
        wrong=(
            Wrong(lambda: shape.size(matrix(2, 3), 2), ValueError),
            Wrong(lambda: shape.size(matrix(2, 3), (0, 0)), ValueError),
        ),
    ),
)

# -- creation --------------------------------------------------------------------------------------------------------


def in_single(function: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's function with minigraph's default dtype."""
    return lambda *args, dtype="float32", **options: function(*args, dtype=dtype, **options)


def plain(*args: Any, **options: Any) -> Call:
    """A call without operands."""
    return Call((), args, options)


SIZES = (plain((2, 3)), plain(4), plain(()), plain((0, 2)), plain([2, 1], dtype="int8"), plain((3,), dtype="bool"))


def bad_sizes(function: Callable[..., Any], *rest: Any) -> tuple[Wrong, ...]:
    """Sizes that are none."""
    return (
        Wrong(lambda: function("two", *rest), TypeError),
        Wrong(lambda: function((2, 1.5), *rest), TypeError),
        Wrong(lambda: function((-1, 2), *rest), ValueError),
        Wrong(lambda: function((2,), *rest, dtype="complex64"), TypeError),
    )


CREATION = (
    record(creation, "zeros", in_single(np.zeros), SIZES, order=0, wrong=bad_sizes(creation.zeros)),
    record(creation, "ones", in_single(np.ones), SIZES, order=0, wrong=bad_sizes(creation.ones)),
    record(
        creation,
        "full",
        lambda sizes, value, dtype=None: np.full(sizes, value, dtype or (np.float32 if type(value) is float else None)),
        [plain((2, 3), 7), plain((2,), 2.5), plain(3, True), plain((), 1.5), plain((0,), 1), plain((2,), 2, dtype="float16")],
        order=0,
        wrong=bad_sizes(creation.full, 1),
    ),
    restructuring(
        creation,
        "full_like",
        np.full_like,
        [
            with_arguments((2, 3), 1),
            with_arguments((), 0),
            with_arguments((0, 2), 1),
            with_arguments((2, 1), 1.5, dtype="float32"),
        ],
        order=0,
        wrong=(*no_array(creation.full_like, 1), Wrong(lambda: creation.full_like(matrix(2), matrix(3)), ValueError)),
    ),
    restructuring(
        creation,
        "zeros_like",
        np.zeros_like,
        [one(2, 3), one(), one(0, 2), one(2, 1, dtype="int8")],
        order=0,
        wrong=no_array(creation.zeros_like),
    ),
    restructuring(
        creation,
        "ones_like",
        np.ones_like,
        [one(2, 3), one(), one(0, 2), one(2, 1, dtype="int8")],
        order=0,
        wrong=no_array(creation.ones_like),
    ),
    record(
        creation,
        "arange",
        lambda *args, dtype=None: np.arange(
            *args, dtype=dtype or ("float32" if any(type(a) is float for a in args) else "int64")
        ),
        [
            plain(5),
            plain(2, 7),
            plain(7, 2, -2),
            plain(0.0, 1.0, 0.25),
            plain(0),
            plain(5, 2),
            plain(3, dtype="float64"),
            plain(-2, 2, dtype="int8"),
            plain(1.5),
            plain(0.0, 1.0, 0.1),
        ],
        order=0,
        wrong=(
            Wrong(lambda: creation.arange(0, 3, 0), ValueError),
            Wrong(lambda: creation.arange(matrix(2)), TypeError),
            Wrong(lambda: creation.arange("five"), TypeError),
        ),
    ),
    record(
        creation,
        "linspace",
        lambda a, b, num=50, dtype=None: np.linspace(
            a, b, num, dtype=dtype or common(np.asarray(a).dtype, np.asarray(b).dtype)
        ),
        [
            Call(((), ())),
            Call(((), ()), (5,)),
            Call(((), ()), (1,)),
            Call(((), ()), (0,)),
            Call(((), ()), (4,), {"dtype": "float32"}, smooth=False),
        ],
        dtypes=("float64", "float32", ("float32", "float64")),
        wrong=(
            Wrong(lambda: creation.linspace(0, 1, -1), ValueError),
            Wrong(lambda: creation.linspace(0, 1, 2.5), ValueError),
            Wrong(lambda: creation.linspace("zero", 1), TypeError),
        ),
        project=lambda y: y * 1.0,
    ),
    record(
        creation,
        "eye",
        in_single(np.eye),
        [plain(3), plain(2, 4), plain(3, k=1), plain(4, 3, -2), plain(0), plain(2, 0), plain(3, dtype="bool"), plain(2, k=5)],
        order=0,
        wrong=(
            Wrong(lambda: creation.eye("two"), TypeError),
            Wrong(lambda: creation.eye(matrix(2, dtype="int64")), TypeError),
            Wrong(lambda: creation.eye(2, dtype="complex64"), TypeError),
        ),
    ),
    record(
        creation,
        "tri",
        in_single(np.tri),
        [plain(3), plain(2, 4), plain(3, k=1), plain(4, 3, -2), plain(0), plain(2, 0), plain(3, dtype="bool"), plain(2, k=5)],
        order=0,
        wrong=(
            Wrong(lambda: creation.tri("two"), TypeError),
            Wrong(lambda: creation.tri(matrix(2, dtype="int64")), TypeError),
            Wrong(lambda: creation.tri(2, dtype="complex64"), TypeError),
        ),
    ),
)

# -- reduction -------------------------------------------------------------------------------------------------------


def logsumexp(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    """scipy's, in the dtype in which NumPy takes a logarithm."""
    wide = scipy.special.logsumexp(x.astype("float64"), axis=axis, keepdims=keepdims)
    return np.asarray(wide).astype(as_floats(x.dtype))


def with_room(function: Callable[..., Any]) -> Callable[..., Array]:
    """A statistic by NumPy, in floats that have room for all sums and squares on the way."""

    def computed(x: Array, dtype: Any = None, **options: Any) -> Array:
        with np.errstate(all="ignore"):
            wide = x.astype(np.longdouble) if x.dtype.kind == "f" else x
            return np.asarray(function(wide, **options)).astype(dtype or as_quotients(x.dtype))

    return computed


def vector_norm(x: Array, ord: Any = 2, axis: Any = None, keepdims: bool = False) -> Array:
    """The p-norm by its definition, in the dtype of numpy.linalg.norm."""
    size = np.abs(x.astype(np.longdouble))
    if abs(ord) == INF:
        return np.asarray((np.max if ord > 0 else np.min)(size, axis=axis, keepdims=keepdims)).astype(as_quotients(x.dtype))
    total = np.sum(size**ord, axis=axis, keepdims=keepdims)
    return np.asarray(np.sqrt(total) if ord == 2 else total ** (1 / ord)).astype(as_quotients(x.dtype))


def no_elements(name: str) -> Wrong:
    """An extreme of nothing."""
    return Wrong(lambda: vars(mg)[name](matrix(2, 0), axis=1), ValueError)


SPREAD = (*AXES, one(2, 3, ddof=1), one(4, 2, axis=0, ddof=1, keepdims=True))
WITH_DTYPE = (
    Call(((2, 3),), options={"dtype": "float32"}, smooth=False),
    Call(((2, 3),), options={"axis": 0, "dtype": "float64"}),
)
IN_INTEGERS = tuple(Call(((2, 3),), options={"dtype": dtype}, smooth=False) for dtype in ("int32", "uint8", "bool"))
RUNNING = (
    Call(((2, 3),)),
    Call(((2, 3),), options={"axis": 0}),
    Call(((2, 3, 2),), options={"axis": -2}),
    Call(((),)),
    Call(((0,),)),
    Call(((1,),), options={"axis": 0}),
    Call(((2, 0),), options={"axis": 1}),
)

REDUCTIONS = (
    reducing("sum", calls=AXES + AXES_OF_NONE + WITH_DTYPE + IN_INTEGERS),
    reducing("prod", draw=off_zero, calls=AXES + AXES_OF_NONE + WITH_DTYPE + IN_INTEGERS),
    reducing("mean", with_room(np.mean), calls=AXES + WITH_DTYPE),
    reducing("var", with_room(np.var), calls=SPREAD, tolerance=4),
    reducing("std", with_room(np.std), calls=SPREAD, tolerance=4),
    reducing("max", calls=AXES, wrong=(no_elements("max"),)),
    reducing("min", calls=AXES, wrong=(no_elements("min"),)),
    reducing("ptp", calls=AXES, dtypes=NUMBERS, wrong=(no_elements("ptp"),)),
    reducing("any", order=0),
    reducing("all", order=0),
    reducing("argmax", calls=ONE_AXIS, order=0, wrong=(no_elements("argmax"),)),
    reducing("argmin", calls=ONE_AXIS, order=0, wrong=(no_elements("argmin"),)),
    reducing("logsumexp", logsumexp, calls=AXES, hard=HARD_ROWS, dtypes=EVERY),
    reducing(
        "norm",
        vector_norm,
        draw=off_zero,
        calls=(
            *AXES,
            *AXES_OF_NONE,
            one(2, 3, ord=1),
            one(2, 3, ord=3, axis=0),
            one(2, 3, ord=INF, axis=1),
            one(2, 3, ord=-INF, keepdims=True),
            one(2, 3, ord=1.5, axis=-1, keepdims=True),
        ),
        hard=HARD_ROWS,
        wrong=(
            Wrong(lambda: mg.norm(matrix(2, 3), ord=0), ValueError),
            Wrong(lambda: mg.norm(matrix(2, 3), ord="fro"), ValueError),
        ),
        tolerance=2,
    ),
    reducing("cumsum", calls=RUNNING),
    reducing("cumprod", calls=RUNNING, draw=off_zero),
)

# -- indexing --------------------------------------------------------------------------------------------------------


def key(size: tuple[int, ...], *parts: Any) -> Call:
    """A call x[parts]."""
    return Call((size,), (parts[0] if len(parts) == 1 else parts,))


S = slice
PICKS = np.array([2, 0, 0, 1])
KEYS = (
    key((3, 4), 1),
    key((3, 4), -1, 2),
    key((3, 4), S(1, None)),
    key((3, 4), S(None, None, -1), S(3, 0, -2)),
    key((3, 4), None, 0, ..., None),
    key((3, 4), ...),
    key((3, 4), ()),
    key((3, 4), PICKS),
    key((3, 4), S(None), PICKS),
    key((3, 4), PICKS, PICKS),
    key((3, 4), PICKS[:, None], PICKS[None, :2]),
    key((3, 4), np.array([True, False, True])),
    key((3, 4), np.arange(12).reshape(3, 4) % 2 == 0),
    key((2, 3, 4), 0, S(None), [0, 2]),
    key((2, 3, 4), [0, 1], S(None), [0, 2]),
    key((2, 3, 4), S(None), [0, 1], [0, 2]),
    key((2, 3, 4), ..., np.array([0, 1]), 1),
    key((3,), []),
    key((3,), S(2, 1)),
    key((0, 4), S(None), 1),
    key((0, 4), S(0, 0)),
    key((), ...),
    key((), None),
    key((3, 4), S(-100, 100)),
    key((3, 4), np.int64(1), np.array(2)),
)
WRITES = (
    *(Call((call.shapes[0], np.zeros(call.shapes[0])[call.args[0]].shape), call.args) for call in KEYS[:6] + KEYS[18:21]),
    Call(((3, 4), (4,)), (1,)),
    Call(((3, 4), ()), (S(1, None),)),
    Call(((3, 4), (1, 4)), (S(1, None),)),
    Call(((3, 4), (4, 4)), (PICKS,)),
    Call(((3, 4), (4,)), ((PICKS, PICKS),)),
    Call(((3, 4), (2, 4)), (np.array([True, False, True]),)),
)


def assigned(x: Array, value: Array, where: Any) -> Array:
    """x with x[where] replaced."""
    result = np.array(x)
    result[where] = value
    return result


def incremented(x: Array, value: Array, where: Any) -> Array:
    """x with `value` added to x[where], each time that it is picked."""
    result = np.array(x)
    np.add.at(result, where, value)
    return result


SORTED = (one(2, 3), one(2, 3, axis=0), one(5), one(2, 3, axis=None), one(0, 3), one(2, 0, axis=1), one(2, 3, 2, axis=-2))
HARD_SORT = ((np.array([[3.0, NAN, -INF, 0.0], [INF, -1.0, NAN, 2.0]]),), (np.array([[7, -128, 127]], "int8"),))


def writing(name: str, reference: Any) -> Record:
    """set_subtensor or inc_subtensor, called as f(x, value, key)."""
    op = vars(indexing)[name]
    return record(
        indexing,
        name,
        reference,
        WRITES,
        function=lambda x, value, where: op(as_variable(x)[where], value),
        dtypes=(*NUMBERS, ("float32", "int64"), ("float32", "float64"), ("int64", "int8")),
        wrong=(
            Wrong(lambda: op(matrix(2), 1.0), TypeError),
            Wrong(lambda: op(np.zeros(2), 1.0), TypeError),
            Wrong(lambda: op(matrix(3)[:2], matrix(3)), ValueError),
            Wrong(lambda: op(matrix(3, dtype="int64")[:2], matrix(2)), TypeError),
        ),
    )


def as_variable(x: Any) -> mg.Variable:
    """An operand as a variable."""
    return x if isinstance(x, mg.Variable) else mg.constant(x)


INDEXING = (
    restructuring(
        indexing,
        "index",
        lambda x, where: x[where],
        KEYS,
        wrong=(
            Wrong(lambda: matrix(3, 4)[3], IndexError),
            Wrong(lambda: matrix(3, 4)[0, -5], IndexError),
            Wrong(lambda: matrix(3, 4)[0, 0, 0], IndexError),
            Wrong(lambda: matrix(3, 4)[..., 0, ...], IndexError),
            Wrong(lambda: matrix(3, 4)["a"], TypeError),
            Wrong(lambda: matrix(3, 4)[1.5], TypeError),
            Wrong(lambda: matrix(3, 4)[matrix(2)], TypeError),
            Wrong(lambda: matrix(3, 4)[::0], ValueError),
            Wrong(lambda: matrix(3, 4)[matrix(2, dtype="int64") :], TypeError),
            Wrong(lambda: matrix(3, 4)[[0, 1], [0, 1, 2]], ValueError),
        ),
    ),
    writing("set_subtensor", assigned),
    writing("inc_subtensor", incremented),
    restructuring(
        indexing,
        "take",
        np.take,
        [
            with_arguments((3, 4), PICKS),
            with_arguments((3, 4), PICKS, axis=0),
            with_arguments((3, 4), PICKS.reshape(2, 2), axis=1),
            with_arguments((3, 4), 1, axis=-1),
            with_arguments((3, 4), 5),
            with_arguments((3,), np.array([], "int64"), axis=0),
        ],
        wrong=(
            Wrong(lambda: indexing.take(matrix(3, 4), [0], axis=2), ValueError),
            Wrong(lambda: indexing.take(matrix(3, 4), 0.5, axis=0), TypeError),
            Wrong(lambda: indexing.take(matrix(3, 4), 3, axis=0), IndexError),
        ),
    ),
    record(
        indexing,
        "take_along_axis",
        np.take_along_axis,
        [Call(((3, 4), (3, 2)), (1,)), Call(((3, 4), (2, 4)), (0,)), Call(((4,), (6,)), (-1,)), Call(((3, 4), (3, 0)), (1,))],
        dtypes=(("float64", "int64"), ("float32", "int32"), ("int8", "uint8"), ("bool", "int64"), ("float16", "int8")),
        draws=(anything, below(3)),
        wrong=(
            Wrong(lambda: indexing.take_along_axis(matrix(3, 4), matrix(3, dtype="int64"), 1), TypeError),
            Wrong(lambda: indexing.take_along_axis(matrix(3, 4), matrix(3, 4, dtype="int64"), 2), ValueError),
            Wrong(lambda: indexing.take_along_axis(matrix(3, 4), matrix(3, 4), 1), TypeError),
        ),
    ),
    restructuring(
        indexing,
        "sort",
        np.sort,
        SORTED,
        hard=HARD_SORT,
        wrong=(*no_array(indexing.sort), Wrong(lambda: indexing.sort(matrix(2, 3), axis=2), ValueError)),
    ),
    restructuring(
        indexing,
        "argsort",
        lambda x, axis=-1: np.argsort(x, axis=axis, kind="stable"),
        SORTED,
        hard=HARD_SORT,
        order=0,
        wrong=(*no_array(indexing.argsort), Wrong(lambda: indexing.argsort(matrix(2, 3), axis=-3), ValueError)),
    ),
    restructuring(
        indexing,
        "nonzero",
        np.nonzero,
        [one(2, 3), one(6), one(0, 2), one(1)],
        order=0,
        wrong=(Wrong(lambda: indexing.nonzero(matrix()), TypeError), Wrong(lambda: indexing.nonzero("text"), TypeError)),
        draws=(below(2),),
    ),
    restructuring(
        indexing,
        "unique",
        np.unique,
        [one(8), one(2, 3), one(), one(0)],
        order=0,
        wrong=no_array(indexing.unique),
        draws=(below(4),),
    ),
)

# -- arranging -------------------------------------------------------------------------------------------------------


def several(*sizes: tuple[int, ...], **options: Any) -> Call:
    """A call on a list of operands."""
    return Call(sizes, options=options)


def joined(function: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's joining of arrays, promoted by our law first."""
    return lambda arrays, **options: function([one.astype(common(*[a.dtype for a in arrays])) for one in arrays], **options)


ARRANGING = (
    record(
        arranging,
        "concatenate",
        joined(np.concatenate),
        [
            several((2, 3), (1, 3)),
            several((2, 3), (2, 2), (2, 1), axis=1),
            several((2, 3), axis=-1),
            several((0,), (3,)),
            several((2, 0), (2, 2), axis=1),
            several((2, 1, 3), (2, 2, 3), axis=-2),
        ],
        dtypes=(*EVERY, *MIXED),
        convention=listed,
        wrong=(
            Wrong(lambda: arranging.concatenate([]), ValueError),
            Wrong(lambda: arranging.concatenate([matrix(2, 3), matrix(2, 4)]), ValueError),
            Wrong(lambda: arranging.concatenate([matrix(2, 3), matrix(2)]), TypeError),
            Wrong(lambda: arranging.concatenate([matrix(), matrix()]), ValueError),
            Wrong(lambda: arranging.concatenate([matrix(2)], axis=1), ValueError),
        ),
    ),
    record(
        arranging,
        "stack",
        joined(np.stack),
        [several((2, 3), (2, 3)), several((3,), (3,), (3,), axis=1), several((), ()), several((0,), (0,), axis=-1)],
        dtypes=(*EVERY, *MIXED),
        convention=listed,
        wrong=(
            Wrong(lambda: arranging.stack([]), ValueError),
            Wrong(lambda: arranging.stack([matrix(2), matrix(3)]), ValueError),
            Wrong(lambda: arranging.stack([matrix(2), matrix(2)], axis=2), ValueError),
        ),
    ),
    restructuring(
        arranging,
        "split",
        np.split,
        [
            Call(((6, 2),), (3,), known=True),
            with_arguments((6, 2), [1, 4]),
            with_arguments((2, 6), (2,), axis=1),
            Call(((2, 6),), (2,), {"axis": -1}, known=True),
            Call(((0,),), (2,), known=True),
            with_arguments((3,), [5]),
        ],
        project=raveled,
        wrong=(
            Wrong(lambda: arranging.split(matrix(5), 2), ValueError),
            Wrong(lambda: arranging.split(matrix(4), 0), ValueError),
            Wrong(lambda: arranging.split(matrix(4), 2, axis=1), ValueError),
        ),
    ),
    restructuring(
        arranging,
        "tile",
        np.tile,
        [
            with_arguments((2, 3), 2),
            with_arguments((2, 3), (2, 1)),
            with_arguments((3,), (2, 2)),
            with_arguments((), 3),
            with_arguments((2, 3), (1, 0)),
            with_arguments((0,), 2),
            with_arguments((2, 3), (2,)),
        ],
        wrong=(
            Wrong(lambda: arranging.tile(matrix(2), "twice"), TypeError),
            Wrong(lambda: arranging.tile(matrix(2), (1.5,)), TypeError),
            Wrong(lambda: arranging.tile(matrix(2), -1), ValueError),
        ),
    ),
    restructuring(
        arranging,
        "repeat",
        np.repeat,
        [
            with_arguments((2, 3), 2),
            with_arguments((2, 3), 2, axis=0),
            with_arguments((2, 3), 3, axis=-1),
            with_arguments((), 3),
            with_arguments((2,), 0),
            with_arguments((0,), 2),
        ],
        wrong=(
            Wrong(lambda: arranging.repeat(matrix(2), [1, 2]), TypeError),
            Wrong(lambda: arranging.repeat(matrix(2), 2, axis=1), ValueError),
            Wrong(lambda: arranging.repeat(matrix(2), -1), ValueError),
            Wrong(lambda: arranging.repeat(matrix(2), 1.5), TypeError),
        ),
    ),
    restructuring(
        arranging,
        "flip",
        np.flip,
        [one(2, 3), one(2, 3, axis=0), one(2, 3, 4, axis=(0, -1)), one(), one(0, 2)],
        wrong=(
            Wrong(lambda: arranging.flip(matrix(2, 3), axis=2), ValueError),
            Wrong(lambda: arranging.flip(matrix(2, 3), axis=(0, 0)), ValueError),
        ),
    ),
    restructuring(
        arranging,
        "roll",
        np.roll,
        [
            with_arguments((2, 3), 1),
            with_arguments((2, 3), -2, axis=1),
            with_arguments((5,), 12, axis=0),
            with_arguments((0,), 1),
            with_arguments((), 1),
        ],
        wrong=(
            Wrong(lambda: arranging.roll(matrix(2, 3), 1, axis=2), ValueError),
            Wrong(lambda: arranging.roll(matrix(2, 3), "one"), TypeError),
            Wrong(lambda: arranging.roll(matrix(2, 3), 0.5), TypeError),
        ),
    ),
    restructuring(
        arranging,
        "pad",
        np.pad,
        [
            with_arguments((2, 3), 1),
            with_arguments((2, 3), (1, 2)),
            with_arguments((2, 3), ((0, 1), (2, 0))),
            with_arguments((3,), (1, 0), constant_values=1),
            with_arguments((0,), 2),
            with_arguments((2,), 0),
        ],
        wrong=(
            Wrong(lambda: arranging.pad(matrix(2, 3), -1), ValueError),
            Wrong(lambda: arranging.pad(matrix(2, 3), 1.5), ValueError),
            Wrong(lambda: arranging.pad(matrix(2, 3), ((1, 1),) * 3), ValueError),
        ),
    ),
    restructuring(
        arranging,
        "diag",
        np.diag,
        [
            one(3),
            with_arguments((3,), 1),
            with_arguments((2,), -2),
            one(3, 3),
            with_arguments((3, 4), 1),
            with_arguments((4, 3), -2),
            with_arguments((2, 3), 5),
            one(0, 0),
            one(0),
        ],
        wrong=(Wrong(lambda: arranging.diag(matrix()), TypeError), Wrong(lambda: arranging.diag(matrix(2, 2, 2)), TypeError)),
    ),
    restructuring(
        arranging,
        "tril",
        np.tril,
        [one(3, 3), with_arguments((3, 4), 1), with_arguments((4, 3), -2), one(2, 3, 3), one(0, 2)],
        wrong=(Wrong(lambda: arranging.tril(matrix(2)), TypeError), Wrong(lambda: arranging.tril("text"), TypeError)),
    ),
    restructuring(
        arranging,
        "triu",
        np.triu,
        [one(3, 3), with_arguments((3, 4), 1), with_arguments((4, 3), -2), one(2, 3, 3), one(0, 2)],
        wrong=(Wrong(lambda: arranging.triu(matrix(2)), TypeError), Wrong(lambda: arranging.triu("text"), TypeError)),
    ),
    record(
        arranging,
        "outer",
        np.outer,
        [Call(((2,), (3,))), Call(((2, 2), (3,))), Call(((), (2,))), Call(((0,), (3,)))],
        dtypes=(*EVERY, *MIXED),
        converted=common,
        wrong=(*no_array(arranging.outer, 1), Wrong(lambda: arranging.outer(matrix(2), "text"), TypeError)),
    ),
)

# -- activation ------------------------------------------------------------------------------------------------------


def wide(function: Callable[..., Any]) -> Callable[..., Any]:
    """A reference computed in float64 and rounded to the dtype of its first operand."""
    return lambda x, *rest, **options: np.asarray(function(x.astype("float64"), *rest, **options)).astype(x.dtype)


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

# -- linear ----------------------------------------------------------------------------------------------------------


def two(left: tuple[int, ...], right: tuple[int, ...], *args: Any, **options: Any) -> Call:
    """A call on two operands."""
    return Call((left, right), args, options)


def batchwise(a: Array, b: Array) -> Array:
    """The dot products of the elements of two stacks."""
    return np.stack([np.dot(left, right) for left, right in zip(a, b, strict=True)])


PRODUCT_DTYPES = ("float64", "float32", "float16", "int64", "int8", "uint8", ("int32", "float32"), ("float32", "float64"))
HARD_PRODUCT = ((np.array([[1.0, NAN], [INF, 0.0]]), np.array([[0.0, 1.0], [1.0, -INF]])),)


def product(name: str, reference: Any, calls: Iterable[Call], *wrong: Wrong, **facts: Any) -> Record:
    """A product of matrices."""
    facts = {"dtypes": PRODUCT_DTYPES, "converted": common, "hard": HARD_PRODUCT, "tolerance": 4, **facts}
    return record(linear, name, reference, calls, wrong=wrong, **facts)


LINEAR = (
    product(
        "matmul",
        np.matmul,
        [
            two((2, 3), (3, 4)),
            two((3,), (3, 4)),
            two((2, 3), (3,)),
            two((3,), (3,)),
            two((5, 2, 3), (5, 3, 4)),
            two((5, 2, 3), (3, 4)),
            two((2, 3), (5, 3, 4)),
            two((1, 2, 3), (5, 3, 4)),
            two((2, 1, 2, 3), (4, 3, 2)),
            two((0, 3), (3, 4)),
            two((2, 0), (0, 4)),
            two((3,), (5, 3, 4)),
            two((5, 2, 3), (3,)),
        ],
        Wrong(lambda: linear.matmul(matrix(2, 3), matrix(4, 3)), ValueError),
        Wrong(lambda: linear.matmul(matrix(2, 3), 2.0), TypeError),
        Wrong(lambda: linear.matmul(matrix(2, 3), "text"), TypeError),
        Wrong(lambda: linear.matmul(matrix(2, 2, 3), matrix(4, 3, 2)), ValueError),
    ),
    product(
        "dot",
        np.dot,
        [
            two((2, 3), (3, 4)),
            two((3,), (3,)),
            two((2, 3), (3,)),
            two((3,), (3, 2)),
            two((), (3,)),
            two((2, 3), ()),
            two((2, 4, 3), (5, 3, 2)),
            two((2, 4, 3), (3,)),
            two((2, 0), (0, 3)),
        ],
        Wrong(lambda: linear.dot(matrix(2, 3), matrix(2, 3)), ValueError),
        Wrong(lambda: linear.dot("text", matrix(2)), TypeError),
        Wrong(lambda: linear.dot(matrix(2, 3, 4), matrix(3, 5)), ValueError),
    ),
    product(
        "tensordot",
        np.tensordot,
        [
            two((2, 3, 4), (3, 4, 5)),
            two((2, 3), (3, 4), 1),
            two((2, 3), (4,), 0),
            two((2, 3, 4), (4, 2), ([0, 2], [1, 0])),
            two((2, 3), (3, 2), axes=(1, 0)),
            two((2, 3), (2, 4), axes=(-2, -2)),
            two((2, 0), (0, 3), 1),
        ],
        Wrong(lambda: linear.tensordot(matrix(2, 3), matrix(2, 3), 1), ValueError),
        Wrong(lambda: linear.tensordot(matrix(2, 3), matrix(2, 3), 3), ValueError),
        Wrong(lambda: linear.tensordot(matrix(2, 3), matrix(2, 3), ([0], [0, 1])), ValueError),
        Wrong(lambda: linear.tensordot(matrix(2, 3), matrix(2, 3), ([2], [0])), ValueError),
        hard=(),
    ),
    product(
        "batched_dot",
        batchwise,
        [
            two((5, 2, 3), (5, 3, 4)),
            two((5, 3), (5, 3)),
            two((5, 2, 3), (5, 3)),
            two((5, 3), (5, 3, 4)),
            two((2, 0, 3), (2, 3, 4)),
        ],
        Wrong(lambda: linear.batched_dot(matrix(3), matrix(3)), TypeError),
        Wrong(lambda: linear.batched_dot(matrix(5, 2, 3), matrix(4, 3, 2)), ValueError),
        Wrong(lambda: linear.batched_dot(matrix(5, 2, 3), matrix(5, 4, 2)), ValueError),
        hard=(),
    ),
    product(
        "einsum",
        np.einsum,
        [
            Call(((2, 3), (3, 4)), ("ij,jk->ik",)),
            Call(((2, 3), (3, 4)), ("ij,jk",)),
            Call(((2, 3),), ("ij->ji",)),
            Call(((2, 3),), ("ij->i",)),
            Call(((2, 3),), ("ij->",)),
            Call(((3, 3),), ("ii->i",)),
            Call(((3, 3),), ("ii",)),
            Call(((5, 2, 3), (5, 3, 4)), ("...ij,...jk->...ik",)),
            Call(((2, 3), (3, 4), (4, 2)), ("ij,jk,kl->il",)),
            Call(((2,), (3,)), ("i,j->ij",)),
            Call(((2, 3), (2, 3)), ("ij,ij->",)),
            Call(((2, 3, 2), (4,)), ("iji,k->jk",)),
            Call(((0, 3), (3, 2)), ("ij,jk->ik",)),
            Call(((2, 3), (3, 4)), (" ij, jk -> ik ",)),
        ],
        Wrong(lambda: linear.einsum("ij,jk->ik", matrix(2, 3)), ValueError),
        Wrong(lambda: linear.einsum("ij->ii", matrix(2, 3)), ValueError),
        Wrong(lambda: linear.einsum("ij->k", matrix(2, 3)), ValueError),
        Wrong(lambda: linear.einsum("ij,jk->ik", matrix(2, 3), matrix(4, 2)), ValueError),
        Wrong(lambda: linear.einsum("i->i", matrix(2, 3)), ValueError),
        Wrong(lambda: linear.einsum("i1->i", matrix(2, 3)), ValueError),
        convention=arguments_first,
    ),
)

# -- linalg ----------------------------------------------------------------------------------------------------------

SQUARE = (one(3, 3), one(2, 2), one(1, 1), one(4, 2, 2), one(2, 3, 4, 4))
MATRIX_DTYPES = ("float64", "float32", "int64")


def not_matrices(function: Callable[..., Any], square: bool = True) -> tuple[Wrong, ...]:
    """What an op on matrices refuses."""
    oblong = (Wrong(lambda: function(matrix(2, 3)), ValueError),) if square else ()
    return (Wrong(lambda: function(matrix(3)), TypeError), Wrong(lambda: function("text"), TypeError), *oblong)


def on_matrices(name: str, reference: Any = None, calls: Iterable[Call] = SQUARE, **facts: Any) -> Record:
    """An op of mg.linalg on one stack of matrices."""
    square = facts.pop("square", True)
    function = vars(linalg)[name]
    facts = {"dtypes": MATRIX_DTYPES, "draws": (well_conditioned,), "tolerance": 40, **facts}
    facts.setdefault("wrong", not_matrices(function, square))
    return record(linalg, name, reference or vars(np.linalg)[name], calls, **facts)


def without_signs(*factors: Any) -> list[Any]:
    """The magnitudes of factors whose columns' signs are arbitrary."""
    return [abs(one) for one in factors]


def squared(*factors: mg.Variable) -> mg.Variable:
    """The squares of factors whose columns' signs are arbitrary, as one vector."""
    return raveled(*[one * one for one in factors])


def magnitudes(name: str, reference: Any, **facts: Any) -> Record:
    """A factorization, compared without the signs that are arbitrary in it."""
    function = vars(linalg)[name]
    return on_matrices(
        name,
        lambda *args: without_signs(*reference(*args)),
        function=lambda *args: without_signs(*function(*args)),
        project=squared,
        like_numpy=False,
        **facts,
    )


def solved(a: Array, b: Array) -> Array:
    """numpy.linalg.solve, with one vector taken for a column."""
    return np.linalg.solve(a, b[..., None])[..., 0] if b.ndim == 1 else np.linalg.solve(a, b)


LINALG = (
    on_matrices("inv"),
    on_matrices("det"),
    on_matrices("slogdet", project=lambda sign, logarithm: logarithm + sign),
    on_matrices("cholesky", symmetric=True, draws=(positive_definite,), dtypes=("float64", "float32")),
    on_matrices(
        "solve",
        solved,
        [
            two((3, 3), (3, 2)),
            two((3, 3), (3,)),
            two((4, 2, 2), (4, 2, 1)),
            two((1, 2, 2), (4, 2, 1)),
            two((4, 2, 2), (1, 2, 3)),
        ],
        draws=(well_conditioned, anything),
        dtypes=("float64", "float32", ("float32", "float64"), ("int64", "int64")),
        wrong=(
            Wrong(lambda: linalg.solve(matrix(2, 3), matrix(3, 1)), ValueError),
            Wrong(lambda: linalg.solve(matrix(3, 3), matrix(2, 1)), ValueError),
            Wrong(lambda: linalg.solve(matrix(3), matrix(3)), TypeError),
        ),
    ),
    magnitudes(
        "eigh",
        np.linalg.eigh,
        symmetric=True,
        draws=(positive_definite,),
        calls=(one(3, 3), one(1, 1), one(2, 3, 3)),
        dtypes=("float64", "float32"),
    ),
    magnitudes(
        "svd",
        lambda a: np.linalg.svd(a, full_matrices=False),
        calls=(one(3, 3), one(4, 2), one(2, 3), one(2, 3, 2)),
        square=False,
        dtypes=("float64", "float32"),
    ),
    magnitudes("qr", np.linalg.qr, calls=(one(3, 3), one(4, 2), one(2, 3, 2)), square=False, dtypes=("float64", "float32")),
    on_matrices(
        "norm",
        calls=(
            one(2, 3),
            one(3),
            one(2, 3, axis=1),
            one(2, 3, ord="fro"),
            one(3, ord=1),
            one(2, 3, axis=0, ord=INF, keepdims=True),
        ),
        draws=(off_zero,),
        dtypes=("float64", "float32", "int64", "int8"),
        wrong=(
            Wrong(lambda: linalg.norm(matrix(2, 3), 2), ValueError),
            Wrong(lambda: linalg.norm(matrix(2, 3), axis=2), ValueError),
            Wrong(lambda: linalg.norm("text"), TypeError),
        ),
    ),
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

# -- normalization ---------------------------------------------------------------------------------------------------


def statistics_dtype(x: Array) -> Any:
    """The dtype of the statistics of x."""
    return "float32" if x.dtype.itemsize == 2 else x.dtype


def centered(x: Array, axes: Any) -> tuple[Array, Array]:
    """x minus its mean, and the mean."""
    mean = x.astype("float64").mean(axes, keepdims=True)
    return (x - mean).astype(x.dtype), mean.astype(statistics_dtype(x))


def standardized(x: Array, axes: Any, epsilon: float = 1e-4) -> tuple[Array, Array, Array]:
    """x normalized, with its mean and its standard deviation."""
    exact = x.astype("float64")
    mean, stdev = exact.mean(axes, keepdims=True), np.sqrt(exact.var(axes, keepdims=True) + epsilon)
    narrow = statistics_dtype(x)
    return ((exact - mean) / stdev).astype(x.dtype), mean.astype(narrow), stdev.astype(narrow)


def not_normalizable(function: Callable[..., Any]) -> tuple[Wrong, ...]:
    """What cannot be normalized."""
    return (
        Wrong(lambda: function(matrix(2, 3, dtype="int64"), 0), TypeError),
        Wrong(lambda: function(matrix(2, 3), ()), ValueError),
        Wrong(lambda: function(matrix(2, 3), 2), ValueError),
    )


NORMALIZED = (
    with_arguments((4, 3), 0),
    with_arguments((4, 3, 2), (0, 2)),
    with_arguments((2, 3), -1),
    with_arguments((1, 3), 0),
    with_arguments((0, 3), 1),
)
NORMALIZATION = (
    record(normalization, "center", centered, NORMALIZED, wrong=not_normalizable(normalization.center), project=raveled),
    record(
        normalization,
        "standardize",
        standardized,
        (*NORMALIZED, with_arguments((4, 3), 0, epsilon=0.5)),
        wrong=(
            *not_normalizable(normalization.standardize),
            Wrong(lambda: normalization.standardize(matrix(2, 3), 0, epsilon=-1.0), ValueError),
        ),
        project=raveled,
    ),
    record(
        normalization,
        "normalize_by",
        lambda x, mean, *stdev: ((x - mean) / stdev[0] if stdev else x - mean).astype(x.dtype),
        [Call(((4, 3), (1, 3), (1, 3))), Call(((4, 3), (1, 3))), Call(((4, 3), (3,), ())), Call(((0, 3), (1, 3), (1, 3)))],
        dtypes=("float64", "float32", ("float16", "float32", "float32")),
        draws=(anything, anything, between(0.5, 2.0)),
        wrong=(
            Wrong(lambda: normalization.normalize_by(matrix(2, 3, dtype="int64"), matrix(1, 3)), TypeError),
            Wrong(lambda: normalization.normalize_by(matrix(2, 3), matrix(1, 4)), ValueError),
        ),
    ),
)

# -- control ---------------------------------------------------------------------------------------------------------

COUNTER = mg.shared(np.zeros(2, "float32"), name="counter")


def untouched(x: Array, *rest: Any) -> Array:
    """x itself."""
    return x.copy()


def plainly(op: Callable[..., Any], *rest: Any) -> tuple[Call, ...]:
    """Calls of an op that passes its operand through."""
    return (with_arguments((2, 3), *rest), with_arguments((), *rest), with_arguments((0,), *rest))


CONTROL = (
    restructuring(
        control,
        "assert_",
        untouched,
        [with_arguments((2, 3), True), with_arguments((), np.array([1, 2])), with_arguments((0,), np.array([], "bool"))],
        wrong=(
            Wrong(lambda: control.assert_("text", True), TypeError),
            Wrong(lambda: control.assert_(matrix(2), "text"), TypeError),
        ),
    ),
    record(
        control,
        "ifelse",
        lambda condition, a, b: (a if condition != 0 else b).astype(common(a.dtype, b.dtype)),
        [Call(((), (2, 3), (2, 3))), Call(((), (), ())), Call(((), (0,), (0,))), Call(((), (2, 3), (4, 3)))],
        dtypes=(
            ("bool", "float64", "float64"),
            ("bool", "float32", "int64"),
            ("int64", "int8", "int8"),
            ("float32", "bool", "bool"),
        ),
        draws=(flags, anything, anything),
        wrong=(
            Wrong(lambda: control.ifelse(matrix(2, dtype="bool"), 1.0, 2.0), TypeError),
            Wrong(lambda: control.ifelse(True, matrix(2), matrix(2, 3)), TypeError),
            Wrong(lambda: control.ifelse(True, matrix(1), matrix(2)), TypeError),
        ),
    ),
    restructuring(
        control,
        "with_default_update",
        untouched,
        plainly(control.with_default_update, {COUNTER: COUNTER + 1}),
        wrong=(
            Wrong(lambda: control.with_default_update(matrix(2), {matrix(2): 1.0}), TypeError),
            Wrong(lambda: control.with_default_update(matrix(2), {COUNTER: matrix(3)}), TypeError),
            Wrong(lambda: control.with_default_update(matrix(2), {COUNTER: matrix(2, dtype="float64")}), TypeError),
        ),
    ),
    restructuring(
        control,
        "disconnected_grad",
        untouched,
        plainly(control.disconnected_grad),
        order=0,
        wrong=no_array(control.disconnected_grad),
    ),
    restructuring(
        control,
        "grad_clip",
        untouched,
        plainly(control.grad_clip, -100, 100),
        wrong=(
            *no_array(control.grad_clip, 0, 1),
            Wrong(lambda: control.grad_clip(matrix(2), "low", 1), ValueError, plain=True),
        ),
    ),
    restructuring(
        control,
        "grad_scale",
        untouched,
        plainly(control.grad_scale, 1.0),
        wrong=(*no_array(control.grad_scale, 2), Wrong(lambda: control.grad_scale(matrix(2), "twice"), ValueError, plain=True)),
    ),
    restructuring(
        control,
        "grad_reverse",
        untouched,
        plainly(control.grad_reverse, -1.0),
        wrong=(
            *no_array(control.grad_reverse, 2),
            Wrong(lambda: control.grad_reverse(matrix(2), "twice"), TypeError, plain=True),
        ),
    ),
)

# -- windows, convolution, pooling -----------------------------------------------------------------------------------


def filtering(x: tuple[int, ...], filters: tuple[int, ...], **options: Any) -> Call:
    """A call on an array and filters."""
    return Call((x, filters), (), options, known=True)


def convolution_record(name: str, reference: Any, calls: Iterable[Call], *wrong: Wrong) -> Record:
    """A convolution or its transpose."""
    return record(convolution, name, reference, calls, dtypes=(*FLOATS, ("float32", "float64")), wrong=wrong, tolerance=4)


WINDOWS = (
    record(
        windows,
        "windows",
        by_hand.windows,
        [
            with_arguments((5,), 2, (0,)),
            with_arguments((2, 7, 6), (3, 2), (1, 2), (2, 1), (1, 3)),
            with_arguments((3, 4), 1, (1,), 2),
            with_arguments((0, 4), 4, (1,)),
        ],
        dtypes=EVERY,
        wrong=(
            Wrong(lambda: windows.windows(matrix(2, 3), 4, (1,)), ValueError),
            Wrong(lambda: windows.windows(matrix(2, 3), 2, (2,)), ValueError),
            Wrong(lambda: windows.windows(matrix(2, 3), (2, 2), (1,)), ValueError),
            Wrong(lambda: windows.windows(matrix(2, 3), 0, (1,)), ValueError),
            Wrong(lambda: windows.windows(matrix(2, 3), 2, (1,), 1.5), TypeError),
            Wrong(lambda: windows.windows("text", 2, (1,)), TypeError),
        ),
    ),
    record(
        windows,
        "overlap",
        by_hand.overlap,
        [
            Call(((4, 2),), (5, (0,)), {}, known=True),
            Call(((2, 3, 2, 3, 2),), ((7, 4), (1, 2), (2, 1), (1, 2)), {}, known=True),
            Call(((2, 3, 2),), ((7,), (1,), 2), {}, known=True),
            Call(((0, 1, 4),), ((4,), (1,)), {}, known=True),
        ],
        dtypes=NUMBERS,
        wrong=(
            Wrong(lambda: windows.overlap(matrix(3, 2), 5, (0,)), ValueError),
            Wrong(lambda: windows.overlap(matrix(3, None), 5, (0,)), ValueError),
            Wrong(lambda: windows.overlap(matrix(3, 2), 4, (0,), (1, 1)), ValueError),
            Wrong(lambda: windows.overlap(matrix(3, 2), 1, (0,)), ValueError),
        ),
    ),
)

CONVOLUTION = (
    convolution_record(
        "conv1d",
        by_hand.convolved,
        [
            filtering((2, 3, 7), (4, 3, 3)),
            filtering((2, 4, 8), (6, 2, 3), stride=2, padding=((2, 1),), dilation=2, groups=2),
            filtering((2, 1, 3), (2, 1, 3), padding="full", flip_filters=True),
        ],
        Wrong(lambda: convolution.conv1d(matrix(2, 3, 7), matrix(4, 2, 3)), ValueError),
        Wrong(lambda: convolution.conv1d(matrix(2, 3, 2), matrix(4, 3, 3)), ValueError),
        Wrong(lambda: convolution.conv1d(matrix(3, 7), matrix(4, 3, 3)), TypeError),
        Wrong(lambda: convolution.conv1d(matrix(2, 3, None), matrix(4, 3, 3), 2, "same"), ValueError),
    ),
    convolution_record(
        "conv2d",
        by_hand.convolved,
        [
            filtering((2, 3, 5, 4), (4, 3, 3, 2)),
            filtering((2, 4, 7, 6), (4, 1, 2, 3), stride=(2, 1), padding="same", groups=4),
            filtering((1, 2, 5, 5), (3, 2, 2, 2), padding=((1, 0), 2), dilation=(1, 2), stride=2),
            filtering((0, 2, 5, 5), (3, 2, 2, 2)),
        ],
        Wrong(lambda: convolution.conv2d(matrix(2, 3, 5, 5), matrix(4, 3, 3, 3), groups=2), ValueError),
        Wrong(lambda: convolution.conv2d(matrix(2, 4, 5, 5), matrix(3, 2, 3, 3), groups=2), ValueError),
        Wrong(lambda: convolution.conv2d(matrix(2, 3, 5, 5), matrix(4, 3, 3, 3), groups=0), ValueError),
        Wrong(lambda: convolution.conv2d(matrix(2, 3, 5, 5), matrix(4, 3, 3, 3), padding="half"), ValueError),
        Wrong(lambda: convolution.conv2d(matrix(2, 3, 5, 5), matrix(4, 3, 3, 3), padding=(1, 2, 3)), ValueError),
        Wrong(lambda: convolution.conv2d(matrix(2, 3, 5, 5), matrix(4, 3, 3, 3), padding=-1), ValueError),
        Wrong(lambda: convolution.conv2d(matrix(2, 3, 5, 5), matrix(4, 3, 3, 3), stride=0), ValueError),
        Wrong(lambda: convolution.conv2d(matrix(2, 3, 5, 5), matrix(4, 3, None, 3)), ValueError),
        Wrong(lambda: convolution.conv2d("text", matrix(4, 3, 3, 3)), TypeError),
    ),
    convolution_record(
        "conv3d",
        by_hand.convolved,
        [filtering((2, 2, 4, 3, 5), (3, 2, 2, 2, 3)), filtering((1, 2, 3, 4, 3), (2, 2, 2, 3, 1), stride=2, padding=1)],
        Wrong(lambda: convolution.conv3d(matrix(2, 3, 5, 5), matrix(4, 3, 3, 3)), TypeError),
        Wrong(lambda: convolution.conv3d("text", matrix(4, 3, 3)), TypeError),
    ),
    convolution_record(
        "conv_transpose1d",
        by_hand.transposed,
        [
            filtering((2, 3, 4), (3, 4, 3)),
            filtering((2, 4, 3), (4, 2, 3), stride=3, padding=((1, 2),), output_padding=2, dilation=2, groups=2),
            filtering((2, 3, 4), (3, 4, 3), stride=2, flip_filters=True),
        ],
        Wrong(lambda: convolution.conv_transpose1d(matrix(2, 3, 7), matrix(4, 2, 3)), ValueError),
        Wrong(lambda: convolution.conv_transpose1d("text", matrix(4, 3, 3)), TypeError),
    ),
    convolution_record(
        "conv_transpose2d",
        by_hand.transposed,
        [
            filtering((2, 3, 3, 2), (3, 2, 2, 3)),
            filtering((2, 4, 3, 2), (4, 1, 3, 2), stride=(2, 3), padding=1, output_padding=(1, 0), groups=2),
            filtering((2, 4, 3, 2), (4, 1, 3, 2), stride=(2, 3), padding=1, groups=2, flip_filters=True),
        ],
        Wrong(lambda: convolution.conv_transpose2d(matrix(2, 3, 4, 4), matrix(3, 2, 3, 3), 2, 0, 2), ValueError),
        Wrong(lambda: convolution.conv_transpose2d(matrix(2, 3, 4, 4), matrix(3, 2, 3, 3), groups=2), ValueError),
        Wrong(lambda: convolution.conv_transpose2d(matrix(2, 3, 4, 4), matrix(3, 2, 3, 3), 1, "same"), ValueError),
    ),
    convolution_record(
        "conv_transpose3d",
        by_hand.transposed,
        [
            filtering((1, 2, 2, 3, 2), (2, 2, 2, 2, 3), stride=2),
            filtering((1, 1, 2, 1, 2), (1, 1, 1, 2, 1)),
            filtering((1, 1, 2, 1, 2), (1, 1, 1, 2, 2), flip_filters=True),
        ],
        Wrong(lambda: convolution.conv_transpose3d(matrix(2, 3, 4, 4), matrix(3, 2, 3, 3)), TypeError),
        Wrong(lambda: convolution.conv_transpose3d("text", matrix(4, 3, 3)), TypeError),
    ),
)

POOLING = (
    record(
        pooling,
        "max_pool",
        partial(by_hand.pooled, "max"),
        [
            with_arguments((2, 3, 6, 4), 2),
            with_arguments((2, 3, 7, 5), (2, 3)),
            Call(((2, 2, 6, 5),), ((3, 2), (2, 1), 1), {}, known=True),
            Call(((2, 2, 6, 5),), (3, 2), {"padding": (1, 0), "ignore_border": False}),
            with_arguments((2, 6), (3,), 1),
        ],
        wrong=(
            Wrong(lambda: pooling.max_pool(matrix(2, 3, 5, 5), 6), ValueError),
            Wrong(lambda: pooling.max_pool(matrix(2, 3, 5, 5), 2, 0), ValueError),
            Wrong(lambda: pooling.max_pool(matrix(2, 3, 5, 5), 2, padding=2), ValueError),
            Wrong(lambda: pooling.max_pool(matrix(2, 3), 2), TypeError),
            Wrong(lambda: pooling.max_pool(matrix(2, 3, None), 2, padding=2, ignore_border=False), ValueError),
            Wrong(lambda: pooling.max_pool("text", 2), TypeError),
        ),
    ),
    record(
        pooling,
        "average_pool",
        partial(by_hand.pooled, "mean"),
        [
            with_arguments((2, 3, 6, 4), 2),
            Call(((2, 2, 6, 5),), ((3, 2), (2, 1), 1), {}, known=True),
            Call(((2, 2, 6, 5),), (3, 2, 1), {"count_padding": False}, known=True),
            Call(((2, 2, 6, 4),), (3, 2), {"ignore_border": False, "count_padding": False}),
            Call(((2, 2, 6, 5),), (3, 2, 1), {"ignore_border": False}),
            with_arguments((2, 1, 6), 3, 1),
        ],
        wrong=(
            Wrong(lambda: pooling.average_pool(matrix(2, 3, 5, 5), (2, 2, 2, 2, 2)), TypeError),
            Wrong(lambda: pooling.average_pool(matrix(2, 3, 5, 5), 2, padding=(1, 1, 1)), ValueError),
        ),
    ),
    record(
        pooling,
        "global_average_pool",
        lambda x, keepdims=False: x.mean(tuple(range(2, x.ndim)), keepdims=keepdims),
        [one(2, 3, 4, 5), one(2, 3, 4, keepdims=True)],
        wrong=(
            Wrong(lambda: pooling.global_average_pool(matrix(2, 3)), TypeError),
            Wrong(lambda: pooling.global_average_pool("text"), TypeError),
        ),
    ),
)

RECORDS = (
    *ELEMENTWISE,
    *SPECIALS,
    *SHAPES,
    *CREATION,
    *REDUCTIONS,
    *INDEXING,
    *ARRANGING,
    *ACTIVATION,
    *LINEAR,
    *LINALG,
    *CROSSENTROPY,
    *NORMALIZATION,
    *CONTROL,
    *WINDOWS,
    *CONVOLUTION,
    *POOLING,
)
