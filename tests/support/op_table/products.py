"""Matrix products and linear algebra."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

import minigraph as mg
from minigraph.ops.linear import contraction, linalg
from minigraph.ops.linear import products as linear
from support.op_table.makers import one, raveled, record, two
from support.op_table.records import (
    INF,
    NAN,
    Array,
    Call,
    Record,
    Wrong,
    anything,
    arguments_first,
    common,
    matrix,
    off_zero,
    positive_definite,
    well_conditioned,
)


def batchwise(a: Array, b: Array) -> Array:
    """The dot products of the elements of two stacks."""
    return np.stack([np.dot(left, right) for left, right in zip(a, b, strict=True)])


PRODUCT_DTYPES = ("float64", "float32", "float16", "int64", "int8", "uint8", ("int32", "float32"), ("float32", "float64"))
HARD_PRODUCT = ((np.array([[1.0, NAN], [INF, 0.0]]), np.array([[0.0, 1.0], [1.0, -INF]])),)


def product(name: str, reference: Any, calls: Iterable[Call], *wrong: Wrong, **facts: Any) -> Record:
    """A product of matrices."""
    facts = {"dtypes": PRODUCT_DTYPES, "converted": common, "hard": HARD_PRODUCT, "tolerance": 4, **facts}
    return record(contraction if name == "einsum" else linear, name, reference, calls, wrong=wrong, **facts)


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
            Call(((2, 4, 3, 5), (2, 6, 3, 5)), ("bthd,bshd->bhts",)),
            Call(((2, 3, 4), (4, 5, 3)), ("ijk,klj->il",)),
            Call(((2, 3), (3, 2)), ("ij,ji->i",)),
            Call(((4, 2), (2, 3, 5), (4, 3), (4, 5)), ("bi,ijk,bj,bk->b",)),
            Call(((2,), (3,)), ("i,j->ij",)),
            Call(((2, 3), (2, 3)), ("ij,ij->",)),
            Call(((2, 3, 2), (4,)), ("iji,k->jk",)),
            Call(((0, 3), (3, 2)), ("ij,jk->ik",)),
            Call(((2, 3), (3, 4)), (" ij, jk -> ik ",)),
        ],
        Wrong(lambda: contraction.einsum("ij,jk->ik", matrix(2, 3)), ValueError),
        Wrong(lambda: contraction.einsum("ij->ii", matrix(2, 3)), ValueError),
        Wrong(lambda: contraction.einsum("ij->k", matrix(2, 3)), ValueError),
        Wrong(lambda: contraction.einsum("ij,jk->ik", matrix(2, 3), matrix(4, 2)), ValueError),
        Wrong(lambda: contraction.einsum("i->i", matrix(2, 3)), ValueError),
        Wrong(lambda: contraction.einsum("i1->i", matrix(2, 3)), ValueError),
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


def triangle_solved(a: Array, b: Array, lower: bool = False, transpose: bool = False) -> Array:
    """The solution for one half of a matrix."""
    half = np.tril(a) if lower else np.triu(a)
    return solved(np.swapaxes(half, -1, -2) if transpose else half, b)


def product_solved(factor: Array, b: Array) -> Array:
    """The solution for the product of a lower half and its transpose."""
    half = np.tril(factor)
    return solved(np.swapaxes(half, -1, -2), solved(half, b))


SYSTEMS = (
    two((3, 3), (3, 2)),
    two((3, 3), (3,)),
    two((4, 2, 2), (4, 2, 1)),
    two((1, 2, 2), (4, 2, 1)),
    two((4, 2, 2), (1, 2, 3)),
)


def of_systems(name: str, reference: Any, calls: Iterable[Call]) -> Record:
    """A function that solves linear equations."""
    function = vars(linalg)[name]
    return on_matrices(
        name,
        reference,
        calls,
        draws=(well_conditioned, anything),
        dtypes=("float64", "float32", ("float32", "float64"), ("int64", "int64")),
        wrong=(
            Wrong(lambda: function(matrix(2, 3), matrix(3, 1)), ValueError),
            Wrong(lambda: function(matrix(3, 3), matrix(2, 1)), ValueError),
            Wrong(lambda: function(matrix(3), matrix(3)), TypeError),
        ),
    )


LINALG = (
    on_matrices("inv"),
    on_matrices("det"),
    on_matrices("slogdet", project=lambda sign, logarithm: logarithm + sign),
    on_matrices("cholesky", symmetric=True, draws=(positive_definite,), dtypes=("float64", "float32")),
    of_systems("solve", solved, SYSTEMS),
    of_systems(
        "solve_triangular",
        triangle_solved,
        [
            *SYSTEMS,
            two((3, 3), (3, 2), lower=True),
            two((3, 3), (3, 2), transpose=True),
            two((4, 2, 2), (1, 2, 3), lower=True, transpose=True),
        ],
    ),
    of_systems("cho_solve", product_solved, SYSTEMS),
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
