"""Regions: all that a compiling backend computes between two steps that need Python, as one op."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from minigraph.core.graph import Composite, Constant, Graph, Identity, Input, Item, Leaf, Op, Variable, reachable, toposort
from minigraph.core.origin import carry_on, carry_origin, here
from minigraph.core.record import Record
from minigraph.ops.array.selection import Selection
from minigraph.ops.array.sizes import Size
from minigraph.ops.array.windows import Windows
from minigraph.ops.control import GradientOp
from minigraph.ops.linear.products import MatMul
from minigraph.ops.loop.loop import Scan
from minigraph.ops.reduce.base import Reduction
from minigraph.rewrite.specialize import is_settled

SMALLEST = 4
"""The number of scalar operations from which on they are worth a region of their own."""


class Region(Op):
    """The outputs of a graph over the inputs, compiled as a whole."""

    graph: Graph

    def __repr__(self) -> str:
        return f"Region({len(self.graph.variables)} variables)"

    def infer(self, *types: Any) -> Any:
        return tuple(one.type for one in self.graph.outputs)

    def forward(self, xp: Any, *arrays: Any) -> Any:
        values = dict(zip(self.graph.inputs, arrays, strict=True))
        for variable in self.graph.variables:
            if variable not in values:
                operands = [values[one] for one in variable.inputs]
                op = variable.op
                values[variable] = op.value if isinstance(op, Constant) else computed(variable, xp, operands)
        return tuple(values[one] for one in self.graph.outputs)


def computed(variable: Variable, xp: Any, operands: Sequence[Any]) -> Any:
    """The value, or the values, of a variable, computed by `xp` from `operands`, the values of its inputs."""
    value = variable.op.forward(xp, *operands)
    return value if isinstance(variable.type, tuple) else np.asarray(value)


class Kernels(Record):
    """The ops, other than those that loop nests compute, for which a backend has kernels: products of matrices of some dtypes,
    by their names; and running sums and products, if `running`.
    """

    products: tuple[str, ...] = ("float32", "float64")
    running: bool = False

    def compute(self, variable: Variable) -> bool:
        """Whether no kernel is missing for a variable."""
        if isinstance(variable.op, MatMul):
            return variable.dtype.name in self.products
        return self.running or not variable.op.runs


PLAIN = Kernels()
EVERY = Kernels(running=True)


def partition(graph: Graph, kernels: Kernels = PLAIN) -> Graph:
    """The graph with everything that can be compiled gathered in regions, as few as the steps that cannot be allow.

    kernels: those of the backend beyond loop nests.
    """
    order = graph.variables
    members, settled = _members(order, kernels)
    groups: dict[Any, list[Variable]] = {}
    phases, demands = _phases(order, members), _demands(order, graph.roots)
    for variable in order:
        if variable in members:
            owner = variable.inputs[0] if isinstance(variable.op, Item) else variable
            groups.setdefault((phases[owner], demands[owner]), []).append(variable)
    group_of = {variable: key for key, group in groups.items() if _is_worth_it(group) for variable in group}
    return graph.with_roots(_gathered(graph, order, group_of, settled))


def _members(
    order: Sequence[Variable], kernels: Kernels, known: Iterable[Variable] = ()
) -> tuple[set[Variable], set[Variable]]:
    """The variables that can be compiled once sizes of inputs are known, and scalars that are known or follow from sizes."""
    settled: set[Variable] = set(known)
    members: set[Variable] = set()
    for variable in order:
        if is_settled(variable, settled):
            settled.add(variable)
        if isinstance(variable.op, Item):
            able = variable.inputs[0] in members
        elif isinstance(variable.op, Scan):
            able = is_compilable_loop(variable, settled, kernels) and not variable.op.stops
        else:
            able = _is_compilable(variable, kernels)
        needed = variable.op.shape_inputs(variable.inputs) if able else None
        if needed is not None and all(one in settled for one in needed):
            members.add(variable)
    return members, settled


def is_compilable_loop(variable: Variable, settled: Container[Variable] = (), kernels: Kernels = PLAIN) -> bool:
    """Whether all that the body of a loop, `variable`, computes can be compiled once sizes are known.

    settled: values outside of the loop that are known then. kernels: as for `partition`.
    """
    op = variable.op
    assert isinstance(op, Scan)
    shared = op.split(list(zip(op.body.inputs, variable.inputs[1:], strict=True)))[2]
    order = op.body.variables
    members, _ = _members(order, kernels, [inner for inner, outer in shared if outer in settled])
    return all(one in members or isinstance(one.op, Constant | Input) for one in order)


def _is_compilable(variable: Variable, kernels: Kernels) -> bool:
    """Whether a variable's op can be part of a region."""
    if isinstance(variable.type, tuple) or not variable.op.compilable(*[one.type for one in variable.inputs]):
        return False
    return kernels.compute(variable)


def derives_from_compiled(variable: Variable) -> bool:
    """Whether a variable would be compiled, or dropped, if its op were the one of the package that it derives from."""
    return isinstance(variable.op, Composite | Scan | Identity | GradientOp | Reduction) or _is_compilable(variable, EVERY)


def _phases(order: Sequence[Variable], members: set[Variable]) -> dict[Variable, int]:
    """For each variable after how many steps outside of regions it comes; members as late as what uses them allows."""
    phase: dict[Variable, int] = {}
    for variable in order:
        outside = [not (one in members or isinstance(one.op, Leaf)) and variable in members for one in variable.inputs]
        phase[variable] = max((phase[one] + step for one, step in zip(variable.inputs, outside, strict=True)), default=0)
    latest = dict.fromkeys(members, max(phase.values(), default=0))
    for variable in reversed(order):
        if variable in members:
            phase[variable] = latest[variable]
        for one in variable.inputs:
            if one in members:
                latest[one] = min(latest[one], phase[variable])
    return phase


def _demands(order: Sequence[Variable], roots: Sequence[Variable]) -> dict[Variable, frozenset[tuple[Variable, int]]]:
    """For each variable the branches that it is computed for; none if it is computed in any case."""
    always = reachable(roots, lambda one: one.inputs[: one.op.lazy_from])
    demands: dict[Variable, frozenset[tuple[Variable, int]]] = dict.fromkeys(order, frozenset())
    for variable in reversed(order):
        for position, one in enumerate(variable.inputs):
            if one in always:
                continue
            lazy = variable.op.lazy_from is not None and position >= variable.op.lazy_from
            demands[one] |= {(variable, position)} if lazy else demands[variable]
    return demands


def _is_worth_it(group: Sequence[Variable]) -> bool:
    """Whether a group computes anything beyond views, sizes, and a few scalars."""
    if any(isinstance(one.op, Scan) for one in group):
        return True
    work = [one for one in group if not isinstance(one.op, Size) and not _is_view(one)]
    arrays = any(one.ndim or any(operand.ndim for operand in one.inputs) for one in work)
    return arrays or any(one.dtype.kind == "f" for one in work) or len(work) >= SMALLEST


def _is_view(variable: Variable) -> bool:
    """Whether a variable shows elements of another at places that scalars tell."""
    picked = any(one.ndim for one in variable.inputs[1:])
    return isinstance(variable.op, Selection) and not isinstance(variable.op, Windows) and not picked


def _gathered(graph: Graph, order: Sequence[Variable], group_of: dict[Variable, Any], settled: set[Variable]) -> list[Variable]:
    """The roots of the graph in which each group is one variable, its results picked as items."""
    members: dict[Any, list[Variable]] = {}
    for variable, key in group_of.items():
        members.setdefault(key, []).append(variable)
    taken = {key: _taken(group, settled) for key, group in members.items()}
    wanted: dict[Any, dict[Variable, None]] = {key: {} for key in members}
    outside = [variable for variable in order if variable not in group_of]
    for one in chain(graph.roots, *(variable.inputs for variable in outside), *taken.values()):
        if one in group_of:
            wanted[group_of[one]][one] = None
    done: dict[Variable, Variable] = {}
    with carry_origin(here()):
        for group in _in_order(order, group_of, taken):
            if isinstance(group, Variable):
                inputs = tuple([done[one] for one in group.inputs])
                done[group] = group.with_inputs(inputs) if inputs != group.inputs else group
            elif wanted[group]:  # else whoever needs these numbers computes them from sizes
                outputs = tuple(wanted[group])
                region = Region(_separate(tuple(taken[group]), outputs))
                carry_on(outputs[0].origin)
                whole = region(*(done[one] for one in taken[group]))
                for place, one in enumerate(outputs):
                    carry_on(one.origin)
                    done[one] = Item(place)(whole)
    return [done[root] for root in graph.roots]


def _taken(group: Sequence[Variable], settled: set[Variable]) -> dict[Variable, None]:
    """The inputs of a group; it computes itself what follows from sizes alone, so that its own sizes are known."""
    taken: dict[Variable, None] = {}
    seen = set(group)
    stack = [one for variable in reversed(group) for one in variable.inputs]
    while stack:
        variable = stack.pop()
        if variable in seen or isinstance(variable.op, Constant):
            continue
        seen.add(variable)
        if variable in settled and variable.inputs:
            stack += variable.inputs
        else:
            taken[variable] = None
    return taken


def _separate(inputs: tuple[Variable, ...], outputs: tuple[Variable, ...]) -> Graph:
    """The part of a graph between inputs and outputs as a graph of its own, over fresh inputs."""
    done = {one: Variable(Input(), (), one.type, one.name, (), one.origin) for one in inputs}
    for variable in toposort(outputs, stop=done):
        if variable not in done:
            operands = tuple([done[one] for one in variable.inputs])
            done[variable] = Variable(variable.op, operands, variable.type, variable.name, (), variable.origin)
    return Graph(tuple(done[one] for one in inputs), tuple(done[one] for one in outputs))


def _in_order(order: Sequence[Variable], group_of: dict[Variable, Any], taken: dict[Any, dict[Variable, None]]) -> list[Any]:
    """Variables outside of groups, and groups, each after all that it needs."""
    done: dict[Any, None] = {}
    for variable in order:
        stack = [group_of.get(variable, variable)]
        while stack:
            current = stack[-1]
            needed = () if current in done else current.inputs if isinstance(current, Variable) else taken[current]
            missing = [key for one in needed if (key := group_of.get(one, one)) not in done]
            if missing:
                stack += missing
            else:
                done[stack.pop()] = None
    return list(done)
