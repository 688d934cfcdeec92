"""Matrix products of many shapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from survey.case import Case, normal, of_product

FAMILY = "products"

SKINNY = {
    "tall and narrow": (100_000, 64, 16), "rank 8": (2000, 8, 2000), "rank 4": (1024, 4, 1024), "few columns": (8192, 256, 16),
    "32 columns": (8192, 256, 32), "27 terms": (50_000, 27, 32), "long sums": (32, 100_000, 32),
    "many classes": (16, 256, 10_000), "odd sizes": (513, 511, 509),
}  # fmt: skip
FEW_ROWS = (1, 2, 4, 8, 16, 32)
SQUARES = (16, 64, 128, 256, 512, 1024)
STACKS = ((32, 128, 64, 128), (256, 32, 32, 32), (1000, 4, 4, 4), (1000, 16, 16, 16), (64, 64, 64, 64))


def _product(xp: Any, x: Any, y: Any) -> Any:
    """The product of two arrays."""
    return x @ y


def _case(title: str, rows: int, terms: int, columns: int, dtype: str = "float32") -> Case:
    """A product of two matrices."""
    draw = normal((rows, terms), (terms, columns), dtype=dtype)
    return Case(f"{title} ({rows}x{terms} @ {terms}x{columns})", FAMILY, draw, _product, of_product(rows, terms, columns))


def _turned(side: int) -> Iterator[Case]:
    """Products of squares of which one or both are transposed."""
    ways = {"TN": lambda xp, x, y: x.T @ y, "NT": lambda xp, x, y: x @ y.T, "TT": lambda xp, x, y: x.T @ y.T}
    for name, expression in ways.items():
        yield Case(
            f"square {side} {name}", FAMILY, normal((side, side), (side, side)), expression, of_product(side, side, side)
        )


def _stack_times_matrix(stack: int, rows: int, terms: int, columns: int) -> Case:
    """A stack of matrices times one."""
    name = f"stack times matrix ({stack}x{rows}x{terms} @ {terms}x{columns})"
    return Case(
        name, FAMILY, normal((stack, rows, terms), (terms, columns)), _product, of_product(stack * rows, terms, columns)
    )


def _gram(rows: int, columns: int) -> Case:
    """A matrix, transposed, times itself."""
    name = f"gram matrix ({rows}x{columns}).T @ {rows}x{columns}"
    return Case(name, FAMILY, normal((rows, columns)), lambda xp, x: x.T @ x, of_product(columns, rows, columns))


VECTOR = normal((2000, 2000), (2000,))
VECTOR_FLOPS = of_product(2000, 2000, 1)

CASES = [
    *(_case("square", side, side, side) for side in SQUARES),
    _case("square float64", 256, 256, 256, "float64"),
    _case("square float64", 1024, 1024, 1024, "float64"),
    *_turned(64), *_turned(512),
    *(_case(title, *sizes) for title, sizes in SKINNY.items()),
    *(_case("few rows", rows, 1024, 4096) for rows in FEW_ROWS),
    _gram(100_000, 50), _gram(10_000, 256),
    *(
        Case(f"stacks {n} of {m}x{k} @ {k}x{p}", FAMILY, normal((n, m, k), (n, k, p)), _product, n * of_product(m, k, p))
        for n, m, k, p in STACKS
    ),
    _stack_times_matrix(512, 1, 32, 256), _stack_times_matrix(128, 8, 64, 128), _stack_times_matrix(64, 128, 128, 128),
    Case(
        "stack times matrix, gradients (128x8x64 @ 64x128)", FAMILY, normal((128, 8, 64), (64, 128)),
        lambda xp, x, y: xp.sum(xp.tanh(x @ y)), 3 * of_product(1024, 64, 128), gradients_of=(0, 1),
    ),
    Case("matrix times vector 2000", FAMILY, VECTOR, _product, VECTOR_FLOPS),
    Case("vector times matrix 2000", FAMILY, VECTOR, lambda xp, a, x: x @ a, VECTOR_FLOPS),
    Case("transposed matrix times vector 2000", FAMILY, VECTOR, lambda xp, a, x: a.T @ x, VECTOR_FLOPS),
    Case(
        "einsum bhid,bhjd->bhij (8x8x128x64)", FAMILY, normal((8, 8, 128, 64), (8, 8, 128, 64)),
        lambda xp, q, k: xp.einsum("bhid,bhjd->bhij", q, k), 64 * of_product(128, 64, 128),
    ),
    Case(
        "product, bias and relu (512x512 @ 512x512)", FAMILY, normal((512, 512), (512, 512), (512,)),
        lambda xp, x, w, b: xp.relu(x @ w + b), of_product(512, 512, 512), parameters=(1, 2), asks=("pytensor",),
    ),
]  # fmt: skip
