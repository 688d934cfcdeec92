"""Graphs: order, replacement, and what they look like as text, pictures and networkx graphs."""

import io
import re

import networkx
import numpy as np
import pytest

import minigraph as mg
from minigraph.core.graph import toposort
from minigraph.core.walks import rebuild, transform
from minigraph.printing import Names, changed_lines, graph_lines


def ladder(depth):
    """y = y + y, again and again: as many variables as steps, but twice as many paths with each."""
    x = y = mg.scalar("x")
    for _ in range(depth):
        y = y + y
    return x, y


# -- order -----------------------------------------------------------------------------------------------------------


def test_toposort_has_inputs_first_and_everything_once():
    x, y = mg.vector("x"), mg.vector("y")
    a = x + y
    b = a * x
    c = mg.exp(b) + a
    order = toposort([c, b, c])
    assert len(order) == len(set(order)) == 6
    place = {variable: position for position, variable in enumerate(order)}
    assert all(place[one] < place[variable] for variable in order for one in variable.inputs)
    assert toposort([c, b, c]) == order
    assert toposort([]) == []


def test_toposort_does_not_descend_where_it_is_told_to_stop():
    x = mg.vector("x")
    a = mg.exp(x)
    b = a + 1
    assert x not in toposort([b], stop={a})
    assert a in toposort([b], stop={a})
    assert toposort([b], stop={b}) == [b]


def test_graph_is_a_record_of_roots():
    x, s = mg.scalar("x"), mg.shared(1.0, "s")
    y, new = x * 2, s + x
    graph = mg.Graph((x,), (y,), ((s, new),))
    assert graph.roots == [y, new]
    assert set(graph) == set(graph.variables) == {x, s, y, new, y.inputs[1]}
    again = graph.with_roots([new, y])
    assert (again.outputs, again.updates, again.inputs) == ((new,), ((s, y),), (x,))
    with pytest.raises(AttributeError):
        graph.outputs = ()


def test_transform_rebuilds_only_what_changed():
    x, y = mg.vector("x"), mg.vector("y")
    kept, changed = mg.exp(x), mg.tanh(y)
    root = kept + changed
    (new,) = transform([root], lambda variable: x if variable is y else variable)
    assert new.inputs[0] is kept
    assert new.inputs[1].inputs == (x,)
    assert transform([root], lambda variable: variable) == [root]


def test_rebuild_does_not_look_inside_what_it_puts_in():
    x = mg.vector("x")
    y = x + 1
    (new,) = rebuild([y * 2], {x: mg.exp(x)})
    np.testing.assert_allclose(new.eval({x: [0, 1]}), (np.exp([0, 1]) + 1) * 2, rtol=1e-6)


# -- replace ---------------------------------------------------------------------------------------------------------


def test_replacements_compose():
    a = mg.constant(3)
    b = a + 2
    c = b + 3
    d = c + 5
    assert mg.replace([d], {b: a * 2, c: b * 3})[0].eval() == 23
    assert mg.replace([d], {c: b * 3, b: a * 2})[0].eval() == 23
    assert mg.replace([d], {b: a * 2})[0].eval() == 14
    assert d.eval() == 13


def test_a_replacement_may_mention_its_own_key():
    x = mg.scalar("x")
    y = x + 1
    (new,) = mg.replace([y * 2], {y: y * 10})
    assert new.eval({x: 1}) == 40
    (new,) = mg.replace([y * 2], {x: x * 10})
    assert new.eval({x: 1}) == 22


def test_two_inputs_swap():
    x, y = mg.scalar("x"), mg.scalar("y")
    (new,) = mg.replace([x - 2 * y], {x: y, y: x})
    assert new.eval({x: 3, y: 10}) == 10 - 2 * 3


def test_unknown_keys_warn():
    x, y = mg.scalar("x"), mg.scalar("y")
    with pytest.warns(UserWarning, match="<y: float32 scalar> is not in the graph"):
        (new,) = mg.replace([x + 1], {y: x})
    assert new.eval({x: 1}) == 2


def test_a_replacement_has_the_type_of_what_it_replaces():
    x = mg.matrix("x")
    for wrong in (mg.vector("w"), mg.dmatrix("w"), mg.row("w")):
        with pytest.raises(TypeError, match=r"<x.*cannot be replaced by <w") as caught:
            mg.replace([mg.exp(x)], {x: wrong})
        assert f"{wrong.origin.filename}:{wrong.origin.line}" in str(caught.value)
    with pytest.raises(TypeError, match="map variables to variables"):
        mg.replace([x], {x: 3})
    fixed = mg.matrix(shape=(2, 3))
    assert mg.replace([mg.exp(x)], {x: fixed})[0].type.shape == (2, 3)
    with pytest.raises(TypeError, match="cannot be replaced"):
        mg.replace([mg.exp(fixed)], {fixed: mg.matrix(shape=(2, 4))})


def test_names_tags_and_origins_survive():
    x = mg.vector("x")
    y = mg.exp(x).copy("y", tags=["tag"])
    (new,) = mg.replace([y + 1], {x: x * 2})
    (copied,) = [v for v in toposort([new]) if v.name == "y"]
    assert copied is not y
    assert (copied.tags, copied.origin) == (("tag",), y.origin)


def test_what_does_not_fit_after_a_replacement_names_the_op_and_its_line():
    x, y = mg.matrix("x"), mg.matrix("y", shape=(3, 4))
    product = x @ y
    with pytest.raises(ValueError, match="MatMul") as caught:
        mg.replace([product], {x: mg.matrix("z", shape=(2, 5))})
    assert f"{product.origin.filename}:{product.origin.line}" in str(caught.value)


def test_updates_and_outputs_can_be_replaced_together():
    x, s = mg.scalar("x"), mg.shared(1.0)
    y = x * s
    z = mg.scalar("z")
    output, new = mg.replace([y, s + y], {x: z + 1})
    f = mg.function([z], output, updates={s: new})
    assert (f(1), s.get_value()) == (2, 3)


# -- text ------------------------------------------------------------------------------------------------------------


def test_pprint():
    x, y = mg.vector("x"), mg.vector("y")
    assert mg.pprint(x * 2.0 + y) == "((x * 2.0) + y)"
    assert mg.pprint(-mg.exp(x) / y) == "(-Exp(x) / y)"
    assert mg.pprint(x.sum()) == "Sum(axes=(0,))(x)"
    shared = mg.exp(x)
    assert mg.pprint(shared + shared * y) == "t1 = Exp(x)\n(t1 + (t1 * y))"
    assert mg.pprint(x) == "x"
    assert mg.pprint(mg.scalar()) == "<float32 scalar>"


def test_debugprint_is_a_tree_with_types_that_marks_shared_sub_trees():
    x = mg.vector("x")
    y = mg.exp(x).copy("y")
    z = y + y * 2
    assert mg.debugprint(z).splitlines() == [
        "Add: float32 (None,) [0]",
        "  Identity 'y': float32 (None,) [1]",
        "    Exp: float32 (None,) [2]",
        "      x: float32 (None,) [3]",
        "  Multiply: float32 (None,) [4]",
        "    Identity 'y': float32 (None,) -> see [1]",
        "    2.0: float32 scalar [5]",
    ]


def test_debugprint_takes_lists_graphs_and_files():
    x, s = mg.scalar("x"), mg.shared(1.0, "s")
    graph = mg.Graph((x,), (x + 1,), ((s, s * 2),))
    file = io.StringIO()
    text = mg.debugprint(graph, file=file)
    assert file.getvalue() == text + "\n"
    assert mg.debugprint(graph.roots) == text
    assert "Multiply" in text


def test_graphs_have_a_line_for_each_variable():
    x = mg.vector("x")
    graph = mg.Graph((x,), (mg.exp(x) + x * 2,))
    assert list(graph_lines(graph, origins=False)) == [
        "input x : float32[?]",
        "%1 = Exp(x) : float32[?]",
        "%2 = Multiply(x, 2.0) : float32[?]",
        "%3 = Add(%1, %2) : float32[?]",
        "return %3",
    ]
    assert any(re.fullmatch(r"%1 = Exp\(x\) : float32\[\?\]   # test_graphs.py:\d+", line) for line in graph_lines(graph))


def test_bodies_of_loops_follow_them():
    x, s = mg.matrix("x", shape=(None, 2)), mg.shared(np.ones(2, "float32"), "s")
    rows = mg.scan(lambda row, state: row + state, sequences=[x], outputs_info=[s])
    text = list(graph_lines(mg.Graph((x,), (rows,), ((s, rows[-1]),)), origins=False))
    inner = [line for line in text if line.startswith("    ")]
    assert len(inner) == 3
    assert inner[0].startswith("    for ")
    assert "Add(" in inner[1]
    assert text[-1].startswith("update s = %")


def test_names_stay_from_one_graph_to_the_next():
    x = mg.vector("x")
    first, second, last = mg.exp(x), mg.sin(x), mg.cos(x)
    names = Names()
    before = list(graph_lines(mg.Graph((x,), (first + second * last,)), names, origins=False))
    other = mg.tanh(x) + second * last
    after = list(graph_lines(mg.Graph((x,), (other,)), names, origins=False))
    changed = changed_lines(before, after)
    assert changed[0] == "- %1 = Exp(x) : float32[?]"
    assert all("Sin" not in line and "Cos" not in line and "Multiply" not in line for line in changed)
    again = list(graph_lines(mg.Graph((x,), (other,)), names, origins=False))
    assert changed_lines(after, again) == []


def test_equal_variables_have_names_of_their_own():
    x = mg.vector("x")
    text = list(graph_lines(mg.Graph((x,), (mg.exp(x) + mg.exp(x),)), origins=False))
    assert text[1:4] == ["%1 = Exp(x) : float32[?]", "%2 = Exp(x) : float32[?]", "%3 = Add(%1, %2) : float32[?]"]


# -- pictures --------------------------------------------------------------------------------------------------------


def test_to_dot():
    x, s = mg.vector('a "quoted" name'), mg.shared(1.0, "s")
    y = x * s + 2.0
    dot = mg.to_dot(y)
    nodes = re.findall(r'^  (\d+) \[label="([^"]*)", fillcolor="([^"]*)"\];$', dot, re.MULTILINE)
    edges = re.findall(r"^  (\d+) -> (\d+);$", dot, re.MULTILINE)
    assert dot.startswith("digraph {")
    assert dot.endswith("}")
    assert len(nodes) == 5
    assert len(edges) == 4
    color = {text.split("\\n")[0]: fill for _, text, fill in nodes}
    assert len({color["a 'quoted' name"], color["s"], color["2.0"], color["Add"]}) == 4


def test_to_networkx():
    x, s = mg.vector("x"), mg.shared(np.zeros(3), "s")
    tagged = mg.exp(x).copy("y", tags=["tag"])
    y = tagged - s
    picture = mg.to_networkx(y)
    assert isinstance(picture, networkx.MultiDiGraph)
    assert networkx.is_directed_acyclic_graph(picture)
    nodes = dict(picture.nodes(data=True))
    variables = {data["variable"]: number for number, data in nodes.items() if data["kind"] == "variable"}
    ops = {number: data for number, data in nodes.items() if data["kind"] == "op"}
    assert set(variables) == set(toposort([y]))
    assert len(ops) == sum(bool(variable.inputs) for variable in variables)
    assert nodes[variables[tagged]] == {
        "kind": "variable",
        "label": "y",
        "variable": tagged,
        "name": "y",
        "tags": ("tag",),
        "dtype": "float32",
        "shape": (None,),
    }
    (operation,) = picture.predecessors(variables[y])
    assert ops[operation]["op"] == y.op
    assert ops[operation]["label"] == "Subtract"
    positions = {source: data["position"] for source, _, data in picture.in_edges(operation, data=True)}
    assert positions == {variables[one]: position for position, one in enumerate(y.inputs)}


def test_networkx_keeps_an_operand_that_is_used_twice():
    x = mg.scalar("x")
    picture = mg.to_networkx(x * x)
    assert picture.number_of_edges(0, next(picture.successors(0))) == 2


def test_svg_without_graphviz_says_what_to_do(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ImportError, match="Graphviz") as caught:
        mg.to_svg(mg.scalar("x") + 1)
    assert isinstance(caught.value, mg.MissingExtraError)
    assert "to_dot" in str(caught.value)


def test_svg_is_what_graphviz_draws(monkeypatch, tmp_path):
    program = tmp_path / "dot"
    program.write_text(
        '#!/bin/sh\nif [ "$1" = -Tsvg ]; then echo "<svg>$(while read -r line; do echo "$line"; done)</svg>"; fi\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    svg = mg.to_svg(mg.scalar("x") + 1)
    assert svg.startswith("<svg>digraph {")
    program.write_text("#!/bin/sh\necho no such layout >&2\nexit 1\n")
    with pytest.raises(RuntimeError, match="no such layout"):
        mg.to_svg(mg.scalar("x"))


# -- diamonds --------------------------------------------------------------------------------------------------------


def test_a_diamond_of_two_to_the_sixty_paths_is_sixty_nodes():
    x, y = ladder(60)
    assert len(toposort([y])) == 61
    slope = mg.grad(y, x)
    assert len(toposort([slope])) < 500
    f = mg.function([x], [y, slope])
    assert [float(one) for one in f(1)] == [2.0**60, 2.0**60]
    assert len(f.graph.variables) < 500
    assert len(mg.pprint(y).splitlines()) == 60
    assert len(mg.debugprint(y).splitlines()) == 121
    assert len(mg.to_dot(y).splitlines()) == 61 + 120 + 3
    assert mg.to_networkx(y).number_of_nodes() == 121
