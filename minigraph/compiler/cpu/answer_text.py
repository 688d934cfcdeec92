"""The LLVM IR of answers: whole calls of a function, from its arguments to its results, as Python calls what is written in C.

A call that holds Python's lock from beginning to end is seen by other threads, by signal handlers and by finalizers as one
moment. So state may be written over where it lies, if its locks are free, and nobody else refers to it.

In the text `each %k below %count else end` begins a loop over numbers from 0, which goes to `end` after the last one, and the
line `again` ends what it repeats.
"""

from __future__ import annotations

import ctypes
import re

from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

from minigraph.compiler.cpu.words import Pointer, Words
from minigraph.core.state import Cell


class AnswerWords(Words):
    """The words of an answer: the plan and its memory; the numbers of arguments, operands, outputs, targets, locks and results;
    tables of these; and objects of Python's that are called or given.

    sources: for each operand its position among the arguments and, after these, the cells. made: `MadeWords` of each output.
    news, picked: the outputs that the targets get, and callers. change, name: the class that notes changes, and as what.
    """

    plan: Pointer
    memory: Pointer
    arguments: int
    operands: int
    outputs: int
    targets: int
    locks: int
    results: int
    sources: Pointer
    cells: Pointer
    made: Pointer
    news: Pointer
    target_cells: Pointer
    lock_table: Pointer
    picked: Pointer
    array_type: Pointer
    acquire: Pointer
    release: Pointer
    true: Pointer
    false: Pointer
    none: Pointer
    plain: Pointer
    change: Pointer
    name: Pointer


class MadeWords(Words):
    """An output: the operand that it is written over, -1 if there is none; its dtype, the number of its axes, their sizes."""

    over: int
    dtype: Pointer
    axes: int
    sizes: Pointer


API = {
    "Py_IncRef": "void @Py_IncRef(ptr)",
    "Py_DecRef": "void @Py_DecRef(ptr)",
    "PyErr_Clear": "void @PyErr_Clear()",
    "PyList_New": "ptr @PyList_New(i64)",
    "PyList_SetItem": "i32 @PyList_SetItem(ptr, i64, ptr)",
    "PyObject_CallNoArgs": "ptr @PyObject_CallNoArgs(ptr)",
    "PyObject_SetAttr": "i32 @PyObject_SetAttr(ptr, ptr, ptr)",
    "PyObject_Vectorcall": "ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr)",
}
"""The functions of CPython that are called, and how they are declared."""

NUMPY_API = {"PyArray_NewCopy": 85, "PyArray_Empty": 184}
"""The functions of NumPy that are called, by their positions among those that it offers to C."""


def api_addresses() -> dict[str, int]:
    """The addresses of the functions of CPython and NumPy that are called."""
    find = ctypes.pythonapi.PyCapsule_GetPointer
    find.restype, find.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    table = find(_multiarray_umath._ARRAY_API, None)
    addresses = {name: ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0 for name in API}
    return addresses | {name: ctypes.c_size_t.from_address(table + 8 * place).value for name, place in NUMPY_API.items()}


def offset_of_value() -> int:
    """The offset at which CPython keeps the value of a cell."""
    value = object()
    cell = Cell(value)
    words = (ctypes.c_size_t * (Cell.__basicsize__ // 8)).from_address(id(cell))
    return 8 * list(words).index(id(value))


def _with_loops(text: str) -> str:
    """The text with loops as code."""
    text = re.sub(r"^  each %k below (%[\w.]+) else ([\w.]+)$", _HEAD, text, flags=re.MULTILINE)
    return re.sub(r"^  again$", _FOOT, text, flags=re.MULTILINE)


_HEAD = r"""  br label %next
next:
  %k = phi i64 [ 0, %entry ], [ %k.next, %again ]
  %more = icmp slt i64 %k, \1
  br i1 %more, label %one, label %\2
one:"""
_FOOT = """  br label %again
again:
  %k.next = add i64 %k, 1
  br label %next"""

ANSWER = _with_loops("""
declare ptr @PyArray_Empty(i32, ptr, ptr, i32)
declare ptr @PyArray_NewCopy(ptr, i32)

; Take locks that are free: how many have been taken.
define internal i64 @take_locks(ptr %locks, i64 %count, ptr %acquire, ptr %true, ptr %false) {
entry:
  %given = alloca [2 x ptr], align 8
  %wait = getelementptr ptr, ptr %given, i64 1
  store ptr %false, ptr %wait, align 8
  each %k below %count else end
  %lock.at = getelementptr ptr, ptr %locks, i64 %k
  %lock = load ptr, ptr %lock.at, align 8
  store ptr %lock, ptr %given, align 8
  %told = call ptr @PyObject_Vectorcall(ptr %acquire, ptr %given, i64 2, ptr null)
  call void @Py_DecRef(ptr %told)
  %free = icmp eq ptr %told, %true
  br i1 %free, label %taken, label %end
taken:
  again
end:
  ret i64 %k
}

define internal void @give_back_locks(ptr %locks, i64 %count, ptr %release) {
entry:
  each %k below %count else end
  %lock.at = getelementptr ptr, ptr %locks, i64 %k
  %told = call ptr @PyObject_Vectorcall(ptr %release, ptr %lock.at, i64 1, ptr null)
  call void @Py_DecRef(ptr %told)
  again
end:
  ret void
}

; Gather the operands, of which some are the values of cells: whether all are there. Arrays that are not in the order of C are
; copied, and the copies kept, one for each operand or none.
define internal i1 @gather(ptr %words, ptr %given, ptr %items, ptr %copies) {
entry:
  read AnswerWords from %words
  each %k below %operands else end
  %source.at = getelementptr i64, ptr %sources, i64 %k
  %source = load i64, ptr %source.at, align 8
  %is.given = icmp slt i64 %source, %arguments
  br i1 %is.given, label %argument, label %state
argument:
  %argument.at = getelementptr ptr, ptr %given, i64 %source
  br label %found
state:
  %which = sub i64 %source, %arguments
  %cell.at = getelementptr ptr, ptr %cells, i64 %which
  %cell = load ptr, ptr %cell.at, align 8
  %value.at = getelementptr i8, ptr %cell, i64 VALUE
  br label %found
found:
  %item.at = phi ptr [ %argument.at, %argument ], [ %value.at, %state ]
  %item = load ptr, ptr %item.at, align 8
  %missing = icmp eq ptr %item, null
  br i1 %missing, label %end, label %look
look:
  %item.kind.at = getelementptr i8, ptr %item, i64 TYPE
  %item.kind = load ptr, ptr %item.kind.at, align 8
  %is.array = icmp eq ptr %item.kind, %array_type
  br i1 %is.array, label %check.order, label %keep
check.order:
  %flags.at = getelementptr i8, ptr %item, i64 FLAGS
  %flags = load i32, ptr %flags.at, align 4
  %in.order = trunc i32 %flags to i1
  br i1 %in.order, label %keep, label %copy
copy:
  %copied = call ptr @PyArray_NewCopy(ptr %item, i32 0)
  %none.left = icmp eq ptr %copied, null
  br i1 %none.left, label %end, label %keep
keep:
  %copy.or.none = phi ptr [ null, %look ], [ null, %check.order ], [ %copied, %copy ]
  %operand = phi ptr [ %item, %look ], [ %item, %check.order ], [ %copied, %copy ]
  %kept.at = getelementptr ptr, ptr %copies, i64 %k
  store ptr %copy.or.none, ptr %kept.at, align 8
  %place = getelementptr ptr, ptr %items, i64 %k
  store ptr %operand, ptr %place, align 8
  again
end:
  %all = phi i1 [ true, %next ], [ false, %found ], [ false, %copy ]
  br i1 %all, label %whole, label %part
whole:
  ret i1 true
part:
  call void @drop(ptr %copies, i64 %k)
  ret i1 false
}

; Let go of some objects.
define internal void @drop(ptr %objects, i64 %count) {
entry:
  each %k below %count else end
  %object.at = getelementptr ptr, ptr %objects, i64 %k
  %object = load ptr, ptr %object.at, align 8
  call void @Py_DecRef(ptr %object)
  again
end:
  ret void
}

; Make the outputs, each with a reference of its own: whether there was memory for them.
define internal i1 @make(ptr %words, ptr %items, ptr %made.items) {
entry:
  read AnswerWords from %words
  each %k below %outputs else end
  %word = mul i64 %k, count MadeWords
  %its = getelementptr i64, ptr %made, i64 %word
  read MadeWords from %its
  %is.new = icmp slt i64 %over, 0
  br i1 %is.new, label %new, label %old
new:
  call void @Py_IncRef(ptr %dtype)
  %short = trunc i64 %axes to i32
  %array = call ptr @PyArray_Empty(i32 %short, ptr %sizes, ptr %dtype, i32 0)
  %none.left = icmp eq ptr %array, null
  br i1 %none.left, label %fail, label %there
old:
  %old.at = getelementptr ptr, ptr %items, i64 %over
  %old.item = load ptr, ptr %old.at, align 8
  call void @Py_IncRef(ptr %old.item)
  br label %there
there:
  %output = phi ptr [ %array, %new ], [ %old.item, %old ]
  %place = getelementptr ptr, ptr %made.items, i64 %k
  store ptr %output, ptr %place, align 8
  again
end:
  ret i1 true
fail:
  call void @drop(ptr %made.items, i64 %k)
  ret i1 false
}

; Put new values into the targets, then let go of the old ones.
define internal void @put(ptr %words, ptr %made.items) {
entry:
  read AnswerWords from %words
  %olds = getelementptr ptr, ptr %made.items, i64 %outputs
  each %k below %targets else let.go
  %which.at = getelementptr i64, ptr %news, i64 %k
  %which = load i64, ptr %which.at, align 8
  %new.at = getelementptr ptr, ptr %made.items, i64 %which
  %new = load ptr, ptr %new.at, align 8
  call void @Py_IncRef(ptr %new)
  %cell.at = getelementptr ptr, ptr %target_cells, i64 %k
  %cell = load ptr, ptr %cell.at, align 8
  %value.at = getelementptr i8, ptr %cell, i64 VALUE
  %old = load ptr, ptr %value.at, align 8
  store ptr %new, ptr %value.at, align 8
  %place = getelementptr ptr, ptr %olds, i64 %k
  store ptr %old, ptr %place, align 8
  again
let.go:
  call void @drop(ptr %olds, i64 %targets)
  ret void
}

; The results as callers get them: one alone as it is, others in the list.
define internal ptr @delivered(ptr %words, ptr %made.items, ptr %list) {
entry:
  read AnswerWords from %words
  %alone = icmp eq i64 %results, 1
  each %k below %results else end
  %which.at = getelementptr i64, ptr %picked, i64 %k
  %which = load i64, ptr %which.at, align 8
  %item.at = getelementptr ptr, ptr %made.items, i64 %which
  %item = load ptr, ptr %item.at, align 8
  call void @Py_IncRef(ptr %item)
  br i1 %alone, label %end, label %in.list
in.list:
  %put = call i32 @PyList_SetItem(ptr %list, i64 %k, ptr %item)
  again
end:
  %result = phi ptr [ %list, %next ], [ %item, %one ]
  ret ptr %result
}

; Note that state changes.
define internal void @note(ptr %words) {
  read AnswerWords from %words
  %this = call ptr @PyObject_CallNoArgs(ptr %plain)
  %noted = call i32 @PyObject_SetAttr(ptr %change, ptr %name, ptr %this)
  call void @Py_DecRef(ptr %this)
  ret void
}

; The results of a call; None where the long way must be gone, with nothing changed. The words lie in an array, which is the
; first item of %self. What may run finalizers, which may change state, comes before state is read, or after it has changed: to
; make a list, which may call the collector, and to note a change, which lets go of what was noted last.
define ptr @answer(ptr %self, ptr %given, i64 %count) {
entry:
  %array.at = getelementptr i8, ptr %self, i64 TUPLE
  %array = load ptr, ptr %array.at, align 8
  %words.at = getelementptr i8, ptr %array, i64 DATA
  %words = load ptr, ptr %words.at, align 8
  read AnswerWords from %words
  %values = add i64 %operands, %outputs
  %room.for = add i64 %values, %targets
  %items = alloca ptr, i64 %room.for, align 8
  %copies = alloca ptr, i64 %operands, align 8
  %made.items = getelementptr ptr, ptr %items, i64 %operands
  %right = icmp eq i64 %count, %arguments
  br i1 %right, label %form, label %refuse
form:
  %alone = icmp eq i64 %results, 1
  br i1 %alone, label %lock, label %make.list
make.list:
  %made.list = call ptr @PyList_New(i64 %results)
  %no.list = icmp eq ptr %made.list, null
  br i1 %no.list, label %refuse, label %lock
lock:
  %list = phi ptr [ null, %form ], [ %made.list, %make.list ]
  %taken = call i64 @take_locks(ptr %lock_table, i64 %locks, ptr %acquire, ptr %true, ptr %false)
  %free = icmp eq i64 %taken, %locks
  br i1 %free, label %tell, label %undo
tell:
  %updates = icmp sgt i64 %targets, 0
  br i1 %updates, label %change.state, label %look
change.state:
  call void @note(ptr %words)
  br label %look
look:
  %there = call i1 @gather(ptr %words, ptr %given, ptr %items, ptr %copies)
  br i1 %there, label %check, label %undo
check:
  %status = call i64 @take(ptr %plan, ptr %items, ptr %memory, i64 1)
  %fits = icmp eq i64 %status, -1
  br i1 %fits, label %allocate, label %let.go
allocate:
  %room = call i1 @make(ptr %words, ptr %items, ptr %made.items)
  br i1 %room, label %compute, label %let.go
compute:
  %failed = call i64 @start(ptr %plan, ptr %items, ptr %memory)
  %done = icmp eq i64 %failed, -1
  br i1 %done, label %finish, label %fail
finish:
  call void @put(ptr %words, ptr %made.items)
  call void @give_back_locks(ptr %lock_table, i64 %locks, ptr %release)
  %result = call ptr @delivered(ptr %words, ptr %made.items, ptr %list)
  call void @drop(ptr %made.items, i64 %outputs)
  call void @drop(ptr %copies, i64 %operands)
  ret ptr %result
fail:
  call void @drop(ptr %made.items, i64 %outputs)
  br label %let.go
let.go:
  call void @drop(ptr %copies, i64 %operands)
  br label %undo
undo:
  call void @give_back_locks(ptr %lock_table, i64 %taken, ptr %release)
  call void @Py_DecRef(ptr %list)
  br label %refuse
refuse:
  call void @PyErr_Clear()
  call void @Py_IncRef(ptr %none)
  ret ptr %none
}
""")
