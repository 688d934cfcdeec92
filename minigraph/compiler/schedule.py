"""Order, lifetimes, and which memory may be written over: a graph as a list of steps that a backend runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minigraph.compiler.interpreted import Backend, Kernel, at_users_line
from minigraph.core.graph import Array, Constant, Graph, Input, Item, Shared, Variable, reachable
from minigraph.core.types import TensorType
from minigraph.ops.loop.loop import Scan
from minigraph.rewrite.specialize import has_settled_sizes, specialize


@dataclass(frozen=True)
class Step:
    """A variable to compute by a kernel: the slots of its operands, that of its result, and those that are freed afterwards.

    reused: the position of the operand whose memory is written over. branches: for an `IfElse` the steps that only one of its
    branches needs, run when it is taken.
    """

    variable: Variable
    kernel: Kernel
    operands: tuple[int, ...]
    result: int
    freed: tuple[int, ...] = ()
    reused: int | None = None
    branches: tuple[tuple[Step, ...], tuple[Step, ...]] | None = None


@dataclass(frozen=True)
class Schedule:
    """The steps of a graph over numbered slots, those of constants, inputs, shared variables and roots among them.

    owned: for each root whether its memory is neither a leaf's nor that of a root before it. holders: for each root the slot of
    the variable whose memory it shares, its own if it has its own.
    """

    steps: tuple[Step, ...]
    slots: int
    constants: tuple[tuple[int, Array], ...]
    inputs: tuple[int, ...]
    shared: tuple[tuple[int, Variable], ...]
    roots: tuple[int, ...]
    owned: tuple[bool, ...]
    holders: tuple[int, ...]


def schedule(graph: Graph, backend: Backend) -> Schedule:
    """The steps that compute the roots of a graph, in an order that respects their inputs."""
    order = graph.variables
    slot = {variable: position for position, variable in enumerate(dict.fromkeys([*graph.inputs, *order]))}
    always = reachable(graph.roots, _eager_inputs)
    storage = _storage(order)
    last_use = _last_uses(order, always, graph.roots, storage)
    dies: dict[int, list[Variable]] = {}
    for variable in order:
        if last_use[storage[variable]] >= 0:
            dies.setdefault(last_use[storage[variable]], []).append(variable)
    built: dict[Variable, Step] = {}
    steps = []
    for position, variable in enumerate(order):
        if _is_leaf(variable):
            continue
        unconditional = variable in always
        reused = _reusable(variable, position, last_use, storage) if unconditional else None
        built[variable] = Step(
            variable,
            _kernel(variable, backend, reused),
            tuple(slot[one] for one in variable.inputs),
            slot[variable],
            tuple(slot[one] for one in dies.get(position, ())) if unconditional else (),
            reused,
            _branches(variable, always, built) if variable.op.lazy_from is not None else None,
        )
        if unconditional:
            steps.append(built[variable])
    return Schedule(
        tuple(steps),
        len(slot),
        tuple((slot[one], backend.load(one.op.value)) for one in order if isinstance(one.op, Constant)),
        tuple(slot[one] for one in graph.inputs),
        tuple((slot[one], one) for one in order if isinstance(one.op, Shared)),
        tuple(slot[root] for root in graph.roots),
        _owned(graph.roots, storage),
        tuple(slot[storage[root]] for root in graph.roots),
    )


def _kernel(variable: Variable, backend: Backend, reused: int | None) -> Kernel:
    """The kernel that computes a variable; of a loop a plain one over its body's steps, if the backend has nothing better."""
    if isinstance(variable.op, Scan) and not backend.loops(variable):
        return _plain_loop(variable.op, backend)
    return backend.kernel(variable, reused)


def _plain_loop(op: Scan, backend: Backend) -> Kernel:
    """A loop in Python over the steps of a body."""
    plan = schedule(backend.partitioned(op.body), backend)
    empty: list[Any] = [None] * plan.slots
    for slot, value in plan.constants:
        empty[slot] = value

    def shapes_alone(*values: Array) -> list[Array]:
        """Arrays of the shapes that the body's outputs have."""
        kinds = [TensorType(kind.type.dtype, value.shape) for kind, value in zip(op.body.inputs, values, strict=True)]
        return [backend.xp.empty(one.type.shape, one.dtype) for one in specialize(op.body, kinds).outputs]

    def body(*values: Array) -> list[Array]:
        memory = empty.copy()
        for slot, value in zip(plan.inputs, values, strict=True):
            memory[slot] = value
        run(plan, memory)
        return [memory[root] for root in plan.roots]

    settled = has_settled_sizes(op.body)
    return lambda *arrays: op.run(backend.xp, shapes_alone if settled and not int(arrays[0]) else body, *arrays)


def _is_leaf(variable: Variable) -> bool:
    """Whether a variable's value is there before the first step."""
    return isinstance(variable.op, Constant | Input | Shared)


def _eager_inputs(variable: Variable) -> tuple[Variable, ...]:
    """The inputs that a variable needs in any case."""
    return variable.inputs[: variable.op.lazy_from]


def _branches(variable: Variable, always: set[Variable], built: dict[Variable, Step]) -> Any:
    """The steps of each branch of an `IfElse` that are not computed in any case, in the order of their slots."""
    branches = []
    for root in variable.inputs[1:]:  # branches within are left to their own `IfElse`
        needed = reachable([root], lambda one: () if one in always else _eager_inputs(one)) - always
        branches.append(tuple(sorted((built[one] for one in needed if one in built), key=lambda step: step.result)))
    return tuple(branches)


def _storage(order: Sequence[Variable]) -> dict[Variable, Variable]:
    """For each variable the one whose memory it may share, itself if it has its own."""
    storage: dict[Variable, Variable] = {}
    for variable in order:
        view = None if isinstance(variable.op, Item) else variable.op.view_of
        storage[variable] = variable if view is None else storage[variable.inputs[view]]
    return storage


def _last_uses(
    order: Sequence[Variable], always: set[Variable], roots: Sequence[Variable], storage: dict[Variable, Variable]
) -> dict[Variable, int]:
    """For each piece of memory the position of its last use; -1 if it must live until the end of the call."""
    last = {storage[variable]: position for position, variable in enumerate(order)}
    for position, variable in enumerate(order):
        for one in variable.inputs:
            last[storage[one]] = max(last[storage[one]], position)
    kept = [*roots, *(variable for variable in order if _is_leaf(variable))]
    for variable in order:
        if variable not in always:  # run on demand, at a time not known here
            kept += [variable, *variable.inputs]
        elif variable.op.lazy_from is not None:
            kept += variable.inputs
    for variable in kept:
        last[storage[variable]] = -1
    return last


def _reusable(variable: Variable, position: int, last: dict[Variable, int], storage: dict[Variable, Variable]) -> int | None:
    """The position of an operand whose memory is its own, has the result's type, and is not used again."""
    if isinstance(variable.type, tuple):
        return None
    memories = [storage[one] for one in variable.inputs]
    for place, operand in enumerate(variable.inputs):
        alone = memories[place] is operand and memories.count(operand) == 1
        if alone and last[operand] == position and operand.type == variable.type:
            return place
    return None


def _owned(roots: Sequence[Variable], storage: dict[Variable, Variable]) -> tuple[bool, ...]:
    """For each root whether its memory belongs to no leaf and to no root before it."""
    taken: set[Variable] = set()
    result = []
    for root in roots:
        memory = storage[root]
        result.append(not _is_leaf(memory) and memory not in taken)
        taken.add(memory)
    return tuple(result)


# -- running ---------------------------------------------------------------------------------------------------------


def run(plan: Schedule, memory: list[Any]) -> None:
    """Run the steps over `memory`, a value for each slot, leaves filled in; an error names the user's line."""
    for step in plan.steps:
        run_step(step, memory)
        for dead in step.freed:
            memory[dead] = None


def run_step(step: Step, memory: list[Any]) -> None:
    """Run one step; of an `IfElse` first the steps of the branch that is taken."""
    if step.branches is not None:
        _run_branch(step, memory)
    _compute(step, memory)


def _run_branch(step: Step, memory: list[Any]) -> None:
    """Run what the taken branch of an `IfElse` needs, branches within branches without recursion."""
    pending = [(step, iter(_taken(step, memory)))]
    while pending:
        current, remaining = pending[-1]
        inner = next((one for one in remaining if memory[one.result] is None), None)
        if inner is None:
            pending.pop()
            if pending:
                _compute(current, memory)
        elif inner.branches is not None:
            pending.append((inner, iter(_taken(inner, memory))))
        else:
            _compute(inner, memory)


def _taken(step: Step, memory: list[Any]) -> tuple[Step, ...]:
    """The steps of the branch that the condition chooses."""
    assert step.branches is not None
    return step.branches[0 if bool(memory[step.operands[0]]) else 1]


def _compute(step: Step, memory: list[Any]) -> None:
    """Run the kernel of one step."""
    operands = [memory[one] for one in step.operands]
    try:
        memory[step.result] = step.kernel(*operands)
    except Exception as error:
        described = at_users_line(error, step.variable, operands)
        if described is error:
            raise
        raise described from error
