"""The kernel of loops: it runs the program of a body once for each step, over memory that advances from row to row.

It is itself a kernel, so that a loop is one step of the program around it, and loops may hold loops. The body finds its
arguments in a table of addresses, which is filled anew for every step.
"""

from __future__ import annotations

from minigraph.compiler.cpu.jit import Code
from minigraph.compiler.cpu.words import Pointer, Words, expanded
from minigraph.core.locks import once


class LoopWords(Words):
    """The words of a loop: the function that runs programs, and its threads; the program of the body and its number of steps;
    how often it runs; the number of its arguments; its constants; and the argument that tells to stop (-1: none).

    The places follow of the table, of the body's memory, and of where the number of steps done goes; three of each argument;
    and then `WalkWords` of each argument.
    """

    run: Pointer
    pool: Pointer
    program: Pointer
    steps: int
    times: int
    arguments: int
    constants: Pointer
    stop: int


class WalkWords(Words):
    """The bytes by which an argument advances with each step, and whether its three places take turns."""

    stride: int
    turns: int


_IR = """
define i32 @loop(ptr %bases, ptr %words, i64 %part, i64 %parts) {
entry:
  read LoopWords from %words
  %own = getelementptr i64, ptr %words, i64 count LoopWords
  places table arena done in %own
  store ptr %arena, ptr %table, align 8
  %constants.slot = getelementptr ptr, ptr %table, i64 1
  store ptr %constants, ptr %constants.slot, align 8
  %slots = getelementptr ptr, ptr %table, i64 2
  %places = getelementptr i64, ptr %own, i64 6
  %width = mul i64 %arguments, 6
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
  %word = mul i64 %k, count WalkWords
  %walk = getelementptr i64, ptr %walks, i64 %word
  read WalkWords from %walk
  %its.turn = mul i64 %turns, %turn
  %three = mul i64 %k, 3
  %which = add i64 %three, %its.turn
  %pair = mul i64 %which, 2
  %place = getelementptr i64, ptr %places, i64 %pair
  places start in %place
  %way = mul i64 %i, %stride
  %address = getelementptr i8, ptr %start, i64 %way
  %slot = getelementptr ptr, ptr %slots, i64 %k
  store ptr %address, ptr %slot, align 8
  %k.next = add i64 %k, 1
  %more = icmp slt i64 %k.next, %arguments
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
  %count = phi i64 [ 0, %entry ], [ %i.next, %ask ], [ %i.next, %again ]
  store i64 %count, ptr %done, align 8
  ret i32 0
fail:
  ret i32 1
}
"""


@once
def loop_kernel() -> Code:
    """The kernel that runs loops."""
    return Code(expanded(_IR, LoopWords, WalkWords))
