"""The LLVM IR of the threads that share the parts of large steps, and the words that they are given."""

from __future__ import annotations

import platform
import re
import sys

from minigraph.compiler.cpu.words import Pointer, Words, expanded

FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine()) if sys.platform == "linux" else None
"""The number of the system call that threads sleep by; None where there is none, and so are no threads."""


class PoolWords(Words):
    """The state of the threads: the present job, how much of it is done, who sleeps, and whether a caller has claimed them; and
    the core that the last caller was on, UNBOUND if threads are not bound to cores. `BoundWords` follow for each that waits.
    """

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
    home: int


class BoundWords(Words):
    """A thread that waits, as the C library knows it, and the core that it is bound to."""

    thread: int
    core: int


LINGER = 10_000_000
"""The nanoseconds for which a thread without work leaves its core to whoever asks, before it sleeps: waking takes long."""

UNBOUND = -1

CORES = 1024
"""The number of cores that a set of them tells of."""

_IR = """
declare i64 @syscall(i64, ...)
declare i32 @sched_yield()
declare i32 @sched_getcpu()
declare i32 @clock_gettime(i32, ptr)
declare i32 @pthread_setaffinity_np(i64, i64, ptr)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

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

define internal i64 @nanoseconds() {
  %time = alloca [2 x i64], align 8
  %got = call i32 @clock_gettime(i32 1, ptr %time)
  %seconds = load i64, ptr %time, align 8
  %rest.at = getelementptr i64, ptr %time, i64 1
  %rest = load i64, ptr %rest.at, align 8
  %scaled = mul i64 %seconds, 1000000000
  %all = add i64 %scaled, %rest
  ret i64 %all
}

; Bind a thread, whose words are given, to a core.
define void @bind(ptr %words, i64 %onto) {
  find BoundWords in %words
  %thread = load i64, ptr %thread.at, align 8
  %set = alloca [CORE_BYTES x i8], align 8
  call void @llvm.memset.p0.i64(ptr %set, i8 0, i64 CORE_BYTES, i1 false)
  %byte = lshr i64 %onto, 3
  %bit = and i64 %onto, 7
  %short = trunc i64 %bit to i8
  %mask = shl i8 1, %short
  %byte.at = getelementptr i8, ptr %set, i64 %byte
  store i8 %mask, ptr %byte.at, align 1
  store i64 %onto, ptr %core.at, align 8
  %status = call i32 @pthread_setaffinity_np(i64 %thread, i64 CORE_BYTES, ptr %set)
  ret void
}

; Where threads are bound to cores, one that is bound to the core that the caller is on goes to the one that the caller left.
define internal void @make_way(ptr %pool) {
entry:
  find PoolWords in %pool
  %home = load i64, ptr %home.at, align 8
  %bound = icmp sge i64 %home, 0
  br i1 %bound, label %look, label %done
look:
  %cpu = call i32 @sched_getcpu()
  %here = sext i32 %cpu to i64
  %stayed = icmp eq i64 %here, %home
  br i1 %stayed, label %done, label %moved
moved:
  store i64 %here, ptr %home.at, align 8
  %threads = load i64, ptr %threads.at, align 8
  %first = getelementptr i64, ptr %pool, i64 count PoolWords
  br label %next
next:
  %number = phi i64 [ 1, %moved ], [ %following, %other ]
  %words = phi ptr [ %first, %moved ], [ %words.next, %other ]
  %more = icmp slt i64 %number, %threads
  br i1 %more, label %ask, label %done
ask:
  find BoundWords in %words
  %core = load i64, ptr %core.at, align 8
  %in.way = icmp eq i64 %core, %here
  br i1 %in.way, label %move, label %other
other:
  %following = add i64 %number, 1
  %words.next = getelementptr i64, ptr %words, i64 count BoundWords
  br label %next
move:
  call void @bind(ptr %words, i64 %home)
  br label %done
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
  %count = phi i64 [ 0, %wait ], [ %more, %spinning ], [ %more.yields, %yielding ], [ 0, %sleep ]
  %since = phi i64 [ 0, %wait ], [ 0, %spinning ], [ %began, %yielding ], [ 0, %sleep ]
  %ticket = load atomic i64, ptr %pool seq_cst, align 8
  %job = lshr i64 %ticket, 32
  %called = icmp ne i64 %job, %seen
  br i1 %called, label %work, label %idle
idle:
  %patient = icmp slt i64 %count, SPINS
  br i1 %patient, label %spinning, label %yielding.for
spinning:
  call void @pause()
  %more = add i64 %count, 1
  br label %spin
yielding.for:
  %now = call i64 @nanoseconds()
  %new = icmp eq i64 %since, 0
  %began = select i1 %new, i64 %now, i64 %since
  %passed = sub i64 %now, %began
  %long = icmp sgt i64 %passed, LINGER
  br i1 %long, label %sleep, label %yielding
yielding:
  %more.yields = add i64 %count, 1
  %yielded = call i32 @sched_yield()
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
  call void @make_way(ptr %pool)
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
"""

_OF_THE_SYSTEM = re.compile(r"^declare (i\d+) (@[a-z_]+\([^)]*\))$", re.MULTILINE)
"""A declaration of a function that LLVM does not bring."""


def threads_text() -> str:
    """The text of `run_together`, which computes a step in parts, of `worker`, and of `bind`."""
    text = expanded(_IR, PoolWords, BoundWords)
    if FUTEX is None:  # there are no threads, and the system need not have these functions
        text = _OF_THE_SYSTEM.sub(r"define internal \1 \2 {\n  ret \1 0\n}", text)
    pause = "pause" if platform.machine() == "x86_64" else "yield"
    numbers = {"CORES": CORES, "CORE_BYTES": CORES // 8, "FUTEX": FUTEX or 0, "LINGER": LINGER, "SPINS": 20000}
    numbered = re.sub("|".join(rf"\b{name}\b" for name in numbers), lambda match: str(numbers[match[0]]), text)
    return numbered.replace("PAUSE", pause)
