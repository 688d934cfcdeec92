"""The LLVM IR of the runtime, and the words that it is given.

The offsets at which CPython and NumPy keep what a call looks at stand in the text as names: the items of a tuple, an object's
type, an array's parts.
"""

from __future__ import annotations

import platform
import sys

from minigraph.compiler.cpu.words import Pointer, Words, expanded

FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine()) if sys.platform == "linux" else None
"""The number of the system call that threads sleep by; None where there is none, and so are no threads."""


class StepWords(Words):
    """A step of a program."""

    kernel: Pointer
    parameters: Pointer
    parts: int


class CallWords(Words):
    """The words of a plan: its steps, the number of arrays that it takes, inputs first, the bytes before its arena, its
    constants, and the type of arrays. `ArrayWords` follow for each input.
    """

    program: Pointer
    steps: int
    inputs: int
    arrays: int
    arena_offset: int
    constants: Pointer
    kind: int


class ArrayWords(Words):
    """The properties that an input must have; its sizes follow."""

    dtype: int
    axes: int
    flags: int
    written: int


class PoolWords(Words):
    """The state of the threads: the present job, how much of it is done, who sleeps, and whether a caller has claimed them."""

    ticket: int
    kernel: Pointer
    bases: Pointer
    parameters: Pointer
    parts: int
    finished: int
    failed: int
    sleeping: int
    threads: int
    busy: int


_IR = """
declare i64 @syscall(i64, ...)
declare i32 @sched_yield()

define internal void @pause() {
  call void asm sideeffect "PAUSE", "~{memory}"()
  ret void
}

; Compute parts of the job that `ticket` was read for, until none is left, or it is another job's turn: from the first part on,
; or from the last one back. A ticket is the number of the job, and how many parts were taken from the back and from the front.
define internal void @share(ptr %pool, i64 %ticket, i1 %back) {
entry:
  find PoolWords in %pool
  %kernel = load atomic ptr, ptr %kernel.at monotonic, align 8
  %bases = load atomic ptr, ptr %bases.at monotonic, align 8
  %parameters = load atomic ptr, ptr %parameters.at monotonic, align 8
  %parts = load atomic i64, ptr %parts.at monotonic, align 8
  %job = lshr i64 %ticket, 32
  br label %claim
claim:
  %now = phi i64 [ %ticket, %entry ], [ %current, %retry ]
  %front = and i64 %now, 65535
  %both = lshr i64 %now, 16
  %behind = and i64 %both, 65535
  %sum = add i64 %front, %behind
  %open = icmp slt i64 %sum, %parts
  br i1 %open, label %take, label %done
take:
  %count = select i1 %back, i64 65536, i64 1
  %more = add i64 %now, %count
  %swap = cmpxchg ptr %pool, i64 %now, i64 %more seq_cst seq_cst
  %taken = extractvalue { i64, i1 } %swap, 1
  br i1 %taken, label %work, label %retry
work:
  %left = sub i64 %parts, %behind
  %last = sub i64 %left, 1
  %part = select i1 %back, i64 %last, i64 %front
  %status = call i32 %kernel(ptr %bases, ptr %parameters, i64 %part, i64 %parts)
  %wide = zext i32 %status to i64
  %noted = atomicrmw or ptr %failed.at, i64 %wide monotonic
  %counted = atomicrmw add ptr %finished.at, i64 1 release
  br label %retry
retry:
  %current = load atomic i64, ptr %pool seq_cst, align 8
  %job.now = lshr i64 %current, 32
  %same = icmp eq i64 %job.now, %job
  br i1 %same, label %claim, label %done
done:
  ret void
}

define ptr @worker(ptr %pool) {
entry:
  find PoolWords in %pool
  %job.at = getelementptr i32, ptr %ticket.at, i64 1
  br label %wait
wait:
  %seen = phi i64 [ 0, %entry ], [ %job, %work ]
  br label %spin
spin:
  %count = phi i64 [ 0, %wait ], [ %more, %spinning ], [ 0, %sleep ]
  %ticket = load atomic i64, ptr %pool seq_cst, align 8
  %job = lshr i64 %ticket, 32
  %called = icmp ne i64 %job, %seen
  br i1 %called, label %work, label %idle
idle:
  %patient = icmp slt i64 %count, SPINS
  br i1 %patient, label %spinning, label %sleep
spinning:
  call void @pause()
  %more = add i64 %count, 1
  br label %spin
sleep:
  %in = atomicrmw add ptr %sleeping.at, i64 1 seq_cst
  %seen.short = trunc i64 %seen to i32
  %woken = call i64 (i64, ...) @syscall(i64 FUTEX, ptr %job.at, i32 128, i32 %seen.short, ptr null)
  %out = atomicrmw sub ptr %sleeping.at, i64 1 seq_cst
  br label %spin
work:
  call void @share(ptr %pool, i64 %ticket, i1 true)
  br label %wait
}

define internal i32 @run_alone(ptr %kernel, ptr %bases, ptr %parameters, i64 %parts) {
entry:
  br label %body
body:
  %part = phi i64 [ 0, %entry ], [ %following, %body ]
  %failed = phi i32 [ 0, %entry ], [ %either, %body ]
  %status = call i32 %kernel(ptr %bases, ptr %parameters, i64 %part, i64 %parts)
  %either = or i32 %failed, %status
  %following = add i64 %part, 1
  %again = icmp slt i64 %following, %parts
  br i1 %again, label %body, label %done
done:
  ret i32 %either
}

define internal i32 @run_together(ptr %pool, ptr %kernel, ptr %bases, ptr %parameters, i64 %parts) {
entry:
  find PoolWords in %pool
  %job.at = getelementptr i32, ptr %ticket.at, i64 1
  %threads = load i64, ptr %threads.at, align 8
  %alone = icmp slt i64 %threads, 2
  br i1 %alone, label %serial, label %claim
claim:
  %claimed = cmpxchg ptr %busy.at, i64 0, i64 1 acquire monotonic
  %free = extractvalue { i64, i1 } %claimed, 1
  br i1 %free, label %prepare, label %serial
serial:
  %whole = call i32 @run_alone(ptr %kernel, ptr %bases, ptr %parameters, i64 %parts)
  ret i32 %whole
prepare:
  %before = load atomic i64, ptr %ticket.at seq_cst, align 8
  %job = lshr i64 %before, 32
  %closed.job = add i64 %job, 1
  %closed.high = shl i64 %closed.job, 32
  %closed = or i64 %closed.high, 4294967295
  store atomic i64 %closed, ptr %pool seq_cst, align 8
  store atomic ptr %kernel, ptr %kernel.at seq_cst, align 8
  store atomic ptr %bases, ptr %bases.at seq_cst, align 8
  store atomic ptr %parameters, ptr %parameters.at seq_cst, align 8
  store atomic i64 %parts, ptr %parts.at seq_cst, align 8
  store atomic i64 0, ptr %finished.at seq_cst, align 8
  store atomic i64 0, ptr %failed.at seq_cst, align 8
  %open.job = add i64 %job, 2
  %open = shl i64 %open.job, 32
  store atomic i64 %open, ptr %pool seq_cst, align 8
  %sleeping = load atomic i64, ptr %sleeping.at seq_cst, align 8
  %asleep = icmp sgt i64 %sleeping, 0
  br i1 %asleep, label %wake, label %own
wake:
  %woken = call i64 (i64, ...) @syscall(i64 FUTEX, ptr %job.at, i32 129, i32 2147483647)
  br label %own
own:
  call void @share(ptr %pool, i64 %open, i1 false)
  br label %join
join:
  %turns = phi i64 [ 0, %own ], [ %next, %joining ]
  %finished = load atomic i64, ptr %finished.at acquire, align 8
  %done = icmp eq i64 %finished, %parts
  br i1 %done, label %finish, label %patience
patience:
  %next = add i64 %turns, 1
  %long = icmp sgt i64 %turns, 2000
  br i1 %long, label %yield, label %brief
brief:
  call void @pause()
  br label %joining
yield:
  %yielded = call i32 @sched_yield()
  br label %joining
joining:
  br label %join
finish:
  %failed = load atomic i64, ptr %failed.at monotonic, align 8
  %status = trunc i64 %failed to i32
  store atomic i64 0, ptr %busy.at release, align 8
  ret i32 %status
}

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

; Run a plan on a tuple of arrays, the inputs first, which must be as the plan was made for: -2 if one is not. Those that are
; written over must not have more references than are given: -3 if one has.
define i64 @call(ptr %pool, ptr %plan, ptr %objects, ptr %memory, i64 %references) {
entry:
  read CallWords from %plan
  %specs = getelementptr i64, ptr %plan, i64 count CallWords
  %items = getelementptr i8, ptr %objects, i64 TUPLE
  %arena = getelementptr i8, ptr %memory, i64 %arena_offset
  store ptr %arena, ptr %memory, align 8
  %constants.slot = getelementptr i64, ptr %memory, i64 1
  store ptr %constants, ptr %constants.slot, align 8
  %slots = getelementptr i64, ptr %memory, i64 2
  %any = icmp sgt i64 %arrays, 0
  br i1 %any, label %object, label %ready
object:
  %k = phi i64 [ 0, %entry ], [ %k.next, %bind ]
  %spec = phi ptr [ %specs, %entry ], [ %spec.next, %bind ]
  %item.at = getelementptr ptr, ptr %items, i64 %k
  %item = load ptr, ptr %item.at, align 8
  %checked = icmp slt i64 %k, %inputs
  br i1 %checked, label %check.kind, label %bind
check.kind:
  read ArrayWords from %spec
  %item.kind.at = getelementptr i8, ptr %item, i64 TYPE
  %item.kind = load i64, ptr %item.kind.at, align 8
  %kind.right = icmp eq i64 %item.kind, %kind
  br i1 %kind.right, label %check.dtype, label %refuse
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
  %sizes = getelementptr i64, ptr %spec, i64 count ArrayWords
  %after = getelementptr i64, ptr %sizes, i64 %axes
  %has.axes = icmp sgt i64 %axes, 0
  br i1 %has.axes, label %check.size, label %bind
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
  br i1 %more.axes, label %check.size, label %bind
bind:
  %spec.next = phi ptr [ %spec, %object ], [ %after, %check.sizes ], [ %after, %check.next ]
  %data.at = getelementptr i8, ptr %item, i64 DATA
  %data = load ptr, ptr %data.at, align 8
  %slot = getelementptr ptr, ptr %slots, i64 %k
  store ptr %data, ptr %slot, align 8
  %k.next = add i64 %k, 1
  %more = icmp slt i64 %k.next, %arrays
  br i1 %more, label %object, label %ready
ready:
  %failed = call i64 @run(ptr %pool, ptr %program, i64 0, i64 %steps, ptr %memory)
  ret i64 %failed
refuse:
  ret i64 -2
refuse.shared:
  ret i64 -3
}
"""

_HEADER = object.__basicsize__
_OFFSETS = {
    "TUPLE": tuple.__basicsize__, "TYPE": _HEADER - 8, "DATA": _HEADER, "AXES": _HEADER + 8, "SIZES": _HEADER + 16,
    "DESCR": _HEADER + 40, "FLAGS": _HEADER + 48,
}  # fmt: skip
"""The offsets at which CPython and NumPy keep the items of a tuple, the type of an object, and the parts of an array."""


def runtime_text() -> str:
    """The text of the functions `run`, `call` and `worker`."""
    text = expanded(_IR, StepWords, CallWords, ArrayWords, PoolWords)
    for name, offset in _OFFSETS.items():
        text = text.replace(f"i64 {name}\n", f"i64 {offset}\n")
    pause = "pause" if platform.machine() == "x86_64" else "yield"
    return text.replace("PAUSE", pause).replace("FUTEX", str(FUTEX or 0)).replace("SPINS", "4000")
