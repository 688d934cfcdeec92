"""What compiling backends share: a plan for each set of input shapes that a region meets, and what a failure was about."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

import numpy as np

from minigraph.compiler.interpreted import Backend, at_users_line
from minigraph.compiler.passes import ProfiledStep
from minigraph.core.context import without_collector
from minigraph.core.graph import Array, Graph, Input, Variable, items
from minigraph.core.locks import inside, new_lock
from minigraph.core.static import SizeConstant
from minigraph.ops.loop.loop import Scan
from minigraph.rewrite.partition import Region, computed
from minigraph.rewrite.specialize import follows_from_sizes, specialize

Shapes = tuple[tuple[int, ...], ...]
"""The shapes of the inputs of a region."""


class Planned(Protocol):
    """What is made for a set of input shapes: at least a program, and its memory."""

    program: Any
    frame: Any

    @property
    def held_bytes(self) -> int:
        """How many bytes it holds as long as it is kept."""

    def lines(self) -> Iterator[str]:
        """What it does as readable text."""

    def code(self) -> Iterable[str]:
        """The text of each of its kernels."""


PlanT = TypeVar("PlanT", bound=Planned)
RegionT = TypeVar("RegionT", bound=Callable[..., Any])


def title_of(shapes: Sequence[Sequence[Any]]) -> str:
    """How stages of a region begin that are made for inputs of these shapes."""
    return f"region {', '.join('x'.join(map(str, one)) or 'scalar' for one in shapes)}: "


class KernelFailure(Exception):
    """A kernel met an index that is outside of an array, or a requirement that does not hold."""


class PlannedRegion(ABC, Generic[PlanT]):
    """A region with the plans for the shapes that it has met."""

    most_plans: ClassVar[int] = 64
    most_bytes: ClassVar[int] = 2**30
    """For how many sets of input shapes a region keeps its plans, and how many bytes they may hold, unless one alone does."""
    language: ClassVar[str] = "ll"
    """The ending of files that hold the code of kernels."""

    def __init__(self, backend: Backend, region: Region) -> None:
        self.backend, self.graph = backend, region.graph
        self.wanted: tuple[tuple[int, int], ...] = ()
        """Positions of inputs, and of the outputs that plans shall write over them."""
        self.plans: OrderedDict[Shapes, PlanT] = OrderedDict()
        self.recent: PlanT | None = None
        self._lock = new_lock()

    @abstractmethod
    def make(self, shapes: Shapes) -> PlanT:
        """A plan for inputs of these shapes."""

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
            if self.backend.journal.is_open:
                self._tell(key, found)
            held = sum([plan.held_bytes for plan in self.plans.values()])
            while len(self.plans) > self.most_plans or (held > self.most_bytes and len(self.plans) > 1):
                held -= self.plans.popitem(last=False)[1].held_bytes
        return found

    def _tell(self, key: Shapes, plan: PlanT) -> None:
        """Note the steps of a plan, and the code of its kernels."""
        journal = self.backend.journal
        journal.note(f"{title_of(key)}program", plan)
        journal.write(f"{title_of(key)}code", self.language, plan.code())

    @abstractmethod
    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """The outputs of the region."""

    @abstractmethod
    def profile(self, *arrays: Array) -> tuple[tuple[Array, ...], list[ProfiledStep]]:
        """The outputs, and what each kernel is, where its last op was written, and the seconds that it took."""

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


class CompiledLoop(Generic[RegionT]):
    """What computes a loop by itself: one that may stop, or whose number of steps only its call tells.

    There is a region for each number of steps, and for the other numbers that follow from sizes.
    """

    def __init__(self, variable: Variable, compiled: Callable[[Region], RegionT]) -> None:
        """compiled: what makes a kernel of a region."""
        self.variable, self.compiled = variable, compiled
        self.op = cast(Scan, variable.op)
        captured = 1 + self.op.sequences + self.op.states
        self.fixed = [k for k, one in enumerate(variable.inputs) if not k or (k >= captured and follows_from_sizes(one))]
        self.given = [k for k in range(len(variable.inputs)) if k not in self.fixed]
        self.regions: OrderedDict[tuple[int, ...], RegionT] = OrderedDict()

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """The results of the loop."""
        numbers = tuple([int(arrays[k]) for k in self.fixed])
        self.op.check_steps(numbers[0])
        results: tuple[Array, ...] = self.region(numbers)(*[arrays[k] for k in self.given])
        return self._cut(results, numbers[0]) if self.op.stops else results

    def region(self, numbers: tuple[int, ...]) -> RegionT:
        """What computes the loop for these numbers."""
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

    def _cut(self, results: tuple[Array, ...], steps: int) -> tuple[Array, ...]:
        """The results without room for what was not done."""
        done = int(results[-1]) if steps else 0
        states, rows = results[: self.op.states], results[self.op.states : -1]
        return (*(one[: done + 1] for one in states), *(one[:done] for one in rows), np.asarray(done))
