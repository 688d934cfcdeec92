"""Kernels as LLVM IR: the function of a nest's loops, and the one that is called with words.

A kernel has the signature `i32 (ptr bases, ptr parameters, i64 part, i64 parts)`. Operand k lies at `bases[parameters[2k]] +
parameters[2k + 1]` bytes; sizes and strides follow. It computes its `part` of the parallel axis that is split. The result is 0,
or 1 where an index was outside. The loops stand in a function of their own, whose pointers are known not to overlap.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from minigraph.compiler.cpu.beyond import definition
from minigraph.compiler.cpu.jit import register_bytes
from minigraph.compiler.cpu.printer import Printer
from minigraph.compiler.cpu.words import place
from minigraph.compiler.loops.nest import Apply, LoopNest

LONG_CHAIN, INTERLEAVED = 24, ((4, 150), (2, 600))
"""From what cost on a point of a nest is worth several vectors at a time, and up to what cost how many: their code is as many
times as long to compile.
"""
COLUMNS = 16
"""The parts of a kernel that folds columns get a multiple of this number of columns."""


def kernel_text(nest: LoopNest, name: str) -> str:
    """The LLVM IR of a loop nest."""
    printer = Printer(nest)
    printer.writer.interleaved = _interleaved(nest)
    split = printer.order.parallel[0] if printer.order.parallel else None
    printer.write(*(("0", "0") if split is None else ("%start", "%stop")))
    return "\n".join([*printer.writer.declarations, *_loops(printer, name, split), *_kernel(nest, name)])


def module_text(texts: Sequence[str]) -> str:
    """A module of kernels, given their texts, with the functions for rare results that they call."""
    rare = dict.fromkeys(re.findall(r"^declare \w+ @(beyond\.\w+\.\w+)", "\n".join(texts), re.MULTILINE))
    lines = [line for text in [*texts, *map(definition, rare)] for line in text.splitlines()]
    declarations = dict.fromkeys(line for line in lines if line.startswith("declare") and " @beyond." not in line)
    bodies = [line for line in lines if not line.startswith("declare")]
    width = f'"prefer-vector-width"="{8 * register_bytes()}"'
    attributes = [
        f"attributes #0 = {{ noinline nounwind {width} }}",
        f"attributes #1 = {{ memory(none) nounwind optsize willreturn {width} }}",
    ]
    return _numbered("\n".join([*declarations, *bodies, *attributes]))


def _interleaved(nest: LoopNest) -> int:
    """The number of vectors that the loops of a nest work on at a time, so that long chains of operations do not wait."""
    cost = sum([node.op.cost for node in nest.nodes if isinstance(node, Apply)])
    return next((count for count, most in INTERLEAVED if LONG_CHAIN <= cost <= most), 0)


def _numbered(text: str) -> str:
    """A module with the hints to its loops under numbers, and what these stand for."""
    for count in (1, *(count for count, _ in INTERLEAVED)):
        name, hint, option = f"!interleave{count}", 2 * count, 2 * count + 1
        if name in text:
            text = text.replace(name, f"!{hint}")
            text += f"\n!{hint} = distinct !{{!{hint}, !{option}}}"
            text += f'\n!{option} = !{{!"llvm.loop.interleave.count", i32 {count}}}'
    return text


def _loops(printer: Printer, name: str, split: int | None) -> Iterator[str]:
    """The function of the loops, of which an axis is split."""
    nest, count = printer.nest, len(printer.nest.operands)
    pointers = [f"{'ptr noalias' if access.in_memory else 'i64'} %p{k}" for k, access in enumerate(nest.operands)]
    arguments = ", ".join([*pointers, "ptr noalias %parameters", "i64 %part", "i64 %parts"])
    yield f"define internal i32 @{name}.loops({arguments}) #0 {{"
    yield "entry:"
    yield from printer.variables
    for position in range(2 * count, printer.words):
        yield f"  %at{position} = getelementptr inbounds i64, ptr %parameters, i64 {position}"
        yield f"  %word{position} = load i64, ptr %at{position}, align 8"
    for axis in range(printer.axes):
        yield f"  %size{axis} = add nsw i64 %word{2 * count + axis}, 0"
    if split is not None:
        by_column = nest.by_column and len(printer.order.parallel) == 1
        yield from _bounds(printer.size(split), COLUMNS if by_column else 1)
    if nest.fails:
        yield "  %failed = alloca i32, align 4"
        yield "  store i32 0, ptr %failed, align 4"
    yield from printer.writer.lines
    if nest.fails:
        yield "  %status = load i32, ptr %failed, align 4"
    yield f"  ret i32 {'%status' if nest.fails else 0}"
    yield "}"


def _bounds(size: str, unit: int) -> Iterator[str]:
    """The first and the last of this part, in whole units but for the end."""
    yield f"  %rounded = add nsw i64 {size}, {unit - 1}"
    yield f"  %units = sdiv i64 %rounded, {unit}"
    yield "  %following = add nsw i64 %part, 1"
    for bound, part in (("start", "%part"), ("stop", "%following")):
        yield f"  %{bound}.product = mul nsw i64 %units, {part}"
        yield f"  %{bound}.units = sdiv i64 %{bound}.product, %parts"
        yield f"  %{bound}.wide = mul nsw i64 %{bound}.units, {unit}"
        yield f"  %{bound}.beyond = icmp sgt i64 %{bound}.wide, {size}"
        yield f"  %{bound} = select i1 %{bound}.beyond, i64 {size}, i64 %{bound}.wide"


def _kernel(nest: LoopNest, name: str) -> Iterator[str]:
    """The kernel that calls it."""
    yield f"define i32 @{name}(ptr %bases, ptr %parameters, i64 %part, i64 %parts) {{"
    for k, access in enumerate(nest.operands):
        yield from place(f"p{k}", "%parameters", k, access.in_memory)
    given = [f"{'ptr' if access.in_memory else 'i64'} %p{k}" for k, access in enumerate(nest.operands)]
    yield f"  %status = call i32 @{name}.loops({', '.join([*given, 'ptr %parameters', 'i64 %part', 'i64 %parts'])})"
    yield "  ret i32 %status"
    yield "}"
