"""From LLVM IR to machine code in this process. What is compiled is kept as long as something holds it, and on disk.

LLVM is only touched by threads of its own, where Ctrl-C cannot leave what it owns, or its lock, half handed over: by one at a
time, which may have others translate modules by its side.
"""

from __future__ import annotations

import _thread
import atexit
import ctypes
import mmap
import re
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache, partial
from typing import Any, TypeVar

from minigraph.compiler import cache as disk
from minigraph.core.context import without_collector
from minigraph.core.errors import ExecutionError, MissingExtraError
from minigraph.core.locks import holding, is_lost, new_lock

T = TypeVar("T")

ROOM_TO_COMPILE, BYTES_A_CHARACTER, ROOM_TO_LOAD = 32 * 2**20, 250, 4 * 2**20
"""Memory that LLVM takes at most: to compile, and for each character that it is given; to load what was compiled."""

_lock = new_lock()
_working: set[int] = set()
"""The threads that may touch LLVM: that which holds the lock, those that wait for it, and those that work for it."""


def apart(work: Callable[[], T]) -> T:
    """The result of `work`, done in a thread of its own while no other touches LLVM."""
    if is_lost(_lock):
        raise ExecutionError(
            "nothing can be compiled here: this process was forked while another thread was compiling; fork when none does, or "
            "let multiprocessing use 'spawn' or 'forkserver'"
        )
    return work() if threading.get_ident() in _working else without_collector(_in_thread, work)


def _in_thread(work: Callable[[], T]) -> T:
    """The same; the collector is off, for a finalizer in that thread could wait for what this one holds."""
    return _result(_begun(lambda: holding((_lock,), work))())


Outcome = tuple[list[T], list[BaseException]]
"""A result, or an exception that was raised in place of one."""


def _begun(work: Callable[[], T]) -> Callable[[], Outcome[T]]:
    """Begin `work` in a thread of its own, which may touch LLVM; what is returned waits for its outcome."""
    outcome: Outcome[T] = [], []
    done = _thread.allocate_lock()
    done.acquire()

    def attempt() -> None:
        this = {threading.get_ident()} - _working
        _working.update(this)
        try:
            outcome[0].append(work())
        except BaseException as error:  # raised again by who waits
            outcome[1].append(error)
        _working.difference_update(this)
        done.release()

    def ended() -> Outcome[T]:
        done.acquire()
        return outcome

    try:
        _thread.start_new_thread(attempt, ())
    except RuntimeError:  # the process ends, or may have no more threads
        attempt()
    return ended


def _result(outcome: Outcome[T]) -> T:
    """The result of work that has ended; raises what it raised."""
    for failure in outcome[1]:
        raise failure
    return outcome[0][0]


def _side_by_side(works: Sequence[Callable[[], T]]) -> list[T]:
    """The results of `works`, each done in a thread of its own; all have ended before one that failed is told of."""
    waiting = [_begun(one) for one in works]
    outcomes = [ended() for ended in waiting]
    return [_result(one) for one in outcomes]


atexit.register(holding, (_lock,), int)
"""The process does not end while LLVM is at work for a call that was interrupted."""


@cache
def llvm() -> Any:
    """llvmlite's binding, set up for this machine; an error that names the extra if it is not installed."""
    return apart(_set_up)


def _set_up() -> Any:
    """The same, in a thread that may touch LLVM."""
    try:
        import llvmlite.binding as binding
    except ImportError as error:
        raise MissingExtraError("backend 'native' needs llvmlite: install minigraph[jit]") from error
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.initialize_native_asmparser()
    return binding


def is_available() -> bool:
    """Whether llvmlite is installed."""
    try:
        llvm()
    except MissingExtraError:
        return False
    return True


AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd")


@cache
def register_bytes() -> int:
    """The size of the processor's vector registers."""
    features = {*target()[2].split(",")}
    return 64 if features.issuperset(f"+{name}" for name in AVX512) else 32 if "+avx2" in features else 16


def define(name: str, address: int) -> None:
    """Let code that is compiled call the function at an address by a name."""
    apart(lambda: llvm().add_symbol(name, address))


TUNING = {
    "speed_level": 3, "loop_vectorization": True, "loop_interleaving": True, "loop_unrolling": True, "slp_vectorization": False,
}  # fmt: skip
"""The options of the passes that optimize a module."""
CODE_LEVEL = 3
"""The level at which instructions are selected; at level 0 compiling takes half the time, and code is slower."""


@cache
def target() -> tuple[str, str, str]:
    """This machine for LLVM: triple, processor, and its features."""
    binding = llvm()
    return apart(lambda: (binding.get_default_triple(), binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()))


def _target_machine() -> Any:
    """A code generator for this machine's processor; each engine needs its own."""
    triple, processor, features = target()
    found = llvm().Target.from_triple(triple)
    return found.create_target_machine(cpu=processor, features=features, opt=CODE_LEVEL, jit=True)


@cache
def _machine(lane: int) -> Any:
    """The code generator of those that translate modules one after the other, in a lane of their own."""
    return _kept(_target_machine())


def _unlocked() -> Any:
    """LLVM's functions without llvmlite's lock, which lets in one thread at a time; modules need contexts of their own."""
    library = llvm().ffi.lib
    return getattr(library, "_lib", library)


def _optimize(module: Any, machine: Any) -> None:
    """Optimize a module, by passes that run once: used again, they would also run what they had noted for those before."""
    options = llvm().create_pipeline_tuning_options()
    for name, value in TUNING.items():
        setattr(options, name, value)
    with closing(llvm().create_pass_builder(machine, options)) as builder:
        passes = builder.getModulePassManager()
        _unlocked().LLVMPY_RunNewModulePassManager(passes, module, builder)
        # llvmlite does not free the list of passes, which would be 60 kB for each module
        llvm().newpassmanagers.NewPassManager._dispose(passes)
        passes.detach()


def _object_of(module: Any, machine: Any) -> bytes:
    """A module as an object file."""
    ffi = llvm().ffi
    with ffi.OutputString() as message:
        buffer = _unlocked().LLVMPY_TargetMachineEmitToMemory(machine, module, 1, message)
        if not buffer:
            raise RuntimeError(str(message))
    try:
        return ctypes.string_at(ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer))
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


def _translated(text: str, as_written: bool, lane: int) -> bytes:
    """The machine code of a module, in an object file."""
    machine = _machine(lane)
    with closing(llvm().create_context()) as context, closing(llvm().parse_assembly(text, context)) as module:
        module.triple, module.data_layout = target()[0], str(machine.target_data)
        if not as_written:
            _optimize(module, machine)
        return _object_of(module, machine)


def _kept(resource: T) -> T:
    """A resource of LLVM's that is only disposed of by `close`: what is left when the process ends, llvmlite may fail to."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(resource))
    return resource


def _reserve(size: int) -> None:
    """MemoryError if there is no room for `size` bytes; LLVM would end the process."""
    try:
        mmap.mmap(-1, size).close()
    except OSError:
        raise MemoryError(f"there is no memory to compile in: it takes about {size >> 20} MB of address space") from None


_engines: dict[Any, Any] = {}
"""The engines that hold the memory of compiled code, by weak references to the `Code`."""
_dead: deque[Any] = deque()
"""The references whose `Code` is gone: the memory is given back by the next thread that touches LLVM."""

_DEFINITION = re.compile(r"^define (?!internal|private)[^@]*@(\w+)\(", re.MULTILINE)


def compiled(texts: Sequence[str]) -> list[Code]:
    """The functions of several modules, which are translated at the same time."""
    llvm()
    return apart(lambda: [Code(text, code) for text, code in zip(texts, _machine_code(texts), strict=True)])


def _machine_code(texts: Sequence[str], as_written: bool = False) -> list[bytes]:
    """The machine code of modules, which is looked for on disk before it is made."""
    settings = repr((as_written, TUNING, CODE_LEVEL, llvm().llvm_version_info, target()))
    names = [disk.key(text, settings) for text in texts]
    found = {name: code for name in names if (code := disk.load(name)) is not None}
    missing = {name: text for name, text in zip(names, texts, strict=True) if name not in found}
    if missing:
        _reserve(len(missing) * ROOM_TO_COMPILE + BYTES_A_CHARACTER * sum(map(len, missing.values())))
    works = [partial(_translated, text, as_written, lane) for lane, text in enumerate(missing.values())]
    for name, code in zip(missing, _side_by_side(works) if len(works) > 1 else [work() for work in works], strict=True):
        disk.save(name, code)
        found[name] = code
    return [found[name] for name in names]


class Code:
    """Compiled functions, and the memory that they lie in."""

    def __init__(self, text: str, code: bytes | None = None, *, as_written: bool = False) -> None:
        """text: the IR. code: its machine code, if known. as_written: it is as fast as it gets, and is not optimized."""
        llvm()
        self._addresses: dict[str, int] = apart(lambda: self._load(text, code or _machine_code([text], as_written)[0]))

    def _load(self, text: str, code: bytes) -> dict[str, int]:
        """Load machine code: the address of each function."""
        while _dead:
            _engines.pop(_dead.pop()).close()
        binding = llvm()
        _reserve(ROOM_TO_LOAD + 2 * len(code))
        engine = _kept(binding.create_mcjit_compiler(binding.parse_assembly(""), _target_machine()))
        _engines[weakref.ref(self, _dead.append)] = engine
        engine.add_object_file(binding.ObjectFileRef.from_data(code))
        engine.finalize_object()
        return {one: engine.get_function_address(one) for one in _DEFINITION.findall(text)}

    def address(self, name: str) -> int:
        """The address of a function."""
        return self._addresses[name]
