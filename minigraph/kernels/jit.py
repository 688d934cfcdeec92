"""From LLVM IR to machine code in this process. What is compiled is kept as long as something holds it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from minigraph.errors import MissingExtraError

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


def target_machine() -> Any:
    """A code generator for this machine's processor; each engine needs its own."""
    binding = llvm()
    target = binding.Target.from_default_triple()
    return target.create_target_machine(
        cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=3, jit=True
    )


@cache
def _optimizer() -> tuple[Any, Any]:
    """What optimizes all modules of this process, one after the other: each builder of passes would keep some memory."""
    binding = llvm()
    machine = target_machine()
    options = binding.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization, options.loop_interleaving, options.loop_unrolling = True, True, True
    options.slp_vectorization = False
    return machine, binding.create_pass_builder(machine, options)


class Code:
    """Compiled functions, and the memory that they lie in."""

    def __init__(self, text: str, *, as_written: bool = False) -> None:
        """as_written: the IR is as fast as it gets, and is not optimized."""
        llvm()
        _out_of_reach_of_signals(lambda: self._compile(text, as_written))

    def _compile(self, text: str, as_written: bool) -> None:
        """Optimize and emit the IR."""
        binding = llvm()
        with _lock:
            machine, builder = _optimizer()
            passes = builder.getModulePassManager()
            module = binding.parse_assembly(text)
            module.triple, module.data_layout = binding.get_default_triple(), str(machine.target_data)
            if not as_written:
                passes.run(module, builder)
            compiled = binding.ObjectFileRef.from_data(machine.emit_object(module))
            module.close()  # it is many times as large as the code
            self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), target_machine())
            self._engine.add_object_file(compiled)
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
