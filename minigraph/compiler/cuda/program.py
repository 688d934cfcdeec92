"""Programs for a CUDA GPU: nests that can run at the same time are one launch, cuBLAS multiplies, the host runs loops."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from functools import cached_property

from minigraph.compiler.cpu.implicit_gemm import convolve_patches
from minigraph.compiler.cpu.product_calls import matrix_of, stack_stride
from minigraph.compiler.cpu.products import TRANSPOSED
from minigraph.compiler.cuda.launch_geometry import BUSY, THREADS, arrange, spread_scatters
from minigraph.compiler.cuda.order import can_fail, is_guarded, moments_of
from minigraph.compiler.cuda.printer import NestPrinter, launch_text
from minigraph.compiler.cuda.scalar_printer import PRELUDE
from minigraph.compiler.loops.nest import describe
from minigraph.compiler.passes import Pass
from minigraph.compiler.plan.frame import Frame, Outline
from minigraph.compiler.plan.program import ARENA, CONSTANTS, FIRST, Program
from minigraph.compiler.plan.steps import LoopStep, NestStep, ProductStep, Step, title_of
from minigraph.compiler.shaped.copies import insert_copies
from minigraph.compiler.shaped.layout import sizes
from minigraph.compiler.shaped.padding import share_padding
from minigraph.compiler.shaped.split_reductions import pass_single, split_apart, split_rows
from minigraph.core.graph import Graph, Variable
from minigraph.core.record import Record

MOST_OPERANDS = 400
"""The most pointers that a launch is given: 4 KiB of parameters hold 512."""

ROWS_A_BLOCK = 512
"""The fewest rows of a block of a long fold."""

Where = tuple[int, int]
"""A slot of a program's memory, and how many bytes into it."""


class Launch(Record):
    """A launch of one kernel: its name, its blocks of threads, and the places of its operands."""

    name: str
    blocks: int
    operands: tuple[Where, ...]
    steps: tuple[int, ...]


class Gemm(Record):
    """A product of matrices in row-major order, or of stacks of them: c = a @ b."""

    dtype: str
    a: Where
    b: Where
    c: Where
    transposed: tuple[bool, bool]
    rows: int
    columns: int
    inner: int
    leading: tuple[int, int]
    height: int
    strides: tuple[int, int]
    steps: tuple[int, ...]


class Advance(Record):
    """The places of an argument of a loop's body: at first, at every odd step, at the others; and its stride in bytes."""

    places: tuple[Where, Where, Where]
    stride: int


class Loop(Record):
    """Runs of a body over arguments that advance; its memory is part of this program's."""

    body: CudaProgram
    times: int
    memory: Where
    arguments: tuple[Advance, ...]
    steps: tuple[int, ...]


Command = Launch | Gemm | Loop


def blocks_for_gpu(variable: Variable, rows: int, columns: int) -> int:
    """The number of blocks in which a fold of `rows` and `columns` is done, so that a GPU is busy; `variable` is not asked."""
    return max(1, min(rows // ROWS_A_BLOCK, BUSY // max(columns * 8, 1)))


def pays_apart(elements: int, results: int) -> bool:
    """Whether a fold over axes that lie apart has too few results for as many threads as its elements need."""
    return elements > BUSY and results * THREADS < 2 * BUSY


def split_reductions(graph: Graph) -> Graph:
    """The graph with folds over axes that lie apart done in two steps, and folds of long columns block by block."""
    return split_rows(split_apart(graph, pays_apart), blocks_for_gpu)


SHAPED = (
    Pass(share_padding),
    Pass(convolve_patches),
    Pass(pass_single),
    Pass(split_reductions),
    Pass(insert_copies, needed=True),
)
"""The passes on known sizes."""


class CudaProgram(Program):
    """A program for a GPU: commands in order, and the text of its kernels."""

    alignment = 256
    arguments_aligned = True
    """Whether inputs and outputs begin where vectors may."""

    def body_program(self, graph: Graph) -> Program:
        return CudaBody(graph, (), self.backend)

    @cached_property
    def fails(self) -> bool:
        """Whether a kernel may report an index that is outside."""
        return any(can_fail(step) for step in self.steps)

    # -- commands ----------------------------------------------------------------------------------------------------

    def assemble(self) -> None:
        """Write the kernels, and the commands that call them."""
        moments = moments_of(self.steps, self.graph.inputs)
        bodies = {room: body.frame.arena_bytes for room, body in self.rooms.items() if isinstance(body, CudaProgram)}
        self.frame: Frame = Frame(Outline(self, moments), rooms=bodies)
        self.functions: dict[str, str] = {}
        """The functions of the kernels by their names, each after those that it calls."""
        self.waves: list[list[Command]] = []
        """The commands in order, those together that can run at the same time."""
        waves: dict[int, list[int]] = {}
        for position, moment in enumerate(moments):
            waves.setdefault(moment, []).append(position)
        for moment in sorted(waves):
            nests: list[int] = []
            commands: list[Command] = []
            for position in waves[moment]:
                step = self.steps[position]
                match step:
                    case NestStep():
                        nests.append(position)
                    case ProductStep():
                        commands.append(self._gemm(position, step))
                    case LoopStep():
                        commands.append(self._loop_command(position, step))
            self.waves.append([*commands, *self._launches(nests)])

    @property
    def side_by_side(self) -> int:
        """The number of products, or loops that may hold some, that can run at the same time."""
        return max((sum(not isinstance(one, Launch) for one in wave) for wave in self.waves), default=0)

    @property
    def commands(self) -> list[Command]:
        """All commands, in order."""
        return [command for wave in self.waves for command in wave]

    def _launches(self, positions: Sequence[int]) -> Iterator[Launch]:
        """The launches of nests that run at the same time."""
        calls: list[tuple[str, int, list[str]]] = []
        operands: list[Where] = []
        scratch = 16
        members: list[int] = []
        for position in positions:
            step = self.steps[position]
            assert isinstance(step, NestStep)
            nest = spread_scatters(step.nest)
            places = [self.frame.slot_of(place) for place in step.places]
            aligned = [self._alignment_of(where) for where in places]
            arrangement = arrange(nest, step.bindings, aligned)
            if not arrangement.blocks:
                continue
            own = [where for where, place in zip(places, step.places, strict=True) if place.in_memory]
            if len(operands) + len(own) > MOST_OPERANDS and calls:
                yield self._launch(calls, operands, scratch, members)
                calls, operands, scratch, members = [], [], 16, []
            printer = NestPrinter(nest, step.bindings, [offset for _, offset in places], arrangement)
            name = self._add(printer.text("NAME", self.fails and is_guarded(step, self.graph.inputs)), "nest")
            calls.append((name, arrangement.blocks, printer.parameters()))
            operands += own
            scratch = max(scratch, printer.scratch_bytes)
            members.append(position)
        if calls:
            yield self._launch(calls, operands, scratch, members)

    def _launch(
        self, calls: Sequence[tuple[str, int, list[str]]], operands: Sequence[Where], scratch: int, members: Sequence[int]
    ) -> Launch:
        """The launch of nests that were written."""
        name = self._add(launch_text("NAME", calls, scratch), "kernel")
        return Launch(name, sum(blocks for _, blocks, _ in calls), tuple(operands), tuple(members))

    def _add(self, text: str, kind: str) -> str:
        """Keep the text of a function, and give it a name that follows from it, so that equal ones are one."""
        name = f"{kind}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self.functions[name] = text.replace("NAME", name, 1)
        return name

    def _alignment_of(self, where: Where) -> int:
        """By how many bytes an operand is aligned, at least."""
        slot, offset = where
        if slot not in (ARENA, CONSTANTS) and not self.arguments_aligned:
            return 1
        return math.gcd(offset, self.alignment)

    def _gemm(self, position: int, step: ProductStep) -> Gemm:
        """A product as cuBLAS takes it."""
        (variable,) = step.variables
        a, b = variable.inputs
        shape = sizes(variable)
        first, second = (matrix_of(self.layouts[one], sizes(one)) for one in (a, b))
        places = [self.frame.slot_of(place) for place in step.places]
        return Gemm(
            variable.dtype.name, places[0], places[1], places[2],
            (first[0] == TRANSPOSED, second[0] == TRANSPOSED),
            shape[-2], shape[-1], sizes(a)[-1], (first[1], second[1]), math.prod(shape[:-2]),
            (stack_stride(self.layouts[a], sizes(a)), stack_stride(self.layouts[b], sizes(b))), (position,),
        )  # fmt: skip

    def _loop_command(self, position: int, step: LoopStep) -> Loop:
        """A loop as the host runs it."""
        places = [self.frame.slot_of(place) for place in step.places]
        assert isinstance(step.body, CudaProgram)
        self.functions.update(step.body.functions)
        arguments = tuple(
            Advance((places[k], places[k + 1], places[k + 2]), one.stride)
            for k, one in zip(range(3, len(places), 3), step.arguments, strict=True)
        )
        return Loop(step.body, step.times, places[1], arguments, (position,))

    # -- text --------------------------------------------------------------------------------------------------------

    @property
    def texts(self) -> list[str]:
        return [*self.functions.values()]

    @property
    def code(self) -> str:
        """The module of all kernels."""
        return "\n".join([PRELUDE, *self.texts])

    def lines(self) -> Iterator[str]:
        """The program as readable text."""
        for k, command in enumerate(self.commands):
            yield f"# command {k}: {title_of(self.members(command))}"
            for step in self.members(command):
                yield from self._step_lines(step, command)

    def members(self, command: Command) -> list[Step]:
        """The steps that a command runs."""
        return [self.steps[position] for position in command.steps]

    def _step_lines(self, step: Step, command: Command) -> Iterator[str]:
        """The readable text of one step."""
        yield f"#   {step.places_in_code}"
        names = [self.frame.name_of(place.storage) for place in step.places]
        match step, command:
            case NestStep(), _:
                yield from describe(step.nest, step.bindings, names)
            case _, Loop(body, times):
                yield f"{times} times:"
                yield from (f"    {line}" for line in body.lines())
            case _, Gemm():
                shapes = [(command.rows, command.inner), (command.inner, command.columns), (command.rows, command.columns)]
                a, b, c = (f"{name}{list(shape)}" for name, shape in zip(names, shapes, strict=True))
                yield f"{c} = {a} @ {b}"


class CudaBody(CudaProgram):
    """The program of a loop's body, whose arguments lie where rows begin."""

    arguments_aligned = False


def bases_of(arena: int, constants: int, arguments: Sequence[int]) -> list[int]:
    """The addresses of the slots of a program: of its arena, its constants, and its arguments."""
    bases = [0] * FIRST + [*arguments]
    bases[ARENA], bases[CONSTANTS] = arena, constants
    return bases
