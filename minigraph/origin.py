"""Where a variable came from: the user's file and line, and the layer that was being applied there."""

from __future__ import annotations

import sys
import warnings
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from minigraph.context import holds


class Origin(NamedTuple):
    """A line of the user's code, with the path of the layer being applied (empty outside of layers)."""

    filename: str
    line: int
    layer: str = ""

    def __str__(self) -> str:
        place = f"{self.filename}:{self.line}"
        return f"{place}, in layer {self.layer}" if self.layer else place


_carried: ContextVar[Origin | None] = ContextVar("minigraph_origin", default=None)
_layer: ContextVar[str] = ContextVar("minigraph_layer", default="")


def here() -> Origin:
    """The innermost line outside of minigraph, or the origin that `carry_origin` put in force."""
    carried = _carried.get()
    if carried is not None:
        return carried
    frame = sys._getframe(1)
    while frame.f_back is not None and (frame.f_globals.get("__name__", "") + ".").startswith("minigraph."):
        frame = frame.f_back
    return Origin(frame.f_code.co_filename, frame.f_lineno, _layer.get())


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
    while frame is not None and (frame.f_globals.get("__name__", "") + ".").startswith("minigraph."):
        call, frame = frame, frame.f_back
    described = "" if call is None or call.f_code.co_name == "__init__" else f"  in {_call_text(call)}\n"
    return f"{described}  at {here()}"


_TAKES_VARARGS = 0x04  # inspect.CO_VARARGS


def _call_text(frame: FrameType) -> str:
    """A running function with its arguments."""
    code = frame.f_code
    starred = bool(code.co_flags & _TAKES_VARARGS)
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount + starred]
    given = ", ".join(_argument_text(frame.f_locals[name]) for name in names if frame.f_locals.get(name) is not None)
    return f"{code.co_name}({given})"


def _argument_text(value: Any) -> str:
    """An argument in a few words: an array by its type, anything else by its representation, cut short."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a message about one error must not end in another
        text = type(value).__name__
    return text if len(text) <= 120 else f"{text[:117]}..."


def warn(message: str) -> None:
    """A UserWarning at the user's line."""
    origin = here()
    warnings.warn_explicit(message, UserWarning, origin.filename, origin.line)
