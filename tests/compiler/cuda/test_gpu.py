"""Backend "cupy" around its kernels: where state lies, what is copied, what is captured, what happens if something fails."""

from __future__ import annotations

import pickle
import runpy
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.plan.steps import title_of
from minigraph.core.graph import Variable
from support import host_cuda
from support.places import EXAMPLES

needs_compiler = pytest.mark.skipif(host_cuda.COMPILER is None, reason="kernels are run on the host with g++")


@pytest.fixture(scope="module", autouse=True)
def compiled_for_gpus() -> Iterator[None]:
    """All that was run on the host is compiled for GPUs in the end, where CUDA's compiler is installed."""
    yield
    host_cuda.compile_for_gpus()


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Backend "cupy" on the host."""
    return host_cuda.install(monkeypatch)


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    """The settings are the usual ones after a test."""
    yield
    mg.config.backend, mg.config.device, mg.config.allow_tf32 = None, 0, False
    host_cuda.Limit.left = None


class Network:
    """A small network with normalization, its training step, and its data."""

    def __init__(self, backend: str | None, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.x, self.y = mg.matrix("x"), mg.ivector("y")
        self.mean = mg.shared(np.zeros(6, "float32"), "mean")
        self.weights = [mg.shared(rng.normal(size=size).astype("float32"), "w") for size in ((8, 6), (6, 3))]
        hidden, mean, _ = mg.standardize(self.x @ self.weights[0], (0,), 1e-5)
        self.logits = mg.relu(hidden) @ self.weights[1]
        self.loss = mg.softmax_crossentropy(self.logits, self.y).mean()
        self.updates: dict[Variable, Any] = {self.mean: 0.9 * self.mean + 0.1 * mg.reshape(mean, (6,))}
        for weight, slope in zip(self.weights, mg.grad(self.loss, self.weights), strict=True):
            velocity = mg.shared(np.zeros_like(weight.get_value()), "velocity")
            self.updates |= {velocity: 0.9 * velocity - 0.1 * slope, weight: weight + 0.9 * velocity - 0.1 * slope}
        self.step = mg.function([self.x, self.y], self.loss, updates=self.updates, backend=backend)
        self.images = rng.normal(size=(16, 8)).astype("float32")
        self.labels = rng.integers(0, 3, 16).astype("int32")

    def state(self) -> list[np.ndarray]:
        """The values of all shared variables, on the host."""
        return [one.get_value() for one in self.updates]


def equal(ours: list[np.ndarray], theirs: list[np.ndarray], margin: float = 1e-5) -> None:
    """The same numbers up to rounding."""
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=margin, atol=margin)


# -- state, copies, capture --------------------------------------------------------------------------------------------


@needs_compiler
def test_a_training_loop_over_data_on_the_gpu_copies_nothing_but_the_loss(cupy: Any) -> None:
    ours, theirs = Network("cupy"), Network("numpy")
    images, labels = cupy.asarray(ours.images), cupy.asarray(ours.labels)
    ours.step(images, labels)
    theirs.step(ours.images, ours.labels)
    before, graphs = ours.step.transfers(), host_cuda.counts.graphs
    for _ in range(5):
        loss = ours.step(images, labels)
        assert isinstance(loss, cupy.ndarray)
        np.testing.assert_allclose(loss.get(), theirs.step(ours.images, ours.labels), rtol=1e-5)
    after = ours.step.transfers()
    assert after.to_device == before.to_device
    assert after.to_host - before.to_host == 5, "whether an index was outside"
    assert host_cuda.counts.graphs - graphs == 5
    equal(ours.state(), theirs.state())


@needs_compiler
def test_nothing_at_all_is_copied_where_nothing_can_fail(cupy: Any) -> None:
    x, w = mg.matrix("x"), mg.shared(np.ones((3, 2), "float32"), "w")
    f = mg.function([x], mg.tanh(x @ w), updates={w: w * 0.5}, backend="cupy")
    data = cupy.asarray(np.ones((4, 3), "float32"))
    f(data)
    before, synchronized = f.transfers(), host_cuda.counts.synchronized
    for _ in range(4):
        f(data)
    assert f.transfers() == before
    assert host_cuda.counts.synchronized == synchronized
    np.testing.assert_array_equal(w.get_value(), np.full((3, 2), 0.5**5, "float32"))


@needs_compiler
def test_a_call_is_one_launch_from_the_second_on(cupy: Any) -> None:
    network = Network("cupy")
    launched = []
    for _ in range(4):
        graphs = host_cuda.counts.graphs
        network.step(network.images, network.labels)
        launched.append(host_cuda.counts.graphs - graphs)
    assert launched == [0, 1, 1, 1]
    assert "one CUDA graph launch" in network.step.profile(network.images, network.labels).note


@needs_compiler
def test_kernels_that_can_run_at_the_same_time_are_one_launch(cupy: Any) -> None:
    network = Network("cupy")
    network.step(network.images, network.labels)
    (plan,) = network.step._execution.plan.steps[0].kernel.plans.values()
    titles = [title_of(plan.program.members(one)) for one in plan.program.commands]
    assert len([one for one in titles if one != "MatMul"]) <= 5, titles  # the labels are checked before state is written
    updated = plan.program.commands[-1]
    written = [one for position in updated.steps for one in plan.program.steps[position].variables]
    assert len({*written} & {*plan.program.graph.outputs}) >= 4, "both weights, with their velocities"


@needs_compiler
def test_the_gradient_of_a_convolution_is_a_convolution(cupy: Any) -> None:
    x, w = (
        mg.tensor4("x", shape=(None, 2, 16, 16)),
        mg.shared(np.random.default_rng(0).normal(size=(3, 2, 3, 3)).astype("float32")),
    )
    cost = (mg.tanh(mg.conv2d(x, w, padding="same")) ** 2).sum()
    f, g = (mg.function([x], mg.grad(cost, [x, w]), backend=name) for name in ("cupy", "numpy"))
    data = np.random.default_rng(1).normal(size=(2, 2, 16, 16)).astype("float32")
    for _ in range(3):
        equal([one.get() for one in f(data)], g(data), 1e-4)
    (plan,) = f._execution.plan.steps[0].kernel.plans.values()
    assert not any("Overlap" in title_of(plan.program.members(one)) for one in plan.program.commands)


@needs_compiler
def test_what_cannot_be_captured_is_launched_kernel_after_kernel(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(stream: Any, mode: Any = None) -> None:
        raise RuntimeError("cudaErrorStreamCaptureUnsupported")

    monkeypatch.setattr(host_cuda.Stream, "begin_capture", refuse)
    ours, theirs = Network("cupy"), Network("numpy")
    for _ in range(4):
        ours.step(ours.images, ours.labels)
        theirs.step(ours.images, ours.labels)
    equal(ours.state(), theirs.state())
    assert "cudaErrorStreamCaptureUnsupported" in str(ours.step.profile(ours.images, ours.labels))


@needs_compiler
def test_state_lies_on_the_gpu_once_it_was_used_there(cupy: Any) -> None:
    network = Network("cupy")
    (weight, _) = network.weights
    with pytest.raises(ValueError, match="lies on the host"):
        weight.get_value(device=True)
    network.step(network.images, network.labels)
    lent = weight.get_value(borrow=True, device=True)
    assert isinstance(lent, cupy.ndarray)
    assert weight.get_value(borrow=True, device=True) is lent
    assert weight.get_value(device=True) is not lent
    assert isinstance(weight.get_value(), np.ndarray)
    assert isinstance(weight.get_value(borrow=True), np.ndarray)
    copy = pickle.loads(pickle.dumps(weight))
    assert isinstance(copy.cell.value, np.ndarray)
    np.testing.assert_array_equal(copy.get_value(), lent.get())


@needs_compiler
def test_state_moves_to_where_a_function_computes(cupy: Any) -> None:
    ours, theirs = Network("cupy"), Network("numpy")
    on_host = mg.function([ours.x], ours.logits, backend="numpy")
    twin = mg.function([theirs.x], theirs.logits, backend="numpy")
    for turn in range(6):
        if turn == 4:
            for network in (ours, theirs):
                network.weights[0].set_value(np.full((8, 6), 0.25, "float32"))
        ours.step(ours.images, ours.labels)
        theirs.step(ours.images, ours.labels)
        if turn % 2:
            np.testing.assert_allclose(on_host(ours.images), twin(ours.images), rtol=1e-4, atol=1e-5)
            assert isinstance(ours.weights[0].cell.value, np.ndarray)
    equal(ours.state(), theirs.state())


@needs_compiler
def test_a_value_may_be_set_from_the_gpu(cupy: Any) -> None:
    w = mg.shared(np.zeros(3, "float32"), "w")
    f = mg.function([], w * 2, backend="cupy")
    for k in range(3):
        w.set_value(cupy.asarray(np.full(3, k, "float32")))
        np.testing.assert_array_equal(f().get(), np.full(3, 2 * k))


@needs_compiler
def test_state_may_lie_in_any_order(cupy: Any) -> None:
    rng = np.random.default_rng(0)
    value = np.asfortranarray(rng.normal(size=(5, 4)).astype("float32"))
    x, w = mg.matrix("x"), mg.shared(value, "w", borrow=True)
    f = mg.function([x], [x @ w, x[:, :4] + w[:3]], updates={w: w * 0.5}, backend="cupy")
    data = rng.normal(size=(3, 5)).astype("float32")
    for k in range(4):
        first, second = (one.get() for one in f(np.asfortranarray(data)))
        np.testing.assert_allclose(first, data @ value * 0.5**k, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(second, data[:, :4] + value[:3] * 0.5**k, rtol=1e-5, atol=1e-6)


@needs_compiler
def test_rounded_products_are_captured_anew(cupy: Any) -> None:
    x = mg.matrix("x")
    f = mg.function([x], x @ x, backend="cupy")
    data = cupy.asarray(np.eye(3, dtype="float32"))
    bound = []
    for allowed in (False, False, True, True, False):
        mg.config.allow_tf32 = allowed
        np.testing.assert_array_equal(f(data).get(), np.eye(3))
        bound.append(f._execution.plan.steps[0].kernel.recent.captured)
    assert bound[0] is None
    assert bound[2] is bound[3]
    assert [one.tf32 for one in bound[1:]] == [False, True, True, False]


@needs_compiler
def test_functions_share_state_whatever_the_size_of_a_batch(cupy: Any) -> None:
    ours, theirs = Network("cupy"), Network("numpy")
    functions = [mg.function([one.x], one.logits, backend=name) for one, name in ((ours, "cupy"), (theirs, "numpy"))]
    others = [
        mg.function([], [], updates={one.weights[0]: mg.concatenate([one.weights[0][1:], one.weights[0][:1]])}, backend=name)
        for one, name in ((ours, "cupy"), (theirs, "numpy"))
    ]
    for size in (16, 16, 7, 16, 7, 7, 1, 16):
        for network in (ours, theirs):
            network.step(ours.images[:size], ours.labels[:size])
        for other in others:
            other()
        mine, reference = (f(ours.images[:size]) for f in functions)
        np.testing.assert_allclose(mine.get(), reference, rtol=1e-4, atol=1e-4)
    equal(ours.state(), theirs.state(), 1e-4)


@needs_compiler
def test_results_are_the_callers_own(cupy: Any) -> None:
    x, w = mg.vector("x"), mg.shared(np.zeros(3, "float32"), "w")
    f = mg.function([x], [x + 1, w, w + 1], updates={w: w + x}, backend="cupy")
    given = [np.full(3, k, "float32") for k in range(5)]
    results = [f(one) for one in given]
    for k, (first, old, new) in enumerate(results):
        total = sum(range(k))
        np.testing.assert_array_equal(
            [first.get(), old.get(), new.get()], np.array([[k + 1], [total], [total + 1]]) + np.zeros(3)
        )


@needs_compiler
def test_a_stream_waits_for_what_another_one_does(cupy: Any) -> None:
    x = mg.vector("x")
    f = mg.function([x], x * 2, backend="cupy")
    data = cupy.asarray(np.ones(3, "float32"))
    for _ in range(3):
        f(data)
    waits = host_cuda.counts.synchronized
    with cupy.cuda.Stream():
        np.testing.assert_array_equal(f(data).get(), [2, 2, 2])
    assert host_cuda.counts.synchronized == waits + 1


@needs_compiler
def test_calls_from_several_threads_follow_one_another(cupy: Any) -> None:
    x, total, last = mg.scalar("x"), mg.shared(np.float32(0), "total"), mg.shared(np.float32(0), "last")
    add = mg.function([x], [total, last], updates={total: total + x, last: total + x}, backend="cupy")
    see = mg.function([], [total, last], backend="cupy")
    add(1.0)
    add(1.0)
    odd: list[Any] = []

    def work() -> None:
        for _ in range(25):
            add(1.0)
            first, second = (float(one) for one in see())
            if first != second:
                odd.append((first, second))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not odd
    assert total.get_value() == last.get_value() == 102


# -- inputs and outputs --------------------------------------------------------------------------------------------------


class Foreign:
    """An array of another library on the GPU."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __dlpack__(self, **options: Any) -> Any:
        raise AssertionError("the stand-in asks for the array itself")

    def lent(self) -> Any:
        return self._array


@needs_compiler
def test_inputs_come_from_anywhere(cupy: Any) -> None:
    x = mg.matrix("x")
    f = mg.function([x], x.sum(1) * 2, backend="cupy")
    host = np.arange(12, dtype="float32").reshape(3, 4)
    device = cupy.asarray(host)
    wide = cupy.asarray(np.arange(24, dtype="float32").reshape(3, 8))
    for given in (host, host.tolist(), device, Foreign(device), host.astype("float16"), cupy.asarray(host.astype("float16"))):
        np.testing.assert_array_equal(f(given).get(), host.sum(1) * 2)
    for _ in range(3):
        np.testing.assert_array_equal(f(wide[:, 1:7:2]).get(), wide.get()[:, 1:7:2].sum(1) * 2)
        np.testing.assert_array_equal(f(wide[:, 1:5]).get(), wide.get()[:, 1:5].sum(1) * 2)
    before, waits = f.transfers(), host_cuda.counts.synchronized
    f(Foreign(device))
    assert f.transfers() == before
    assert host_cuda.counts.synchronized == waits + 1, "until what belongs to others has been read"


@needs_compiler
def test_an_input_on_the_gpu_is_checked_like_any_other(cupy: Any) -> None:
    x = mg.matrix("x")
    f = mg.function([x], x * 2, backend="cupy")
    with pytest.raises(TypeError, match=r"float64 on the GPU, expected float32.*astype"):
        f(cupy.asarray(np.zeros((2, 2))))
    with pytest.raises(TypeError, match="1 axes"):
        f(cupy.asarray(np.zeros(2, "float32")))
    on_host = mg.function([x], x * 2, backend="numpy")
    with pytest.raises(TypeError, match="lies on a GPU, and backend 'numpy' computes on the host"):
        on_host(cupy.asarray(np.zeros((2, 2), "float32")))


@needs_compiler
def test_an_output_comes_to_the_host_on_request(cupy: Any) -> None:
    x = mg.vector("x")
    f = mg.function([x], {"there": x * 2, "here": mg.Out(x * 3, host=True)}, backend="cupy")
    for _ in range(3):
        found = f(np.ones(2, "float32"))
        assert isinstance(found["there"], cupy.ndarray)
        assert isinstance(found["here"], np.ndarray)
        np.testing.assert_array_equal(found["here"], [3, 3])
    assert isinstance(mg.function([x], mg.Out(x, host=True), backend="numpy")([1]), np.ndarray)


def test_nothing_is_copied_without_a_gpu() -> None:
    x = mg.vector("x")
    f = mg.function([x], x * 2, backend="numpy")
    f([1, 2])
    assert f.transfers() == mg.Transfers(0, 0)


# -- failures ------------------------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("calls", [0, 1, 3])
def test_an_index_outside_is_told_at_the_users_line_and_changes_nothing(cupy: Any, calls: int) -> None:
    network = Network("cupy")
    for _ in range(calls):
        network.step(network.images, network.labels)
    before = network.state()
    with pytest.raises(IndexError, match=r"a class index must be from 0 to 2, not 3(.|\n)*test_gpu\.py:\d+"):
        network.step(network.images, np.full(16, 3, "int32"))
    assert all(np.array_equal(one, old) for one, old in zip(network.state(), before, strict=True))
    twin = Network("numpy")
    for _ in range(calls + 2):
        twin.step(network.images, network.labels)
    for _ in range(2):
        network.step(network.images, network.labels)
    equal(network.state(), twin.state())


@needs_compiler
def test_state_is_written_over_only_after_all_that_can_fail(cupy: Any) -> None:
    rows, table, w = mg.ivector("rows"), mg.shared(np.ones((4, 3), "float32")), mg.shared(np.ones(700, "float32"), "w")
    f = mg.function([rows], table[rows].sum(), updates={w: w * 2}, backend="cupy")
    for calls in range(1, 4):
        f([0, 3])
        with pytest.raises(IndexError, match="index 4 is out of bounds"):
            f([0, 4])
        np.testing.assert_array_equal(w.get_value(), np.full(700, 2.0**calls))


@needs_compiler
def test_an_index_into_nothing_is_told_and_reads_nothing(cupy: Any) -> None:
    x, rows, w = mg.matrix("x"), mg.ivector("rows"), mg.shared(np.ones((2, 3), "float32"), "w")
    f = mg.function([x, rows], x[rows].sum(), updates={w: w * 2}, backend="cupy")
    for _ in range(3):
        with pytest.raises(IndexError, match="out of bounds"):
            f(np.zeros((0, 3), "float32"), np.array([0, 0], "int32"))
        np.testing.assert_array_equal(w.get_value(), np.ones((2, 3)))
    assert float(f(np.zeros((0, 3), "float32"), np.zeros(0, "int32"))) == 0


@needs_compiler
def test_memory_for_results_is_there_before_state_changes(cupy: Any) -> None:
    x, w = mg.vector("x"), mg.shared(np.zeros(3, "float32"), "w")
    f = mg.function([x], x * 2, updates={w: w + 1}, backend="cupy")
    data = cupy.asarray(np.ones(1000, "float32"))
    for _ in range(3):
        f(data)
    for left in (0, 1000):
        host_cuda.Limit.left = left
        with pytest.raises(mg.errors.OutOfMemoryError):
            f(data)
        host_cuda.Limit.left = None
        np.testing.assert_array_equal(w.get_value(), np.full(3, 3))


@needs_compiler
def test_calls_go_on_where_there_is_no_memory_to_capture_them(cupy: Any) -> None:
    x = mg.matrix("x")
    f = mg.function([x], (x @ x + x.T @ x).sum(), backend="cupy")  # two products at the same time, each with its workspace
    data = cupy.asarray(np.eye(4, dtype="float32"))
    host_cuda.Limit.left = host_cuda.cublas.WORKSPACE + 4000
    for _ in range(4):
        assert float(f(data)) == 8
    assert "OutOfMemoryError" in f.profile(data).note


@needs_compiler
@pytest.mark.parametrize("calls", [0, 1, 3])
def test_out_of_memory_leaves_state_as_it_was(cupy: Any, calls: int) -> None:
    network = Network("cupy")
    for _ in range(calls):
        network.step(network.images, network.labels)
    before = network.state()
    for left in (0, 100, 1000, 3000):
        host_cuda.Limit.left = left
        with pytest.raises(mg.errors.OutOfMemoryError, match=r"too little memory.*no state was changed"):
            network.step(np.zeros((64, 8), "float32"), np.zeros(64, "int32"))
        assert all(np.array_equal(one, old) for one, old in zip(network.state(), before, strict=True))
    host_cuda.Limit.left = None
    network.step(network.images, network.labels)


def test_cupy_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"minigraph\[cuda13\] or minigraph\[cuda12\]") as caught:
        mg.function([], mg.constant(1), backend="cupy")
    assert isinstance(caught.value, mg.errors.MissingExtraError)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"driver": 0}, "no driver is installed"),
        ({"driver": 12040, "runtime": 13000}, r"driver is too old: it supports CUDA 12\.4(.|\n)*minigraph\[cuda12\]"),
        ({"devices": 0}, "the driver finds none"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_an_error_that_says_why(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, int], message: str
) -> None:
    host_cuda.install(monkeypatch, **found)
    x = mg.vector("x")
    with pytest.raises(mg.errors.ExecutionError, match=message):
        mg.function([x], x, backend="cupy")
    assert "cupy: no. backend 'cupy'" in mg.doctor()
    monkeypatch.setenv("MINIGRAPH_BACKEND", "cupy")
    with pytest.raises(mg.errors.ExecutionError, match=message):
        mg.function([x], x)


def test_the_doctor_tells_which_gpu_is_used(cupy: Any) -> None:
    assert "cupy: yes, on a GPU on the host (16 GiB), device 0, driver for CUDA 13.0" in mg.doctor()


def test_a_device_that_is_not_there_is_an_error(cupy: Any) -> None:
    mg.config.device = 1
    with pytest.raises(mg.errors.ExecutionError, match=r"config\.device is 1, and there are GPUs 0 to 0"):
        mg.function([], mg.constant(1), backend="cupy")


# -- settings ------------------------------------------------------------------------------------------------------------


def test_the_backend_of_functions_that_name_none_is_a_setting(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGRAPH_BACKEND", "numpy")
    x = mg.vector("x")
    assert mg.function([x], x).backend == "numpy"
    mg.config.backend = "cupy"
    assert mg.function([x], x).backend == "cupy"
    assert mg.function([x], x, backend="numpy").backend == "numpy"


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="there is no backend 'cuda'"):
        mg.config.backend = "cuda"
    with pytest.raises(ValueError, match="a device is a number of 0 or more"):
        mg.config.device = -1
    with pytest.raises(TypeError, match="True or False"):
        mg.config.allow_tf32 = "yes"  # type: ignore[assignment]
    with pytest.raises(AttributeError, match="no setting 'devices'"):
        mg.config.devices = 2  # type: ignore[attr-defined]


# -- examples ------------------------------------------------------------------------------------------------------------


def few(data: Any) -> Any:
    """The first of each of the arrays that an example loads."""
    if isinstance(data, tuple):
        return tuple([one[:50] for one in data])
    return type(data)(*[one[:50] for one in vars(data).values()])


@needs_compiler
@pytest.mark.parametrize(
    ("example", "arguments"),
    [
        ("digits_mlp", ["--epochs", "1", "--batch-size", "25"]),
        ("digits_cnn", ["--epochs", "1", "--batch-size", "25"]),
        ("sequential_digits_lstm", ["--epochs", "2", "--batch-size", "25", "--hidden", "8"]),
    ],
)
def test_examples_learn_what_they_learn_on_the_processor(cupy: Any, example: str, arguments: list[str], tmp_path: Path) -> None:
    names = runpy.run_path(str(EXAMPLES / f"{example}.py"))
    main, everything = names["main"], names["load"]
    main.__globals__["load"] = lambda seed: few(everything(seed))
    main.__globals__["plot"] = lambda *given: None
    if example == "digits_mlp":
        main.__globals__["HIDDEN"] = (32, 32)
    common = [*arguments, "--output", str(tmp_path / "curves.png")]
    ours, theirs = (main([*common, "--backend", name]) for name in ("cupy", "numpy"))
    for one, other in zip(*([runs] if not isinstance(runs, list | tuple) else runs for runs in (ours, theirs)), strict=True):
        np.testing.assert_allclose(one.losses, other.losses, rtol=2e-3)
        np.testing.assert_allclose(one.accuracies, other.accuracies, atol=0.02)
