"""The house: layers of modules that import downwards only, nothing heavy behind `import minigraph`, modules of one sitting."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import minigraph as mg

ROOT = Path(__file__).parents[1] / "minigraph"

LEVELS = {
    "L0": "locks context origin errors version words guard record config state dimensions types",
    "L1": "graph",
    "L2": """printing inputs ops.noted
        ops.elementwise ops.requirement ops.comparison ops.arithmetic ops.transcendental ops.special ops.shape
        ops.creation ops.reduction ops.indexing ops.arranging
        ops.activation ops.linear ops.linalg ops.crossentropy ops.normalization ops.control ops.random
        ops.loop ops.asked ops.loop_updates ops.loop_gradient ops.scanning
        ops.windows ops.convolution ops.pooling ops""",
    "L3": """numpy_calls operators rewrite.engine rewrite.sight rewrite.quotients rewrite.logarithms rewrite.stability gradient
        rewrite.lower rewrite.sizes rewrite.algebra rewrite.folding rewrite.merge
        rewrite.specialize rewrite.moments rewrite.loops rewrite.slices rewrite.axes rewrite.fuse rewrite.anonymous rewrite""",
    "L4": """kernels.disk kernels.jit kernels.scalar kernels.llvm_scalar kernels.elementary kernels.namespace
        kernels.rehearsal kernels.seclude kernels.loopnest
        kernels.layout kernels.effort kernels.accumulator kernels.llvm kernels.runtime kernels.loops kernels.blas kernels.gemm
        kernels.products kernels.arena kernels.packing kernels.recompute kernels.rows kernels.scattered
        kernels.fusion kernels.overwriting kernels.parts kernels.builder kernels.program kernels.frame
        kernels.product_calls kernels.native_program
        kernels.cuda_scalar kernels.arrangement kernels.cuda kernels.cuda_program kernels.cublas kernels.cuda_runtime kernels
        backends.interpreted backends.regions backends.native backends.device_plan backends.gpu backends.choice backends""",
    "L5": "schedule wiring direct replay doctor",
    "L6": "function",
    "L7": """testing
        layers.roles layers.arguments layers.initialization layers.gates layers.settings layers.state_values layers.base
        layers.values layers.filter layers.computation_graph layers.linear layers.activations
        layers.conventions layers.loop_statistics layers.ghost_batches layers.masks layers.requests layers.population
        layers.normalization layers.batch_renormalization layers.sample_normalization layers.weight_normalization layers.noise
        layers.mlp layers.convolution layers.recurrent layers""",
    "L8": """transforms.averages transforms.batch_normalization transforms.forgotten transforms.accumulation
        transforms.recomputation transforms.freezing transforms.products transforms.folding transforms.monitoring
        transforms.noise transforms""",
    "L9": """layers.dialects.base layers.dialects.caffe layers.dialects.gomlx layers.dialects.keras layers.dialects.lasagne
        layers.dialects.onnx layers.dialects.puzzlelib layers.dialects.theano layers.dialects.torch layers.dialects.convert
        layers.dialects training.hyperparameters training.parameters training.gradients
        training.schedules training.rules training __main__""",
}
"""Every module of the package, each before those that may import it; a package itself stands after its modules."""

ORDER = " ".join(LEVELS.values()).split()
HEAVY = {"networkx", "llvmlite", "cupy", "sklearn", "matplotlib", "tqdm", "scipy"}
LONGEST_MODULE, LONG_FUNCTION = 500, 50


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
        "a module without a place in LEVELS, or the other way round"
    )


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


def test_docstrings_state_the_order():
    for package in ("ops", "rewrite"):
        text = ast.get_docstring(TREES[package]).replace("\n", " ")
        stated = ", ".join(name.removeprefix(f"{package}.") for name in ORDER if name.startswith(f"{package}."))
        assert stated in text


def test_the_checks_see_what_they_are_for():
    tree = ast.parse(
        "import numpy\nfrom minigraph.ops import shape as s, Nothing\nif TYPE_CHECKING:\n    from minigraph.training import x\n"
        "else:\n    from minigraph import graph\ndef f():\n    import minigraph.types\n    from minigraph import Variable\n"
    )
    assert of_the_package(tree) == {"ops.shape", "ops", "graph", "types", ""}
    assert [inside for _, inside in imports(tree)].count(True) == 2


def test_import_is_light():
    command = "import sys, minigraph; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    names = set(loaded.stdout.split())
    assert "numpy" in names
    assert not names & HEAVY


def code_lines(name):
    """The number of lines that hold code: not blank, no comment, no docstring."""
    documentation = {
        line
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    lines = SOURCES[name].read_text().splitlines()
    code = {number for number, line in enumerate(lines, 1) if line.strip() and not line.strip().startswith("#")}
    return len(code - documentation)


def test_sizes(capsys):
    modules = {name or "minigraph": code_lines(name) for name in TREES}
    functions = {
        f"{name}.{node.name}": node.end_lineno - node.lineno + 1
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    with capsys.disabled():
        largest = sorted(modules.items(), key=lambda item: -item[1])
        print(f"\n{sum(modules.values())} lines of code in {len(modules)} modules:", end=" ")
        print(", ".join(f"{name} {lines}" for name, lines in largest[:12]))
        long = sorted(((lines, name) for name, lines in functions.items() if lines > LONG_FUNCTION), reverse=True)
        print(f"functions past {LONG_FUNCTION} lines: {', '.join(f'{name} {lines}' for lines, name in long) or 'none'}")
    assert {name: lines for name, lines in modules.items() if lines > LONGEST_MODULE} == {}


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
    modules = [one for one in vars(mg.ops).values() if hasattr(one, "__all__") and one not in (mg.linalg, mg.random)]
    assert len(modules) >= 15
    assert {name for module in [*modules, mg.inputs] for name in module.__all__} <= set(mg.__all__)
    assert {name for name, kind in vars(mg.errors).items() if isinstance(kind, type)} <= set(mg.__all__)
