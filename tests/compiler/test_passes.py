"""Passes by name: listed, left out, added, verified, written to a folder."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import minigraph as mg
from minigraph.compiler.choose import INTERPRETED, machines
from minigraph.compiler.cpu import jit
from minigraph.compiler.cpu.backend import NATIVE
from minigraph.compiler.cuda.backend import CUDA
from minigraph.compiler.passes import Pass, Pipeline, verify
from minigraph.core.walks import rebuild
from minigraph.ops.elementwise.arithmetic import Log, Negative
from minigraph.ops.elementwise.transcendental import Exp
from minigraph.ops.loop.loop import Scan

needs_jit = pytest.mark.skipif(not jit.is_available(), reason="llvmlite is not installed")


@pytest.fixture
def settings() -> Iterator[mg.config.__class__]:
    """The settings, as they were afterwards."""
    before = mg.config.passes, mg.config.verify
    yield mg.config
    mg.config.passes, mg.config.verify = before


def ops(f: mg.Function) -> list[str]:
    """The names of the ops of a function."""
    return [type(one.op).__name__ for one in f.graph.variables]


def cancel_log_of_exp(variable: mg.Variable) -> mg.Variable | None:
    """The argument of an exponential whose logarithm is taken."""
    match variable:
        case mg.Variable(Log(), (mg.Variable(Exp(), (x,)),)):
            return x
    return None


# -- the list --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", machines)
def test_each_pass_says_what_it_does(backend: str) -> None:
    pipeline = machines[backend].pipeline
    for step in (*pipeline.whole, *pipeline.regions, *pipeline.shaped):
        assert step.name.isidentifier()
        assert step.summary.endswith(".") and "\n" not in step.summary, step.name
        assert len(step.summary.split()) > 5, step.name


def test_names_come_in_order() -> None:
    f = mg.function([], mg.constant(1.0), backend="numpy")
    assert f.passes[:3] == ("seclude", "keep_whole", "strip")
    assert set(INTERPRETED.names) - {"keep_whole"} < set(NATIVE.names)
    assert NATIVE.names.index("partition") < NATIVE.names.index("block_folds") < NATIVE.names.index("insert_copies")
    assert CUDA.names[1] == "one_pass_variance"


# -- left out and added ----------------------------------------------------------------------------------------------


def test_a_pass_is_left_out_wherever_it_stands() -> None:
    x = mg.vector("x")
    y = mg.exp(x) * mg.exp(x) + mg.exp(x)
    assert ops(mg.function([x], y, backend="numpy")).count("Exp") == 1
    f = mg.function([x], y, backend="numpy", passes=["-merge"])
    assert ops(f).count("Exp") == 3
    assert "merge" not in f.passes
    np.testing.assert_allclose(f([0.5]), np.exp(0.5) ** 2 + np.exp(0.5), rtol=1e-6)


def test_settings_come_first(settings: mg.config.__class__) -> None:
    x = mg.vector("x")
    settings.passes = "-merge"
    f = mg.function([x], mg.exp(x) + mg.exp(x), backend="numpy", passes="-fold")
    assert not {"merge", "fold"} & set(f.passes)
    assert set(INTERPRETED.names) - set(mg.function([x], x, backend="numpy").passes) == {"merge"}
    settings.passes = ()
    assert mg.function([x], x, backend="numpy").passes == INTERPRETED.names


@pytest.mark.parametrize("wish", [mg.After("merge", lambda graph: graph), [lambda graph: graph], "-merge", ("-merge", "-fold")])
def test_settings_may_be_one_wish_or_several(wish: object, settings: mg.config.__class__) -> None:
    x = mg.vector("x")
    settings.passes = wish
    assert mg.function([x], x, backend="numpy").passes == INTERPRETED.changed(settings.passes).names


@pytest.mark.parametrize("wish", [3, "merge", ["-merge", None], {"-merge"}])
def test_settings_that_are_no_passes_are_refused_at_once(wish: object, settings: mg.config.__class__) -> None:
    before = settings.passes
    with pytest.raises(TypeError, match="after a minus sign"):
        settings.passes = wish
    assert settings.passes == before


def test_names_of_another_backends_passes_are_known(settings: mg.config.__class__) -> None:
    """Settings hold for all backends, whatever passes each of them has."""
    x = mg.vector("x")
    settings.passes = ["-insert_copies", "-one_pass_variance", mg.After("partition", mg.Graph.with_roots)]
    assert mg.function([x], x, backend="numpy").passes == INTERPRETED.names


@needs_jit
@pytest.mark.parametrize("name", sorted({one.name for one in (*NATIVE.whole, *NATIVE.shaped) if not one.needed}))
def test_every_other_pass_can_be_left_out(name: str) -> None:
    """A function without one pass computes the same."""
    x, w = mg.matrix("x"), mg.shared(np.linspace(-1, 1, 12, dtype="float32").reshape(3, 4), "w")
    rows = mg.scan(lambda row, state: mg.tanh(row + state @ w.T @ w), sequences=[x @ w], outputs_info=[(x @ w)[0]])
    y = mg.log(mg.softmax(rows)).sum() + (x.T @ x).sum() + mg.logsumexp(x[::2] * 1.0, axis=0).sum()
    given = np.linspace(-1, 1, 15, dtype="float32").reshape(5, 3)
    compiled = mg.function([x], [y, mg.grad(y, w)], backend="native", passes=f"-{name}")
    reference = mg.function([x], [y, mg.grad(y, w)], backend="numpy")
    for ours, theirs in zip(compiled(given), reference(given), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_pass_of_ones_own_runs_last_or_where_it_says() -> None:
    x = mg.vector("x")
    seen: list[tuple[str, int]] = []

    def count_logs(graph: mg.Graph) -> mg.Graph:
        """Look at the graph, and leave it as it is."""
        seen.append(("logs", sum(isinstance(one.op, Log) for one in graph.variables)))
        return graph

    f = mg.function([x], mg.log(mg.softmax(x)), backend="numpy", passes=[mg.After("strip", count_logs), count_logs])
    assert seen == [("logs", 1), ("logs", 1)]
    assert f.passes.index("count_logs") == f.passes.index("strip") + 1
    assert f.passes[-1] == "count_logs"


@needs_jit
def test_a_pass_of_ones_own_runs_before_regions_are_gathered_or_in_them() -> None:
    x = mg.vector("x")

    def look(graph: mg.Graph) -> mg.Graph:
        """Leave a graph as it is."""
        return graph

    f = mg.function([x], x, backend="native", passes=look)
    assert f.passes.index("look") == f.passes.index("partition") - 1
    g = mg.function([x], x, backend="native", passes=mg.After("partition", functools.partial(look)))
    assert g.passes.index("partial") == g.passes.index("partition") + 1


@pytest.mark.parametrize(
    ("passes", "error", "words"),
    [
        (["-fuse"], ValueError, "no pass 'fuse'"),
        ("-lower", ValueError, "cannot be left out"),
        (["merge"], TypeError, "after a minus sign"),
        ([3], TypeError, "after a minus sign"),
        (mg.After("fuse", lambda graph: graph), ValueError, "no pass 'fuse'"),
    ],
)
def test_what_is_no_pass_is_refused(passes: object, error: type[Exception], words: str) -> None:
    x = mg.vector("x")
    with pytest.raises(error, match=words):
        mg.function([x], x + 1, backend="numpy", passes=passes)


def test_a_rule_of_ones_own_runs_once_it_is_registered() -> None:
    x = mg.vector("x")
    y = mg.log(mg.exp(x)) * 2
    plain = mg.function([x], y, backend="numpy", passes="-stabilize")
    mg.register_rule(cancel_log_of_exp, after="lower")
    try:
        f = mg.function([x], y, backend="numpy", passes="-stabilize")
        twin = mg.function([x], y, passes="-stabilize")
    finally:
        mg.unregister_rule(cancel_log_of_exp)
    assert "Exp" in ops(plain) and "Exp" not in ops(f)
    assert "cancel_log_of_exp" in f.passes
    np.testing.assert_array_equal(f([800.0, 1.0]), [1600, 2])
    np.testing.assert_array_equal(twin([800.0, 1.0]), [1600, 2])
    assert "cancel_log_of_exp" not in mg.function([x], y, backend="numpy").passes
    with pytest.raises(ValueError, match="no rule that was registered"):
        mg.unregister_rule(cancel_log_of_exp)
    with pytest.raises(TypeError, match="a rule is a function"):
        mg.register_rule("merge", after="lower")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no pass 'simplified'.*simplify"):
        mg.register_rule(cancel_log_of_exp, after="simplified")


# -- verified --------------------------------------------------------------------------------------------------------


def wrong_type(graph: mg.Graph) -> mg.Graph:
    """Another dtype."""
    return graph.with_roots([mg.cast(root, "float64") for root in graph.roots])


def foreign_leaf(graph: mg.Graph) -> mg.Graph:
    """An input from nowhere."""
    return graph.with_roots([root + mg.vector("other") for root in graph.roots])


def lost_output(graph: mg.Graph) -> mg.Graph:
    """One output less."""
    return mg.Graph(graph.inputs, graph.outputs[:-1])


def wrong_inside(graph: mg.Graph) -> mg.Graph:
    """A variable of a type that its op does not give."""
    (root,) = graph.roots
    wrong = mg.Variable(Negative(), root.inputs, mg.matrix().type)
    return graph.with_roots([mg.Variable(root.op, (wrong.sum(0),), root.type)])


def wrong_loop(graph: mg.Graph) -> mg.Graph:
    """A loop whose body reads an input from nowhere."""
    (loop,) = (one for one in graph.variables if isinstance(one.op, Scan))
    roots = [one + mg.scalar("other") for one in loop.op.body.roots]
    changed = mg.Variable(loop.op.altered(body=mg.Graph(loop.op.body.inputs, tuple(roots))), loop.inputs, loop.type)
    return graph.with_roots(rebuild(graph.roots, {loop: changed}))


def test_the_verifier_looks_into_loops() -> None:
    x = mg.vector("x")
    graph = mg.Graph((x,), (mg.scan(lambda one: mg.exp(one), sequences=[x]),))
    verify("strip", graph, graph)
    with pytest.raises(mg.ExecutionError, match=r"the pass 'wrong_loop' made.*comes from nowhere"):
        verify("wrong_loop", graph, wrong_loop(graph))


def test_the_verifier_compares_each_of_several_results() -> None:
    x = mg.vector("x")
    graph = mg.Graph((x,), tuple(mg.scan(lambda one: [mg.exp(one), mg.isnan(one)], sequences=[x])))
    (both,) = {one.inputs[0] for one in graph.roots}
    wrong = mg.Variable(both.op, both.inputs, (both.type[1], both.type[0]))
    with pytest.raises(mg.ExecutionError, match="another type"):
        verify("swap", graph, graph.with_roots(rebuild(graph.roots, {both: wrong})))


@pytest.mark.parametrize(
    ("step", "words"),
    [(wrong_type, "float64"), (foreign_leaf, "comes from nowhere"), (lost_output, "0 roots"), (wrong_inside, "another type")],
)
def test_the_verifier_names_the_pass(step: object, words: str, settings: mg.config.__class__) -> None:
    x = mg.vector("x")
    settings.verify = True
    with pytest.raises(mg.ExecutionError, match=f"the pass '{step.__name__}' made.*{words}"):  # type: ignore[attr-defined]
        mg.function([x], mg.exp(x), backend="numpy", passes=[step])


def test_a_right_pass_is_not_blamed() -> None:
    x = mg.vector("x")
    graph = mg.Graph((x,), (mg.exp(x) + 1,))
    for step in INTERPRETED.whole:
        verify(step.name, graph, step.run(graph))


@needs_jit
def test_the_code_of_a_loop_stands_apart_from_its_steps(tmp_path: Path) -> None:
    x, w = mg.matrix("x"), mg.matrix("w")
    rows = mg.scan(lambda row, state: mg.tanh(row + state @ w), sequences=[x], outputs_info=[x[0]])
    f = mg.function([x, w], mg.exp(rows), backend="native", dump=tmp_path)
    f(np.ones((3, 2), "float32"), np.ones((2, 2), "float32"))
    *_, program, code = sorted(next(tmp_path.iterdir()).iterdir())
    steps, source = f.source(), f.source(code=True)
    assert "3 times:" in program.read_text() and "3 times:" in steps
    assert "define" not in program.read_text() and "define" not in steps
    assert source.startswith(steps)
    assert source[len(steps) :].strip() == code.read_text().strip()
    kernels = re.findall(r"^define \w+ @\w+", code.read_text(), re.MULTILINE)
    assert len(kernels) == steps.count("for i0 <"), "one for each nest, those of the body included"


def test_names_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    x = mg.vector("x")
    mg.function([x], x, backend="numpy", name="../a/b c", dump=tmp_path / "inside")
    assert [one.name for one in tmp_path.iterdir()] == ["inside"]
    assert [one.name for one in (tmp_path / "inside").iterdir()] == ["000_.._a_b_c"]


# -- told ------------------------------------------------------------------------------------------------------------


@needs_jit
def test_the_trace_goes_on_to_the_kernels() -> None:
    x = mg.matrix("x")
    f = mg.function([x], mg.log(mg.softmax(x)).sum(), backend="native", trace=True)
    assert [name for name, _ in f.trace.stages] == ["given", *[one.name for one in (*NATIVE.whole, *NATIVE.regions)]]
    f(np.ones((4, 3), "float32"))
    names = [name for name, _ in f.trace.stages]
    assert names[-1] == "region 4x3: program"
    assert [one for one in names if "insert_copies" in one] == ["region 4x3: insert_copies"]
    text = str(f.trace)
    assert "- %2 = Log(%1) : float32[?, ?]" in text and "+ " in text
    assert "for i0 < 4:" in text.split("== region 4x3: program")[1]


def test_a_step_is_told_on_two_screens() -> None:
    """A trace shows what changed, and a source what runs, in few lines."""
    x, t = mg.matrix("x"), mg.lvector("t")
    first, second = (mg.shared(np.ones(shape, "float32") / 8, name) for shape, name in (((8, 16), "v"), ((16, 4), "w")))
    cost = mg.categorical_crossentropy(mg.softmax(mg.relu(x @ first) @ second), t).mean()
    updates = [(one, one - 0.1 * slope) for one, slope in zip((first, second), mg.grad(cost, [first, second]), strict=True)]
    f = mg.function([x, t], cost, updates=updates, trace=True)
    f(np.ones((5, 8), "float32"), np.zeros(5, "int64"))
    assert len(str(f.trace).splitlines()) < 500
    assert len(f.source().splitlines()) < 120


@needs_jit
@pytest.mark.parametrize("by", ["argument", "environment"])
def test_a_folder_gets_a_file_for_each_stage(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = mg.matrix("x")
    if by == "environment":
        monkeypatch.setenv("MINIGRAPH_DUMP", str(tmp_path))
    given = {"dump": tmp_path} if by == "argument" else {}
    f = mg.function([x], mg.exp(x).sum(1), backend="native", name="total", **given)  # type: ignore[arg-type]
    f(np.ones((4, 3), "float32"))
    (folder,) = tmp_path.iterdir()
    assert folder.name == "000_total"
    files = sorted(folder.iterdir())
    assert [one.name for one in files][:2] == ["000_given.txt", "001_seclude.txt"]
    assert [one.name.partition("_")[0] for one in files] == [f"{k:03}" for k in range(len(files))]
    assert files[-2].name.endswith("region_4x3_program.txt") and "Sum of" in files[-2].read_text()
    assert files[-1].suffix == ".ll" and "define" in files[-1].read_text()
    assert files[0].read_text().splitlines()[0] == "input x : float32[?, ?]"
    mg.function([x], x, name="total", **given)  # type: ignore[arg-type]
    assert {one.name for one in tmp_path.iterdir()} == {"000_total", "001_total"}


def test_pipelines_are_values() -> None:
    step = Pass(wrong_type)
    assert Pipeline((step,)) == Pipeline((Pass(wrong_type),))
    assert step.name == "wrong_type"
    assert step.summary == "Another dtype."
