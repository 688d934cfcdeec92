"""The choice of the backend that runs a function, and of its passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import numpy as np

from minigraph.compiler.cpu import jit
from minigraph.compiler.cpu.backend import NATIVE, Native
from minigraph.compiler.cuda.backend import CUDA, Gpu
from minigraph.compiler.cuda.plan import Device
from minigraph.compiler.interpreted import Backend
from minigraph.compiler.passes import GraphPass, Journal, Pass, Pipeline, check_name
from minigraph.compiler.pipeline import PASSES, SECLUDE
from minigraph.core.config import BACKENDS, config, known_backends
from minigraph.core.errors import ExecutionError, InvalidTypeError, InvalidValueError, MissingExtraError
from minigraph.core.graph import Graph
from minigraph.core.record import Record
from minigraph.core.wishes import After, Wish
from minigraph.rewrite.engine import Rule, rewrite
from minigraph.rewrite.lower import keep_whole

INTERPRETED = Pipeline((SECLUDE, Pass(keep_whole), *PASSES))


def _numpy(pipeline: Pipeline, journal: Journal) -> Backend:
    """Ops of NumPy, one after the other."""
    return Backend("numpy", np, pipeline, journal)


def _native(pipeline: Pipeline, journal: Journal) -> Backend:
    """Machine code for this processor; MissingExtraError without llvmlite."""
    jit.llvm()
    return Native("native", np, pipeline, journal)


def _cupy(pipeline: Pipeline, journal: Journal) -> Backend:
    """Kernels for a GPU; an error that says what is missing where there is none."""
    cupy = usable_cupy()
    return Gpu("cupy", cupy, pipeline, journal, config.device, Device(cupy))


class Machine(Record):
    """A target that functions can be compiled for: its passes, and the function that makes a backend of them."""

    pipeline: Pipeline
    make: Callable[[Pipeline, Journal], Backend]


machines = {"numpy": Machine(INTERPRETED, _numpy), "native": Machine(NATIVE, _native), "cupy": Machine(CUDA, _cupy)}
"""All backends by their names."""

_registered: list[After] = []


def register_backend(name: str, pipeline: Pipeline, make: Callable[[Pipeline, Journal], Backend]) -> None:
    """Let functions be compiled by a backend from outside of the package (`docs/write_a_backend.md`).

    name: what `function(..., backend=)` and `mg.config.backend` call it. pipeline: its passes. make: what makes the backend of
    one function, from the passes that are asked for, and from the journal that is told of them.
    ValueError for a name that is taken, TypeError for anything that is no name, no pipeline, or no function.
    """
    if not isinstance(name, str) or not isinstance(pipeline, Pipeline) or not callable(make):
        raise InvalidTypeError(f"a backend has a name, a Pipeline, and a function, not {name!r}, {pipeline!r} and {make!r}")
    if name in machines:
        raise InvalidValueError(f"there is a backend {name!r} already")
    machines[name] = Machine(pipeline, make)
    known_backends.append(name)


def unregister_backend(name: str) -> None:
    """Forget a backend that `register_backend` added; functions that it has compiled go on. ValueError if it was not added."""
    if name not in machines or name in BACKENDS:
        raise InvalidValueError(f"{name!r} is no backend that was registered")
    del machines[name]
    known_backends.remove(name)


def pass_names() -> tuple[str, ...]:
    """The names of all passes, whatever backend they are of."""
    return tuple(dict.fromkeys(name for one in machines.values() for name in one.pipeline.names))


def register_rule(rule: Rule, after: str) -> None:
    """Let a rewrite rule run in every function that is compiled from now on, after each run of the pass called `after`.

    rule: a function that takes a variable and returns an equal one of the same type, or None where it does not apply.
    after: the name of a pass; functions that leave it out, or whose backend lacks it, do without the rule.
    TypeError if `rule` cannot be called; ValueError if no backend has a pass of this name.

    >>> from minigraph.ops.elementwise.arithmetic import Log
    >>> from minigraph.ops.elementwise.transcendental import Exp
    >>> def cancel_log_of_exp(variable):
    ...     match variable:
    ...         case mg.Variable(Log(), (mg.Variable(Exp(), (x,)),)):
    ...             return x
    >>> mg.register_rule(cancel_log_of_exp, after="simplify")
    >>> mg.unregister_rule(cancel_log_of_exp)
    """
    if not callable(rule):
        raise InvalidTypeError(f"a rule is a function from a variable to a variable or None, not {rule!r}")
    check_name(after, pass_names())
    _registered.append(After(after, _applying(rule)))


def unregister_rule(rule: Rule) -> None:
    """Leave out a rule that `register_rule` added; ValueError if it was not."""
    found = [one for one in _registered if getattr(one.run, "__wrapped__", None) is rule]
    if not found:
        raise InvalidValueError(f"{rule!r} is no rule that was registered")
    for one in found:
        _registered.remove(one)


def _applying(rule: Rule) -> GraphPass:
    """The pass that applies a rule wherever it can."""

    @wraps(rule)
    def apply(graph: Graph) -> Graph:
        return rewrite(graph, [rule])

    return apply


def choose(name: str | None, wishes: Iterable[Wish] = (), journal: Journal | None = None) -> Backend:
    """The backend of this name, an error that says why where it cannot run.

    wishes: passes to leave out and to add. journal: what is told of passes while functions are compiled.

    For None what `config.backend` or the environment variable MINIGRAPH_BACKEND says; else the native one if llvmlite is
    installed, else NumPy.
    """
    wanted = name or config.backend or ("native" if jit.is_available() else "numpy")
    if wanted not in machines:
        raise InvalidValueError(f"there is no backend {wanted!r}; use one of {tuple(known_backends)}")
    machine = machines[wanted]
    return machine.make(machine.pipeline.changed((*_registered, *wishes), pass_names()), journal or Journal())


def usable_cupy() -> Any:
    """CuPy, if it is installed and can use the GPU that `config.device` names; otherwise an error that says what is missing."""
    try:
        import cupy
    except ImportError as error:
        raise MissingExtraError(
            "backend 'cupy' needs CuPy: install minigraph[cuda13] or minigraph[cuda12], whichever fits the CUDA driver"
        ) from error
    runtime = cupy.cuda.runtime
    driver, library = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    if not driver:
        raise ExecutionError("backend 'cupy' needs a CUDA GPU with its driver, and no driver is installed on this machine")
    if driver // 1000 < library // 1000:
        raise ExecutionError(
            f"backend 'cupy': the driver is too old: it supports CUDA {_version(driver)}, and this CuPy needs CUDA "
            f"{library // 1000}; update the driver, or install minigraph[cuda{driver // 1000}]"
        )
    try:
        count = runtime.getDeviceCount()
    except RuntimeError:  # CuPy's error for no device
        count = 0
    if not count:
        raise ExecutionError("backend 'cupy' needs a CUDA GPU, and the driver finds none on this machine")
    if config.device >= count:
        raise ExecutionError(f"backend 'cupy': config.device is {config.device}, and there are GPUs 0 to {count - 1}")
    return cupy


def gpu_in_use() -> str:
    """The GPU that `config.device` names, and for which CUDA its driver is."""
    runtime = usable_cupy().cuda.runtime
    found = runtime.getDeviceProperties(config.device)
    name, size = found["name"].decode(), found["totalGlobalMem"] / 2**30
    return f"{name} ({size:.0f} GiB), device {config.device}, driver for CUDA {_version(runtime.driverGetVersion())}"


def _version(number: int) -> str:
    """A version of CUDA as one writes it."""
    return f"{number // 1000}.{number % 1000 // 10}"
