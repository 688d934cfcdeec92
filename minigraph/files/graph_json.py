"""Graphs as JSON and arrays: a list of variables, each an op by name and fields, and the numbers of its operands.

Nothing is run that a file brings: names are looked up among the ops that there are, and those that were registered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from inspect import signature
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from minigraph.core import errors
from minigraph.core.errors import FileFormatError, InvalidTypeError, InvalidValueError, MinigraphError
from minigraph.core.graph import Composite, Constant, Graph, Input, Op, Shared, Types, Variable, toposort
from minigraph.core.origin import Origin
from minigraph.core.record import Record
from minigraph.core.state import Cell, on_host, snapshot
from minigraph.core.types import TensorType
from minigraph.files.bounded import Array
from minigraph.ops.array.entries import Hole, Range

_registered: dict[str, type[Op]] = {}


def register_op(op: type[Op]) -> type[Op]:
    """Let files of functions name an op that is not minigraph's own, by the name of its class; this decorates the class.

    InvalidTypeError for anything but a class of ops; InvalidValueError for a name that another op has.
    """
    if not (isinstance(op, type) and issubclass(op, Op)):
        raise InvalidTypeError(f"register_op takes a class of ops, not {op!r}")
    if known_ops().get(op.__name__, op) is not op:
        raise InvalidValueError(f"another op is named {op.__name__!r}; give this one a name of its own")
    _registered[op.__name__] = op
    return op


def known_ops() -> dict[str, type[Op]]:
    """The ops that files may name, by the names of their classes."""
    found = {one.__name__: one for one in _concrete(Op) if one.__module__.startswith(("minigraph.ops.", "minigraph.core."))}
    return found | _registered


def _concrete(base: type[Op]) -> Iterator[type[Op]]:
    """The classes below a class of ops that compute something."""
    for one in base.__subclasses__():
        expands = issubclass(one, Composite) and one.expand is not Composite.expand
        if one.forward is not Op.forward or expands or one in (Input, Constant, Shared):
            yield one
        yield from _concrete(one)


# -- writing -------------------------------------------------------------------------------------------------------------


class GraphWriter:
    """Graphs as JSON, and the arrays of their constants and of their state, which are gathered along the way."""

    def __init__(self) -> None:
        self.arrays: dict[str, Array] = {}
        self._cells: dict[Cell, str] = {}
        self._ops = known_ops()

    def graph(self, graph: Graph) -> dict[str, Any]:
        """A graph: its variables, in an order in which each comes after its operands, and the numbers of its roots."""
        order = toposort([*graph.inputs, *(target for target, _ in graph.updates), *graph.roots])
        numbers = {variable: number for number, variable in enumerate(order)}
        return {
            "variables": [self._variable(one, numbers) for one in order],
            "inputs": [numbers[one] for one in graph.inputs],
            "outputs": [numbers[one] for one in graph.outputs],
            "updates": [[numbers[target], numbers[value]] for target, value in graph.updates],
        }

    def state(self) -> dict[str, Array]:
        """The arrays of state, which belong together."""
        return dict(zip(self._cells.values(), map(on_host, snapshot([*self._cells])), strict=True))

    def _variable(self, variable: Variable, numbers: Mapping[Variable, int]) -> dict[str, Any]:
        """A variable."""
        kind: Any = variable.type
        record: dict[str, Any] = {"op": self._op(variable), "inputs": [numbers[one] for one in variable.inputs]}
        record["type"] = {"results": [*map(_said, kind)]} if isinstance(kind, tuple) else _said(kind)
        record["at"] = [variable.origin.filename, variable.origin.line, variable.origin.layer]
        return record | ({} if variable.name is None else {"name": variable.name})

    def _op(self, variable: Variable) -> Any:
        """The op of a variable; the values of constants and of state are arrays."""
        op = variable.op
        match op:
            case Input():
                return {"op": "Input"}
            case Shared(cell):
                return {"op": "Shared", "state": self._cells.setdefault(cell, f"state_{len(self._cells)}")}
            case Constant(value, exact):
                record = {"op": "Constant", "value": self.array("constant", value)}
                return record if exact is None else record | {"exact": self.array("constant", exact)}
        try:
            return self._field(op)
        except InvalidTypeError as error:
            raise InvalidTypeError(f"{type(op).__name__}, used at {variable.origin}, {error.message}") from None

    def default(self, value: Any) -> Any:
        """The default value of an input: an array, or a number of Python's, which takes the dtype of the input."""
        if isinstance(value, bool | int | float):
            return self._field(value)
        return {"array": self.array("default", np.asarray(value))}

    def array(self, kind: str, array: Array) -> str:
        """The name under which an array is written."""
        name = f"{kind}_{len(self.arrays)}"
        self.arrays[name] = array
        return name

    def _field(self, value: Any) -> Any:
        """A value that a field of an op has; InvalidTypeError for one that no file can hold."""
        match value:
            case None | bool() | int() | str():
                return value
            case float():
                return {"float": value.hex()}
            case tuple():
                return [self._field(one) for one in value]
            case np.dtype():
                return {"dtype": value.name}
            case Graph():
                return {"graph": self.graph(value)}
            case Op() | Range() | Hole():
                name = type(value).__name__
                if isinstance(value, Op) and self._ops.get(name) is not type(value):
                    raise InvalidTypeError("is no op that files know: register it by minigraph.files.register_op")
                return {"op": name, **{field: self._field(one) for field, one in value.particulars().items()}}
            case type() if issubclass(value, MinigraphError) and value.__name__ in errors.__all__:
                return {"error": value.__name__}
        raise InvalidTypeError(f"holds {value!r}, which no file can: a function of Python's, say")


# -- reading -------------------------------------------------------------------------------------------------------------


class GraphReader:
    """Graphs from JSON, with the arrays of their constants and of their state, by name."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self.arrays = arrays
        self._cells: dict[str, Cell] = {}
        self._ops = known_ops() | {"Range": Range, "Hole": Hole}

    def graph(self, record: Any) -> Graph:
        """A graph from its JSON; FileFormatError if that is damaged."""
        fields = _fields(record, {"variables", "inputs", "outputs", "updates"}, "a graph")
        made: list[Variable] = []
        for number, one in enumerate(_listed(fields["variables"], "variables")):
            try:
                made.append(self._variable(one, made))
            except FileFormatError:
                raise
            except Exception as error:  # whatever an op has to say of what it was given
                raise FileFormatError(f"variable {number} cannot be made: {error}") from None
        pairs = [_numbered(pair, made, "an update") for pair in _listed(fields["updates"], "updates")]
        if any(len(pair) != 2 for pair in pairs):
            raise FileFormatError("an update must be a pair")
        inputs, outputs = (_numbered(fields[name], made, name) for name in ("inputs", "outputs"))
        return Graph(inputs, outputs, tuple([(target, value) for target, value in pairs]))

    def _variable(self, record: Any, made: list[Variable]) -> Variable:
        """A variable over those that were made before it."""
        fields = _fields(record, {"op", "inputs", "type", "at"}, "a variable", {"name"})
        inputs = _numbered(fields["inputs"], made, "inputs")
        op, kind = self._op(fields["op"]), _type(fields["type"])
        if not isinstance(op, Input):
            inferred = _inferred(op, inputs)
            if not _agree(inferred, kind):
                raise FileFormatError(f"{type(op).__name__} gives {_shown(inferred)}, and the file says {_shown(kind)}")
        elif isinstance(kind, tuple):
            raise FileFormatError("an input has one type")
        filename, line, layer = _listed(fields["at"], "a place")
        if not isinstance(filename, str) or type(line) is not int or not isinstance(layer, str):
            raise FileFormatError("a place must be a name, a number and a layer")
        name = fields.get("name")
        if name is not None and not isinstance(name, str):
            raise FileFormatError("a name must be a string")
        return Variable(op, inputs, kind, name, (), Origin(filename, line, layer))

    def _op(self, record: Any) -> Op:
        """An op."""
        if isinstance(record, dict) and record.get("op") in ("Input", "Constant", "Shared"):
            if record == {"op": "Input"}:
                return Input()
            if record["op"] == "Shared":
                name = _fields(record, {"op", "state"}, "Shared")["state"]
                return Shared(self._cells.setdefault(name, Cell(self.array(name).copy())))
            fields = _fields(record, {"op", "value"}, "Constant", {"exact"})
            exact = self.array(fields["exact"]) if "exact" in fields else None
            return Constant(self.array(fields["value"]), exact)
        op = self._field(record)
        if not isinstance(op, Op):
            raise FileFormatError(f"{str(record)[:80]} is no op")
        return op

    def default(self, record: Any) -> Any:
        """The default value of an input."""
        match record:
            case {"array": name, **rest} if not rest:
                return self.array(name)
        return self._field(record)

    def array(self, name: Any) -> Array:
        """An array of the file."""
        if not isinstance(name, str) or name not in self.arrays:
            raise FileFormatError(f"there is no array {str(name)[:80]!r}")
        return self.arrays[name]

    def _field(self, record: Any) -> Any:
        """The value of a field."""
        match record:
            case None | bool() | int() | str():
                return record
            case list():
                return tuple([self._field(one) for one in record])
            case {"float": str(text), **rest} if not rest:
                return float.fromhex(text)
            case {"dtype": str(name), **rest} if not rest:
                return _dtype(name)
            case {"graph": graph, **rest} if not rest:
                return self.graph(graph)
            case {"error": str(name), **rest} if not rest and name in errors.__all__:
                return vars(errors)[name]
            case {"op": str(name), **rest}:
                kind: type[Record] | None = self._ops.get(name)
                if kind is None or kind in (Input, Constant, Shared):
                    raise FileFormatError(f"there is no op {name[:80]!r}; ops of your own must be registered before")
                made = kind(**{str(field): self._field(one) for field, one in rest.items()})
                _check_fields(made)
                return made
        raise FileFormatError(f"{str(record)[:80]} is no value of a field")


def _fields(record: Any, needed: set[str], what: str, optional: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
    """The fields of a record of JSON; an error for one that lacks or is too many."""
    if not isinstance(record, dict) or not needed <= set(record) <= needed | optional:
        raise FileFormatError(f"{what} must have the fields {', '.join(sorted(needed))}, not {str(record)[:80]}")
    return record


def _listed(value: Any, what: str) -> list[Any]:
    """A list of JSON; an error for anything else."""
    if not isinstance(value, list):
        raise FileFormatError(f"{what} must be a list, not {str(value)[:80]}")
    return value


def _numbered(numbers: Any, made: list[Variable], what: str) -> tuple[Variable, ...]:
    """The variables of some numbers, all of which were made before."""
    listed = _listed(numbers, what)
    if not all(type(one) is int and 0 <= one < len(made) for one in listed):
        raise FileFormatError(f"{what} must be numbers of variables that come before, not {str(numbers)[:80]}")
    return tuple([made[one] for one in listed])


def _inferred(op: Op, inputs: tuple[Variable, ...]) -> Types:
    """The type of what an op makes of operands; an error for a number of operands that it does not take."""
    if isinstance(op, Constant | Shared):
        array = op.value if isinstance(op, Constant) else op.cell.value
        return TensorType(array.dtype, array.shape)
    if isinstance(op, Composite):
        signature(op.expand).bind(*inputs)
    else:
        signature(op.forward).bind(np, *inputs)
    return op.infer(*[one.type for one in inputs])


def _check_fields(record: Record) -> None:
    """An error for a field that is not of the type that its class says."""
    for name, kind in _hints(type(record)).items():  # type: ignore[arg-type]  # classes are hashable
        if name in record.__match_args__ and not _is_of(vars(record)[name], kind):
            raise FileFormatError(f"{type(record).__name__} cannot have {name}={str(vars(record)[name])[:80]}")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    """The types of a class's attributes, as its annotations say."""
    return get_type_hints(kind)


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of the type that an annotation says."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, UnionType):
        return any(_is_of(value, one) for one in arguments)
    if origin is tuple:
        if arguments[1:] == (...,):
            return isinstance(value, tuple) and all(_is_of(one, arguments[0]) for one in value)
        return isinstance(value, tuple) and len(value) == len(arguments) and all(map(_is_of, value, arguments))
    if origin is type:
        return isinstance(value, type) and issubclass(value, arguments)
    if kind in (int, float):
        return type(value) is kind or (kind is float and type(value) is int)
    return isinstance(value, origin or kind)


def _said(kind: TensorType) -> list[Any]:
    """A type as JSON."""
    return [kind.dtype.name, [None if size is None else int(size) for size in kind.shape]]


def _type(record: Any) -> Types:
    """A type, or those of several results."""
    match record:
        case {"results": list(kinds), **rest} if not rest:
            return tuple([_single(one) for one in kinds])
    return _single(record)


def _single(record: Any) -> TensorType:
    """The type of an array."""
    match record:
        case [str(name), list(sizes)] if all(one is None or (type(one) is int and 0 <= one < 2**62) for one in sizes):
            return TensorType(_dtype(name), tuple(sizes))
    raise FileFormatError(f"{str(record)[:80]} is no type")


def _dtype(name: str) -> np.dtype[Any]:
    """A dtype of those that arrays may have."""
    if name not in DTYPES:
        raise FileFormatError(f"there is no dtype {name[:80]!r}")
    return np.dtype(name)


DTYPES = {np.dtype(code).name for code in "?bBhHiIqQefd"}
"""The names of the dtypes of arrays."""


def _agree(inferred: Types, said: Types) -> bool:
    """Whether a type that was found agrees with one that a file says, where both know a size."""
    if isinstance(inferred, tuple) or isinstance(said, tuple):
        both = isinstance(inferred, tuple) and isinstance(said, tuple) and len(inferred) == len(said)
        return both and all(map(_agree, inferred, said))  # type: ignore[arg-type]
    sizes = zip(inferred.shape, said.shape, strict=False)
    same = all(one == other for one, other in sizes if one is not None and other is not None)
    return inferred.dtype == said.dtype and len(inferred.shape) == len(said.shape) and same


def _shown(kind: Types) -> str:
    """A type in an error."""
    return ", ".join(map(str, kind)) if isinstance(kind, tuple) else str(kind)
