"""`mg.random`: counter-based random numbers, Philox 4x32-10 (Salmon et al. 2011).

The bits of element i of draw d in call c under seed s are a function of (s, c, d, i) alone, so that they are the same on
every backend, fused or not. The state is one shared variable (seed, calls) that every compiled call advances.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.core.conversion import as_variable, is_weak, shared
from minigraph.core.errors import InvalidTypeError, InvalidValueError
from minigraph.core.graph import Array, Constant, Op, Variable, evaluated
from minigraph.core.guard import with_guarded_methods
from minigraph.core.static import filled
from minigraph.core.types import TensorType, as_dtype, as_dtype_or_float, as_ints, default_float, float_dtype, tensor_type
from minigraph.ops.array.indexing import index, take
from minigraph.ops.array.selection import Counting
from minigraph.ops.array.shape import broadcast_to, expand_dims, shape
from minigraph.ops.array.sizes import Sizes, fill_sizes, split_sizes
from minigraph.ops.array.sorting import argsort
from minigraph.ops.control import Advance
from minigraph.ops.elementwise.arithmetic import maximum, minimum
from minigraph.ops.elementwise.base import Elementwise, Operand, cast
from minigraph.ops.elementwise.comparison import eq, ge, gt, isfinite, le, logical_and, logical_or, lt
from minigraph.ops.elementwise.requirement import require
from minigraph.ops.elementwise.transcendental import cos, log, sqrt
from minigraph.ops.reduce.reduction import argmax
from minigraph.ops.reduce.running import cumsum

__all__ = ["RandomStream"]

_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85
_LOW = 0xFFFFFFFF


def philox(xp: Any, counter: Sequence[Array], key: Sequence[Any]) -> list[Array]:
    """Ten rounds of Philox 4x32 with `key`, two words of 32 bits: four words for each `counter` of four, in uint64 of `xp`."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    mask, half = np.uint64(_LOW), np.uint64(32)
    for _ in range(10):
        first, second = c0 * np.uint64(_MULTIPLIERS[0]), c2 * np.uint64(_MULTIPLIERS[1])
        c0, c1, c2, c3 = (second >> half) ^ c1 ^ k0, second & mask, (first >> half) ^ c3 ^ k1, first & mask
        k0, k1 = (k0 + np.uint64(_WEYL[0])) & mask, (k1 + np.uint64(_WEYL[1])) & mask
    return [c0, c1, c2, c3]


class RandomBits(Counting):
    """Independent uniform bits, uint32 or uint64, of a shape given by the pattern and the inputs after the state."""

    draw: int
    pattern: tuple[int | None, ...]
    dtype: np.dtype[Any]
    cost = 40

    def shape_inputs(self, inputs: Sequence[Variable]) -> Sequence[Variable]:
        return inputs[1:]

    def with_static_shape(self, inputs: tuple[Variable, ...]) -> tuple[Op, tuple[Variable, ...]]:
        if None not in self.pattern:
            return self, inputs
        return RandomBits(self.draw, filled(self.pattern, inputs[1:]), self.dtype), inputs[:1]

    def infer(self, *types: TensorType) -> TensorType:
        return tensor_type(self.dtype, self.pattern)

    def forward(self, xp: Any, state: Array, *sizes: Array) -> Array:
        target = fill_sizes(self.pattern, sizes)
        words_each = self.dtype.itemsize // 4
        count = math.prod(target)
        blocks = -(-count * words_each // 4)
        if blocks > _LOW:
            raise ValueError(f"one draw of shape {target} has more than 2**34 random words")
        seed, calls = (int(word) for word in state)
        number = xp.arange(blocks, dtype=np.uint64)
        fixed = [xp.full_like(number, word) for word in (calls >> 32, self.draw, calls & _LOW)]
        words = philox(xp, (number, *fixed), (np.uint64(seed & _LOW), np.uint64(seed >> 32)))
        flat = xp.stack(words, axis=1).reshape(-1)
        if words_each == 2:
            flat = (flat[0::2] << np.uint64(32)) | flat[1::2]
        return flat[:count].astype(self.dtype).reshape(target)

    def parameters(self) -> Sequence[tuple[int, tuple[int, ...]]]:
        return (0, (0,)), (0, (1,))

    def element(self, xp: Any, position: Any, *scalars: Any) -> Any:
        seed, calls = scalars
        wide = np.dtype("uint64")
        words_each = self.dtype.itemsize // 4
        word = position.astype(wide) * words_each
        low = np.uint64(_LOW)
        counter = (word >> np.uint64(2), calls >> np.uint64(32), word * np.uint64(0) + np.uint64(self.draw), calls & low)
        words = philox(xp, counter, (seed & low, seed >> np.uint64(32)))
        odd = xp.not_equal(word & np.uint64(2), np.uint64(0))
        if words_each == 2:
            return (xp.where(odd, words[2], words[0]) << np.uint64(32)) | xp.where(odd, words[3], words[1])
        last = xp.not_equal(word & np.uint64(1), np.uint64(0))
        return xp.where(odd, xp.where(last, words[3], words[2]), xp.where(last, words[1], words[0])).astype(self.dtype)


@with_guarded_methods
class RandomStream:
    """Random variables drawn anew by every call of a compiled function; the same seed gives the same numbers.

    `state` is the shared variable (seed, calls) of dtype uint64: save it with `get_value`, restore it with `set_value`.

    >>> stream = mg.random.RandomStream(seed=1)
    >>> f = mg.function([], stream.normal((2, 3)))
    >>> bool((f() == f()).any())
    False
    """

    def __init__(self, seed: int = 0) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
            raise InvalidValueError(f"a seed must be an int from 0 to 2**64 - 1, not {seed!r}")
        self.state = shared(np.array([seed, 0], dtype=np.uint64), name="random_state")
        self._next_state = self.state + np.array([0, 1], dtype=np.uint64)
        self._draws = 0

    def seed(self, seed: int) -> None:
        """Start again from the first call under another seed."""
        self.state.set_value(RandomStream(seed).state.get_value())

    def _bits(self, shape: Sizes, dtype: str) -> Variable:
        """The bits of a new draw."""
        pattern, symbolic = split_sizes(shape)
        bits = RandomBits(self._draws, pattern, as_dtype(dtype))(self.state, *symbolic)
        self._draws += 1
        return Advance()(bits, self.state, self._next_state)

    def _fractions(self, shape: Sizes, dtype: np.dtype[Any]) -> Variable:
        """Uniform numbers in [0, 1): as many bits as the dtype's fraction holds."""
        if dtype.kind != "f":
            raise InvalidTypeError(f"random numbers of dtype {dtype}: uniform and normal draw floats; use integers(...)")
        wide, digits = {2: ("uint32", 11), 4: ("uint32", 24), 8: ("uint64", 53)}[dtype.itemsize]
        bits = self._bits(shape, wide)
        return cast(bits >> (bits.dtype.itemsize * 8 - digits), dtype) * 2.0**-digits

    def uniform(self, size: Sizes = (), low: Operand = 0.0, high: Operand = 1.0, dtype: Any = None) -> Variable:
        """Numbers spread evenly over [low, high), which never are `high` unless low is.

        size: the shape, by default that of low and high. dtype: a float dtype, by default the float type; else TypeError.
        ValueError for low > high, or if high - low is no finite number of the dtype.
        """
        wanted = as_dtype_or_float(dtype)
        low, high = _as_float(low, wanted), _as_float(high, wanted)
        fractions = self._fractions(_drawn_shape(size, low, high), wanted)
        span = high - low
        fits = logical_and(ge(span, 0), le(span, float(np.finfo(wanted).max)))
        message = f"uniform needs low <= high, both finite, and their difference, which must be 0 or more, in {wanted}"
        span = require(span, fits, message, InvalidValueError)
        share = fractions * span
        spread = low + share
        drawn, first, limit = cast(spread, wanted), cast(low, wanted), cast(high, wanted)
        if isinstance(first.op, Constant) and isinstance(limit.op, Constant):
            greatest = share.dtype.type(1 - np.finfo(wanted).epsneg)  # that is drawn from [0, 1)
            most = greatest * evaluated(span).astype(share.dtype)
            top = evaluated(as_variable(low)).astype(spread.dtype) + most.astype(spread.dtype)
            if (top.astype(wanted) < evaluated(limit).astype(wanted)).all():
                return drawn
        return minimum(drawn, maximum(first, Below()(limit)))  # rounding may have made some of them `high`

    def normal(self, size: Sizes = (), mean: Operand = 0.0, std: Operand = 1.0, dtype: Any = None) -> Variable:
        """Normally distributed numbers (Box and Muller 1958) with this `mean` and `std`; ValueError for a negative std.

        size: the shape, by default that of mean and std. dtype: as for `uniform`.
        """
        deviation = as_variable(std)
        std = require(deviation, ge(deviation, 0), "the std of normal must be 0 or more", InvalidValueError)
        wanted = as_dtype_or_float(dtype)
        pair = self._fractions((2, *_as_tuple(_drawn_shape(size, mean, std))), wanted)
        radius = sqrt(-2 * log(1 - pair[0]))
        return cast(mean + std * (radius * cos(pair[1] * (2 * math.pi))), wanted)

    def bernoulli(self, p: Operand = 0.5, size: Sizes = None, dtype: Any = "int64") -> Variable:
        """1 with probability p, else 0, in `dtype`; of p's shape unless `size` is given. ValueError for p outside of [0, 1].

        p is compared with 53 bits if it may be small, or if it or the float type is float64; else with 24.
        """
        given = as_variable(p)
        fits = logical_and(ge(given, 0), le(given, 1))
        probability = require(given, fits, "the p of bernoulli must be from 0 to 1", InvalidValueError)
        target = shape(probability) if size is None else size
        wide = np.dtype("float64") if _may_be_small(given) else np.promote_types(default_float(), float_dtype(given.dtype))
        return cast(lt(self._fractions(target, wide), probability), dtype)

    def integers(self, low: int, high: int | None = None, size: Sizes = (), dtype: Any = "int64") -> Variable:
        """Integers from low (0 if only one bound is given) up to but without high, of shape `size`, in `dtype`.

        ValueError unless low < high <= low + 2**32, or if they do not fit into the dtype.
        """
        first, last = (as_ints(one, "the bounds of integers")[0] for one in ((0, low) if high is None else (low, high)))
        if not 0 < last - first <= 2**32:
            raise InvalidValueError(f"integers needs low < high <= low + 2**32, not {first} and {last}")
        wanted = as_dtype(dtype)
        if wanted.kind in "iu" and not np.iinfo(wanted).min <= first < last <= np.iinfo(wanted).max + 1:
            raise InvalidValueError(f"integers from {first} up to {last} do not fit into {wanted}")
        bits = cast(self._bits(size, "uint32"), "uint64")
        return cast((bits * (last - first)) >> 32, dtype) + first

    def permutation(self, x: Operand) -> Variable:
        """The integers 0 ... x - 1 in random order, or the rows of an array x in random order."""
        variable = as_variable(x)
        if variable.ndim:
            return take(variable, self.permutation(shape(variable)[0]), 0)
        count = x if isinstance(x, int) else variable
        return argsort(self._bits((count,), "uint64"))

    def choice(self, a: Operand, size: Sizes = (), replace: bool = True, p: Operand = None) -> Variable:
        """Elements of the vector a (or of 0 ... a - 1), in the shape `size`, drawn evenly or with probabilities p.

        replace: whether an element may be drawn again. If not, ValueError for probabilities, a size of several axes, or more
        elements than there are.
        """
        population = as_variable(a)
        if not population.ndim and population.dtype.kind not in "iu":
            raise InvalidTypeError(f"choice takes a vector, or how many integers there are, not {a!r}")
        count: Any = shape(population)[0] if population.ndim else (a if isinstance(a, int) else population)
        pattern, _ = split_sizes(size)
        number, draws = as_variable(count), as_variable(math.prod(_as_tuple(size)))
        fits, message = logical_or(gt(number, 0), eq(draws, 0)), "the number of elements to choose from must be 1 or more"
        checked = require(number, fits, message, InvalidValueError)
        count = count if isinstance(count, int) else checked
        if p is not None:
            if not replace:
                raise InvalidValueError("choice with probabilities draws with replacement only")
            probabilities = as_variable(p)
            outcomes = shape(probabilities)[-1] if probabilities.ndim else 0
            if isinstance(count, int) and isinstance(outcomes, int) and count != outcomes:
                raise InvalidValueError(f"choice of {count} elements needs as many probabilities, not {outcomes}")
            picks = self.categorical(broadcast_to(probabilities, (*_as_tuple(size), shape(probabilities)[-1])))
        elif replace:
            picks = cast(self._fractions(size, np.dtype("float64")) * count, "int64")
        else:
            if len(pattern) > 1:
                raise InvalidValueError("choice without replacement draws a vector: give one size")
            order = self.permutation(count)
            wanted, known = (pattern or (None,))[0], order.type.shape[0]
            if wanted is not None and known is not None and wanted > known:
                raise InvalidValueError(f"{wanted} of {known} elements cannot be drawn without replacement")
            # a vector that came out shorter at run time does not fit the size that was asked for
            picks = broadcast_to(index(order, slice(0, _as_tuple(size)[0])), size) if pattern else order[0]
        return take(population, picks, 0) if population.ndim else picks

    def categorical(self, p: Operand) -> Variable:
        """For each row of probabilities on the last axis, which need not add up to 1, a class, as int64.

        ValueError where one is negative or NaN, or where a row adds up to 0 or is infinite.
        """
        probabilities = as_variable(p)
        if probabilities.dtype.kind != "f" or not probabilities.ndim:
            raise InvalidTypeError(f"categorical takes float probabilities on the last axis, not {probabilities!r}")
        if probabilities.type.shape[-1] == 0:
            raise InvalidValueError(f"categorical needs at least one class, not the last axis of {probabilities!r}")
        message = "the probabilities of categorical must be 0 or more"
        probabilities = require(probabilities, ge(probabilities, 0), message, InvalidValueError)
        running = cumsum(cast(probabilities, "float64"), -1)
        total, message = running[..., -1], "the probabilities of categorical must add up to a positive number"
        total = require(total, logical_and(gt(total, 0), isfinite(total)), message, InvalidValueError)
        threshold = self._fractions(shape(probabilities)[:-1], np.dtype("float64"))
        threshold = expand_dims(threshold * total, threshold.ndim)
        return argmax(lt(threshold, running), -1)


class Below(Elementwise):
    """The greatest number below x."""

    kinds = "f"

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.nextafter(x, x.dtype.type(-np.inf))


def _as_float(bound: Operand, wanted: np.dtype[Any]) -> Variable:
    """A bound that can be computed with in floats; integers of a dtype would wrap around."""
    variable = as_variable(bound)
    return variable if variable.dtype.kind == "f" or is_weak(variable) else cast(variable, wanted)


def _may_be_small(probability: Variable) -> bool:
    """Whether a probability may be so small, but not 0, that 24 bits are a poor measure of it."""
    if not isinstance(probability.op, Constant):
        return True
    value = np.asarray(probability.op.value)
    return bool(((value > 0) & (value < 2.0**-10)).any())


def _as_tuple(size: Sizes) -> tuple[Any, ...]:
    """Sizes as a tuple."""
    return tuple(size) if isinstance(size, list | tuple) else (size,)


def _drawn_shape(size: Sizes, *parameters: Operand) -> Sizes:
    """The shape to draw: the one given, or for () that of the parameters, broadcast together."""
    if size != ():
        return size
    total = as_variable(parameters[0])
    for parameter in parameters[1:]:
        total = total + parameter
    return shape(total)
