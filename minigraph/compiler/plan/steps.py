"""The steps of a program: loop nests, products, running sums, and loops over programs of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from minigraph.compiler.loops.lower import Place
from minigraph.compiler.loops.nest import Apply, Bindings, Fold, LoopNest
from minigraph.compiler.passes import ProfiledStep
from minigraph.compiler.shaped.layout import sizes
from minigraph.core.dimensions import Sizes
from minigraph.core.graph import Variable
from minigraph.core.record import Record


class Step(Record):
    """A kernel of a program: the places that it reads and writes, and the variables that it computes."""

    places: tuple[Place, ...]
    variables: tuple[Variable, ...]

    @property
    def places_in_code(self) -> str:
        """The first lines of the user's code that the kernel computes."""
        return ", ".join(list(dict.fromkeys(f"{one.origin}" for one in self.variables))[:2])

    @property
    def title(self) -> str:
        """The ops that the kernel computes."""
        return ", ".join(dict.fromkeys(type(one.op.shown).__name__ for one in self.variables))

    def work(self, settled: Sizes) -> tuple[int, int]:
        """The bytes that it moves, each operand once, and its operations, for sizes that are settled."""
        raise TypeError(f"{type(self).__name__} does not define work")


def title_of(steps: Sequence[Step]) -> str:
    """The ops that steps which run at once compute."""
    return "; ".join(dict.fromkeys(step.title for step in steps))


def profiled(steps: Sequence[Step], seconds: float, settled: Sizes) -> ProfiledStep:
    """The measurement of steps that run at once in `seconds`, for `settled` sizes."""
    moved, done = (sum(amounts) for amounts in zip(*(step.work(settled) for step in steps), strict=True))
    return ProfiledStep(title_of(steps), str(steps[-1].variables[-1].origin), seconds, moved, done)


class NestStep(Step):
    """A loop nest, and its numbers."""

    nest: LoopNest
    bindings: Bindings

    @property
    def moved(self) -> int:
        """The bytes that it moves, each operand once; the number may be open."""
        in_memory = [k for k, one in enumerate(self.nest.operands) if one.in_memory]
        return sum(self.nest.operands[k].dtype.itemsize * math.prod(self.bindings.walked(k)) for k in in_memory)

    def work(self, settled: Sizes) -> tuple[int, int]:
        elements = self.nest.points(settled.all(self.bindings.sizes))
        return settled(self.moved), elements * sum(isinstance(node, Apply | Fold) for node in self.nest.nodes)


class ProductStep(Step):
    """A product of two matrices into a third, or the packing of one."""

    def work(self, settled: Sizes) -> tuple[int, int]:
        (result,) = self.variables
        counts = [math.prod(settled.all(sizes(one))) for one in (*result.inputs, result)]
        terms = 2 * counts[0] * settled(sizes(result)[-1]) if len(result.inputs) == 2 else 0
        return sum(counts) * result.dtype.itemsize, terms


class RunningStep(Step):
    """A running sum or product of what lies in C order."""

    def work(self, settled: Sizes) -> tuple[int, int]:
        (result,) = self.variables
        count = math.prod(settled.all(sizes(result)))
        return count * (result.inputs[0].dtype.itemsize + result.dtype.itemsize), count


class SlidingStep(Step):
    """A fold of windows that slide over planes in C order."""

    def work(self, settled: Sizes) -> tuple[int, int]:
        (result,) = self.variables
        bytes = [math.prod(settled.all(sizes(one))) * one.dtype.itemsize for one in (*result.inputs, result)]
        terms = math.prod(result.op.sizes)  # type: ignore[attr-defined]
        return sum(bytes), terms * math.prod(settled.all(sizes(result)))


Where = tuple[Variable, int]
"""A memory, and how many elements into it."""


class Argument(Record):
    """An argument of a loop's body: its places at the first step, at the second and every second one from there, and at the
    others; and the stride in bytes by which it moves with each step.
    """

    places: tuple[Where, Where, Where]
    stride: int = 0

    @property
    def takes_turns(self) -> bool:
        """Whether its place depends on the step's parity."""
        return any(place != self.places[0] for place in self.places)


def walking(place: Where, stride: int = 0) -> Argument:
    """An argument that lies `stride` bytes further with each step."""
    return Argument((place, place, place), stride)


class LoopStep(Step):
    """A body run `times` times over arguments that advance; the argument `stop` tells to stop early, if it is not -1.

    Its places are those of a table of addresses, of the body's memory, of the number of steps done, and of the arguments.
    """

    body: Any
    """A `Program`."""
    times: int
    arguments: tuple[Argument, ...]
    stop: int

    def work(self, settled: Sizes) -> tuple[int, int]:
        each = [step.work(settled) for step in self.body.steps]
        times = settled(self.times)
        return times * sum(moved for moved, _ in each), times * sum(done for _, done in each)
