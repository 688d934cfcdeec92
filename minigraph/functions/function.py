"""From a graph to a callable: `function`, and what it returns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import is_not
from pathlib import Path
from typing import Any

from minigraph.compiler.choose import choose
from minigraph.compiler.interpreted import Backend
from minigraph.compiler.passes import Journal, ProfiledStep, dump_folder
from minigraph.compiler.scalar.seclude import warn_of_opaque
from minigraph.compiler.schedule import Schedule, run, run_step
from minigraph.compiler.shape_cache import FastCall, PlannedRegion, fast_call, listed
from minigraph.core.config import config
from minigraph.core.context import alone, quietly, without_collector
from minigraph.core.errors import InvalidTypeError
from minigraph.core.graph import Array, Graph, Item, Shared, Variable
from minigraph.core.loading import loaded
from minigraph.core.locks import inside
from minigraph.core.state import Cell
from minigraph.core.version import Stamp
from minigraph.core.walks import check_replacement, rebuild
from minigraph.core.wishes import Wish, as_wishes
from minigraph.functions.arguments import Arguments
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
from minigraph.functions.execution import Execution, Runner
from minigraph.functions.reports import Memory, Profile, Trace, Transfers
from minigraph.ops.loop.updates import carry_updates
from minigraph.printing import graph_lines, op_text
from minigraph.rewrite.tidy_loops import unite_loops

__all__ = ["Function", "function"]


reviews: list[Callable[[Graph], None]] = []
"""Functions that see each graph before it is compiled; layers add those that warn of what users forget."""


class Function:
    """A compiled graph. Calls are all or nothing: outputs and updates come from the old state, and all updates happen at
    the end together; a call that fails leaves every shared variable as it was. Calls from several threads are safe.
    """

    def __init__(self, specification: Specification) -> None:
        self._specification = specification
        wishes, folder = (*config.passes, *specification.passes), dump_folder(specification.dump, specification.name)
        self._journal = Journal(specification.trace, folder, config.verify)
        self._backend: Backend = choose(specification.backend, wishes, self._journal)
        inside((), alone, self._build, specification)

    def _build(self, specification: Specification) -> None:
        """Compile what was asked for, on the backend's device."""
        graph, backend = specification.graph, self._backend
        self.inputs: tuple[In, ...] = specification.inputs
        self.outputs: tuple[Variable, ...] = graph.outputs
        self.updates: tuple[tuple[Variable, Variable], ...] = graph.updates
        self.name = specification.name
        self._arguments = Arguments(self.inputs)
        self._hosted = any(specification.structure.host)
        if self._journal.is_open:
            self._journal.note("given", graph)
        with backend.running():
            self.graph = without_collector(self._journal.run, (*backend.pipeline.whole, *backend.pipeline.regions), graph)
            if backend.compiles:
                warn_of_opaque(self.graph, backend.xp.__name__)
            lent = [position for position, spec in enumerate(self.inputs) if spec.borrow]
            self._execution = Execution(self.graph, backend, lent, specification.structure.borrow)
            self._fast = fast_call(self._execution.plan, self._execution.targets)
            structure = specification.structure
            self._as_answered = structure.kind == ("single" if len(graph.outputs) == 1 else "list")
            """Whether results take the form that answers have."""
            self._converts = False
            """Whether the last call gave something else than arrays in the order of C, as the next may."""

    @property
    def trace(self) -> Trace | None:
        """The results of each pass so far, if the function was made with `trace=True`."""
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
        steps = self._execution.plan.steps
        items = sum(isinstance(step.variable.op, Item) for step in steps)
        compiled = len(self._regions)
        parts = zip((compiled, len(steps) - compiled - items), self._backend.call_names, strict=True)
        made = " and ".join(f"{count} {what}{'s' * (count != 1)}" for count, what in parts if count) or "nothing to compute"
        return f"<Function {self.name or ''}({wanted}), {made}>"

    @property
    def _regions(self) -> list[PlannedRegion[Any]]:
        """The steps of it that are compiled regions."""
        return [step.kernel for step in self._execution.plan.steps if isinstance(step.kernel, PlannedRegion)]

    def __reduce__(self) -> tuple[Any, ...]:
        return _compiled_again, (Stamp(), self.specification())

    def specification(self) -> Specification:
        """The arguments that it was made with, checked, and without what tells how the graph was made."""
        return self._specification.portable()

    def save(self, path: str | Path) -> None:
        """Write the function to a file, with its constants and state, from which `minigraph.load_function` makes it again.

        path: of the file, which replaces one that is there, or leaves it untouched if anything fails. Neither the layers that
        the graph was made with nor your code are needed to load it; the names of your source files, without folders, and lines
        are kept for errors. Any later version of minigraph reads it.

        InvalidTypeError for code of your own, which no file can hold: a pass, or an op that was not registered by
        `minigraph.files.register_op`; OSError where the system cannot write.

        >>> import tempfile
        >>> x, w = mg.vector("x"), mg.shared(np.array([1, 2], "float32"), "w")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     mg.function([x], (x * w).sum()).save(f"{folder}/sum.safetensors")
        ...     f = mg.load_function(f"{folder}/sum.safetensors")
        >>> f([3, 4])
        array(11., dtype=float32)
        """
        loaded("files.functions:save_function")(path, self)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if self._fast is not None:
            found = None if kwargs else self._fast.answer(*args)
            if found is not None and self._as_answered:
                return found
            outputs = self._quickly(self._fast, args, kwargs) if found is None else listed(found)
            if outputs is not None:
                return self._delivered(outputs)
        return self._call(args, kwargs, run)

    def _quickly(self, fast: FastCall[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Sequence[Array] | None:
        """The results by the short way, once what is given has become arrays; None where the long way must be gone."""
        tried = not kwargs and not self._converts
        outputs = fast(args) if tried else None
        if outputs is None and (arrays := self._arguments.plain(args, kwargs)) is not None:
            self._converts = any(map(is_not, arrays, args))
            if self._converts or not tried or len(arrays) > len(args):
                found = fast.answer(*arrays)
                outputs = fast(arrays) if found is None else listed(found)
        return outputs

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
        return Profile(outputs, tuple(measured), self._fast.note if self._fast is not None else "")

    def source(self, code: bool = False) -> str:
        """The steps that run, a line each, and for compiled steps the loop nests of every set of input shapes that was met.

        With `code` the code of their kernels follows.
        """
        steps = self._execution.plan.steps
        reused = sum(step.reused is not None for step in steps)
        nests = [line for region in self._regions for line in region.lines(code)]
        heading = f"# {len(steps)} steps on {self.backend}, {reused} of them in place"
        return "\n".join([heading, *graph_lines(self.graph), *nests])

    def memory(self) -> Memory:
        """The memory that calls work in, the largest that was planned so far; nothing is planned on NumPy."""
        arena, results = (sum(each) for each in zip((0, 0), *(region.memory() for region in self._regions), strict=True))
        return Memory(arena, results, arena + results)

    def transfers(self) -> Transfers:
        """The number of arrays copied between host and GPU since this function was made; 0 without a GPU."""
        return Transfers(*self._backend.transfers())

    def copy(
        self, *, swap: Mapping[Variable, Variable] | None = None, delete_updates: bool = False, name: str | None = None
    ) -> Function:
        """The same function, under another `name` if given, and without its updates if `delete_updates`.

        swap: for shared variables others of their type, which take their place. A variable stands for all that share its cell,
        as do those of a function and a layer that were pickled together.
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
        return Function(Specification(**(vars(spec) | {"graph": graph, "name": name or self.name})))

    # -- calling -----------------------------------------------------------------------------------------------------

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any], runner: Runner) -> Any:
        """Compute on the backend's device, in the gate of this thread."""
        return inside((), alone, self._call_on_device, args, kwargs, runner)

    def _call_on_device(self, args: Sequence[Any], kwargs: Mapping[str, Any], runner: Runner) -> Any:
        """Compute on the backend's device: bind, compute, check, and only then commit."""
        with self._backend.running():
            arrays = self._arguments.bound(self, self._backend, args, kwargs)
            self._execution.take_state()
            if self._fast is not None and runner is run:
                outputs = self._fast.planned(arrays)
                if outputs is not None:
                    return self._delivered(outputs)
            return self._delivered(quietly(self._execution.committed, self, arrays, runner))

    def _delivered(self, outputs: Sequence[Array]) -> Any:
        """The results in the form, and in the place, that was asked for."""
        structure = self._specification.structure
        if self._hosted:
            outputs = [self._backend.store(one) if host else one for one, host in zip(outputs, structure.host, strict=True)]
        return structure.pack(outputs)


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
