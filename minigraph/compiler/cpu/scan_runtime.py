"""The kernel of loops: it runs the program of a body once for each step, over memory that advances from row to row.

It is itself a kernel, so that a loop is one step of the program around it, and loops may hold loops. The body finds its
arguments in a table of addresses, of which those that move are changed for every step.
"""

from __future__ import annotations

from minigraph.compiler.cpu.jit import Code
from minigraph.compiler.cpu.runtime_text import StepWords
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
define i32 @loop(ptr %bases, ptr %words, i64 %part, i64 %of) {
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
  %room = mul i64 %arguments, 4
  %moves = alloca i64, i64 %room, align 8
  %any = icmp sgt i64 %times, 0
  br i1 %any, label %begin, label %end
begin:
  %one.step = icmp eq i64 %steps, 1
  br i1 %one.step, label %alone, label %argument
alone:
  read StepWords from %program
  %one.part = icmp eq i64 %parts, 1
  br label %argument

; The address of an argument in the first step, and if it moves those in the second and the third.
argument:
  %k = phi i64 [ 0, %begin ], [ 0, %alone ], [ %k.next, %argument ]
  %moving = phi i64 [ 0, %begin ], [ 0, %alone ], [ %moving.next, %argument ]
  %direct = phi i1 [ false, %begin ], [ %one.part, %alone ], [ %direct, %argument ]
  %only.kernel = phi ptr [ null, %begin ], [ %kernel, %alone ], [ %only.kernel, %argument ]
  %its.parameters = phi ptr [ null, %begin ], [ %parameters, %alone ], [ %its.parameters, %argument ]
  %word = mul i64 %k, count WalkWords
  %walk = getelementptr i64, ptr %walks, i64 %word
  read WalkWords from %walk
  %six = mul i64 %k, 6
  %its.places = getelementptr i64, ptr %places, i64 %six
  places first second third in %its.places
  %slot = getelementptr ptr, ptr %slots, i64 %k
  store ptr %first, ptr %slot, align 8
  %takes.turns = icmp ne i64 %turns, 0
  %one.on = select i1 %takes.turns, ptr %second, ptr %first
  %two.on = select i1 %takes.turns, ptr %third, ptr %first
  %twice = mul i64 %stride, 2
  %later = getelementptr i8, ptr %one.on, i64 %stride
  %latest = getelementptr i8, ptr %two.on, i64 %twice
  %four = mul i64 %moving, 4
  %move = getelementptr i64, ptr %moves, i64 %four
  store i64 %k, ptr %move, align 8
  %move.next = getelementptr i64, ptr %move, i64 1
  store ptr %later, ptr %move.next, align 8
  %move.over = getelementptr i64, ptr %move, i64 2
  store ptr %latest, ptr %move.over, align 8
  %move.twice = getelementptr i64, ptr %move, i64 3
  store i64 %twice, ptr %move.twice, align 8
  %walks.on = icmp ne i64 %stride, 0
  %moves.on = or i1 %walks.on, %takes.turns
  %more.moving = zext i1 %moves.on to i64
  %moving.next = add i64 %moving, %more.moving
  %k.next = add i64 %k, 1
  %more = icmp slt i64 %k.next, %arguments
  br i1 %more, label %argument, label %body

body:
  %i = phi i64 [ 0, %argument ], [ %i.next, %again ], [ %i.next, %moved ]
  br i1 %direct, label %kernel.alone, label %several
kernel.alone:
  %status = call i32 %only.kernel(ptr %table, ptr %its.parameters, i64 0, i64 1)
  %good = icmp eq i32 %status, 0
  br i1 %good, label %after, label %fail
several:
  %failed = call i64 %run(ptr %pool, ptr %program, i64 0, i64 %steps, ptr %table)
  %fine = icmp slt i64 %failed, 0
  br i1 %fine, label %after, label %fail
after:
  %i.next = add i64 %i, 1
  %stops = icmp sge i64 %stop, 0
  br i1 %stops, label %ask, label %go.on
ask:
  %answer.slot = getelementptr ptr, ptr %slots, i64 %stop
  %answer.at = load ptr, ptr %answer.slot, align 8
  %answer = load i8, ptr %answer.at, align 1
  %over = icmp ne i8 %answer, 0
  br i1 %over, label %end, label %go.on
go.on:
  %going = icmp slt i64 %i.next, %times
  br i1 %going, label %again, label %end
again:
  %some = icmp sgt i64 %moving.next, 0
  br i1 %some, label %moved, label %body

; What moves is two addresses ahead: that of the next step, and that of the one after it.
moved:
  %j = phi i64 [ 0, %again ], [ %j.next, %moved ]
  %j.four = mul i64 %j, 4
  %ahead = getelementptr i64, ptr %moves, i64 %j.four
  %which = load i64, ptr %ahead, align 8
  %next.at = getelementptr i64, ptr %ahead, i64 1
  %next = load ptr, ptr %next.at, align 8
  %over.at = getelementptr i64, ptr %ahead, i64 2
  %over.next = load ptr, ptr %over.at, align 8
  %far.at = getelementptr i64, ptr %ahead, i64 3
  %far = load i64, ptr %far.at, align 8
  %its.slot = getelementptr ptr, ptr %slots, i64 %which
  store ptr %next, ptr %its.slot, align 8
  store ptr %over.next, ptr %next.at, align 8
  %beyond = getelementptr i8, ptr %next, i64 %far
  store ptr %beyond, ptr %over.at, align 8
  %j.next = add i64 %j, 1
  %more.moves = icmp slt i64 %j.next, %moving.next
  br i1 %more.moves, label %moved, label %body
end:
  %count = phi i64 [ 0, %entry ], [ %i.next, %ask ], [ %i.next, %go.on ]
  store i64 %count, ptr %done, align 8
  ret i32 0
fail:
  ret i32 1
}
"""


@once
def loop_kernel() -> Code:
    """The kernel that runs loops."""
    return Code(expanded(_IR, LoopWords, WalkWords, StepWords))
