"""Pickles, of which only data is understood: numbers, strings, lists, dicts, and what a format says of its own classes.

No class is looked up and nothing is called that a file names: a format gives a table of the names that it knows, with functions
of its own for them. All else, however harmless, is refused by name.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from minigraph.core.errors import FileFormatError
from minigraph.files.bounded import Array

Names = Mapping[str, Callable[..., Any]]
"""For each `module.name` that a pickle may call a function that takes its place."""

MARK = object()
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BYTEARRAY8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "STRING", "BINSTRING",
    "SHORT_BINSTRING",
}  # fmt: skip
"""The opcodes that push what they carry."""
EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
NOTHING = {"PROTO", "FRAME"}


class Named:
    """A name that a pickle refers to, with the function that takes its place."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name, self.function = name, function


class Filled:
    """An object of a class that a format knows, whose state a pickle sets afterwards."""

    def fill(self, state: Any) -> None:
        """Take a state."""
        raise FileFormatError(f"{type(self).__name__} takes no state")


class Deferred:
    """Stands for an array that is made when it is asked for."""

    def array(self) -> Array:
        """The array; FileFormatError if it cannot be."""
        raise FileFormatError(f"{type(self).__name__} has no array")


class Reader:
    """The machine that a pickle is a program of, as far as data needs it."""

    def __init__(self, names: Names, persistent: Callable[[Any], Any] | None = None) -> None:
        """names: what may be called. persistent: a function from what stands for an object outside of the pickle to that."""
        self._names, self._persistent = names, persistent

    def value(self, file: Any) -> Any:
        """The value of the pickle that an open file goes on with; FileFormatError for anything that is not data."""
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        try:
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "STOP":
                    return self._stack.pop()
                self._step(opcode.name, argument)
        except FileFormatError:
            raise
        except (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError, StopIteration) as error:
            raise FileFormatError(f"its pickle is damaged: {type(error).__name__} {error}") from None
        raise FileFormatError("its pickle does not end")

    def _step(self, name: str, argument: Any) -> None:
        """Do what an opcode says."""
        stack = self._stack
        match name:
            case "MARK":
                stack.append(MARK)
            case _ if name in CONSTANTS:
                stack.append(CONSTANTS[name])
            case _ if name in VALUES:
                stack.append(argument)
            case _ if name in EMPTY:
                stack.append(EMPTY[name]())
            case "TUPLE" | "LIST":
                stack.append((tuple if name == "TUPLE" else list)(self._marked()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            case "DICT":
                flat = self._marked()
                stack.append(dict(zip(flat[::2], flat[1::2], strict=True)))
            case "APPEND":
                _as(list, stack[-2]).append(stack.pop())
            case "APPENDS":
                items = self._marked()
                _as(list, stack[-1]).extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _as(dict, stack[-1])[_key(key)] = value
            case "SETITEMS":
                flat = self._marked()
                _as(dict, stack[-1]).update(zip(map(_key, flat[::2]), flat[1::2], strict=True))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._marked()
            case _ if name not in NOTHING:
                self._call(name, argument)

    def _call(self, name: str, argument: Any) -> None:
        """Do what an opcode says that refers to something by name."""
        stack = self._stack
        match name:
            case "GLOBAL":
                stack.append(self.named(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(self.named(f"{module}.{attribute}"))
            case "REDUCE" | "NEWOBJ":
                arguments, called = stack.pop(), stack.pop()
                stack.append(_as(Named, called).function(*_as(tuple, arguments)))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Filled):
                    stack[-1].fill(state)
                elif not isinstance(stack[-1], dict):  # what an OrderedDict has besides its items is of no interest
                    raise FileFormatError(f"its pickle sets the state of a {type(stack[-1]).__name__}")
            case "BINPERSID" if self._persistent is not None:
                stack.append(self._persistent(stack.pop()))
            case _:
                raise FileFormatError(f"its pickle has the opcode {name}, which data does not need")

    def named(self, name: str) -> Named:
        """A name that may be called."""
        if name not in self._names:
            raise FileFormatError(f"its pickle refers to {name[:80]!r}, which is not loaded: only arrays, lists and dicts are")
        return Named(name, self._names[name])

    def _marked(self) -> list[Any]:
        """The items above the last mark of the stack, taken off with it."""
        place = next(k for k in reversed(range(len(self._stack))) if self._stack[k] is MARK)
        items = self._stack[place + 1 :]
        del self._stack[place:]
        return items


def _as(kind: Any, value: Any) -> Any:
    """A value of a kind; TypeError for any other."""
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} stands where it cannot")
    return value


def _key(value: Any) -> Any:
    """A key of a dict: a string or a number."""
    return _as((str, int, float, bytes), value)
