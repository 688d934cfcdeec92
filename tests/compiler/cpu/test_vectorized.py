"""Loops over elementwise functions are made of vector instructions, and call nothing for one element at a time."""

import re
from contextlib import closing

import numpy as np
import pytest

import minigraph as mg
from support.native import native

pytestmark = pytest.mark.shipped_code

pytest.importorskip("llvmlite")

from minigraph.compiler.cpu import jit  # noqa: E402
from minigraph.compiler.cpu.kernel import module_text  # noqa: E402

UNARY = (
    mg.exp, mg.exp2, mg.expm1, mg.log, mg.log1p, mg.log2, mg.log10, mg.sin, mg.cos, mg.tan, mg.arcsin, mg.arccos, mg.arctan,
    mg.sinh, mg.cosh, mg.tanh, mg.arcsinh, mg.arccosh, mg.arctanh, mg.sigmoid, mg.erf, mg.erfc, mg.gammaln, mg.digamma,
)  # fmt: skip
IN_DOUBLE = (mg.erfc, mg.gammaln, mg.digamma)
"""Ops that compute in float64, whatever they are of."""

BINARY = (mg.power, mg.arctan2, mg.hypot, mg.logaddexp)


def optimized(op, operands, dtype):
    """The LLVM IR of the kernel of an op as it is translated, and after LLVM's passes."""
    inputs = [mg.vector(dtype=dtype) for _ in range(operands)]
    f = native(inputs, op(*inputs))
    f(*[np.ones(3, dtype)] * operands)
    text = f.source(code=True)
    kernel = text[re.search("^(declare|define)", text, re.MULTILINE).start() :]

    def work():
        with closing(jit.llvm().parse_assembly(module_text([kernel]))) as module:
            machine = jit._machine(0)
            module.triple, module.data_layout = jit.target()[0], str(machine.target_data)
            jit._optimize(module, machine)
            return str(module)

    return kernel, jit.apart(work)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", [*UNARY, *BINARY], ids=lambda op: op.__name__)
def test_loops_over_functions_are_vectorized(op, dtype):
    kernel, made = optimized(op, 2 if op in BINARY else 1, dtype)
    kind, size = ("float", 4) if dtype == "float32" and op not in IN_DOUBLE else ("double", 8)
    called = set(re.findall(r"^declare [^@]*@([\w.]+)", kernel, re.MULTILINE))
    assert {name for name in called if not name.startswith(("llvm.", "beyond."))} == set()
    lanes = [int(lanes) for lanes in re.findall(rf"= (?:tail call|fadd|fmul)[^<\n]* <(\d+) x {kind}>", made)]
    assert max(lanes, default=1) >= jit.register_bytes() // size
    for name in called:
        if name.startswith("beyond."):
            assert re.search(rf"call [^@\n]*> @{name}.x\d+\(", made)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("op", [mg.sin, mg.cos, mg.tan])
def test_few_huge_arguments_among_many_small_ones_are_reduced_as_well(op, dtype):
    rng = np.random.default_rng(4)
    given = rng.uniform(-10, 10, 1000)
    given[::37] = rng.uniform(0.5, 1, 28) * float(np.finfo(dtype).max)
    given[5], given[-1] = np.inf, 1e6 if dtype != "float16" else 6e4
    x, given = mg.vector(dtype=dtype), given.astype(dtype)
    with np.errstate(all="ignore"):
        expected = getattr(np, op.__name__)(given.astype("float64"))
        np.testing.assert_allclose(native([x], op(x))(given), expected, rtol=2 * np.finfo(dtype).eps)
