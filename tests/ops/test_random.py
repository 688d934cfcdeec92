"""Random numbers: the generator's published vectors, the laws of streams, and the distributions, at fixed seeds."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats

import minigraph as mg
from minigraph.core.errors import MinigraphError
from minigraph.core.graph import Shared, Variable, toposort
from minigraph.ops.random import RandomStream, philox
from minigraph.testing import compute_plainly

pytestmark = pytest.mark.shipped_code

FLOATS = ("float16", "float32", "float64")
MANY = 20_000
UNLIKELY = 1e-4  # the level of every test of a distribution: at fixed seeds it passes always or never

Array = np.ndarray[Any, Any]
Draw = Callable[[RandomStream], Variable]


def sample(draw: Draw, seed: int = 7) -> Array:
    """The first draw of a new stream."""
    return mg.function([], draw(RandomStream(seed)))()


# -- the generator ---------------------------------------------------------------------------------------------------

VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), VECTORS, ids=["zeros", "ones", "digits of pi"])
def test_philox_gives_the_published_vectors(counter: Any, key: Any, expected: Any) -> None:
    """Philox 4x32-10 is the generator of Salmon et al., bit for bit, also for many counters at once."""
    words = philox(np, [np.full(3, word, np.uint64) for word in counter], key)
    assert [word.tolist() for word in words] == [[one] * 3 for one in expected]


def test_bits_are_a_function_of_seed_call_draw_and_position() -> None:
    """The words of a draw are those of Philox at the counters (position, calls, draw, calls) under the seed."""
    seed = 0x299F31D0_A4093822
    stream = RandomStream(seed)
    first, second = stream.permutation(3), stream.uniform((8,), dtype="float64")
    del first
    stream.state.set_value(np.array([seed, 5 + (9 << 32)], "uint64"))
    f = mg.function([], second)
    counters = [np.arange(4, dtype=np.uint64), *(np.full(4, one, np.uint64) for one in (9, 1, 5))]
    words = np.stack(philox(np, counters, (seed & 0xFFFFFFFF, seed >> 32)), axis=1).ravel()
    wide = (words[0::2] << np.uint64(32)) | words[1::2]
    np.testing.assert_array_equal(f(), (wide >> np.uint64(11)) * 2.0**-53)


# -- streams ---------------------------------------------------------------------------------------------------------

DRAWS: dict[str, Draw] = {
    "uniform": lambda stream: stream.uniform((6,)),
    "normal": lambda stream: stream.normal((6,)),
    "bernoulli": lambda stream: stream.bernoulli(0.5, (40,)),
    "integers": lambda stream: stream.integers(0, 1000, (6,)),
    "permutation": lambda stream: stream.permutation(20),
    "permutation of rows": lambda stream: stream.permutation(np.arange(40.0).reshape(20, 2)),
    "choice": lambda stream: stream.choice(1000, (6,)),
    "choice of elements": lambda stream: stream.choice(np.arange(1000.0), (6,)),
    "choice without replacement": lambda stream: stream.choice(50, 10, replace=False),
    "choice with probabilities": lambda stream: stream.choice(4, (40,), p=np.array([0.1, 0.2, 0.3, 0.4])),
    "categorical": lambda stream: stream.categorical(np.full((40, 4), 0.25)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_equal_seeds_give_equal_numbers_and_others_others(name: str) -> None:
    """A stream is its seed."""
    draw = DRAWS[name]
    assert np.array_equal(sample(draw, 3), sample(draw, 3))
    assert not np.array_equal(sample(draw, 3), sample(draw, 4))
    assert not np.array_equal(sample(draw, 3), sample(draw, 3 + 2**32))


@pytest.mark.parametrize("name", DRAWS)
def test_every_call_draws_anew_and_a_restored_state_draws_the_same_again(name: str) -> None:
    """Calls differ from one another, and repeat themselves from a state that was saved."""
    stream = RandomStream(11)
    f = mg.function([], DRAWS[name](stream))
    f()
    saved = stream.state.get_value()
    second, third = f(), f()
    assert not np.array_equal(second, third)
    stream.state.set_value(saved)
    assert np.array_equal(f(), second)
    assert np.array_equal(f(), third)


@pytest.mark.parametrize("name", DRAWS)
def test_two_draws_of_one_stream_differ(name: str) -> None:
    """Each draw of a stream has numbers of its own in the same call."""
    stream = RandomStream(5)
    first, second = mg.function([], [DRAWS[name](stream), DRAWS[name](stream)])()
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("name", DRAWS)
def test_optimized_draws_are_the_plain_ones(name: str) -> None:
    """No pass changes a number, and every backend draws the same; logarithms and cosines are theirs, up to rounding."""
    drawn = DRAWS[name](RandomStream(21))
    (plain,) = compute_plainly([drawn], {})
    assert drawn.type.accepts(plain.shape)
    for backend in ("numpy", None):
        optimized = mg.function([], drawn, backend=backend, no_default_updates=True)()
        assert optimized.dtype == plain.dtype
        if name == "normal" and backend is None:
            np.testing.assert_array_max_ulp(optimized, plain, 8)
        else:
            np.testing.assert_array_equal(optimized, plain)


def test_a_draw_that_is_used_twice_is_one_draw() -> None:
    """x - x of a random x is 0, and x + x is 2 x."""
    x = RandomStream(1).normal((50,))
    zero, double, once = mg.function([], [x - x, x + x, x])()
    assert not zero.any()
    np.testing.assert_array_equal(double, 2 * once)


def test_a_call_advances_the_state_once_however_many_draws_it_makes() -> None:
    """The state counts calls."""
    stream = RandomStream(1)
    f = mg.function([], [stream.normal((2,)), stream.uniform((2,)), stream.permutation(3)])
    f()
    f()
    assert stream.state.get_value().tolist() == [1, 2]


def test_without_default_updates_a_function_draws_the_same_again() -> None:
    """The state is a shared variable with a default update, and nothing more."""
    stream = RandomStream(1)
    f = mg.function([], stream.normal((4,)), no_default_updates=True)
    assert np.array_equal(f(), f())
    assert stream.state.get_value().tolist() == [1, 0]


def test_an_update_of_ones_own_wins_over_the_default() -> None:
    """An explicit update of the state takes the place of counting."""
    stream = RandomStream(1)
    f = mg.function([], stream.normal((4,)), updates={stream.state: stream.state + np.array([0, 10], "uint64")})
    f()
    assert stream.state.get_value().tolist() == [1, 10]


def test_functions_of_one_stream_share_its_state() -> None:
    """What one function draws, another does not draw again."""
    stream = RandomStream(1)
    x = stream.uniform((4,))
    f, g = mg.function([], x), mg.function([], x + 0.0)
    assert not np.array_equal(f(), g())


def test_seed_starts_again() -> None:
    """stream.seed(s) is the stream that began with s."""
    stream = RandomStream(1)
    f = mg.function([], stream.uniform((4,)))
    first = f()
    stream.seed(1)
    assert np.array_equal(f(), first)
    stream.seed(2)
    assert np.array_equal(f(), sample(lambda one: one.uniform((4,)), 2))


def test_a_failed_call_draws_nothing() -> None:
    """A call that raises leaves the state as it was."""
    stream = RandomStream(1)
    limit = mg.scalar("limit")
    f = mg.function([limit], mg.assert_(stream.uniform((4,)), limit > 0, "no"))
    with pytest.raises(AssertionError):
        f(-1.0)
    assert stream.state.get_value().tolist() == [1, 0]


def test_pickled_functions_go_on_where_they_were() -> None:
    """A copy by pickle has the state of its moment, and leads a life of its own."""
    f = mg.function([], RandomStream(9).normal((4,)))
    f()
    g = pickle.loads(pickle.dumps(f))
    assert np.array_equal(g(), f())
    first = f()
    assert np.array_equal(g(), first)


def test_the_gradient_passes_through_the_parameters_and_not_through_the_state() -> None:
    """With mean + std * noise, the gradient by the mean is 1, by the std the noise that was drawn."""
    mean, std = mg.scalar("mean", dtype="float64"), mg.scalar("std", dtype="float64")
    x = RandomStream(4).normal((), mean, std, dtype="float64")
    value, dmean, dstd = mg.function([mean, std], [x, *mg.grad(x, [mean, std])])(2.0, 3.0)
    assert dmean == 1
    np.testing.assert_allclose(dstd, (value - 2) / 3, rtol=1e-12)


def test_all_randomness_comes_from_the_one_shared_state() -> None:
    """The graph of a draw holds no state but the stream's."""
    stream = RandomStream(4)
    drawn = stream.choice(np.arange(10.0), (3,), p=np.full(10, 0.1))
    assert [one for one in toposort([drawn]) if isinstance(one.op, Shared)] == [stream.state]


# -- dtypes and shapes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["uniform", "normal"])
def test_floats_have_the_dtype_that_was_asked_for(name: str, dtype: str) -> None:
    """uniform and normal draw every float dtype, all values finite, uniform ones within [0, 1)."""
    stream = RandomStream(2)
    drawn = stream.uniform((MANY,), dtype=dtype) if name == "uniform" else stream.normal((MANY,), dtype=dtype)
    values = mg.function([], drawn)()
    assert values.dtype == drawn.dtype == dtype
    assert np.isfinite(values).all()
    if name == "uniform":
        assert values.min() >= 0
        assert values.max() < 1


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "float32"])
def test_bernoulli_draws_any_dtype(dtype: str) -> None:
    """Zeros and ones of the dtype that was asked for."""
    values = sample(lambda stream: stream.bernoulli(0.5, (100,), dtype=dtype))
    assert values.dtype == dtype
    assert set(values.tolist()) == {0, 1}


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "float32"])
def test_integers_draw_any_dtype(dtype: str) -> None:
    """Integers of the dtype that was asked for, both ends included as promised."""
    values = sample(lambda stream: stream.integers(3, 9, (500,), dtype=dtype))
    assert values.dtype == dtype
    assert sorted(set(values.tolist())) == [3, 4, 5, 6, 7, 8]


SIZES: list[Any] = [(), (3,), 3, (2, 3), [2, 3], (0,), (2, 0, 3), (1, 1)]
SIZED: dict[str, Callable[[RandomStream, Any], Variable]] = {
    "uniform": lambda stream, size: stream.uniform(size),
    "normal": lambda stream, size: stream.normal(size),
    "bernoulli": lambda stream, size: stream.bernoulli(0.5, size),
    "integers": lambda stream, size: stream.integers(10, size=size),
    "choice": lambda stream, size: stream.choice(10, size),
    "choice of elements": lambda stream, size: stream.choice(np.arange(10.0), size),
    "choice with probabilities": lambda stream, size: stream.choice(2, size, p=np.array([0.5, 0.5])),
}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", SIZED)
def test_draws_have_the_shape_that_was_asked_for(name: str, size: Any) -> None:
    """Scalars, vectors, matrices, and arrays without elements, known when the graph is built."""
    expected = (size,) if isinstance(size, int) else tuple(size)
    drawn = SIZED[name](RandomStream(2), size)
    assert drawn.type.shape == expected
    assert mg.function([], drawn)().shape == expected


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("name", SIZED)
def test_sizes_may_be_symbolic(name: str, count: int) -> None:
    """A size that is a variable gives the numbers that the same size, known, gives."""
    n = mg.scalar("n", dtype="int64")
    drawn = SIZED[name](RandomStream(2), (n, 2))
    assert drawn.type.shape == (None, 2)
    values = mg.function([n], drawn)(count)
    np.testing.assert_array_equal(values, mg.function([], SIZED[name](RandomStream(2), (count, 2)))())


@pytest.mark.parametrize("count", [0, 1, 2, 17])
def test_permutations_and_choices_of_symbolic_size_hold_each_element_once(count: int) -> None:
    """permutation(n), permutation(x) and choice(n, k, replace=False) never repeat an element."""
    n, x = mg.scalar("n", dtype="int64"), mg.matrix("x", dtype="float64")
    stream = RandomStream(3)
    rows = np.arange(2.0 * count).reshape(count, 2)
    drawn = [stream.permutation(n), stream.permutation(x), stream.choice(n, n // 2, replace=False)]
    numbers, shuffled, chosen = mg.function([n, x], drawn)(count, rows)
    assert sorted(numbers.tolist()) == list(range(count))
    np.testing.assert_array_equal(shuffled[np.argsort(shuffled[:, 0])], rows)
    assert len(set(chosen.tolist())) == len(chosen) == count // 2


def test_more_elements_than_there_are_cannot_be_drawn_without_replacement() -> None:
    """A count that turns out too great when the function is called is an error, and no shorter vector."""
    n = mg.scalar("n", dtype="int64")
    f = mg.function([n], RandomStream(3).choice(n, 4, replace=False))
    assert len(set(f(4).tolist())) == 4
    with pytest.raises(ValueError, match="4"):
        f(3)


def test_parameters_give_the_shape_where_no_size_is_given() -> None:
    """uniform(low=array), normal(mean=matrix, std=vector) and bernoulli(p=vector) draw one number for each parameter."""
    stream = RandomStream(3)
    low = np.array([0.0, 100.0])
    assert mg.function([], stream.uniform(low=low, high=low + 1))().astype("int64").tolist() == [0, 100]
    assert stream.normal(mean=np.zeros((3, 1)), std=np.ones(2)).type.shape == (3, 2)
    assert mg.function([], stream.bernoulli(np.array([0.0, 1.0, 0.0, 1.0])))().tolist() == [0, 1, 0, 1]


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    """Element i of a draw does not depend on how many there are."""
    long, short = (sample(lambda stream, n=n: stream.uniform((n,))) for n in (100, 7))
    np.testing.assert_array_equal(long[:7], short)


# -- distributions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_uniform_is_uniform(dtype: str) -> None:
    """Kolmogorov and Smirnov find nothing (of 16-bit numbers, on their grid of 2**-11, nothing beyond that grid)."""
    values = sample(lambda stream: stream.uniform((MANY,), dtype=dtype)).astype("float64")
    if dtype == "float16":
        values = values + np.random.default_rng(0).uniform(0, 2.0**-11, MANY)
    assert scipy.stats.kstest(values, "uniform").pvalue > UNLIKELY


def test_uniform_fills_its_range() -> None:
    """uniform(low, high) is within [low, high), with the moments that it should have."""
    values = sample(lambda stream: stream.uniform((MANY,), -3.0, 5.0, dtype="float64"))
    assert -3 <= values.min() < -2.99
    assert 4.99 < values.max() < 5
    np.testing.assert_allclose([values.mean(), values.var()], [1, 64 / 12], rtol=0.05)


@pytest.mark.parametrize("dtype", FLOATS)
def test_normal_is_normal(dtype: str) -> None:
    """Moments of four orders, and in wide floats Kolmogorov and Smirnov, agree."""
    values = sample(lambda stream: stream.normal((MANY,), 2.0, 3.0, dtype=dtype)).astype("float64")
    standard = (values - 2) / 3
    np.testing.assert_allclose([standard.mean(), standard.var()], [0, 1], atol=0.05)
    np.testing.assert_allclose([scipy.stats.skew(standard), scipy.stats.kurtosis(standard)], [0, 0], atol=0.15)
    if dtype != "float16":
        assert scipy.stats.kstest(standard, "norm").pvalue > UNLIKELY


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_bernoulli_has_its_frequency(p: float) -> None:
    """The number of ones is binomial; it is exact at 0 and 1."""
    ones = int(sample(lambda stream: stream.bernoulli(p, (MANY,))).sum())
    assert scipy.stats.binomtest(ones, MANY, p).pvalue > UNLIKELY
    if p in (0.0, 1.0):
        assert ones == p * MANY


def agree(counts: Array, probabilities: Array) -> bool:
    """Whether counts fit probabilities, by the chi-square test."""
    return bool(scipy.stats.chisquare(counts, probabilities * counts.sum()).pvalue > UNLIKELY)


@pytest.mark.parametrize(("low", "high"), [(0, 2), (-5, 6), (10, 110), (0, 7)])
def test_integers_are_uniform(low: int, high: int) -> None:
    """Every integer of [low, high) is as frequent as any other."""
    values = sample(lambda stream: stream.integers(low, high, (MANY,)))
    assert values.min() == low
    assert values.max() == high - 1
    assert agree(np.bincount(values - low), np.full(high - low, 1 / (high - low)))


@pytest.mark.parametrize("count", [1, 2**32])
def test_integers_reach_from_one_value_to_all_words(count: int) -> None:
    """The narrowest and the widest range."""
    values = sample(lambda stream: stream.integers(-1, count - 1, (MANY,)))
    assert values.min() >= -1
    assert values.max() <= count - 2
    if count > 1:
        assert values.max() > 0.99 * count
        assert scipy.stats.kstest((values + 1) / count, "uniform").pvalue > UNLIKELY


def test_permutations_are_uniform() -> None:
    """All 24 orders of four elements are equally frequent."""
    stream = RandomStream(8)
    f = mg.function([], [stream.permutation(4) for _ in range(20)])
    orders = np.array([order for _ in range(120) for order in f()])
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert agree(counts, np.full(24, 1 / 24))


def test_choice_is_uniform_or_follows_its_probabilities() -> None:
    """With replacement every element is equally frequent, or as frequent as p says."""
    p = np.array([0.5, 0.0, 0.2, 0.3])
    elements = np.array([10.0, 20.0, 30.0, 40.0])
    evenly = sample(lambda stream: stream.choice(5, (MANY,)))
    assert agree(np.bincount(evenly), np.full(5, 0.2))
    weighted = sample(lambda stream: stream.choice(elements, (MANY,), p=p))
    counts = np.array([(weighted == one).sum() for one in elements])
    assert counts[1] == 0
    assert agree(counts[[0, 2, 3]], p[[0, 2, 3]])


def test_choice_without_replacement_takes_every_pair_equally_often() -> None:
    """All 12 ordered pairs of four elements are equally frequent."""
    stream = RandomStream(8)
    f = mg.function([], [stream.choice(4, 2, replace=False) for _ in range(20)])
    pairs = np.array([pair for _ in range(60) for pair in f()])
    assert (pairs[:, 0] != pairs[:, 1]).all()
    _, counts = np.unique(pairs, axis=0, return_counts=True)
    assert agree(counts, np.full(12, 1 / 12))


@pytest.mark.parametrize("dtype", FLOATS)
def test_categorical_follows_the_probabilities_of_each_row(dtype: str) -> None:
    """Each row has its own distribution; classes of probability 0 never come; weights need not add up to 1."""
    rows = np.array([[0.25, 0.5, 0.25, 0.0], [0.0, 0.0, 1.0, 0.0], [2.0, 1.0, 0.0, 1.0]], dtype)
    values = sample(lambda stream: stream.categorical(np.repeat(rows[None], MANY // 4, axis=0)))
    assert values.shape == (MANY // 4, 3)
    assert values.dtype == "int64"
    counts = [np.bincount(column, minlength=4) for column in values.T]
    assert [count[row == 0].sum() for count, row in zip(counts, rows, strict=True)] == [0, 0, 0]
    assert agree(counts[0][[0, 1, 2]], np.array([0.25, 0.5, 0.25]))
    assert agree(counts[2][[0, 1, 3]], np.array([0.5, 0.25, 0.25]))


def test_draws_calls_and_seeds_are_uncorrelated() -> None:
    """Neighbours in position, draw, call and seed have nothing to do with one another."""
    stream = RandomStream(0)
    f = mg.function([], [stream.normal((MANY,), dtype="float64"), stream.normal((MANY,), dtype="float64")])
    (first, second), (third, _) = f(), f()
    other = sample(lambda one: one.normal((MANY,), dtype="float64"), 1)
    for one, another in ((first, second), (first, third), (first, other), (first[:-1], first[1:])):
        assert scipy.stats.pearsonr(one, another).pvalue > UNLIKELY


# -- errors ----------------------------------------------------------------------------------------------------------


def test_bounds_of_any_integer_dtype_do_not_wrap_around() -> None:
    """Differences of bounds are taken in floats, or in Python's integers."""
    stream = RandomStream(2)
    drawn = stream.uniform((1000,), mg.constant(np.int8(-100)), mg.constant(np.int8(100))).eval()
    assert -100 <= drawn.min() < -80
    assert 80 < drawn.max() < 100
    drawn = stream.integers(np.int8(-100), np.int8(100), (1000,)).eval()
    assert -100 <= drawn.min() < -80
    assert 80 < drawn.max() < 100
    assert set(stream.integers(np.int64(3), size=(100,)).eval().tolist()) == {0, 1, 2}


@pytest.mark.parametrize("p", [np.float16(1e-4), np.float32(1e-8), 1e-8])
def test_small_probabilities_are_not_rounded_up(p: Any) -> None:
    """What is compared with a probability has more bits than that probability leaves out."""
    count = round(20 / float(p)) if p > 1e-5 else 10**7
    drawn = RandomStream(3).bernoulli(mg.constant(p), (count,)).eval().sum()
    assert abs(drawn - count * float(p)) <= 6 * np.sqrt(count * float(p))


MISTAKES: dict[str, tuple[Callable[[RandomStream], Any], type[Exception]]] = {
    "a negative seed": (lambda stream: RandomStream(-1), ValueError),
    "a seed that is no int": (lambda stream: RandomStream(1.5), ValueError),  # type: ignore[arg-type]
    "a seed of more than 64 bits": (lambda stream: RandomStream(2**64), ValueError),
    "a truth value as seed": (lambda stream: RandomStream(True), ValueError),
    "uniform integers": (lambda stream: stream.uniform((2,), dtype="int64"), TypeError),
    "normal integers": (lambda stream: stream.normal((2,), dtype="int64"), TypeError),
    "complex numbers": (lambda stream: stream.normal((2,), dtype="complex64"), TypeError),
    "a size that is a float": (lambda stream: stream.uniform((2.5,)), TypeError),
    "a size that is a text": (lambda stream: stream.uniform("two"), TypeError),
    "a negative size": (lambda stream: stream.uniform((-2,)), ValueError),
    "a size that is an array": (lambda stream: stream.uniform((mg.vector(dtype="int64"),)), TypeError),
    "an empty range": (lambda stream: stream.integers(3, 3), ValueError),
    "a range the wrong way round": (lambda stream: stream.integers(3, 1), ValueError),
    "too wide a range": (lambda stream: stream.integers(0, 2**32 + 1), ValueError),
    "probabilities without replacement": (
        lambda stream: stream.choice(3, (2,), replace=False, p=np.full(3, 1 / 3)),
        ValueError,
    ),
    "a matrix without replacement": (lambda stream: stream.choice(5, (2, 2), replace=False), ValueError),
    "integers that do not fit": (lambda stream: stream.integers(0, 300, dtype="uint8"), ValueError),
    "more than there are": (lambda stream: stream.choice(5, 6, replace=False), ValueError),
    "too few probabilities": (lambda stream: stream.choice(3, (2,), p=np.array([0.5, 0.5])), ValueError),
    "integer probabilities": (lambda stream: stream.categorical(np.array([1, 2])), TypeError),
    "no class": (lambda stream: stream.categorical(np.zeros((3, 0), "float32")), ValueError),
    "a range wider than float32": (lambda stream: stream.uniform((2,), -3e38, 3e38, "float32"), ValueError),
    "a range wider than float16": (lambda stream: stream.uniform((2,), -40_000, 40_000, "float16"), ValueError),
    "a bound beyond float16": (lambda stream: stream.uniform((2,), 0, 1e5, "float16"), ValueError),
    "unsigned bounds the wrong way round": (lambda stream: stream.uniform((2,), np.uint8([200]), np.uint8([100])), ValueError),
    "bounds that are floats": (lambda stream: stream.integers(2.5), TypeError),
    "a choice of a fraction": (lambda stream: stream.choice(2.5), TypeError),
    "a scalar probability": (lambda stream: stream.categorical(0.5), TypeError),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_refused_where_they_are_made(name: str) -> None:
    """An argument that cannot be raises what Python would lead one to expect, naming the user's line."""
    build, error = MISTAKES[name]
    with pytest.raises(error) as caught:
        build(RandomStream(1))
    assert isinstance(caught.value, MinigraphError)
    assert "test_random.py:" in str(caught.value)
