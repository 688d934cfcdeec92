"""All cases of the survey."""

from __future__ import annotations

from survey.case import Case
from survey.cases import (
    arranging,
    calls,
    convolution,
    dtypes,
    elementwise,
    folds,
    growth,
    linear_algebra,
    products,
    recurrent,
    science,
    transformers,
)

FAMILIES = (
    transformers, convolution, recurrent, science, elementwise, folds, arranging, dtypes, products, linear_algebra, growth,
    calls,
)  # fmt: skip
"""The modules of cases."""
CASES: list[Case] = [case for family in FAMILIES for case in family.CASES]
