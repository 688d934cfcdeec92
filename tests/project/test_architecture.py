"""The house: layers of modules that import downwards only, nothing heavy behind `import minigraph`, modules of one sitting."""

import ast
import importlib
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minigraph as mg
from minigraph.core.graph import Op

ROOT = Path(__file__).parents[2] / "minigraph"


def in_order(text):
    """The modules that the table of CONTRIBUTING.md names, one after the other."""
    rows = re.findall(r"^\| (?:`([\w/]+)/`)? *\| ((?:`\w+`(?:, )?)+) \|$", text, re.MULTILINE)
    prefixes = [(folder.replace("/", ".") + "." if folder else "", names) for folder, names in rows]
    return [prefix + name for prefix, names in prefixes for name in re.findall(r"\w+", names)]


MODULES = in_order((ROOT.parent / "CONTRIBUTING.md").read_text())


def with_folders(modules):
    """The modules, and after the last module of each folder the folder's own."""
    folders = {".".join(name.split(".")[:depth]) for name in modules for depth in range(1, name.count(".") + 1)}
    result = []
    for position, name in enumerate(modules):
        result.append(name)
        rest = modules[position + 1 :]
        parents = [".".join(name.split(".")[:depth]) for depth in range(name.count("."), 0, -1)]
        result += [one for one in parents if one in folders and not any(other.startswith(one + ".") for other in rest)]
    return result


ORDER = with_folders(MODULES)
LIGHT = {f"minigraph.{name}" for name in ("core", "counterparts", "inputs", "methods", "numpy_calls", "operators", "ops")}
HEAVY = {"networkx", "llvmlite", "cupy", "sklearn", "matplotlib", "tqdm", "scipy"}
LONGEST = {ast.Module: 400, ast.ClassDef: 200, ast.FunctionDef: 50}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in SOURCES.items()}


def for_type_checkers(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(tree):
    """Every import statement that runs, with whether it stands inside a function."""
    stack = [(tree, False)]
    while stack:
        node, inside = stack.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, inside
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        children = node.orelse if for_type_checkers(node) else ast.iter_child_nodes(node)
        stack += [(child, inside) for child in children]


def imported_modules(node):
    """The full names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    assert not node.level, "imports name the package"
    inner = [f"{node.module}.{alias.name}" for alias in node.names]
    return [one if one.removeprefix("minigraph.") in SOURCES else node.module for one in inner]


def of_the_package(tree):
    """The modules of the package that a module imports, by their names inside it."""
    names = {name for node, _ in imports(tree) for name in imported_modules(node)}
    return {name.partition(".")[2] for name in names if name.split(".")[0] == "minigraph"}


def test_every_module_has_its_place():
    assert sorted(ORDER) == sorted(name for name in SOURCES if name), (
        "a module without a place in the table of CONTRIBUTING.md, or the other way round"
    )


def test_folders_are_in_order():
    """What lies in a folder stands together, so that folders import downwards as modules do."""
    for folder in {name.rpartition(".")[0] for name in MODULES} - {""}:
        places = [place for place, name in enumerate(MODULES) if name.startswith(folder + ".")]
        assert places == list(range(places[0], places[-1] + 1)), folder


@pytest.mark.parametrize("module", ORDER)
def test_imports_point_down(module):
    used = of_the_package(TREES[module])
    assert "" not in used, f"{module} imports the package root"
    assert used <= set(ORDER[: ORDER.index(module)]), f"{module} imports upwards"


def test_no_import_cycles():
    edges = {name: of_the_package(tree) for name, tree in TREES.items()}
    remaining = dict(edges)
    while free := [name for name, used in remaining.items() if not used & set(remaining)]:
        for name in free:
            del remaining[name]
    assert remaining == {}


@pytest.mark.parametrize("module", SOURCES)
def test_the_package_is_not_imported_inside_functions(module):
    late = {name for node, inside in imports(TREES[module]) if inside for name in imported_modules(node)}
    assert not {name for name in late if name.split(".")[0] == "minigraph"}


def test_the_checks_see_what_they_are_for():
    tree = ast.parse(
        "import numpy\nfrom minigraph.ops.array import shape as s, Nothing\n"
        "if TYPE_CHECKING:\n    from minigraph.training import x\nelse:\n    from minigraph.core import graph\n"
        "def f():\n    import minigraph.core.types\n    from minigraph import Variable\n"
    )
    assert of_the_package(tree) == {"ops.array.shape", "ops.array", "core.graph", "core.types", ""}
    assert [inside for _, inside in imports(tree)].count(True) == 2


def test_import_is_light():
    names = set(output_of("import sys, minigraph; print(*sys.modules)").split())
    assert "numpy" in names
    assert not {name.split(".")[0] for name in names} & HEAVY
    assert {".".join(name.split(".")[:2]) for name in names if name.startswith("minigraph.")} == LIGHT


def output_of(command):
    """The text that a fresh process prints."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", command], capture_output=True, text=True, cwd=ROOT.parent)
    assert not done.returncode, done.stderr
    return done.stdout


def test_names_are_loaded_when_they_are_asked_for():
    command = "import sys, minigraph as mg; x = mg.scalar(); print((x + 1).eval({x: 2}), 'minigraph.layers' in sys.modules)"
    assert output_of(command) == "3.0 False\n"
    assert all(getattr(mg, name) is vars(mg)[name] for name in mg.__all__)


def test_names_that_are_loaded_later_are_those_that_type_checkers_see():
    (checked,) = [node for node in TREES[""].body if for_type_checkers(node) and not node.orelse]
    seen = {}
    for node in checked.body:
        module = node.module.partition(".")[2]
        seen |= {alias.asname or alias.name: f"{module}:{alias.name}" if module else alias.name for alias in node.names}
    assert seen == mg._LATER
    modules = {path.stem for path in ROOT.iterdir()}
    assert {name for name, place in mg._LATER.items() if place != name} & modules == set(), "a module would take the place"


def test_graphs_with_layers_can_be_loaded_where_none_was_made():
    x = mg.matrix("x")
    text = pickle.dumps([mg.layers.Linear(2, 3).apply(x), mg.function([x], x.sum())])
    command = f"import pickle, minigraph as mg; y, f = pickle.loads({text!r}); print(mg.layers.get_layer(y), f([[1, 2]]))"
    assert output_of(command) == "<Linear linear> 3.0\n"


DOCS = [ROOT.parent / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT.parent / "docs").glob("*.md"))


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_files_that_docs_name_exist(page):
    named = set(re.findall(r"`((?:\w+/)+\w*(?:\.\w+)?)`|\]\(([\w./-]+\.[a-z]\w*)", page.read_text()))
    paths = {first or second for first, second in named}
    assert [one for one in paths if not any((home / one).exists() for home in (page.parent, ROOT.parent, ROOT))] == []


def lengths():
    """The number of lines of each module, class and function, by its name."""
    for name, tree in TREES.items():
        yield ast.Module, name or "minigraph", len(SOURCES[name].read_text().splitlines())
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                yield type(node), f"{name}.{node.name}", node.end_lineno - node.lineno + 1


def test_sizes(capsys):
    listed = list(lengths())
    modules = sorted(((lines, name) for kind, name, lines in listed if kind is ast.Module), reverse=True)
    with capsys.disabled():
        print(f"\n{sum(lines for lines, _ in modules)} lines in {len(modules)} modules:", end=" ")
        print(", ".join(f"{name} {lines}" for lines, name in modules[:12]))
    found = {name: lines for kind, name, lines in listed if lines > LONGEST[kind]}
    assert found == {}, f"longer than {LONGEST}"


# -- who may ask for the class of an op ------------------------------------------------------------------------------

RULES = {
    "ops", "rewrite", "compiler.shaped.rematerialize", "compiler.shaped.output_order", "compiler.shaped.padding",
    "compiler.shaped.split_reductions", "compiler.cpu.implicit_gemm", "compiler.cpu.prepack", "compiler.cpu.sliding_windows",
    "compiler.cpu.widen_products",
    "transforms.affine", "transforms.products", "transforms.folding",
}  # fmt: skip
"""Ops themselves, and modules of patterns: what they look for is one arrangement of certain ops."""

INTERFACES = {
    "Elementwise", "Reduction", "Selection", "Counting", "Ordering", "Composite", "Structural", "Identity", "Leaf", "Op",
    "Item", "SizeConstant",
}  # fmt: skip
"""Classes that state what is asked of ops of a kind; one from outside of the package that fulfils them is taken for one."""

EXCEPTIONS = {
    "a backend compiles loops and regions itself": """
        compiler.binding: Region, compiler.shape_cache: Region Scan""",
    "errors within a region name the op already": "compiler.interpreted: Region",
    "loops are control flow, which no kernel computes": """
        compiler.schedule: Scan, compiler.loops.fusion: Scan, compiler.plan.program: Scan, compiler.shaped.copies: Scan,
        gradient: Scan, layers.core.computation_graph: Scan""",
    "each kind of product has a call of its own": """
        compiler.cpu.product_calls: Packed PackedMatMul ScatteredMatMul, compiler.cpu.program: Packed,
        compiler.shaped.copies: IntegerMatMul MatMul Packed PackedMatMul ScatteredMatMul""",
    "a library has functions for certain ops": "compiler.cpu.lapack: SolveTriangular",
    "what is written piece by piece takes several kernels": """
        compiler.loops.subbuffers: Assign Concatenate, compiler.plan.program: Assign Concatenate Overlap""",
    "annotations of a graph are found by their ops": """
        layers.core.roles: DisconnectedGrad, layers.forgotten: DefaultUpdate DisconnectedGrad FlowedThrough Untrained,
        layers.normalization.normalized: DefaultUpdate Normalized, transforms.averages: FiniteOr,
        transforms.batch_normalization: FlowedThrough, transforms.freezing: Held""",
    "rows that count steps are a pattern": "layers.normalization.loop_statistics: Arange Index Scan",
    "weak numbers are cast in 64 bits by the reference": "testing: Cast",
}
"""Where else the class of an op is asked for, and why."""

MOST_EXCEPTIONS = 40


def classes_of_ops(module):
    """The names under which a module knows classes of ops, other than its own."""
    known = {}
    for node, _ in imports(TREES[module]):
        if isinstance(node, ast.ImportFrom) and node.module in {f"minigraph.{name}" for name in SOURCES if name}:
            home = importlib.import_module(node.module)
            for alias in node.names:
                kind = vars(home).get(alias.name)
                if isinstance(kind, type) and issubclass(kind, Op) and kind.__module__ != "minigraph.core.graph":
                    known[alias.asname or alias.name] = kind
    return known


def asked_for(module):
    """The classes of ops that a module asks for, in `isinstance` or in a pattern."""
    known = classes_of_ops(module)
    for node in ast.walk(TREES[module]):
        asked = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass"):
            asked = [one.id for one in ast.walk(node.args[1]) if isinstance(one, ast.Name)]
        if isinstance(node, ast.MatchClass):
            asked = [one.id for one in ast.walk(node.cls) if isinstance(one, ast.Name)]
        yield from (name for name in asked if name in known and name not in INTERFACES)


def test_ops_answer_for_themselves():
    """Outside of rules nothing asks an op for its class, so that a new op is one class, and one from outside like any other."""
    found = {
        f"{module} {name}"
        for module in ORDER
        if not any(module == one or module.startswith(f"{one}.") for one in RULES)
        for name in asked_for(module)
    }
    places = [place.split(":") for several in EXCEPTIONS.values() for place in several.split(",")]
    allowed = [f"{module.strip()} {name}" for module, names in places for name in names.split()]
    assert found - set(allowed) == set(), "ask the op, by a method or an attribute with a default that is safe"
    assert set(allowed) - found == set(), "no longer needed"
    assert len(allowed) == len(set(allowed)) <= MOST_EXCEPTIONS


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "py.typed").exists()


@pytest.mark.parametrize("folder", ["minigraph", "tests", "examples", "benchmarks"])
def test_no_name_of_a_module_is_given_twice(folder):
    for path in sorted((ROOT.parent / folder).rglob("*.py")):
        assignments = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
        names = [one.id for node in assignments for one in node.targets if isinstance(one, ast.Name)]
        assert sorted(set(names)) == sorted(names), path


def test_public_names_are_those_that_are_listed():
    namespace = {}
    exec("from minigraph import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(mg.__all__) == set(dir(mg)) - {"__version__"}
    assert len(mg.__all__) == len(set(mg.__all__))
    ops = [one for name, one in sys.modules.items() if name.startswith("minigraph.ops.")]
    modules = [one for one in ops if hasattr(one, "__all__") and one not in (mg.linalg, mg.random)]
    assert len(modules) >= 15
    assert {name for module in [*modules, mg.inputs] for name in module.__all__} <= set(mg.__all__)
    assert {name for name, kind in vars(mg.errors).items() if isinstance(kind, type)} <= set(mg.__all__)
    starred = [node.module for node in ast.walk(TREES[""]) if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"]
    assert {name for name in starred if not hasattr(sys.modules[name], "__all__")} == set(), "a star would bring all its names"
