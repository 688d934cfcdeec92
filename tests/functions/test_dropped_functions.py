"""Functions that are dropped give back what they took."""

import subprocess
import sys
import textwrap

import pytest

from support.sweep import rounds

pytestmark = pytest.mark.shipped_code

pytest.importorskip("llvmlite")

MODULES = """
    import gc
    from minigraph.compiler.cpu.jit import Code

    def held():
        gc.collect()
        return int(open("/proc/self/statm").read().split()[1]) * 4096

    for k in range({count}):
        if k == {count} // 3:
            before = held()
        Code("define i32 @f(i32 %x) {{{{ %y = add i32 %x, {{}} ret i32 %y }}}}".format(k))
    print(held() - before)
"""

FUNCTIONS = """
    import gc
    import numpy as np
    import minigraph as mg

    def held():
        gc.collect()
        return int(open("/proc/self/statm").read().split()[1]) * 4096

    x, value = mg.vector("x"), np.ones(100, "float32")
    ops = [mg.tanh, mg.exp, mg.sin, mg.sqrt, mg.square, mg.abs, mg.log1p, mg.sigmoid]
    for k in range({count}):
        if k == 3 * {count} // 10:
            before = held()
        y = x
        for digit in range(5):
            y = ops[k // 8**digit % 8](y) + x
        mg.function([x], y.sum())(value)
    print(held() - before)
"""


def growth(script, count):
    """By how many bytes a process grows after the beginning, while it makes and drops this many things."""
    text = textwrap.dedent(script.format(count=count))
    environment = {"MINIGRAPH_CACHE": "off", "PATH": "", "MINIGRAPH_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=environment, timeout=1200)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_compiled_modules_leave_nothing_behind():
    assert growth(MODULES, rounds(200)) < 3 * 2**20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
@pytest.mark.skipif(rounds(1) < 10, reason="takes minutes: with MINIGRAPH_SWEEP=10 or more")
def test_a_thousand_functions_that_differ_are_dropped():
    assert growth(FUNCTIONS, 1000) < 8 * 2**20
