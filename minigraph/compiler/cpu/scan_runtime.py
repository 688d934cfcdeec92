"""What runs a loop: the program of its body, once for each step, over memory that advances from row to row.

It is itself a kernel, so that a loop is one step of the program around it, and loops may hold loops. The body finds its
arguments in a table of addresses, which is filled anew for every step.
"""

from __future__ import annotations

from minigraph.compiler.cpu.jit import Code
from minigraph.compiler.cpu.runtime import pool
from minigraph.core.locks import once

_IR = """
; The words: what runs a program, for which threads, the program and how many steps it has, how often, how many arguments, the
; constants, and which argument tells to stop (-1: none). Then slot and offset of the table, of the body's memory, and of where
; the number of steps done goes; three for each argument; and for each a stride in bytes, and whether its places take turns.
define i32 @loop(ptr %bases, ptr %words, i64 %part, i64 %parts) {
entry:
  %run = load ptr, ptr %words, align 8
  %pool.at = getelementptr i64, ptr %words, i64 1
  %pool = load ptr, ptr %pool.at, align 8
  %program.at = getelementptr i64, ptr %words, i64 2
  %program = load ptr, ptr %program.at, align 8
  %steps.at = getelementptr i64, ptr %words, i64 3
  %steps = load i64, ptr %steps.at, align 8
  %times.at = getelementptr i64, ptr %words, i64 4
  %times = load i64, ptr %times.at, align 8
  %count.at = getelementptr i64, ptr %words, i64 5
  %count = load i64, ptr %count.at, align 8
  %constants.at = getelementptr i64, ptr %words, i64 6
  %constants = load ptr, ptr %constants.at, align 8
  %stop.at = getelementptr i64, ptr %words, i64 7
  %stop = load i64, ptr %stop.at, align 8
  %table.place = getelementptr i64, ptr %words, i64 8
  %table = call ptr @address(ptr %bases, ptr %table.place)
  %arena.place = getelementptr i64, ptr %words, i64 10
  %arena = call ptr @address(ptr %bases, ptr %arena.place)
  %done.place = getelementptr i64, ptr %words, i64 12
  %done.at = call ptr @address(ptr %bases, ptr %done.place)
  store ptr %arena, ptr %table, align 8
  %constants.slot = getelementptr ptr, ptr %table, i64 1
  store ptr %constants, ptr %constants.slot, align 8
  %slots = getelementptr ptr, ptr %table, i64 2
  %places = getelementptr i64, ptr %words, i64 14
  %width = mul i64 %count, 6
  %walks = getelementptr i64, ptr %places, i64 %width
  %any = icmp sgt i64 %times, 0
  br i1 %any, label %step, label %end
step:
  %i = phi i64 [ 0, %entry ], [ %i.next, %again ]
  %first = icmp eq i64 %i, 0
  %odd = and i64 %i, 1
  %even = sub i64 2, %odd
  %turn = select i1 %first, i64 0, i64 %even
  br label %argument
argument:
  %k = phi i64 [ 0, %step ], [ %k.next, %argument ]
  %word = mul i64 %k, 2
  %walk = getelementptr i64, ptr %walks, i64 %word
  %stride = load i64, ptr %walk, align 8
  %turns.at = getelementptr i64, ptr %walk, i64 1
  %turns = load i64, ptr %turns.at, align 8
  %own = mul i64 %turns, %turn
  %three = mul i64 %k, 3
  %which = add i64 %three, %own
  %pair = mul i64 %which, 2
  %place = getelementptr i64, ptr %places, i64 %pair
  %base = call ptr @address(ptr %bases, ptr %place)
  %way = mul i64 %i, %stride
  %address = getelementptr i8, ptr %base, i64 %way
  %slot = getelementptr ptr, ptr %slots, i64 %k
  store ptr %address, ptr %slot, align 8
  %k.next = add i64 %k, 1
  %more = icmp slt i64 %k.next, %count
  br i1 %more, label %argument, label %body
body:
  %failed = call i64 %run(ptr %pool, ptr %program, i64 0, i64 %steps, ptr %table)
  %fine = icmp slt i64 %failed, 0
  br i1 %fine, label %after, label %fail
after:
  %i.next = add i64 %i, 1
  %stops = icmp sge i64 %stop, 0
  br i1 %stops, label %ask, label %again
ask:
  %answer.slot = getelementptr ptr, ptr %slots, i64 %stop
  %answer.at = load ptr, ptr %answer.slot, align 8
  %answer = load i8, ptr %answer.at, align 1
  %over = icmp ne i8 %answer, 0
  br i1 %over, label %end, label %again
again:
  %going = icmp slt i64 %i.next, %times
  br i1 %going, label %step, label %end
end:
  %done = phi i64 [ 0, %entry ], [ %i.next, %ask ], [ %i.next, %again ]
  store i64 %done, ptr %done.at, align 8
  ret i32 0
fail:
  ret i32 1
}

define internal ptr @address(ptr %bases, ptr %place) alwaysinline {
  %slot = load i64, ptr %place, align 8
  %base.at = getelementptr ptr, ptr %bases, i64 %slot
  %base = load ptr, ptr %base.at, align 8
  %offset.at = getelementptr i64, ptr %place, i64 1
  %offset = load i64, ptr %offset.at, align 8
  %address = getelementptr i8, ptr %base, i64 %offset
  ret ptr %address
}
"""


@once
def loop_kernel() -> Code:
    """The kernel that runs loops."""
    return Code(_IR)


HEADING_WORDS = 8
"""How many words `heading` makes."""


def heading(program: int, steps: int, times: int, arguments: int, constants: int, stop: int) -> list[int]:
    """The words before the places."""
    return [*pool().running, program, steps, times, arguments, constants, stop]
