"""All cases of the survey."""

from __future__ import annotations

from survey.case import Case
from survey.cases import convolution, elementwise, folds, products, recurrent

CASES: list[Case] = [one for family in (elementwise, folds, products, convolution, recurrent) for one in family.CASES]
