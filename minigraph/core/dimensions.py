"""Sizes that each call settles: integers that know the polynomial by which they follow from the sizes of inputs.

What is planned with such sizes holds for others, too, as long as every question that was asked on the way has the same
answer. Arithmetic keeps the polynomial. A comparison answers for the sizes of the moment, and is noted as a condition, unless
the answer is the same for all sizes of 2 or more. Equality is that of polynomials: what agrees only by chance counts as
different. Where that must not be, planning fails, and is tried again with the sizes that agreed as one. What needs a plain
integer gets that of the moment, and the plan holds for it alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import index
from typing import Any

import numpy as np

from minigraph.core.record import Record

Monomial = tuple[int, ...]
"""A product of atoms, given by their numbers in order; () is 1."""

Place = tuple[int, int]
"""An axis of an input, by their numbers."""

Terms = tuple[tuple[Monomial, int], ...]
"""A polynomial: its monomials in order, with their coefficients, none of which is 0."""

SMALLEST = 2
"""The smallest size that is left open: 0 and 1 have plans of their own."""


class Atom(Record):
    """An integer that is no polynomial of others: a size, whose operation is "", or a quotient or remainder of polynomials."""

    operation: str
    first: Terms = ()
    second: Terms = ()


class Condition(Record):
    """A polynomial that must be negative ("<"), zero ("=="), or anything else ("!=")."""

    terms: Terms
    relation: str

    def holds(self, value: int) -> bool:
        """Whether it holds, given the value of the polynomial."""
        return value < 0 if self.relation == "<" else (value == 0) == (self.relation == "==")


class Dimensions:
    """The sizes that are left open in one plan, and the conditions under which it holds."""

    def __init__(self, shapes: Sequence[Sequence[int]], groups: Mapping[Place, int]) -> None:
        """shapes: those of the inputs of the moment; groups: for each place that is left open the number of its group, whose
        sizes are one.
        """
        self.groups = groups
        self.conditions: dict[Condition, None] = {}
        self.near_miss: tuple[Any, Any] | None = None
        """The sizes that were last found to be different, though they agree at the moment."""
        self._numbers: dict[Atom, int] = {}
        values = {group: shapes[k][axis] for (k, axis), group in groups.items()}
        self.atoms = [Atom("") for _ in values]
        sizes = {group: Dimension(self, (((k,), 1),), value) for k, (group, value) in enumerate(values.items())}
        self._names = list(sizes)
        self.shapes: tuple[tuple[Any, ...], ...] = tuple(
            tuple([sizes[groups[k, axis]] if (k, axis) in groups else size for axis, size in enumerate(shape)])
            for k, shape in enumerate(shapes)
        )
        """The shapes with sizes left open."""

    def refined(self) -> dict[Place, int] | None:
        """The groups without the difference that was missed last: two sizes are one, or those that agree with another number
        are not left open; None if nothing was missed.
        """
        if self.near_miss is None:
            return None
        missed = [size for size in self.near_miss if isinstance(size, Dimension)]
        names = [self._names_in(size.terms) for size in missed]
        if len(missed) > 1 and all(size.is_plain for size in missed):
            (one,), (other,) = names
            return {place: one if group == other else group for place, group in self.groups.items()}
        return {place: group for place, group in self.groups.items() if group not in set().union(*names)}

    def _names_in(self, terms: Terms) -> set[int]:
        """The groups that a polynomial depends on."""
        found: set[int] = set()
        pending = [number for monomial, _ in terms for number in monomial]
        while pending:
            atom = self.atoms[number := pending.pop()]
            if atom.operation:
                pending += [one for some in (atom.first, atom.second) for monomial, _ in some for one in monomial]
            else:
                found.add(self._names[number])
        return found

    def atom(self, operation: str, first: Terms, second: Terms) -> Terms:
        """The quotient or the remainder (the `operation` is "//" or "%") of `first` and `second` as a polynomial."""
        one = Atom(operation, first, second)
        if one not in self._numbers:
            self._numbers[one] = len(self.atoms)
            self.atoms.append(one)
        return (((self._numbers[one],), 1),)

    def is_divisible(self, first: Terms, second: Terms) -> bool:
        """Whether it is among the conditions that a division leaves no remainder."""
        remainder = self._numbers.get(Atom("%", first, second))
        return remainder is not None and Condition((((remainder,), 1),), "==") in self.conditions

    def multiply_out(self, total: dict[Monomial, int]) -> None:
        """Put what was divided by a number without a remainder in the place of its quotient times that number."""
        for monomial, factor in list(total.items()):
            for number in monomial:
                atom = self.atoms[number]
                if atom.operation != "//" or len(atom.second) != 1 or not self.is_divisible(atom.first, atom.second):
                    continue
                (divisor, by), *_ = atom.second
                if divisor or factor % by:
                    continue
                rest = list(monomial)
                rest.remove(number)
                del total[monomial]
                for one, times in atom.first:
                    whole = tuple(sorted([*rest, *one]))
                    total[whole] = total.get(whole, 0) + times * (factor // by)
                break

    def require(self, terms: Terms, relation: str) -> None:
        """Note a condition."""
        self.conditions[Condition(terms, relation)] = None

    def least(self, terms: Terms) -> int | None:
        """A lower bound of a polynomial; None if none is known."""
        if any(factor < 0 for monomial, factor in terms if monomial):
            return None
        smallest = [0 if atom.operation else SMALLEST for atom in self.atoms]
        return sum(factor * math.prod([smallest[k] for k in monomial]) for monomial, factor in terms)

    def settled(self, shapes: Sequence[Sequence[int]]) -> Sizes | None:
        """The sizes for a call with inputs of these shapes; None if what was planned does not hold for it."""
        values: dict[int, int] = {}
        for shape, pattern in zip(shapes, self.shapes, strict=True):
            for size, planned in zip(shape, pattern, strict=True):
                if isinstance(planned, Dimension):
                    ((number,), _) = planned.terms[0]
                    planned = values.setdefault(number, size)
                if size != planned:
                    return None
        known = [values.get(number, 0) for number in range(len(self.atoms))]
        if any(size < SMALLEST for size, atom in zip(known, self.atoms, strict=True) if not atom.operation):
            return None
        sizes = Sizes(known)
        for number, atom in enumerate(self.atoms):
            if atom.operation:
                first, second = sizes.value(atom.first), sizes.value(atom.second)
                if not second:
                    return None
                known[number] = first // second if atom.operation == "//" else first % second
        return sizes if all(one.holds(sizes.value(one.terms)) for one in self.conditions) else None


class Sizes:
    """The values that sizes which were left open have in one call."""

    def __init__(self, values: Sequence[int]) -> None:
        self._values = values
        self._known: dict[Terms, int] = {}

    def value(self, terms: Terms) -> int:
        """The value of a polynomial."""
        found = self._known.get(terms)
        if found is None:
            values = self._values
            found = 0
            for monomial, factor in terms:
                for one in monomial:
                    factor *= values[one]
                found += factor
            self._known[terms] = found
        return found

    def __call__(self, size: Any) -> int:
        """A size as a plain integer."""
        return self.value(size.terms) if isinstance(size, Dimension) else size

    def all(self, sizes: Sequence[Any]) -> tuple[int, ...]:
        """Sizes as plain integers."""
        return tuple([self.value(one.terms) if isinstance(one, Dimension) else one for one in sizes])


class Template:
    """Numbers of which some are left open."""

    def __init__(self, numbers: Sequence[Any]) -> None:
        open = {k: one.terms for k, one in enumerate(numbers) if isinstance(one, Dimension)}
        self._known = np.array([0 if isinstance(one, Dimension) else one for one in numbers], np.int64)
        self._terms = list(dict.fromkeys(open.values()))
        self._places = np.array([*open], np.intp)
        order = {terms: k for k, terms in enumerate(self._terms)}
        self._which = np.array([order[terms] for terms in open.values()], np.intp)
        """For each open place, the number of its polynomial."""

    def filled(self, sizes: Sizes) -> np.ndarray[Any, Any]:
        """The numbers for sizes that are settled."""
        numbers = self._known.copy()
        numbers[self._places] = np.array([sizes.value(terms) for terms in self._terms], np.int64)[self._which]
        return numbers


class Dimension:
    """A size `among` those left open in a plan: `terms`, its polynomial, and its `value` in the call that is planned for."""

    __slots__ = ("_hash", "among", "terms", "value")

    def __init__(self, among: Dimensions, terms: Terms, value: int) -> None:
        self.among, self.terms, self.value = among, terms, value
        self._hash = hash(value)

    # -- arithmetic --------------------------------------------------------------------------------------------------

    def _sum(self, other: Any, sign: int) -> Any:
        """This and another size, times a sign."""
        terms, value = _as_terms(other)
        total = dict(self.terms)
        for monomial, factor in terms:
            total[monomial] = total.get(monomial, 0) + sign * factor
        return self._made(total, self.value + sign * value)

    def _made(self, total: dict[Monomial, int], value: int) -> Any:
        """A polynomial as a size; a plain integer, if it is one."""
        self.among.multiply_out(total)
        terms = tuple(sorted([one for one in total.items() if one[1]]))
        return value if not terms or (len(terms) == 1 and not terms[0][0]) else Dimension(self.among, terms, value)

    def __add__(self, other: Any) -> Any:
        return self._sum(other, 1) if _is_size(other) else NotImplemented

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._sum(other, -1) if _is_size(other) else NotImplemented

    def __rsub__(self, other: Any) -> Any:
        return (-self)._sum(other, 1) if _is_size(other) else NotImplemented

    def __neg__(self) -> Any:
        return self * -1

    def __mul__(self, other: Any) -> Any:
        if not _is_size(other):
            return NotImplemented
        terms, value = _as_terms(other)
        total: dict[Monomial, int] = {}
        for mine, factor in self.terms:
            for theirs, by in terms:
                monomial = tuple(sorted(mine + theirs))
                total[monomial] = total.get(monomial, 0) + factor * by
        return self._made(total, self.value * value)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        return self._divided("//", self, other) if _is_size(other) else NotImplemented

    def __rfloordiv__(self, other: Any) -> Any:
        return self._divided("//", other, self) if _is_size(other) else NotImplemented

    def __mod__(self, other: Any) -> Any:
        return self._divided("%", self, other) if _is_size(other) else NotImplemented

    def __rmod__(self, other: Any) -> Any:
        return self._divided("%", other, self) if _is_size(other) else NotImplemented

    def _divided(self, operation: str, one: Any, other: Any) -> Any:
        """The quotient or the remainder of two sizes."""
        (first, above), (second, below) = _as_terms(one), _as_terms(other)
        exact = _quotient(first, second)
        if exact is not None:
            return self._made(dict(exact), above // below) if operation == "//" else 0
        value = above // below if operation == "//" else above % below
        return Dimension(self.among, self.among.atom(operation, first, second), value)

    # -- questions ---------------------------------------------------------------------------------------------------

    @property
    def is_plain(self) -> bool:
        """Whether this is the size of an input itself."""
        (monomial, factor), *rest = self.terms
        return not rest and factor == 1 and len(monomial) == 1 and not self.among.atoms[monomial[0]].operation

    def __eq__(self, other: object) -> bool:
        if not _is_size(other):
            return False
        terms, value = _as_terms(other)
        if terms == self.terms:
            return True
        if value == self.value:
            self.among.near_miss = (self, other)
        return False

    def __hash__(self) -> int:
        return self._hash

    def __lt__(self, other: Any) -> bool:
        return self._is_negative(self - other) if _is_size(other) else NotImplemented

    def __ge__(self, other: Any) -> bool:
        return not self._is_negative(self - other) if _is_size(other) else NotImplemented

    def __gt__(self, other: Any) -> bool:
        return self._is_negative(other - self) if _is_size(other) else NotImplemented

    def __le__(self, other: Any) -> bool:
        return not self._is_negative(other - self) if _is_size(other) else NotImplemented

    def _is_negative(self, difference: Any) -> bool:
        """Whether a difference of sizes is negative; the answer is noted if it may be another for others."""
        if not isinstance(difference, Dimension):
            return bool(difference < 0)
        opposite = -difference
        least, most = self.among.least(difference.terms), self.among.least(opposite.terms)
        if least is not None and least >= 0:
            return False
        if most is not None and most > 0:
            return True
        answer = difference.value < 0
        self.among.require(difference.terms if answer else (opposite - 1).terms, "<")
        return answer

    def __bool__(self) -> bool:
        least = self.among.least(self.terms)
        if least is None or least <= 0:
            self.among.require(self.terms, "!=" if self.value else "==")
        return bool(self.value)

    def __index__(self) -> int:
        fixed = self - self.value
        self.among.require(fixed.terms, "==")
        return self.value

    __int__ = __index__

    def __float__(self) -> float:
        return float(index(self))

    def __str__(self) -> str:
        return str(self.value)

    __repr__ = __str__


def plain(size: Any) -> int:
    """The value of a size in the call that is planned for, without a condition: for what only texts or speed depend on."""
    return size.value if isinstance(size, Dimension) else int(size)


def _is_size(other: Any) -> bool:
    """Whether a value can be computed with as a size."""
    return isinstance(other, Dimension | int | np.integer)


def _as_terms(size: Any) -> tuple[Terms, int]:
    """A size as a polynomial, and its value."""
    if isinstance(size, Dimension):
        return size.terms, size.value
    number = int(size)
    return ((((), number),) if number else ()), number


def _quotient(first: Terms, second: Terms) -> Terms | None:
    """The polynomial that is the quotient of another and a single term, without a remainder; None if there is none."""
    if len(second) != 1:
        return ((((), 1),)) if first == second and first else None
    (divisor, by), *_ = second
    found = []
    for monomial, factor in first:
        rest = list(monomial)
        for one in divisor:
            if one not in rest:
                return None
            rest.remove(one)
        if factor % by:
            return None
        found.append((tuple(rest), factor // by))
    return tuple(found)
