"""The origin of a variable: the user's file and line, and the layer that was being applied there."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from itertools import islice
from types import CodeType, FrameType
from typing import Any, NamedTuple

from minigraph.core.context import holds


class Origin(NamedTuple):
    """A line of the user's code, with the path of the layer being applied (empty outside of layers), and the line that called
    the function it stands in (empty if that is no line of the user's)."""

    filename: str
    line: int
    layer: str = ""
    caller: str = ""

    def __str__(self) -> str:
        place = f"{self.filename}:{self.line}"
        return f"{place}, in layer {self.layer}" if self.layer else place

    def trace(self) -> str:
        """The lines of a message that lead here."""
        return f"  at {self}\n  called from {self.caller}" if self.caller else f"  at {self}"


_carried: ContextVar[Origin | None] = ContextVar("minigraph_origin", default=None)
_layer: ContextVar[str] = ContextVar("minigraph_layer", default="")


_known: dict[tuple[int, int, int, int, str], tuple[Origin, CodeType, CodeType | None]] = {}
"""Origins by the instructions that were running, whose code objects are kept so that no other takes their place."""

MOST_KNOWN = 10_000
"""The number of origins that are kept before all are forgotten."""


def here() -> Origin:
    """The innermost line outside of minigraph, or the origin that `carry_origin` put in force."""
    carried = _carried.get()
    if carried is not None:
        return carried
    frame: Any = sys._getframe(1)
    while frame.f_globals.get("__name__", "").startswith("minigraph.") and frame.f_back is not None:
        frame = frame.f_back
    caller: Any = frame.f_back
    while caller is not None and caller.f_globals.get("__name__", "").startswith("minigraph."):
        caller = caller.f_back
    code, calling, called_at = frame.f_code, None, 0
    if caller is not None:
        calling, called_at = caller.f_code, caller.f_lasti
    key = (id(code), frame.f_lasti, id(calling), called_at, _layer.get())
    found = _known.get(key)
    return _remembered(key, frame, caller) if found is None else found[0]


def _remembered(key: tuple[int, int, int, int, str], frame: FrameType, caller: FrameType | None) -> Origin:
    """The origin of a running line, kept for the next time that it makes a variable."""
    if len(_known) >= MOST_KNOWN:
        _known.clear()
    origin = Origin(frame.f_code.co_filename, frame.f_lineno, key[-1], _caller_text(frame, caller))
    _known[key] = origin, frame.f_code, None if caller is None else caller.f_code
    return origin


def _is_ours(frame: FrameType) -> bool:
    """Whether a module of minigraph's is running."""
    name: str = frame.f_globals.get("__name__", "")
    return name.startswith("minigraph.") or name == "minigraph"


def is_internal(frame: FrameType) -> bool:
    """Whether a module of minigraph's, NumPy's or Python's is running."""
    filename = frame.f_code.co_filename
    if _is_ours(frame) or str(frame.f_globals.get("__name__", "")).startswith("numpy."):
        return True
    return _is_standard(filename)


def _caller_text(frame: FrameType, caller: FrameType | None) -> str:
    """The line that called the user's function, empty if that is one of Python's or of an installed library."""
    if caller is None or frame.f_code.co_name == "<module>":
        return ""
    filename = caller.f_code.co_filename
    if _is_standard(filename) or "site-packages" in filename:
        return ""
    return f"line {caller.f_lineno}" + ("" if filename == frame.f_code.co_filename else f" of {filename}")


_STANDARD_LIBRARY = os.path.dirname(warnings.__file__)


def _is_standard(filename: str) -> bool:
    """Whether code lies in Python's standard library."""
    return filename.startswith((_STANDARD_LIBRARY, "<frozen")) and "site-packages" not in filename


def carry_origin(origin: Origin) -> AbstractContextManager[None]:
    """Give every variable made inside the block this origin, as rewrites and gradients do."""
    return holds(_carried, origin)


def inside_layer(path: str) -> AbstractContextManager[None]:
    """Name the layer that is being applied inside the block."""
    return holds(_layer, path)


def carry_on(origin: Origin) -> None:
    """Change the origin that the enclosing `carry_origin` gives."""
    _carried.set(origin)


def current_layer() -> str:
    """The path of the layer that is being applied, empty outside of layers."""
    return _layer.get()


def place() -> str:
    """The user's line for a message, with what was called there and on what: two lines of text."""
    frame: FrameType | None = sys._getframe(1)
    call = None
    while frame is not None and _is_ours(frame):
        if frame.f_code not in GUARDS:
            call = frame
        frame = frame.f_back
    described = "" if call is None or call.f_code.co_name == "__init__" else f"  in {_call_text(call)}\n"
    return f"{described}{here().trace()}"


GUARDS: set[CodeType] = set()
"""The code of functions that only pass calls on, which no message names."""

_TAKES_VARARGS = 0x04  # inspect.CO_VARARGS


def call_text(name: str, args: Sequence[Any], options: Mapping[str, Any]) -> str:
    """A call of the function `name` with its arguments, `args` and by name `options`, as text."""
    named = [f"{key}={described(value)}" for key, value in options.items()]
    return f"{name}({', '.join([*(described(value) for value in args), *named])})"


def _call_text(frame: FrameType) -> str:
    """A running function with its arguments; an object that is called by its name."""
    code = frame.f_code
    starred = bool(code.co_flags & _TAKES_VARARGS)
    count, named = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    values = [frame.f_locals[name] for name in code.co_varnames[:count] if frame.f_locals.get(name) is not None]
    options = {name: frame.f_locals[name] for name in code.co_varnames[count:named] if frame.f_locals.get(name) is not None}
    called = code.co_name
    if called == "__call__" and values:
        usual = type(values[0]).__call__.__kwdefaults__ or {}
        options = {name: one for name, one in options.items() if usual.get(name) is not one}
        called = described(values.pop(0))
    rest = frame.f_locals.get(code.co_varnames[named]) if starred else None
    return call_text(called, [*values, *(rest if isinstance(rest, tuple) else ())], options)


def described(value: Any) -> str:
    """A value in a few words for a message: an array by its type, a function by its name, anything else as it shows itself."""
    if isinstance(value, list | tuple | dict):
        return _several(value)
    is_array = hasattr(value, "dtype") and hasattr(value, "shape") and not isinstance(value, type)
    if is_array and not hasattr(value, "origin"):
        return f"{value.dtype} {value.shape}"
    if callable(value) and hasattr(value, "__qualname__"):
        return str(value.__qualname__)
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a message about one error must not end in another
        text = type(value).__name__
    return without_contents(text if len(text) <= 120 else f"{text[:117]}...")


def _several(values: list[Any] | tuple[Any, ...] | dict[Any, Any]) -> str:
    """The first elements of a collection."""
    listed = (
        [f"{described(key)}: {described(one)}" for key, one in islice(values.items(), 4)]
        if isinstance(values, dict)
        else [described(one) for one in values[:4]]
    )
    opening, closing = {list: ("[", "]"), dict: ("{", "}")}.get(type(values), ("(", ")"))
    more = ["..."] if len(values) > 4 else [""] if isinstance(values, tuple) and len(values) == 1 else []
    return f"{opening}{', '.join([*listed, *more]).rstrip()}{closing}"


_ADDRESS = re.compile(r"<(?:function|bound method|built-in function|built-in method) ([^\s>]+)[^>]*>| at 0x[0-9a-fA-F]+")


def without_contents(text: str) -> str:
    """A text without the elements of arrays, and without addresses."""
    text = _ADDRESS.sub(lambda found: found[1] or "", text)
    while (start := text.find("array(")) >= 0:
        depth, end = 0, start + 5
        while end < len(text):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
            if not depth:
                break
        text = f"{text[:start]}an array{text[end:]}"
    return text


def warn(message: str) -> None:
    """A UserWarning at the user's line."""
    origin = here()
    warnings.warn_explicit(message, UserWarning, origin.filename, origin.line)
