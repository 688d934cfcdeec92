"""Functions that leave results alone but for rare ones, which the C library computes, so that loops over them are vectorized.

Each comes with variants for vectors, named as LLVM's vectorizer finds them: they look once at all lanes.
"""

from __future__ import annotations

from collections.abc import Iterator

from minigraph.compiler.cpu.jit import register_bytes

KINDS = {"f32": ("float", "f"), "f64": ("double", "")}
"""Of each size of float its LLVM type, and the C library's suffix."""


def lane_counts() -> tuple[int, ...]:
    """The lengths of the vectors that a loop may use: those that fill a register with elements of 8, 4 or 2 bytes."""
    return tuple(register_bytes() // size for size in (8, 4, 2))


def variants(name: str, size: str) -> str:
    """The attribute of a call, of the function for `name` and a size of float, by which the vectorizer finds its variants."""
    scalar = f"beyond.{name}.{size}"
    found = ",".join(f"_ZGV_LLVM_N{lanes}vvv_{scalar}({scalar}.x{lanes})" for lanes in lane_counts())
    return f'"vector-function-abi-variant"="{found}"'


def definition(function: str) -> str:
    """The LLVM IR of `function`, which is named beyond.NAME.SIZE, and of its variants.

    They are weak, so that no pass looks into them and changes what they are called with.
    """
    return "\n".join([*_scalar(function), *(line for lanes in lane_counts() for line in _variant(function, lanes))])


def _scalar(function: str) -> Iterator[str]:
    """The function for one number."""
    _, name, size = function.split(".")
    kind, suffix = KINDS[size]
    yield f"declare {kind} @llvm.fabs.{size}({kind})"
    yield f"declare {kind} @{name}{suffix}({kind})"
    yield f"define weak {kind} @{function}({kind} %x, {kind} %result, {kind} %limit) #1 {{"
    yield f"  %size = call {kind} @llvm.fabs.{size}({kind} %x)"
    yield f"  %far = fcmp ogt {kind} %size, %limit"
    yield "  br i1 %far, label %slow, label %fast"
    yield "slow:"
    yield f"  %exact = call {kind} @{name}{suffix}({kind} %x)"
    yield f"  ret {kind} %exact"
    yield "fast:"
    yield f"  ret {kind} %result"
    yield "}"


def _variant(function: str, lanes: int) -> Iterator[str]:
    """The variant of `function` for vectors of a number of lanes."""
    size = function.split(".")[2]
    kind = KINDS[size][0]
    vector, bits = f"<{lanes} x {kind}>", f"v{lanes}{size}"
    yield f"declare {vector} @llvm.fabs.{bits}({vector})"
    yield f"declare i1 @llvm.vector.reduce.or.v{lanes}i1(<{lanes} x i1>)"
    yield f"define weak {vector} @{function}.x{lanes}({vector} %x, {vector} %result, {vector} %limit) #1 {{"
    yield "entry:"
    yield f"  %sizes = call {vector} @llvm.fabs.{bits}({vector} %x)"
    yield f"  %far = fcmp ogt {vector} %sizes, %limit"
    yield f"  %any = call i1 @llvm.vector.reduce.or.v{lanes}i1(<{lanes} x i1> %far)"
    yield "  br i1 %any, label %lane, label %same"
    yield "lane:"
    yield "  %k = phi i64 [ 0, %entry ], [ %next, %lane ]"
    yield f"  %before = phi {vector} [ %result, %entry ], [ %after, %lane ]"
    yield f"  %x.k = extractelement {vector} %x, i64 %k"
    yield f"  %result.k = extractelement {vector} %before, i64 %k"
    yield f"  %limit.k = extractelement {vector} %limit, i64 %k"
    yield f"  %value = call {kind} @{function}({kind} %x.k, {kind} %result.k, {kind} %limit.k)"
    yield f"  %after = insertelement {vector} %before, {kind} %value, i64 %k"
    yield "  %next = add nuw i64 %k, 1"
    yield f"  %more = icmp ult i64 %next, {lanes}"
    yield "  br i1 %more, label %lane, label %changed"
    yield "changed:"
    yield f"  ret {vector} %after"
    yield "same:"
    yield f"  ret {vector} %result"
    yield "}"
