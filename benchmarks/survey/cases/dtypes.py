"""Arrays of other dtypes than float32."""

from __future__ import annotations

from survey.case import Case, Draw, integers, normal, of_product

FAMILY = "dtypes"
COUNT = 10**6
PRODUCT = of_product(256, 256, 256)
FLOATS, INTEGERS = ("float16", "float64"), ("int8", "int32", "int64")


def _drawn(dtype: str, *shapes: tuple[int, ...]) -> Draw:
    """Numbers of a dtype."""
    return integers(*shapes, below=100, dtype=dtype) if dtype in INTEGERS else normal(*shapes, dtype=dtype)


CASES = [
    *(
        Case(f"sum of 1e6 {dtype}", FAMILY, _drawn(dtype, (COUNT,)), lambda xp, x: xp.sum(x), flops=COUNT)
        for dtype in ("float64", "int32", "int64")
    ),
    *(
        Case(f"max of 1000x1000 {dtype} over axis 1", FAMILY, _drawn(dtype, (1000, 1000)), lambda xp, x: xp.max(x, axis=1))
        for dtype in (*FLOATS, *INTEGERS)
    ),
    *(
        Case(f"x * 3 + y of 1e6 {dtype}", FAMILY, _drawn(dtype, (COUNT,), (COUNT,)), lambda xp, x, y: x * 3 + y, 2 * COUNT)
        for dtype in (*FLOATS, *INTEGERS)
    ),
    *(
        Case(f"product of 256x256 {dtype}", FAMILY, _drawn(dtype, *[(256, 256)] * 2), lambda xp, x, y: x @ y, PRODUCT)
        for dtype in ("float16", "int32", "int64")
    ),
    Case("exp of 1e6 float16", FAMILY, normal((COUNT,), dtype="float16"), lambda xp, x: xp.exp(x), flops=COUNT),
    Case("softmax of 1000x1000 float16", FAMILY, normal((1000, 1000), dtype="float16"), lambda xp, x: xp.softmax(x)),
    Case("int8 to float32 of 1e6, scaled", FAMILY, _drawn("int8", (COUNT,)), lambda xp, x: xp.astype(x, "float32") * 0.1),
    Case("float64 to float32 of 1e6", FAMILY, normal((COUNT,), dtype="float64"), lambda xp, x: xp.astype(x, "float32")),
    Case("x % 7 of 1e6 int32", FAMILY, integers((COUNT,), below=10**6), lambda xp, x: x % 7, flops=COUNT),
    Case("x // 7 of 1e6 int64", FAMILY, integers((COUNT,), below=10**6, dtype="int64"), lambda xp, x: x // 7, flops=COUNT),
    Case("x > y of 1e6", FAMILY, normal((COUNT,), (COUNT,)), lambda xp, x, y: x > y, flops=COUNT),
    Case("count of x > 0 of 1e6", FAMILY, normal((COUNT,)), lambda xp, x: xp.sum(xp.astype(x > 0, "int32")), flops=2 * COUNT),
]  # fmt: skip
