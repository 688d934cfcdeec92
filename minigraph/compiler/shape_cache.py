"""The base of compiling backends: a plan for each set of input shapes of a region, ways to call it, reasons of failures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar, cast

import numpy as np

from minigraph.compiler.binding import CallSignature, signature_of
from minigraph.compiler.interpreted import Backend, Kernel, at_users_line
from minigraph.compiler.passes import ProfiledStep
from minigraph.compiler.schedule import Schedule
from minigraph.core.context import without_collector
from minigraph.core.graph import Array, Graph, Input, Variable, items
from minigraph.core.locks import inside, new_lock
from minigraph.core.state import locks_of
from minigraph.core.static import SizeConstant
from minigraph.ops.loop.loop import Scan
from minigraph.rewrite.partition import Kernels, Region, computed, is_compilable_loop
from minigraph.rewrite.specialize import follows_from_sizes, specialize

Shapes = tuple[tuple[int, ...], ...]
"""The shapes of the inputs of a region."""

Arrays = tuple[Array, ...]


def title_of(shapes: Sequence[Sequence[Any]]) -> str:
    """The beginning of the names of stages of a region that are made for inputs of these shapes."""
    return f"region {', '.join('x'.join(map(str, one)) or 'scalar' for one in shapes)}: "


class KernelFailure(Exception):
    """A kernel met an index that is outside of an array, or a requirement that does not hold."""


class Plan(ABC):
    """A program for inputs of certain shapes, and what it takes to run it."""

    program: Any
    frame: Any
    held_bytes: int
    """The bytes that a plan holds as long as a region keeps it."""

    @property
    def overwritten(self) -> Mapping[int, int]:
        """The input over which an output is written, by their positions."""
        found: Mapping[int, int] = self.program.overwritten
        return found

    @abstractmethod
    def __call__(self, arrays: Arrays) -> Arrays | None:
        """The outputs, in new memory, from inputs in the order of C; None if this is a plan for others.

        KernelFailure where a kernel meets what it cannot compute.
        """

    @abstractmethod
    def profile(self, arrays: Arrays) -> tuple[Arrays, list[ProfiledStep]]:
        """The outputs, and what each of the program's commands took."""

    @abstractmethod
    def lines(self) -> Iterator[str]:
        """The program as readable text."""

    def code(self) -> list[str]:
        """The text of each kernel, those of loops' bodies included."""
        found: list[str] = self.program.texts
        return found

    def kept(self, arrays: Arrays) -> Arrays:
        """The inputs, those copied that would be written over."""
        if not self.overwritten:
            return arrays
        written = self.overwritten.values()
        return tuple([one.copy() if k in written else one for k, one in enumerate(arrays)])


PlanT = TypeVar("PlanT", bound=Plan)


def no_answer(*args: Any) -> None:
    """The answer of functions, or before calls, that have none."""


def listed(answer: Any) -> Sequence[Array]:
    """The results that an answer gives."""
    return answer if isinstance(answer, list) else [answer]


class FastCall(ABC, Generic[PlanT]):
    """The short way through the calls of a function that is one region, with arrays that its last plan was made for."""

    note = ""
    """The way in which calls are made, where that is not always the same."""
    answer: Callable[..., Any] = staticmethod(no_answer)
    """The shortest way: what gives the one result, or a list of several, of a call; None where another way must be gone."""

    def __init__(self, region: PlannedRegion[PlanT], signature: CallSignature) -> None:
        self._region, self._signature = region, signature
        region.donations = signature.donations
        self._cells, self._targets = signature.cells, signature.target_cells
        self._locks = locks_of(self._cells)

    @abstractmethod
    def __call__(self, args: tuple[Any, ...]) -> Sequence[Array] | None:
        """The outputs; None where the long way must be gone, with nothing changed."""

    @abstractmethod
    def planned(self, arrays: Sequence[Array]) -> Sequence[Array] | None:
        """The outputs from arrays that fit the inputs, with a plan for their shapes; None as above."""


def fast_call(schedule: Schedule, targets: Sequence[Variable]) -> FastCall[Any] | None:
    """The short way through the calls of a function that updates `targets`, if it is one region."""
    signature = signature_of(schedule, targets)
    region = schedule.steps[0].kernel if signature is not None else None
    return region.fast_call(signature) if isinstance(region, PlannedRegion) and signature is not None else None


class PlannedRegion(ABC, Generic[PlanT]):
    """A region with the plans for the shapes that it has met."""

    most_plans: ClassVar[int] = 64
    most_bytes: ClassVar[int] = 2**30
    """For how many sets of input shapes a region keeps its plans, and how many bytes they may hold, unless one alone does."""
    language: ClassVar[str] = "ll"
    """The ending of files that hold the code of kernels."""

    def __init__(self, backend: CompilingBackend, region: Region) -> None:
        self.backend, self.graph = backend, region.graph
        self.donations: tuple[tuple[int, int], ...] = ()
        """Positions of inputs, and of the outputs that plans shall write over them."""
        self.plans: OrderedDict[Shapes, PlanT] = OrderedDict()
        self.held_bytes = 0
        self.recent: PlanT | None = None
        self._lock = new_lock()

    @abstractmethod
    def make(self, shapes: Shapes) -> PlanT:
        """A plan for inputs of these shapes."""

    def fast_call(self, signature: CallSignature) -> FastCall[PlanT] | None:
        """The short way through the calls of a function that consists of this region, if there is one."""
        return None

    def shaped(self, shapes: Sequence[Sequence[Any]]) -> Graph:
        """The graph for inputs of these shapes, of which sizes may be left open, after the passes on known sizes."""
        kinds = [one.type for one in self.graph.inputs]
        graph = specialize(self.graph, [type(kind)(kind.dtype, tuple(one)) for kind, one in zip(kinds, shapes, strict=True)])
        title, journal = title_of(shapes), self.backend.journal
        if journal.is_open:
            journal.note(f"{title}specialize", graph)
        return journal.run(self.backend.pipeline.shaped, graph, title)

    def plan(self, arrays: Sequence[Array]) -> PlanT:
        """The plan for the shapes of these arrays."""
        key = tuple([array.shape for array in arrays])
        found = self.plans.get(key)
        if found is None:
            found = inside((self._lock,), self._made, key)
        self.recent = found
        return found

    def _made(self, key: Shapes) -> PlanT:
        """The plan for these shapes, made now unless another thread has just made it."""
        found = self.plans.get(key)
        if found is None:
            found = self.plans[key] = without_collector(self.make, key)
            journal = self.backend.journal
            if journal.is_open:
                journal.note(f"{title_of(key)}program", found)
                journal.write(f"{title_of(key)}code", self.language, found.code())
            self.held_bytes += found.held_bytes
            while len(self.plans) > self.most_plans or (self.held_bytes > self.most_bytes and len(self.plans) > 1):
                self.held_bytes -= self.plans.popitem(last=False)[1].held_bytes
        return found

    def __call__(self, *arrays: Array) -> Arrays:
        """The outputs of the region; an error at the user's line where a kernel met what it cannot compute."""
        ready = self.backend.in_order(arrays)
        try:
            outputs = self.plan(ready)(ready)
        except KernelFailure as failure:
            raise explanation(self.graph, [self.backend.store(one) for one in ready]) or failure from None
        assert outputs is not None, "the plan is for these shapes"
        return outputs

    def profile(self, *arrays: Array) -> tuple[Arrays, list[ProfiledStep]]:
        """The outputs, and what each kernel is, where its last op was written, and the seconds that it took."""
        ready = self.backend.in_order(arrays)
        return self.plan(ready).profile(ready)

    def memory(self) -> tuple[int, int]:
        """The most bytes that calls have worked in so far, and that their results took."""
        frames = [plan.frame for plan in self.plans.values()]
        return max([one.arena_bytes for one in frames], default=0), max([one.output_bytes for one in frames], default=0)

    def lines(self, code: bool) -> Iterator[str]:
        """Every plan as readable text, with `code` that of its kernels, too."""
        for key, plan in self.plans.items():
            yield f"## inputs of shapes {', '.join(map(str, key))}; {plan.frame.arena_bytes} bytes of working memory"
            yield from plan.lines()
            yield from (line for text in plan.code() if code for line in text.splitlines())


def explanation(graph: Graph, arrays: Sequence[Array]) -> Exception | None:
    """The error that NumPy raises where a kernel failed, at the user's line; arrays lie on the host."""
    values: dict[Variable, Any] = dict(zip(graph.inputs, arrays, strict=True))
    for variable in graph.variables:
        if variable in values:
            continue
        operands = [values[one] for one in variable.inputs]
        try:
            values[variable] = computed(variable, np, operands) if operands else variable.op.value  # type: ignore[attr-defined]
        except Exception as error:
            return at_users_line(error, variable, operands)
    return None


MOST_LOOPS = 64
"""For how many numbers of steps, and of what else follows from sizes, a loop keeps what computes it."""


class CompiledLoop:
    """A loop that is compiled alone: one that may stop, or whose number of steps only its call tells.

    There is a region for each number of steps, and for the other numbers that follow from sizes.
    """

    def __init__(self, variable: Variable, compiled: Callable[[Region], PlannedRegion[Any]]) -> None:
        """compiled: what makes a kernel of a region."""
        self.variable, self.compiled = variable, compiled
        self.op = cast(Scan, variable.op)
        captured = 1 + self.op.sequences + self.op.states
        self.fixed = [k for k, one in enumerate(variable.inputs) if not k or (k >= captured and follows_from_sizes(one))]
        self.given = [k for k in range(len(variable.inputs)) if k not in self.fixed]
        self.regions: OrderedDict[tuple[int, ...], PlannedRegion[Any]] = OrderedDict()

    def __call__(self, *arrays: Array) -> Arrays:
        """The results of the loop."""
        numbers = tuple([int(arrays[k]) for k in self.fixed])
        self.op.check_steps(numbers[0])
        results = self.region(numbers)(*[arrays[k] for k in self.given])
        return self._cut(results, numbers[0]) if self.op.stops else results

    def region(self, numbers: tuple[int, ...]) -> PlannedRegion[Any]:
        """The region that computes the loop for these numbers."""
        found = self.regions.get(numbers)
        if found is None:
            inputs = [Variable(Input(), (), self.variable.inputs[k].type) for k in self.given]
            operands = dict(zip(self.given, inputs, strict=True))
            for k, number in zip(self.fixed, numbers, strict=True):
                kind = self.variable.inputs[k].type
                operands[k] = Variable(SizeConstant(np.asarray(number, kind.dtype)), (), kind)
            op = self.op.altered(steps=numbers[0], roomy=self.op.stops)
            ordered = tuple(operands[k] for k in range(len(operands)))
            whole = Variable(op, ordered, op.infer(*[one.type for one in ordered]), None, (), self.variable.origin)
            found = self.regions[numbers] = self.compiled(Region(Graph(tuple(inputs), items(whole))))
            if len(self.regions) > MOST_LOOPS:
                self.regions.popitem(last=False)
        return found

    def _cut(self, results: Arrays, steps: int) -> Arrays:
        """The results without room for what was not done."""
        done = int(results[-1]) if steps else 0
        states, rows = results[: self.op.states], results[self.op.states : -1]
        return (*(one[: done + 1] for one in states), *(one[:done] for one in rows), np.asarray(done))


class CompilingBackend(Backend, ABC):
    """A backend that compiles regions and loops."""

    compiles = True
    stops: ClassVar[bool] = True
    """Whether loops that may stop early are compiled as well."""

    @abstractmethod
    def products(self) -> tuple[str, ...]:
        """The dtypes of the matrix products that it computes."""

    def kernels(self) -> Kernels:
        """The kernels that it has beyond loop nests."""
        return Kernels(self.products())

    @abstractmethod
    def in_order(self, arrays: Sequence[Array]) -> Arrays:
        """Arrays as kernels expect them: in the order of C, and aligned."""

    @abstractmethod
    def region(self, region: Region) -> PlannedRegion[Any]:
        """The kernel that computes a region."""

    def loops(self, variable: Variable) -> bool:
        """Whether a loop can be compiled as a whole."""
        assert isinstance(variable.op, Scan)
        settled = [one for one in variable.inputs if follows_from_sizes(one)]
        return is_compilable_loop(variable, settled, self.kernels()) and (self.stops or not variable.op.stops)

    def kernel(self, variable: Variable, reusable: int | None) -> Kernel:
        """The kernel that computes `variable`: compiled, if it is a region or a loop."""
        if isinstance(variable.op, Region):
            return self.region(variable.op)
        if isinstance(variable.op, Scan):
            return CompiledLoop(variable, self.region)
        return super().kernel(variable, reusable)
