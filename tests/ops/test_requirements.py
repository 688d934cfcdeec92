"""What labels and the parameters of distributions must fulfil: an error at the user's line, as early as can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import Variable
from minigraph.ops.random import RandomStream
from support import host_cuda
from support.backends import BACKENDS, on_each

LABELS = ("int64", "int8", "uint8", "uint64")


@pytest.fixture(autouse=True)
def gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backend "cupy" on the host, where a test asks for it."""
    if "cupy" in request.node.callspec.params.values() if hasattr(request.node, "callspec") else False:
        host_cuda.install(monkeypatch)


def to_classes(name: str, x: Variable, labels: Any, **options: Any) -> Variable:
    """Something that takes class indices, of three classes, one value or row for each of them."""
    match name:
        case "softmax_crossentropy":
            return mg.softmax_crossentropy(x, labels, **options)
        case "categorical_crossentropy":
            return mg.categorical_crossentropy(mg.softmax(x), labels, **options)
    return mg.one_hot(labels, x.shape[-1], **options) * x


TAKERS = ("softmax_crossentropy", "categorical_crossentropy", "one_hot")
HOST_CUDA = pytest.param(TAKERS[0], "cupy", marks=pytest.mark.skipif(host_cuda.COMPILER is None, reason="needs g++"))
EVERYWHERE = [*((name, backend) for name in TAKERS for backend in BACKENDS), HOST_CUDA]
DATA = np.array([[1.0, 0.0, 2.0], [0.5, 0.0, -1.0]], "float32")


def refused(f: Callable[..., Any], *arguments: Any, error: type[Exception]) -> None:
    """A call must fail, and name the line in this file that it is about."""
    with pytest.raises(error, match=r"(?s)must.*test_requirements\.py"):
        f(*arguments)


@pytest.mark.parametrize(("name", "backend"), EVERYWHERE)
def test_labels_that_name_no_class_are_refused_when_a_function_meets_them(name: str, backend: str) -> None:
    """An index below 0 or beyond the classes fails the call, which changes nothing, also where gradients alone are computed."""
    for dtype in LABELS if backend == "numpy" else LABELS[:1]:
        x, labels, w = mg.matrix("x"), mg.vector("labels", dtype=dtype), mg.shared(np.zeros(3, "float32"), "w")
        cost = to_classes(name, x + w, labels).mean()
        step = mg.function([x, labels], cost, updates=[(w, w - mg.grad(cost, w))], backend=backend)
        slope = mg.function([x, labels], mg.grad(cost, x), backend=backend)
        step(DATA, np.array([2, 0], dtype))
        slope(DATA, np.array([2, 0], dtype))
        before = w.get_value()
        for wrong in (3, 100) if dtype.startswith("u") else (3, 100, -1, -3):
            for f in (step, slope):
                refused(f, DATA, np.array([1, wrong], dtype), error=IndexError)
        assert np.array_equal(w.get_value(), before)


@pytest.mark.parametrize("name", TAKERS)
def test_known_labels_that_name_no_class_are_refused_when_the_graph_is_built(name: str) -> None:
    """A known index that no class has is refused at once; with an unknown number of classes a negative one is."""
    for wrong in ([0, 3], [-1, 0], np.array([0, 200], "uint8")):
        refused(to_classes, name, mg.matrix(shape=(None, 3)), wrong, error=IndexError)
    refused(to_classes, name, mg.matrix(), [-1, 0], error=IndexError)
    assert to_classes(name, mg.matrix(shape=(None, 3)), [2, 0]).op


@pytest.mark.parametrize(("name", "backend"), EVERYWHERE)
def test_rows_with_the_index_to_ignore_cost_nothing(name: str, backend: str) -> None:
    """They have cost 0 and gradient 0, whatever the row holds; other rows are as without, and other wrong labels are errors."""
    mark = -1 if backend == "native" else 255
    x, labels = mg.matrix("x"), mg.lvector("labels")
    cost = to_classes(name, x, labels, ignore_index=mark)
    f = mg.function([x, labels], [cost, mg.grad(cost.sum(), x)], backend=backend)
    data = np.array([[np.nan, np.inf, 1.0], *DATA], "float32")
    if name == "one_hot":
        data[0] = 1.0
    costs, slopes = (np.asarray(one.get() if hasattr(one, "get") else one) for one in f(data, [mark, 2, 0]))
    plain = to_classes(name, x, labels)
    expected = mg.function([x, labels], [plain, mg.grad(plain.sum(), x)], backend="numpy")(DATA, [2, 0])
    assert not costs[0].any() and not slopes[0].any()
    np.testing.assert_allclose(costs[1:], expected[0], rtol=1e-6)
    np.testing.assert_allclose(slopes[1:], expected[1], rtol=1e-6)
    refused(f, data, [mark, 3, 0], error=IndexError)
    refused(f, data, [mark, -2, 0], error=IndexError)


def test_ignore_index_is_an_integer_for_class_indices() -> None:
    """Anything else as ignore_index, or one for distributions, is a TypeError."""
    for wrong in (True, 1.0, "no"):
        with pytest.raises(TypeError, match="ignore_index"):
            mg.softmax_crossentropy(mg.matrix(), mg.lvector(), ignore_index=wrong)
    for loss in (mg.softmax_crossentropy, mg.categorical_crossentropy):
        with pytest.raises(TypeError, match="ignore_index"):
            loss(mg.matrix(), mg.matrix(), ignore_index=0)


NAN, INF = np.nan, np.inf
DRAWS: dict[str, tuple[Callable[[RandomStream, Any], Variable], Any, list[Any]]] = {
    "uniform below": (lambda stream, p: stream.uniform((3,), 0.0, p), 1.0, [-1.0, NAN, INF]),
    "uniform above": (lambda stream, p: stream.uniform((3,), p, 0.5), 0.5, [0.75, NAN, -INF]),
    "normal": (lambda stream, p: stream.normal((3,), 1.0, p), 0.0, [-1.0, NAN]),
    "bernoulli": (lambda stream, p: stream.bernoulli(p, (3,)), 1.0, [-0.1, 1.1, NAN]),
    "bernoullis": (lambda stream, p: stream.bernoulli(p), [0.0, 1.0], [[0.5, -0.1], [NAN, 0.5]]),
    "categorical": (lambda stream, p: stream.categorical(p), [0.0, 2.0], [[0.0, 0.0], [-1.0, 2.0], [NAN, 1.0], [INF, 1.0]]),
    "choice": (lambda stream, p: stream.choice(2, (3,), p=p), [0.5, 0.5], [[0.0, 0.0], [-1.0, 2.0], [NAN, 1.0]]),
}


@on_each
@pytest.mark.parametrize("name", DRAWS)
def test_parameters_of_no_distribution_are_refused(name: str, backend: str) -> None:
    """Known ones when the graph is built, others when the function is called, which then draws nothing."""
    draw, right, wrongs = DRAWS[name]
    stream = RandomStream(3)
    p = mg.tensor("p", dtype="float32", shape=(None,) * np.ndim(right))
    f = mg.function([p], draw(stream, p), backend=backend)
    f(right)
    before = stream.state.get_value()
    for wrong in wrongs:
        refused(f, np.array(wrong, "float32"), error=ValueError)
        refused(draw, RandomStream(3), np.array(wrong, "float32"), error=ValueError)
    assert np.array_equal(stream.state.get_value(), before)
    assert draw(RandomStream(3), np.array(right, "float32")).op


def test_a_choice_needs_something_to_choose_from() -> None:
    """Of no elements none can be chosen, but an empty choice can be made."""
    for nothing in (0, -1, np.zeros(0)):
        refused(RandomStream(1).choice, nothing, (2,), error=ValueError)
    count = mg.lscalar("count")
    f = mg.function([count], RandomStream(1).choice(count, (2,)))
    assert f(1).tolist() == [0, 0]
    refused(f, 0, error=ValueError)
    assert RandomStream(1).choice(0, (0,)).eval().shape == (0,)


RANGES = [(1, 2), (0, 0.1), (10, 11), (1000, 1001), (-1, 0), (-2, -1), (-1e-6, 0), (0, 1), (5, 5)]


@on_each
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_uniform_never_gives_its_upper_bound(dtype: str, backend: str) -> None:
    """Rounding makes no number `high`, of known bounds or others, unless both bounds are equal."""
    ranges = RANGES if backend == "numpy" else RANGES[::3]
    low, high = mg.scalar("low", dtype=dtype), mg.scalar("high", dtype=dtype)
    f = mg.function([low, high], RandomStream(5).uniform((40_000,), low, high, dtype=dtype), backend=backend)
    g = mg.function([], [RandomStream(5).uniform((40_000,), a, b, dtype=dtype) for a, b in ranges], backend=backend)
    for (a, b), known in zip(ranges, g(), strict=True):
        bounds = np.array([a, b], dtype)
        drawn = f(*bounds)
        assert (drawn >= bounds[0]).all() and ((drawn < bounds[1]).all() or a == b)
        assert (known >= bounds[0]).all() and ((known < bounds[1]).all() or a == b)


def test_bounds_that_need_no_correction_get_none() -> None:
    """Between bounds where no number is rounded up to the upper one, nothing is added to what is computed."""
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (0.0, 2.0)):
        assert "Minimum" not in mg.debugprint(RandomStream(1).uniform((3,), low, high))
    assert "Minimum" in mg.debugprint(RandomStream(1).uniform((3,), 100.0, 101.0))
