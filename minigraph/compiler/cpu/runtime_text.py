"""The LLVM IR of the runtime, and the words that it is given.

The offsets at which CPython and NumPy keep what a call looks at stand in the text as names: the items of a tuple, an object's
type, an array's parts.
"""

from __future__ import annotations

from minigraph.compiler.cpu.answer_text import ANSWER, API, AnswerWords, MadeWords, offset_of_value
from minigraph.compiler.cpu.pool_text import threads_text
from minigraph.compiler.cpu.words import Pointer, Words, expanded


class StepWords(Words):
    """A step of a program."""

    kernel: Pointer
    parameters: Pointer
    parts: int


class CallWords(Words):
    """The words of a plan: the threads, its steps, the number of arrays that it takes, inputs first, the bytes before its
    arena, its constants, and the type of arrays. `ArrayWords` follow for each input.
    """

    pool: Pointer
    program: Pointer
    steps: int
    inputs: int
    arrays: int
    arena_offset: int
    constants: Pointer
    kind: int


class ArrayWords(Words):
    """The properties that an input must have; its sizes follow.

    A number may stand for an array without axes: one of NumPy's of the type `scalar`; or one of Python's of the type `number`,
    0 where there is none for the dtype, which is rounded if `narrow`.
    """

    dtype: int
    axes: int
    flags: int
    written: int
    scalar: int
    number: int
    narrow: int


_IR = """
define i64 @run(ptr %pool, ptr %program, i64 %first, i64 %last, ptr %bases) {
entry:
  %any = icmp slt i64 %first, %last
  br i1 %any, label %step, label %done
step:
  %k = phi i64 [ %first, %entry ], [ %following, %next ]
  %begin = mul i64 %k, count StepWords
  %words = getelementptr i64, ptr %program, i64 %begin
  read StepWords from %words
  %several = icmp sgt i64 %parts, 1
  br i1 %several, label %together, label %alone
alone:
  %one = call i32 %kernel(ptr %bases, ptr %parameters, i64 0, i64 1)
  br label %check
together:
  %all = call i32 @run_together(ptr %pool, ptr %kernel, ptr %bases, ptr %parameters, i64 %parts)
  br label %check
check:
  %status = phi i32 [ %one, %alone ], [ %all, %together ]
  %failed = icmp ne i32 %status, 0
  br i1 %failed, label %stop, label %next
next:
  %following = add i64 %k, 1
  %again = icmp slt i64 %following, %last
  br i1 %again, label %step, label %done
stop:
  ret i64 %k
done:
  ret i64 -1
}

; Run a plan on a tuple of arrays, the inputs first, which `take` must accept: its result, or what `take` says.
define i64 @call(ptr %plan, ptr %objects, ptr %memory, i64 %references) {
  %items = getelementptr i8, ptr %objects, i64 TUPLE
  %status = call i64 @take(ptr %plan, ptr %items, ptr %memory, i64 %references)
  %bound = icmp eq i64 %status, -1
  br i1 %bound, label %go, label %refuse
go:
  %failed = call i64 @start(ptr %plan, ptr %items, ptr %memory)
  ret i64 %failed
refuse:
  ret i64 %status
}

; Run a plan whose inputs are bound to memory, after binding the outputs, which follow them.
define i64 @start(ptr %plan, ptr %items, ptr %memory) {
entry:
  read CallWords from %plan
  %arena = getelementptr i8, ptr %memory, i64 %arena_offset
  store ptr %arena, ptr %memory, align 8
  %constants.slot = getelementptr i64, ptr %memory, i64 1
  store ptr %constants, ptr %constants.slot, align 8
  %slots = getelementptr i64, ptr %memory, i64 2
  %any = icmp slt i64 %inputs, %arrays
  br i1 %any, label %output, label %ready
output:
  %k = phi i64 [ %inputs, %entry ], [ %k.next, %output ]
  %item.at = getelementptr ptr, ptr %items, i64 %k
  %item = load ptr, ptr %item.at, align 8
  %data.at = getelementptr i8, ptr %item, i64 DATA
  %data = load ptr, ptr %data.at, align 8
  %slot = getelementptr ptr, ptr %slots, i64 %k
  store ptr %data, ptr %slot, align 8
  %k.next = add i64 %k, 1
  %more = icmp slt i64 %k.next, %arrays
  br i1 %more, label %output, label %ready
ready:
  %failed = call i64 @run(ptr %pool, ptr %program, i64 0, i64 %steps, ptr %memory)
  ret i64 %failed
}

; Write the addresses of inputs to memory: -1, or -2 if one is not as the plan was made for. Those that are written over must
; not have more references than are given: -3 if one has.
define i64 @take(ptr %plan, ptr %items, ptr %memory, i64 %references) {
entry:
  read CallWords from %plan
  %specs = getelementptr i64, ptr %plan, i64 count CallWords
  %slots = getelementptr i64, ptr %memory, i64 2
  %numbers = getelementptr i64, ptr %slots, i64 %arrays
  %any = icmp sgt i64 %inputs, 0
  br i1 %any, label %object, label %done
object:
  %k = phi i64 [ 0, %entry ], [ %k.next, %found ]
  %spec = phi ptr [ %specs, %entry ], [ %spec.next, %found ]
  %item.at = getelementptr ptr, ptr %items, i64 %k
  %item = load ptr, ptr %item.at, align 8
  read ArrayWords from %spec
  %sizes = getelementptr i64, ptr %spec, i64 count ArrayWords
  %spec.next = getelementptr i64, ptr %sizes, i64 %axes
  %has.axes = icmp sgt i64 %axes, 0
  %item.kind.at = getelementptr i8, ptr %item, i64 TYPE
  %item.kind = load i64, ptr %item.kind.at, align 8
  %kind.right = icmp eq i64 %item.kind, %kind
  br i1 %kind.right, label %check.dtype, label %no.array
no.array:
  br i1 %has.axes, label %refuse, label %no.axes
no.axes:
  %own = getelementptr i8, ptr %item, i64 HEADER
  %is.scalar = icmp eq i64 %item.kind, %scalar
  br i1 %is.scalar, label %found, label %other
other:
  %is.number = icmp eq i64 %item.kind, %number
  br i1 %is.number, label %python, label %refuse
python:
  %is.narrow = icmp ne i64 %narrow, 0
  br i1 %is.narrow, label %round, label %found
round:
  %value = load double, ptr %own, align 8
  %size.of.value = call double @llvm.fabs.f64(double %value)
  %held = fcmp ole double %size.of.value, 0x47EFFFFFE0000000
  br i1 %held, label %rounded, label %refuse
rounded:
  %float = fptrunc double %value to float
  %rounded.at = getelementptr i64, ptr %numbers, i64 %k
  store float %float, ptr %rounded.at, align 8
  br label %found
check.dtype:
  %item.dtype.at = getelementptr i8, ptr %item, i64 DESCR
  %item.dtype = load i64, ptr %item.dtype.at, align 8
  %dtype.right = icmp eq i64 %item.dtype, %dtype
  br i1 %dtype.right, label %check.flags, label %refuse
check.flags:
  %item.flags.at = getelementptr i8, ptr %item, i64 FLAGS
  %item.flags.short = load i32, ptr %item.flags.at, align 4
  %item.flags = sext i32 %item.flags.short to i64
  %flags.both = and i64 %item.flags, %flags
  %flags.right = icmp eq i64 %flags.both, %flags
  br i1 %flags.right, label %check.owner, label %refuse
check.owner:
  %is.written = icmp ne i64 %written, 0
  %item.references.short = load i32, ptr %item, align 8
  %item.references = zext i32 %item.references.short to i64
  %many = icmp sgt i64 %item.references, %references
  %shared = and i1 %is.written, %many
  br i1 %shared, label %refuse.shared, label %check.axes
check.axes:
  %item.axes.at = getelementptr i8, ptr %item, i64 AXES
  %item.axes.short = load i32, ptr %item.axes.at, align 4
  %item.axes = sext i32 %item.axes.short to i64
  %axes.right = icmp eq i64 %item.axes, %axes
  br i1 %axes.right, label %check.sizes, label %refuse
check.sizes:
  %item.sizes.at = getelementptr i8, ptr %item, i64 SIZES
  %item.sizes = load ptr, ptr %item.sizes.at, align 8
  %data.at = getelementptr i8, ptr %item, i64 DATA
  %data = load ptr, ptr %data.at, align 8
  br i1 %has.axes, label %check.size, label %found
check.size:
  %axis = phi i64 [ 0, %check.sizes ], [ %axis.next, %check.next ]
  %item.size.at = getelementptr i64, ptr %item.sizes, i64 %axis
  %item.size = load i64, ptr %item.size.at, align 8
  %size.at = getelementptr i64, ptr %sizes, i64 %axis
  %size = load i64, ptr %size.at, align 8
  %size.right = icmp eq i64 %item.size, %size
  br i1 %size.right, label %check.next, label %refuse
check.next:
  %axis.next = add i64 %axis, 1
  %more.axes = icmp slt i64 %axis.next, %axes
  br i1 %more.axes, label %check.size, label %found
found:
  %address = phi ptr
    [ %own, %no.axes ], [ %own, %python ], [ %rounded.at, %rounded ], [ %data, %check.sizes ], [ %data, %check.next ]
  %slot = getelementptr ptr, ptr %slots, i64 %k
  store ptr %address, ptr %slot, align 8
  %k.next = add i64 %k, 1
  %more = icmp slt i64 %k.next, %inputs
  br i1 %more, label %object, label %done
done:
  ret i64 -1
refuse:
  ret i64 -2
refuse.shared:
  ret i64 -3
}

declare double @llvm.fabs.f64(double)
"""

_HEADER = object.__basicsize__
_OFFSETS = {
    "TUPLE": tuple.__basicsize__, "HEADER": _HEADER, "TYPE": _HEADER - 8, "DATA": _HEADER, "AXES": _HEADER + 8,
    "SIZES": _HEADER + 16, "DESCR": _HEADER + 40, "FLAGS": _HEADER + 48,
}  # fmt: skip
"""The offsets at which CPython and NumPy keep the items of a tuple, the type of an object, and the parts of an array."""


def runtime_text() -> str:
    """The text of the functions `run`, `call`, `answer` and `worker`."""
    declared = "".join(f"declare {one}\n" for one in API.values())
    text = declared + expanded(_IR + ANSWER, StepWords, CallWords, ArrayWords, AnswerWords, MadeWords)
    for name, offset in (_OFFSETS | {"VALUE": offset_of_value()}).items():
        text = text.replace(f"i64 {name}\n", f"i64 {offset}\n")
    return threads_text() + text
