"""What a record of the op table says, how its operands are drawn, and the dtypes in which its reference computes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from zlib import crc32

import numpy as np

import minigraph as mg

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
