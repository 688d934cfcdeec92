"""How loop nests are spread over the threads of a GPU, as a table."""

from __future__ import annotations

import minigraph as mg
from minigraph.compiler.cuda.launch_geometry import arrange
from minigraph.compiler.loops.fusion import Grouping
from minigraph.compiler.loops.lower import Builder
from minigraph.compiler.shaped.copies import insert_copies
from minigraph.compiler.shaped.layout import layouts_of
from support.golden import assert_golden, graph, table, tensor

CASES = {
    "elements": (lambda x: mg.exp(x), (1000, 1000)),
    "few elements": (lambda x: mg.exp(x), (7,)),
    "odd rows": (lambda x: mg.exp(x) + 1, (333, 3)),
    "strided": (lambda x: mg.exp(x[:, ::2]), (64, 64)),
    "long rows": (lambda x: x.sum(1), (64, 100_000)),
    "many short rows": (lambda x: x.sum(1), (1_000_000, 8)),
    "one sum": (lambda x: x.sum(), (1000, 1000)),
    "columns": (lambda x: x.sum(0), (1000, 4096)),
    "few columns": (lambda x: x.sum(0), (100_000, 16)),
    "rows in stages": (lambda x: mg.exp(x - mg.max(x, 1, True)), (512, 512)),
}


def test_launch_geometry():
    rows = []
    for name, (build, shape) in CASES.items():
        x = tensor("x", *shape)
        whole = insert_copies(graph([x], build(x)))
        layouts = layouts_of(whole)
        grouping = Grouping(whole, layouts)
        for group in grouping.groups:
            builder = Builder(group.space, group.folded or frozenset(), layouts, lambda number, divides: True)
            for variable, axes in group.members.items():
                builder.compute(variable, axes)
                if variable in grouping.stored:
                    builder.store(builder.computed[variable], layouts[variable], variable.dtype, axes)
            nest, bindings = builder.build()
            for aligned in (256, 4):
                found = arrange(nest, bindings, [aligned] * len(nest.operands))
                sizes = " ".join(f"{size}{'f' * fold}" for size, fold in zip(bindings.sizes, nest.folded, strict=True))
                rows.append((f"{name} ({sizes}), aligned {aligned}:", *vars(found).values()))
    assert_golden("launch_geometry", table("case: points, lanes, width, blocks", rows))
