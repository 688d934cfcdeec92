"""The runtime of programs: a loop over the steps of one, and threads that share the parts of large ones.

Both are LLVM IR, compiled once, so that a whole plan is one call from Python. The caller takes parts from the first on, the
threads from the last one back, so that memory that was worked on by one is met again by the same; no part's result depends on
who computes it. Threads wait by spinning for a moment, then asleep (Linux' futex); a child process after a fork starts its own.
A program that finds the threads at work for another caller computes all parts itself.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

import numpy as np

from minigraph.compiler.cpu.answer_text import api_addresses
from minigraph.compiler.cpu.jit import Code, define
from minigraph.compiler.cpu.pool_text import CORES, FUTEX, UNBOUND, BoundWords, PoolWords
from minigraph.compiler.cpu.runtime_text import StepWords, runtime_text
from minigraph.core.graph import Array
from minigraph.core.locks import inside, new_lock
from minigraph.core.state import SUCCESS

REFUSED, SHARED = -2, -3
"""The results of a call with arrays that its plan was not made for, or to be written over while others hold them, too."""

ANYHOW = 2**31
"""More references than any array has."""


class Pool:
    """The threads of this process, and the functions that use them."""

    def __init__(self) -> None:
        for name, address in api_addresses().items():
            define(name, address)
        self._code = Code(runtime_text(), as_written=True)
        words = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
        self._run = ctypes.CFUNCTYPE(ctypes.c_int64, *words)(self._code.address("run"))
        given = (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p, ctypes.c_int64)
        self.call = ctypes.CFUNCTYPE(ctypes.c_int64, *given)(self._code.address("call"))
        """Run a whole plan: its address, a tuple of arrays with inputs first, memory to work in, and how many references arrays
        may have that are written over.

        The result is the step that failed, SUCCESS if none did, REFUSED, or SHARED.
        """
        self.brief_call = ctypes.PYFUNCTYPE(ctypes.c_int64, *given)(self._code.address("call"))
        """The same without letting other threads of Python run meanwhile, which takes longer than a brief plan."""
        self.answer: int = self._code.address("answer")
        """The address of what a function that Python calls as one written in C begins with."""
        self.threads = thread_count()
        self._state = np.zeros(PoolWords.count() + self.threads * BoundWords.count(), np.int64)
        self.address: int = self._state.ctypes.data
        self._start()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start)

    def _start(self) -> None:
        """Start the threads that share the work of the caller's, which alone survives a fork."""
        self._state[:] = 0
        started: list[int] = []
        start = ctypes.CDLL(None).pthread_create
        for _ in range(1, self.threads):
            thread = ctypes.c_ulong()
            if start(ctypes.byref(thread), None, ctypes.c_void_p(self._code.address("worker")), ctypes.c_void_p(self.address)):
                self.threads = 1 + len(started)
                break
            started.append(thread.value)
        self._state[PoolWords.position("threads")] = self.threads
        self._bind(started)

    def _bind(self, started: list[int]) -> None:
        """Bind each of the threads to a core of its own, the first one left to the caller, if all of the machine are ours.

        Otherwise a thread that is woken may wait for the core of its caller, who waits for it, for milliseconds.
        """
        cores = own_cores()
        bound = started and len(cores) == self.threads == os.cpu_count() and max(cores) < CORES
        self._state[PoolWords.position("home")] = cores[0] if bound else UNBOUND
        if bound:
            bind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(self._code.address("bind"))
            for k, (thread, core) in enumerate(zip(started, cores[1:], strict=True)):
                position = PoolWords.count() + k * BoundWords.count()
                self._state[position] = thread
                bind(self.address + position * self._state.itemsize, core)

    @property
    def running(self) -> tuple[int, int]:
        """The addresses of what runs a program, and of this pool, which it takes first."""
        return self._code.address("run"), self.address

    def run(self, program: int, first: int, last: int, bases: int) -> int:
        """Run the steps from `first` to before `last` of a program over the slots at `bases`; the step that failed, or -1."""
        failed: int = self._run(self.address, program, first, last, bases)
        return failed

    def run_kernel(self, kernel: int, words: Sequence[int], arrays: Sequence[Array], parts: int) -> bool:
        """Run one kernel, at an address, by its words over arrays, in parts that threads share; whether it did not fail."""
        numbers = np.array(words, np.int64)
        bases = np.array([one.ctypes.data for one in arrays], np.int64)
        step = np.array(StepWords(kernel, numbers.ctypes.data, parts).pack(), np.int64)
        return self.run(step.ctypes.data, 0, 1, bases.ctypes.data) == SUCCESS


def thread_count() -> int:
    """The number of threads that compute: MINIGRAPH_NUM_THREADS, else one for each core that this process may use."""
    if FUTEX is None:
        return 1
    asked = os.environ.get("MINIGRAPH_NUM_THREADS", "")
    return max(1, int(asked) if asked.isdigit() else len(own_cores()))


def own_cores() -> list[int]:
    """The cores that this process may use, by their numbers."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]


_lock = new_lock()
_pools: list[Pool] = []


def pool() -> Pool:
    """The threads of this process, started when they are first needed."""
    return _pools[0] if _pools else inside((_lock,), _started)


def _started() -> Pool:
    """The same, while no other thread starts it."""
    if not _pools:
        _pools.append(Pool())
    return _pools[0]
