"""From a graph to a callable: the pipeline, `function`, and calls that are all or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minigraph.compiler.binding import single_region
from minigraph.compiler.choose import choose
from minigraph.compiler.cpu.backend import CompiledRegion
from minigraph.compiler.cpu.fast_call import Direct
from minigraph.compiler.cuda.backend import DeviceRegion, Gpu
from minigraph.compiler.cuda.cuda_graph import Replay
from minigraph.compiler.interpreted import Backend
from minigraph.compiler.passes import Journal, ProfiledStep, dump_folder
from minigraph.compiler.scalar.seclude import warn_of_opaque
from minigraph.compiler.schedule import Schedule, run, run_step, schedule
from minigraph.compiler.shape_cache import PlannedRegion
from minigraph.core.config import config
from minigraph.core.context import alone, quietly, without_collector
from minigraph.core.conversion import rounded
from minigraph.core.errors import ExecutionError, InvalidTypeError, InvalidValueError
from minigraph.core.graph import Array, Graph, Item, Shared, Variable
from minigraph.core.locks import holding, inside
from minigraph.core.state import Cell, locks_of, move, replace_unchanged, snapshot
from minigraph.core.version import Stamp
from minigraph.core.walks import check_replacement, rebuild
from minigraph.core.wishes import Wish, as_wishes
from minigraph.functions.build import (
    In,
    Specification,
    Updates,
    _as_leaf,
    as_spec,
    check_inputs,
    check_leaves,
    checked_updates,
    default_updates,
    structure_of,
    with_givens,
)
from minigraph.functions.reports import Memory, Profile, Trace, Transfers
from minigraph.ops.loop.updates import carry_updates
from minigraph.printing import graph_lines, op_text
from minigraph.rewrite.loops import unite_loops

__all__ = [
    "Function",
    "function",
]


reviews: list[Callable[[Graph], None]] = []
"""What `function` shows each graph to before it is compiled; layers add what warns of things that users forget."""


class Function:
    """A compiled graph. Calls are all or nothing: outputs and updates come from the old state, and all updates happen at
    the end together; a call that fails leaves every shared variable as it was. Calls from several threads are safe.
    """

    def __init__(self, specification: Specification) -> None:
        self._specification = specification
        wishes, folder = (*config.passes, *specification.passes), dump_folder(specification.dump, specification.name)
        self._journal = Journal(specification.trace, folder, config.verify)
        self._backend: Backend = choose(specification.backend, wishes, self._journal)
        inside((), alone, self._build_on_device, specification)

    def _build_on_device(self, specification: Specification) -> None:
        """Compile what was asked for, on the backend's device."""
        with self._backend.running():
            self._build(specification)

    def _build(self, specification: Specification) -> None:
        """Compile what was asked for."""
        graph = specification.graph
        self.inputs: tuple[In, ...] = specification.inputs
        self.outputs: tuple[Variable, ...] = graph.outputs
        self.updates: tuple[tuple[Variable, Variable], ...] = graph.updates
        self.name = specification.name
        if self._journal.is_open:
            self._journal.note("given", graph)
        pipeline = self._backend.pipeline
        self.graph = without_collector(self._journal.run, (*pipeline.whole, *pipeline.regions), graph)
        if self._backend.compiles:
            warn_of_opaque(self.graph, self._backend.xp.__name__)
        self._plan: Schedule = without_collector(schedule, self.graph, self._backend)
        self._cells = [variable.op.cell for _, variable in self._plan.shared]  # type: ignore[attr-defined]
        self._targets: list[Cell] = [target.cell for target, _ in graph.updates]
        self._state = list(dict.fromkeys([*self._cells, *self._targets]))
        every = locks_of(self._state)
        at_first = every if self._backend.writes_over_state else locks_of(self._targets)
        self._locks = (at_first, *[every] * ATTEMPTS)
        """What is locked in each attempt to compute while other threads, or calls within this one, change what is read."""
        lent = {slot for slot, spec in zip(self._plan.inputs, self.inputs, strict=True) if spec.borrow}
        asked = specification.structure.borrow
        self._borrowed = tuple(out or slot in lent for out, slot in zip(asked, self._plan.holders, strict=False))
        self._hosted = any(specification.structure.host)
        self._direct = self._short_way([target for target, _ in graph.updates])
        self._names: dict[str, list[int]] = {}
        for position, spec in enumerate(self.inputs):
            if spec.key:
                self._names.setdefault(spec.key, []).append(position)

    def _short_way(self, targets: Sequence[Variable]) -> Direct | Replay | None:
        """The short way through a call, if this is a function of one region."""
        region = single_region(self._plan)
        if isinstance(region, DeviceRegion):
            assert isinstance(self._backend, Gpu)
            return Replay(self._backend, self._plan, region, self._cells, targets)
        return Direct(self._plan, region, self._cells, targets) if isinstance(region, CompiledRegion) else None

    @property
    def trace(self) -> Trace | None:
        """What each pass has made so far, if the function was made with `trace=True`."""
        return Trace(tuple(self._journal.stages)) if self._specification.trace else None

    @property
    def passes(self) -> tuple[str, ...]:
        """The names of the passes that compile it, in order."""
        return self._backend.pipeline.names

    @property
    def backend(self) -> str:
        """The name of the backend that runs it."""
        return self._backend.name

    def __repr__(self) -> str:
        wanted = ", ".join(spec.key or "?" for spec in self.inputs)
        compiled = sum(isinstance(step.kernel, PlannedRegion) for step in self._plan.steps)
        items = sum(isinstance(step.variable.op, Item) for step in self._plan.steps)
        plain = len(self._plan.steps) - compiled - items
        kind = "native" if self.backend == "native" else "GPU"
        parts = [(compiled, f"{kind} call"), (plain, "GPU op" if self.backend == "cupy" else "NumPy call")]
        made = " and ".join(f"{count} {what}{'s' * (count != 1)}" for count, what in parts if count) or "nothing to compute"
        return f"<Function {self.name or ''}({wanted}), {made}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _compiled_again, (Stamp(), self._specification.portable())

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if self._direct is not None and not kwargs:
            outputs = self._direct(args)
            if outputs is not None:
                return self._delivered(outputs)
        return self._call(args, kwargs, run)

    def profile(self, /, *args: Any, **kwargs: Any) -> Profile:
        """Call the function once, updates included, and measure each step."""
        measured: list[ProfiledStep] = []

        def timed(plan: Schedule, memory: list[Any]) -> None:
            for step in plan.steps:
                start = time.perf_counter()
                if isinstance(step.kernel, PlannedRegion):
                    memory[step.result], kernels = step.kernel.profile(*[memory[one] for one in step.operands])
                    measured.extend(kernels)
                else:
                    run_step(step, memory)
                    if not isinstance(step.variable.op, Item):
                        seconds = time.perf_counter() - start
                        measured.append(ProfiledStep(op_text(step.variable.op), str(step.variable.origin), seconds))
                for dead in step.freed:
                    memory[dead] = None

        outputs = self._call(args, kwargs, timed)
        return Profile(outputs, tuple(measured), self._direct.note if isinstance(self._direct, Replay) else "")

    def source(self, code: bool = False) -> str:
        """What runs, a line a step, and for compiled steps the loop nests of every set of input shapes that was met.

        With `code` that of their kernels follows.
        """
        lines = list(graph_lines(self.graph))
        reused = sum(step.reused is not None for step in self._plan.steps)
        regions = [step.kernel for step in self._plan.steps if isinstance(step.kernel, PlannedRegion)]
        nests = [line for region in regions for line in region.lines(code)]
        return "\n".join([f"# {len(self._plan.steps)} steps on {self.backend}, {reused} of them in place", *lines, *nests])

    def memory(self) -> Memory:
        """How much memory calls work in, the largest that was planned so far; nothing is planned on NumPy."""
        regions = [step.kernel for step in self._plan.steps if isinstance(step.kernel, PlannedRegion)]
        frames = [[plan.frame for plan in region.plans.values()] for region in regions]
        arena = sum(max((one.arena_bytes for one in each), default=0) for each in frames)
        results = sum(max((one.output_bytes for one in each), default=0) for each in frames)
        return Memory(arena, results, arena + results)

    def transfers(self) -> Transfers:
        """How many arrays have been copied between host and GPU since this function was made; none without a GPU."""
        return Transfers(*self._backend.transfers())

    def copy(
        self, *, swap: Mapping[Variable, Variable] | None = None, delete_updates: bool = False, name: str | None = None
    ) -> Function:
        """The same function, with shared variables swapped for others of their type, or without its updates.

        A variable stands for all that share its cell, as do those of a function and a layer that were pickled together.
        """
        spec, old = self._specification, self._specification.graph
        others: dict[Cell, Variable] = {}
        for one, other in (swap or {}).items():
            check_replacement(one, other)
            if not isinstance(one.op, Shared) or not isinstance(other.op, Shared):
                raise InvalidTypeError(f"only shared variables can be swapped, not {one!r} for {other!r}")
            others[one.cell] = other
        leaves = [*old.variables, *(target for target, _ in old.updates)]
        exchanged = {one: others[one.cell] for one in leaves if isinstance(one.op, Shared) and one.cell in others}
        graph = old.with_roots(rebuild(old.roots, exchanged))
        updates = checked_updates((exchanged.get(target, target), value) for target, value in graph.updates)
        graph = Graph(graph.inputs, graph.outputs, () if delete_updates else tuple(updates))
        asked = Specification(
            spec.inputs, graph, spec.structure, spec.backend, name or self.name, spec.trace, spec.passes, spec.dump
        )
        return Function(asked)

    # -- calling -----------------------------------------------------------------------------------------------------

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any], runner: Callable[[Schedule, list[Any]], None]) -> Any:
        """Compute on the backend's device, in the gate of this thread."""
        return inside((), alone, self._call_on_device, args, kwargs, runner)

    def _call_on_device(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], runner: Callable[[Schedule, list[Any]], None]
    ) -> Any:
        """Compute on the backend's device."""
        with self._backend.running():
            return self._computed(args, kwargs, runner)

    def _computed(self, args: Sequence[Any], kwargs: Mapping[str, Any], runner: Callable[[Schedule, list[Any]], None]) -> Any:
        """Bind, compute, check, and only then commit."""
        arrays = self._bind(args, kwargs)
        self._take_state()
        if self._direct is not None and runner is run:
            outputs = self._direct.planned(arrays)
            if outputs is not None:
                return self._delivered(outputs)
        return self._delivered(quietly(self._committed, arrays, runner))

    def _committed(self, arrays: Sequence[Array], runner: Callable[[Schedule, list[Any]], None]) -> list[Array]:
        """The outputs, the targets having got their new values."""
        for locks in self._locks:
            outputs = holding(locks, self._attempt, arrays, runner)
            if outputs is not None:
                return outputs
        raise ExecutionError(
            f"{self!r} updates shared variables from others that change whenever it is computed: something that it runs "
            "itself, such as an op of your own, calls a function that updates them, or sets them; no state was changed"
        )

    def _attempt(self, arrays: Sequence[Array], runner: Callable[[Schedule, list[Any]], None]) -> list[Array] | None:
        """The outputs, the targets having got their new values; None if what they were computed from has changed meanwhile.

        The targets are locked, but another thread may have updated a variable that this function only reads.
        """
        count = len(self.outputs)
        state = snapshot(self._cells)
        results = self._compute(arrays, state, runner)
        outputs = [self._release(k, results[k], self._borrowed[k]) for k in range(count)]
        values = [self._new_value(k, results[k]) for k in range(count, len(results))]
        done = not values or replace_unchanged(self._targets, values, self._cells, state)
        return outputs if done else None

    def _delivered(self, outputs: Sequence[Array]) -> Any:
        """The results in the form, and in the place, that was asked for."""
        structure = self._specification.structure
        if self._hosted:
            outputs = [self._backend.store(one) if host else one for one, host in zip(outputs, structure.host, strict=True)]
        return structure.pack(outputs)

    def _take_state(self) -> None:
        """Move the shared variables to where the backend computes; they stay there."""
        for cell, value in zip(self._state, snapshot(self._state), strict=True):
            loaded = self._backend.load(value)
            if loaded is not value:
                move(cell, value, loaded)

    def _compute(
        self, arrays: Sequence[Array], state: Sequence[Array], runner: Callable[[Schedule, list[Any]], None]
    ) -> list[Array]:
        """The values of the roots, from those of the inputs and of the shared variables."""
        plan = self._plan
        memory: list[Any] = [None] * plan.slots
        for slot, value in plan.constants:
            memory[slot] = value
        for slot, value in zip(plan.inputs, arrays, strict=True):
            memory[slot] = value
        for (slot, _), value in zip(plan.shared, state, strict=True):
            memory[slot] = self._backend.load(value)
        runner(plan, memory)
        return [memory[slot] for slot in plan.roots]

    def _release(self, root: int, value: Array, borrow: bool) -> Array:
        """A result as the caller's own array, unless it may be borrowed."""
        partial = not value.flags.owndata or (isinstance(value, np.ndarray) and not value.flags.writeable)
        if borrow or (self._plan.owned[root] and not partial):
            return value
        return value.copy()

    def _new_value(self, root: int, value: Array) -> Array:
        """A new value of shared state, checked against its type."""
        target = self.updates[root - len(self.outputs)][0]
        if not target.type.accepts(value.shape):
            raise InvalidValueError(
                f"the new value of {target!r} ({target.origin}) has shape {value.shape}, expected {target.type.shape}; "
                "no state was changed"
            )
        return self._release(root, value, borrow=False)

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Array]:
        """The value of each input, by position, name or default, checked and cast."""
        if len(args) > len(self.inputs):
            raise InvalidTypeError(f"{self!r} takes {len(self.inputs)} inputs, {len(args)} were given")
        given: dict[int, Any] = dict(enumerate(args))
        for name, value in kwargs.items():
            positions = self._names.get(name)
            if positions is None:
                raise InvalidTypeError(f"{self!r} has no input named {name!r}; it has {sorted(self._names)}")
            if len(positions) > 1:
                raise InvalidTypeError(
                    f"{len(positions)} inputs of {self!r} are named {name!r}: give them by position, or tell them apart with "
                    "In(variable, name=...)"
                )
            (position,) = positions
            if position in given:
                raise InvalidTypeError(f"input {name!r} of {self!r} is given by position and by name")
            given[position] = value
        return [self._fitted(position, spec, given) for position, spec in enumerate(self.inputs)]

    def _fitted(self, position: int, spec: In, given: Mapping[int, Any]) -> Array:
        """The value of one input."""
        value = given.get(position, spec.value)
        variable = spec.variable
        if value is None:
            raise InvalidTypeError(f"input {position} ({variable!r}, made at {variable.origin}) of {self!r} is missing")
        given_value = rounded(value, variable.type) if spec.cast else value
        return self._backend.fit(given_value, variable.type, f"input {position} ({variable!r}, made at {variable.origin})")


ATTEMPTS = 20
"""How often a call computes anew, with all that it reads locked, before it gives up."""


def _compiled_again(_: Stamp, specification: Specification) -> Function:
    """A function that was pickled by a version that computes the same."""
    return Function(specification)


def function(
    inputs: Sequence[Variable | In],
    outputs: Any = None,
    updates: Updates = (),
    givens: Mapping[Variable, Any] | Iterable[tuple[Variable, Any]] = (),
    *,
    no_default_updates: bool | Sequence[Variable] = False,
    on_unused_input: str = "raise",
    backend: str | None = None,
    name: str | None = None,
    trace: bool = False,
    passes: Sequence[Wish] | Wish = (),
    dump: str | Path | None = None,
    allow_input_downcast: bool = False,
) -> Function:
    """Compile a graph into a callable.

    outputs: a variable (the function returns an array), a list, a dict, or None (it returns []).
    updates: pairs (shared variable, new value), or a dict; new values are computed from the old ones.
    givens: replacements made before anything else; a shared variable may be replaced by an input.
    no_default_updates: True, or the shared variables that keep their value whatever the graph recorded.
    on_unused_input: "raise", "warn" or "ignore". backend: "native" (default where llvmlite is installed), "numpy" or "cupy".
    trace: keep what each pass made in `.trace`. allow_input_downcast: `cast` for all inputs, see `In`.
    passes: names of passes to leave out, after a minus sign ("-merge"), and passes to add: functions from a graph to an equal
    one, which come last, or `mg.After(name, function)`; `.passes` lists the names. Those of `mg.config.passes` come first.
    dump: a folder for the text of every stage and for the code of kernels; without it that of MINIGRAPH_DUMP, if that is set.

    TypeError or ValueError, at the user's line, for what does not fit: an update of something else than a shared variable, or
    twice, or of another type; an input that is shared, doubled, unused, or missing.

    >>> x = mg.vector("x")
    >>> f = mg.function([x], (x * 2).sum())
    >>> f([1, 2, 3])
    array(12., dtype=float32)
    """
    specs = tuple(as_spec(one, allow_input_downcast) for one in inputs)
    check_inputs(specs, on_unused_input)
    structure, wanted = structure_of(outputs)
    pairs = checked_updates(updates)
    roots = unite_loops(carry_updates([*wanted, *(value for _, value in pairs)]))
    leaves = {spec.variable: _as_leaf(spec.variable) for spec in specs}
    replaced = with_givens(roots, givens, {old: new for old, new in leaves.items() if new is not old}, on_unused_input)
    pairs = [(target, value) for (target, _), value in zip(pairs, replaced[len(wanted) :], strict=True)]
    pairs += default_updates(replaced, {target for target, _ in pairs}, no_default_updates)
    graph = Graph(tuple(leaves.values()), tuple(replaced[: len(wanted)]), tuple(pairs))
    check_leaves(graph, on_unused_input)
    for review in reviews:
        review(graph)
    return Function(Specification(specs, graph, structure, backend, name, trace, as_wishes(passes), dump))


def evaluate(variable: Variable, inputs: Mapping[Variable, Any] | None = None) -> Array:
    """The value of a variable, computed now from `inputs`; this is the method `eval` of variables."""
    given = dict(inputs or {})
    compiled = function(list(given), variable, on_unused_input="ignore", no_default_updates=True)
    return compiled(*given.values())
