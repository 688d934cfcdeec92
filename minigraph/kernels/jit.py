"""From LLVM IR to machine code in this process. What is compiled is kept as long as something holds it, and on disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from minigraph.errors import MissingExtraError
from minigraph.kernels import disk

_lock = threading.Lock()


@cache
def llvm() -> Any:
    """llvmlite's binding, set up for this machine; an error that names the extra if it is not installed."""
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
    features = dict(llvm().get_host_cpu_features())
    return 64 if all(features.get(name) for name in AVX512) else 32 if features.get("avx2") else 16


def define(name: str, address: int) -> None:
    """Let code that is compiled call the function at an address by a name."""
    llvm().add_symbol(name, address)


TUNING = {
    "speed_level": 3, "loop_vectorization": True, "loop_interleaving": True, "loop_unrolling": True, "slp_vectorization": False,
}  # fmt: skip
"""How modules are optimized, and machine code is chosen."""


@cache
def _target() -> tuple[str, str, str]:
    """This machine for LLVM: triple, processor, and its features."""
    binding = llvm()
    return binding.get_default_triple(), binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()


def target_machine() -> Any:
    """A code generator for this machine's processor; each engine needs its own."""
    triple, processor, features = _target()
    target = llvm().Target.from_triple(triple)
    return target.create_target_machine(cpu=processor, features=features, opt=TUNING["speed_level"], jit=True)


@cache
def _optimizer() -> tuple[Any, Any]:
    """What optimizes all modules of this process, one after the other: each builder of passes would keep some memory."""
    machine = target_machine()
    options = llvm().create_pipeline_tuning_options()
    for name, value in TUNING.items():
        setattr(options, name, value)
    return machine, llvm().create_pass_builder(machine, options)


def _translated(text: str, as_written: bool) -> bytes:
    """The machine code of a module, in an object file."""
    binding = llvm()
    machine, builder = _optimizer()
    passes = builder.getModulePassManager()
    module = binding.parse_assembly(text)
    module.triple, module.data_layout = _target()[0], str(machine.target_data)
    if not as_written:
        passes.run(module, builder)
    code: bytes = machine.emit_object(module)
    module.close()  # it is many times as large as the code
    return code


class Code:
    """Compiled functions, and the memory that they lie in."""

    def __init__(self, text: str, *, as_written: bool = False) -> None:
        """as_written: the IR is as fast as it gets, and is not optimized."""
        llvm()
        _out_of_reach_of_signals(lambda: self._compile(text, as_written))

    def _compile(self, text: str, as_written: bool) -> None:
        """Load the machine code, made now if it is not on disk."""
        binding = llvm()
        with _lock:
            name = disk.key(text, repr((as_written, TUNING, binding.llvm_version_info, _target())))
            code = disk.load(name)
            if code is None:
                code = _translated(text, as_written)
                disk.save(name, code)
            self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), target_machine())
            self._engine.add_object_file(binding.ObjectFileRef.from_data(code))
            self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Where a function begins."""
        address: int = self._engine.get_function_address(name)
        return address


def _out_of_reach_of_signals(work: Callable[[], None]) -> None:
    """Do something in a thread of its own, where Ctrl-C cannot leave what LLVM owns half handed over."""
    failures: list[BaseException] = []

    def attempt() -> None:
        try:
            work()
        except BaseException as error:  # raised again below
            failures.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    for failure in failures:
        raise failure
