"""A GPU on the host: a module that stands in for CuPy, compiling kernels with g++, so that backend "cupy" runs without a GPU.

Its arrays refuse what CuPy's refuse: to become NumPy arrays unasked, and to be mixed with them. Every copy between host and
device is counted.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minigraph.compiler.cuda import cublas
from minigraph.compiler.cuda.scalar_printer import PRELUDE
from support.sweep import IS_SWEEP

HERE = Path(__file__).parent
COMPILER = shutil.which("g++")
TRAPS = ["-fsanitize=alignment", "-fsanitize-undefined-trap-on-error"]
"""Where a GPU would stop: at a vector that does not begin where vectors may."""
FLAGS = [*TRAPS, "-std=c++17", "-fPIC", "-shared", "-w", "-fwrapv", "-ffp-contract=off"]
ALIGNMENT = 256


class Counts:
    """What has happened."""

    def __init__(self) -> None:
        self.to_device = self.to_host = self.launches = self.graphs = self.synchronized = 0


counts = Counts()


# -- arrays ----------------------------------------------------------------------------------------------------------


def aligned_empty(shape: Any, dtype: Any) -> np.ndarray:
    """Memory that begins where a GPU's allocations begin."""
    dtype = np.dtype(dtype)
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    size = int(np.prod(sizes, dtype=np.int64)) * dtype.itemsize
    memory = np.full(size + ALIGNMENT, 0xA5, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(sizes)


class Memory:
    """The address of an array."""

    def __init__(self, host: np.ndarray) -> None:
        self.ptr = host.ctypes.data if host.size else 0


class Flags:
    """What is known of an array's memory."""

    def __init__(self, host: np.ndarray, owns: bool) -> None:
        self.c_contiguous, self.f_contiguous, self.owndata = host.flags.c_contiguous, host.flags.f_contiguous, owns


class ndarray:
    """An array in the memory of the GPU that is none."""

    __array_priority__ = 100
    __array_ufunc__ = None

    def __init__(self, host: np.ndarray, owns: bool = True) -> None:
        self._host, self._owns = host, owns

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    strides = property(lambda self: self._host.strides)
    data = property(lambda self: Memory(self._host))
    flags = property(lambda self: Flags(self._host, self._owns))
    T = property(lambda self: ndarray(self._host.T, False))
    device = property(lambda self: types.SimpleNamespace(id=0))
    __cuda_array_interface__ = property(lambda self: {"version": 3, "data": (self._host.ctypes.data, False)})

    def set(self, value: np.ndarray) -> None:
        """Copy an array of the host over this one."""
        assert isinstance(value, np.ndarray)
        assert (value.shape, value.dtype) == (self.shape, self.dtype)
        counts.to_device += 1
        self._host[...] = value

    def get(self) -> np.ndarray:
        """A copy on the host."""
        counts.to_host += 1
        return self._host.copy()

    def __array__(self, *args: Any, **options: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def __getitem__(self, index: Any) -> Any:
        result = self._host[unwrapped(index)]
        return wrapped(result, result.base is None)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._host[unwrapped(index)] = unwrapped(value)

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Any:
        return (self[k] for k in range(len(self)))

    def __int__(self) -> int:
        counts.to_host += 1
        return int(self._host)

    __index__ = __int__

    def __float__(self) -> float:
        counts.to_host += 1
        return float(self._host)

    def __bool__(self) -> bool:
        counts.to_host += 1
        return bool(self._host)

    def item(self) -> Any:
        counts.to_host += 1
        return self._host.item()

    def copy(self) -> ndarray:
        return wrapped(self._host.copy())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        method = getattr(self._host, name)
        return lambda *args, **options: wrapped(method(*unwrapped(args), **unwrapped(options)))


def _operator(name: str) -> Any:
    def apply(self: ndarray, *others: Any) -> Any:
        with np.errstate(all="ignore"):
            return wrapped(getattr(self._host, name)(*unwrapped(others)))

    return apply


for _name in ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift", "matmul"]:
    for _form in (f"__{_name}__", f"__r{_name}__", f"__i{_name}__"):
        setattr(ndarray, _form, _operator(_form))
for _name in ["lt", "le", "gt", "ge", "eq", "ne", "neg", "abs", "invert"]:
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
ndarray.__hash__ = None  # type: ignore[assignment]


def wrapped(result: Any, owns: bool = True) -> Any:
    """Arrays, and NumPy's scalars, as arrays of the GPU; aligned as its allocations are, if they are new."""
    if isinstance(result, tuple | list):
        return type(result)(wrapped(one) for one in result) if not hasattr(result, "_fields") else tuple(map(wrapped, result))
    if isinstance(result, np.generic):
        result = np.asarray(result)
    if not isinstance(result, np.ndarray):
        return result
    if result.base is None and result.ctypes.data % ALIGNMENT:
        host = aligned_empty(result.shape, result.dtype)
        host[...] = result
        return ndarray(host)
    return ndarray(result, owns and result.base is None)


def unwrapped(given: Any) -> Any:
    """Arguments as NumPy takes them; arrays of the host are refused."""
    if isinstance(given, ndarray):
        return given._host
    if isinstance(given, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    if isinstance(given, tuple | list):
        return type(given)(map(unwrapped, given))
    if isinstance(given, dict):
        return {name: unwrapped(one) for name, one in given.items()}
    return given


class Namespace:
    """NumPy's functions for these arrays."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def __call__(self, *args: Any, **options: Any) -> Any:
        with np.errstate(all="ignore"):
            return wrapped(self._of(*unwrapped(args), **unwrapped(options)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self._of, name)
        if isinstance(found, type) or not (callable(found) or isinstance(found, types.ModuleType)):
            return found
        return Namespace(found)


# -- kernels ---------------------------------------------------------------------------------------------------------


def _directory() -> Path:
    """Where what was compiled is kept, for all processes of a run."""
    import os

    place = Path(os.environ.get("MINIGRAPH_CACHE") or tempfile.gettempdir()) / "host_cuda"
    place.mkdir(parents=True, exist_ok=True)
    return place


def _compiled(text: str, optimized: str) -> Path:
    """A shared library of some text."""
    place = _directory() / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.so"
    if not place.exists():
        with tempfile.TemporaryDirectory() as folder:
            source, made = Path(folder) / "x.cpp", Path(folder) / "x.so"
            source.write_text(text)
            subprocess.run([COMPILER, optimized, *FLAGS, "-I", HERE, source, "-o", made], check=True)
            shutil.copy(made, place.with_suffix(f".{id(source)}"))
            place.with_suffix(f".{id(source)}").rename(place)
    return place


@cache
def cublas_library() -> Path:
    """The stand-in for cuBLAS."""
    return _compiled((HERE / "cublas.cpp").read_text(), "-O3")


class Module:
    """Kernels of a source, compiled together with those of all other modules that wait, when the first is launched."""

    waiting: list[Module] = []
    dry = False
    """Whether launches do nothing, so that modules can be gathered."""
    seen: dict[str, str] = {}
    """Every function that was ever compiled, by its name."""

    def load(self, binary: bytes) -> None:
        """Take the source, which is all the binary there is."""
        code = binary.decode()
        assert code.startswith(PRELUDE)
        parts = re.split(r'(?m)^(?=__device__ void |extern "C" __global__ )', code[len(PRELUDE) :])
        self.functions = {re.search(r"\b((?:nest|kernel)_\w+)\(", part)[1]: part for part in parts if part.strip()}
        self._library: Any = None
        Module.waiting.append(self)
        Module.seen.update(self.functions)

    def get_function(self, name: str) -> Kernel:
        assert name in self.functions
        return Kernel(self, name)

    @property
    def library(self) -> Any:
        """The library that the kernels are in."""
        if self._library is None:
            waiting, Module.waiting = Module.waiting, []
            functions = {name: text for one in waiting for name, text in one.functions.items()}
            library = ctypes.CDLL(str(_compiled(_host_text(functions), "-O0")))
            for one in waiting:
                one._library = library
        return self._library


def _host_text(functions: dict[str, str]) -> str:
    """The source of a library of kernels."""
    lines = ['#include "shim.h"', *(text for name, text in functions.items() if name.startswith("nest"))]
    for name, text in functions.items():
        if name.startswith("kernel"):
            called = re.findall(r"\b(nest_\w+)\(", text)
            barriers = any("__syncthreads" in functions[one] or "__shfl" in functions[one] for one in called)
            lines.append(text)
            lines.append(
                f'extern "C" void launch_{name}(unsigned blocks, unsigned threads, void **given) '
                f"{{ run_grid<{name}>(blocks, threads, given, {str(barriers).lower()}); }}"
            )
    return "\n".join(lines)


NVCC = shutil.which("nvcc")
"""CUDA's own compiler, where it is installed."""
ARCHITECTURES = (80, 90)
"""Of the GPUs that kernels are compiled for, of the generations of A100 and of H100."""
SAMPLE = 8 if IS_SWEEP else 64
"""One kernel of this many is compiled down to machine code, which takes longest."""
TURNS = 1 if IS_SWEEP else 2 * len(ARCHITECTURES)
"""One kernel of this many is compiled to PTX for each generation, another one for each; in a sweep all are."""
_compiled_for_gpus: set[str] = set()


def compile_for_gpus() -> int:
    """Compile what this process has written since the last time with CUDA's own compiler; the number of its kernels."""
    kernels = sorted(name for name in Module.seen if name.startswith("kernel") and name not in _compiled_for_gpus)
    if NVCC is None or not kernels:
        return 0
    for place, architecture in enumerate(ARCHITECTURES):
        _compile(kernels[place % TURNS :: TURNS], ["-ptx", f"-arch=compute_{architecture}"])
        _compile(kernels[::SAMPLE], ["-cubin", f"-arch=sm_{architecture}", "-Xptxas=-O0"])
    _compiled_for_gpus.update(kernels)
    return len(kernels)


def _compile(kernels: list[str], options: list[str]) -> None:
    """Compile kernels, and the functions that they call; an error for whatever the compiler has to say."""
    called = dict.fromkeys(one for name in kernels for one in re.findall(r"\b(nest_\w+)\(", Module.seen[name]))
    text = "\n".join([PRELUDE, *(Module.seen[name] for name in (*called, *kernels))])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "x.cu").write_text(text)
        command = [NVCC, "-std=c++17", "--fmad=false", "-diag-suppress=177,39", "-Xcicc=-O0", *options, "x.cu", "-o", "x.out"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert not done.returncode and not done.stderr, done.stdout + done.stderr


_running = threading.Lock()


class Kernel:
    """A kernel that can be launched."""

    def __init__(self, module: Module, name: str) -> None:
        self._module, self._name, self._launch = module, name, None

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[int, ...]) -> None:
        assert len(grid) == len(block) == 1
        assert grid[0] > 0
        if Module.dry:
            return
        if self._launch is None:
            self._launch = getattr(self._module.library, f"launch_{self._name}")
        enqueue(lambda: self._run(grid[0], block[0], args))

    def _run(self, blocks: int, threads: int, args: tuple[int, ...]) -> None:
        counts.launches += 1
        with _running:
            self._launch(blocks, threads, (ctypes.c_void_p * len(args))(*args))


# -- streams ---------------------------------------------------------------------------------------------------------


def enqueue(task: Any) -> None:
    """Run a task now, or record it."""
    stream = current_streams()[-1]
    if stream.capture is None:
        task()
        return
    stream.capture.note_products(stream)
    stream.capture.programs[stream].append(task)


class Capture:
    """What streams record together, a program each, of tasks and of events that they record or wait for; products are recorded
    by the library itself.
    """

    def __init__(self) -> None:
        self.programs: dict[Stream, list[Any]] = {}
        self._library = ctypes.CDLL(str(cublas_library()))
        self._library.stand_in_record(1)
        self._products = self._library.stand_in_recorded()

    def note_products(self, stream: Stream) -> None:
        """Record the products since the last task, which were enqueued on a stream."""
        now = self._library.stand_in_recorded()
        self.programs[stream] += [lambda k=k: self._library.stand_in_replay(k) for k in range(self._products, now)]
        self._products = now

    def end(self, main: Stream) -> list[Any]:
        """Record nothing more; the tasks in an order that the events allow, those of the latest stream first."""
        self.note_products(current_streams()[-1])
        self._library.stand_in_record(0)
        tasks, recorded = [], set()
        places = dict.fromkeys(self.programs, 0)
        pending = True
        while pending:
            pending = False
            for stream in reversed(self.programs):
                program = self.programs[stream]
                while places[stream] < len(program):
                    entry = program[places[stream]]
                    if isinstance(entry, tuple) and entry[0] == "wait" and entry[1] not in recorded:
                        break
                    if isinstance(entry, tuple):
                        recorded.add(entry[1])
                    else:
                        tasks.append(entry)
                    places[stream] += 1
                    pending = True
        waited = {entry[1] for entry in self.programs[main] if isinstance(entry, tuple) and entry[0] == "wait"}
        for stream, program in self.programs.items():
            if stream is not main and not (isinstance(program[-1], tuple) and program[-1][1] in waited):
                raise RuntimeError("cudaErrorStreamCaptureUnjoined")
        return tasks


@contextlib.contextmanager
def in_one_piece() -> Any:
    """What CuPy does in one C call, which Ctrl-C cannot split."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *given: came.append(given))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came and callable(before):
            before(*came[0])


class Graph:
    """Tasks that were recorded."""

    def __init__(self, tasks: list[Any]) -> None:
        self.tasks = tasks

    def launch(self, stream: Any = None) -> None:
        counts.graphs += 1
        with in_one_piece():
            for task in self.tasks:
                task()


class Stream:
    """A stream, on which everything happens at once unless it is recorded."""

    def __init__(self, non_blocking: bool = False, null: bool = False) -> None:
        self.ptr = 0 if null else id(self)
        self.capture: Capture | None = None

    def __enter__(self) -> Stream:
        current_streams().append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        if self.capture is not None:
            self.capture.note_products(self)
        current_streams().pop()

    def begin_capture(self, mode: Any = None) -> None:
        assert self.ptr, "the default stream cannot be captured"
        self.capture = Capture()
        self.capture.programs[self] = []

    def wait_event(self, event: Event) -> None:
        """Go on after an event; after one of a capture, as part of it."""
        if event.stream.capture is not None:
            self.capture = event.stream.capture
            self.capture.note_products(current_streams()[-1])
            self.capture.programs.setdefault(self, []).append(("wait", event.moment))

    def end_capture(self) -> Graph:
        capture = self.capture
        try:
            return Graph(capture.end(self))
        finally:
            for stream in capture.programs:
                stream.capture = None

    def synchronize(self) -> None:
        counts.synchronized += 1


NULL = Stream(null=True)
_threads = threading.local()


def current_streams() -> list[Stream]:
    """The streams that this thread has chosen, the last of them in use."""
    return vars(_threads).setdefault("streams", [NULL])


class Event:
    """A moment on a stream."""

    def __init__(self, disable_timing: bool = False) -> None:
        self.stream = current_streams()[-1]

    def record(self, stream: Stream | None = None) -> None:
        self.stream, self.time = stream or current_streams()[-1], time.perf_counter()
        self.moment = object()
        if self.stream.capture is not None:
            self.stream.capture.note_products(current_streams()[-1])
            self.stream.capture.programs[self.stream].append(("record", self.moment))

    def synchronize(self) -> None:
        counts.synchronized += 1


class OutOfMemoryError(MemoryError):
    """What CuPy raises."""


class Device:
    """The one device."""

    compute_capability = "90"

    def __init__(self, number: int = 0) -> None:
        self.id = number

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: Any) -> None:
        return


class Limit:
    """How many bytes may still be allocated; None for no limit."""

    left: int | None = None


def _allocated(shape: Any, dtype: Any) -> np.ndarray:
    """Memory for an array, if there is any left."""
    host = aligned_empty(shape, dtype)
    if Limit.left is not None:
        if host.nbytes > Limit.left:
            raise OutOfMemoryError(f"Out of memory allocating {host.nbytes} bytes")
        Limit.left -= host.nbytes
        owner = host
        while owner.base is not None:
            owner = owner.base
        weakref.finalize(owner, _give_back, host.nbytes)
    return host


def _give_back(size: int) -> None:
    """Memory that is free again."""
    if Limit.left is not None:
        Limit.left += size


def make_cupy(driver: int = 13000, runtime: int = 13000, devices: int = 1) -> types.ModuleType:
    """The module that stands in for CuPy."""
    cupy = types.ModuleType("cupy")
    space = Namespace(np)
    cupy.__getattr__ = lambda name: getattr(space, name)  # type: ignore[method-assign]
    cupy.ndarray, cupy.__version__ = ndarray, "on the host"

    def array(value: Any, dtype: Any = None, copy: bool = True, order: str = "K") -> ndarray:
        if isinstance(value, ndarray):
            made = np.array(value._host, dtype=dtype, order=order)
        else:
            made = np.array(value, dtype=dtype, order=order)
            counts.to_device += isinstance(value, np.ndarray)
        host = _allocated(made.shape, made.dtype) if made.flags.c_contiguous else np.empty_like(made)
        host[...] = made
        return ndarray(host)

    def asarray(value: Any, dtype: Any = None) -> ndarray:
        if isinstance(value, ndarray) and dtype in (None, value.dtype):
            return value
        return array(value, dtype)

    def asnumpy(value: ndarray) -> np.ndarray:
        return value.get() if isinstance(value, ndarray) else np.asarray(value)

    def empty(shape: Any, dtype: Any = float) -> ndarray:
        return ndarray(_allocated(shape, dtype))

    def compiled(source: str, options: tuple[str, ...], cache_in_memory: bool) -> tuple[bytes, None]:
        assert options == ("--std=c++17", "--fmad=false")
        return source.encode(), None

    def memset(address: int, value: int, size: int, stream: int) -> None:
        assert stream == current_streams()[-1].ptr
        enqueue(lambda: ctypes.memset(address, value, size))

    def memcpy(to: int, source: int, size: int, kind: int, stream: int) -> None:
        assert stream == current_streams()[-1].ptr
        assert kind == 3, "between places on the device"
        enqueue(lambda: ctypes.memmove(to, source, size))

    cupy.array, cupy.asarray, cupy.asnumpy, cupy.empty = array, asarray, asnumpy, empty
    cupy.ascontiguousarray = lambda value: value if value.flags.c_contiguous else array(value, order="C")
    cupy.from_dlpack = lambda value: ndarray(value.lent()._host, False)
    cupy.get_default_memory_pool = lambda: types.SimpleNamespace(free_all_blocks=lambda: None)
    runtime_module = types.SimpleNamespace(
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: runtime,
        getDeviceCount=lambda: devices,
        getDevice=lambda: 0,
        getDeviceProperties=lambda number: {"name": b"a GPU on the host", "totalGlobalMem": 2**34},
        memsetAsync=memset,
        memcpyAsync=memcpy,
        memcpyDeviceToDevice=3,
    )
    cupy.cuda = types.SimpleNamespace(
        runtime=runtime_module,
        Device=Device,
        compiler=types.SimpleNamespace(compile_using_nvrtc=compiled),
        function=types.SimpleNamespace(Module=Module),
        Stream=Stream,
        Event=Event,
        get_elapsed_time=lambda before, after: 1000 * (after.time - before.time),
        get_current_stream=lambda: current_streams()[-1],
        memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        is_available=lambda: devices > 0,
    )
    return cupy


def install(monkeypatch: Any, **options: int) -> types.ModuleType:
    """Let backend "cupy" run on the host for the time of a test."""
    cupy = make_cupy(**options)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cublas, "loaded_library", lambda version: str(cublas_library()))
    return cupy
