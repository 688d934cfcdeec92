"""The graph: variables made once and never edited, frozen ops, the leaves, and the walks over them.

Every walk here is iterative, so that a graph may be as deep as memory allows.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import getitem
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from minigraph.context import quietly, without_collector
from minigraph.errors import ImmutableError, InvalidTypeError, InvalidValueError, MinigraphError
from minigraph.guard import guarded
from minigraph.origin import Origin, described, here, warn
from minigraph.record import Record
from minigraph.state import Cell, assign, on_host, snapshot
from minigraph.types import TensorType, as_dtype, as_dtype_or_float, default_float, tensor_type

if TYPE_CHECKING:  # for type checkers alone: operators.py installs this class's methods on Variable
    from minigraph.operators import Operators
else:
    Operators = object

Array = Any  # a numpy.ndarray, or a cupy.ndarray on that backend
Types = TensorType | tuple[TensorType, ...]


class Op(Record):
    """What a variable is computed by: a record whose fields are the static parameters.

    `infer` is mandatory; a primitive op has `forward`, a differentiable one `gradient`.
    """

    view_of: ClassVar[int | None] = None
    """The position of the input whose memory the result may share."""

    pure: ClassVar[bool] = True
    """Whether the op may be dropped, merged, or computed while compiling."""

    of_numbers: ClassVar[bool] = False
    """Whether the result for weak operands alone is weak as well."""

    foreign: ClassVar[bool] = False
    """Whether its class is from outside of the package: no rule knows what it computes, whatever it derives from."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.foreign = not cls.__module__.startswith("minigraph.")

    @property
    def shown(self) -> Op:
        """The op that texts name: this one, or the one that it stands for."""
        return self

    def infer(self, *types: TensorType) -> Types:
        """The type of the result (a tuple of types for several), from the types of the inputs; raises if they do not fit."""
        raise TypeError(f"{type(self).__name__} does not define infer")

    def forward(self, xp: Any, *arrays: Array) -> Array:
        """The value, computed with the array namespace `xp`."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def exactly(self, *arrays: Array) -> Array:
        """The value for weak operands, from and in 64 bits."""
        return self.forward(np, *arrays)

    def gradient(self, dy: Any, y: Variable, *inputs: Variable) -> Sequence[Variable | None]:
        """One cotangent for each input, None where there is none; `dy` has y's shape.

        For an op with several results `dy` is a tuple with None for those that nothing depends on.
        """
        return (None,) * len(inputs)

    def __call__(self, *inputs: Variable) -> Variable:
        """The variable that this op computes from `inputs`; what does not fit raises, naming the op, types, and line."""
        try:
            inferred = self.infer(*[variable.type for variable in inputs])
        except MinigraphError as error:
            raise located(error, self, inputs, here()) from None
        return Variable(self, inputs, inferred)


class Composite(Op):
    """An op defined by other ops: `expand` builds its result, from which type, value and gradient follow."""

    def expand(self, *inputs: Variable) -> Any:
        """The result (or a tuple of results) as a graph over `inputs`."""
        raise TypeError(f"{type(self).__name__} does not define expand")

    def exactly(self, *arrays: Array) -> Array:
        return evaluated(self.expand(*[constant(one) for one in arrays]))

    def infer(self, *types: TensorType) -> Types:
        """The type of what `expand` builds."""
        results = expanded_over_inputs(self, types)[1]
        return results[0].type if len(results) == 1 else tuple(result.type for result in results)


@lru_cache(maxsize=4096)
def expanded_over_inputs(op: Composite, types: tuple[TensorType, ...]) -> tuple[list[Variable], list[Variable]]:
    """Fresh inputs of the given types, and the results of `op.expand` over them."""
    inputs = [Variable(Input(), (), type) for type in types]
    results = op.expand(*inputs)
    return inputs, list(results) if isinstance(results, tuple) else [results]


class Leaf(Op):
    """An op without inputs; each is an individual, equal to itself alone."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class Input(Leaf):
    """A value that the caller of a function gives."""


class Constant(Leaf):
    """A value fixed when the graph is built; the array is never written to.

    `exact` is what Python numbers were before they were rounded to `value`: such a constant is weak.
    """

    value: np.ndarray[Any, Any]
    exact: np.ndarray[Any, Any] | None = None

    @property
    def of_numbers(self) -> bool:
        """Whether it was made from Python numbers, in no dtype of their own."""
        return self.exact is not None


class Shared(Leaf):
    """The current value of a cell of state."""

    cell: Cell


class Item(Op):
    """One result of an op that has several."""

    index: int
    view_of = 0

    def infer(self, *types: Any) -> TensorType:
        return cast(TensorType, types[0][self.index])

    def forward(self, xp: Any, *arrays: Array) -> Array:
        return arrays[0][self.index]


class Identity(Op):
    """Its first input; the others are kept reachable from here, but not computed for its sake."""

    view_of = 0
    of_numbers = True

    def infer(self, *types: TensorType) -> TensorType:
        return types[0]

    def forward(self, xp: Any, *arrays: Array) -> Array:
        return arrays[0]

    def gradient(self, dy: Variable, y: Variable, *inputs: Variable) -> Sequence[Variable | None]:
        return (dy,) + (None,) * (len(inputs) - 1)


def is_annotation(op: Op) -> bool:
    """Whether an op is the identity of its first input, and keeps the others reachable alone."""
    return isinstance(op, Identity) and type(op).forward is Identity.forward


class Structural(Op):
    """An op that holds a graph of its own, its body, which passes and transforms change as they change what is around it.

    The body's inputs stand for what the op hands to it; a body refers to nothing else outside of it.
    """

    body: Graph

    def with_body(self, roots: Sequence[Variable], inputs: tuple[Variable, ...]) -> tuple[Structural, tuple[Variable, ...]]:
        """The op with a body that computes `roots`, and its inputs: `inputs`, then what the new body needs beyond them."""
        raise TypeError(f"{type(self).__name__} does not define with_body")


class Variable(Operators):
    """A value in a graph: the op that computes it, that op's inputs, its type, and where it was written.

    Variables are immutable and compare by identity. They take Python's operators and NumPy's functions. One that is `weak` was
    made from Python numbers alone: its dtype is what it has on its own, and gives way to that of what it meets.
    """

    __slots__ = ("__weakref__", "inputs", "name", "op", "origin", "tags", "type", "weak")
    __match_args__ = ("op", "inputs")

    op: Op
    inputs: tuple[Variable, ...]
    type: TensorType
    name: str | None
    tags: tuple[Any, ...]
    origin: Origin
    weak: bool

    def __init__(
        self,
        op: Op,
        inputs: tuple[Variable, ...],
        type: Types,
        name: str | None = None,
        tags: tuple[Any, ...] = (),
        origin: Origin | None = None,
    ) -> None:
        once = object.__setattr__
        once(self, "op", op)
        once(self, "inputs", inputs)
        once(self, "type", type)
        once(self, "name", name)
        once(self, "tags", tags)
        once(self, "origin", here() if origin is None else origin)
        once(self, "weak", op.of_numbers and False not in [one.weak for one in inputs])

    def __setattr__(self, attribute: str, value: Any) -> None:
        raise ImmutableError(
            f"variables are immutable, {attribute!r} cannot be set on {self}: give names and tags when you make a "
            "variable, or make another with .copy(name=..., tags=...)"
        )

    def __delattr__(self, attribute: str) -> None:
        raise ImmutableError(f"variables are immutable, {attribute!r} cannot be deleted from {self}")

    def __str__(self) -> str:
        return self.name or f"{type(self.op.shown).__name__}"

    def __repr__(self) -> str:
        return f"<{self}: {describe_type(self)}>"

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        archive = _Archive.holding(self)
        return getitem, (archive, archive.index[self])

    @guarded
    def copy(self, name: str | None = None, tags: Iterable[Any] = ()) -> Variable:
        """The same value as a variable of its own, with a name and with tags added to these."""
        return Variable(Identity(), (self,), self.type, name or self.name, self.tags + tuple(tags))

    def with_inputs(self, inputs: tuple[Variable, ...]) -> Variable:
        """The same op applied to other inputs, with the same name, tags and origin."""
        inferred: Types = self.type
        if any(new.type != old.type for new, old in zip(inputs, self.inputs, strict=True)):
            try:
                inferred = self.op.infer(*[variable.type for variable in inputs])
            except MinigraphError as error:
                raise located(error, self.op, inputs, self.origin) from None
        return Variable(self.op, inputs, inferred, self.name, self.tags, self.origin)

    @property
    def cell(self) -> Cell:
        """The cell of a shared variable; TypeError for any other variable."""
        if not isinstance(self.op, Shared):
            raise InvalidTypeError(
                f"{self} is not a shared variable but computed by {type(self.op).__name__} "
                f"({self.origin}): it has no state to get or set; use .eval({{input: value}}) to compute it"
            )
        return self.op.cell

    @guarded
    def get_value(self, borrow: bool = False, device: bool = False) -> Array:
        """The value of a shared variable: a copy, or with `borrow` the array itself, which must not be written to.

        Of a value that lies on a GPU it is a copy on the host; with `device` it is a CuPy array: a copy, or with `borrow` the
        one that calls write over. ValueError for `device` if the value lies on the host.
        """
        (value,) = snapshot([self.cell])
        lies_here = isinstance(value, np.ndarray)
        if lies_here and device:
            raise InvalidValueError(f"the value of {self} lies on the host; functions of backend 'cupy' move it to the GPU")
        if not lies_here and not device:
            return on_host(value)
        return value if borrow else value.copy()

    @guarded
    def set_value(self, value: Any, borrow: bool = False) -> None:
        """Replace the value of a shared variable; a safe cast is made, anything else that does not fit its type raises.

        With `borrow` the given array itself is kept, and must not be written to afterwards. A CuPy array is copied to the host;
        the next call on a GPU takes it there again.
        """
        cell = self.cell
        if hasattr(value, "__cuda_array_interface__") and hasattr(value, "get"):
            value = on_host(value)
        array = fit(value, self.type, f"the new value of {self}")
        assign([cell], [array if borrow or array is not value else array.copy()])


def located(error: MinigraphError, op: Op, inputs: Sequence[Variable], origin: Origin) -> MinigraphError:
    """The same error with the op, the types of its inputs, their names if they have some, and the user's lines."""
    name, operands = type(op.shown).__name__, ", ".join(describe_type(variable) for variable in inputs)
    named = f", that is {name}({', '.join(map(str, inputs))})" if any(variable.name for variable in inputs) else ""
    return type(error)(error.message, f"  in {name}({operands}){named}\n{origin.trace()}")


def describe_type(variable: Variable) -> str:
    """The type of a variable, or of each of its results."""
    kinds: Any = variable.type
    return ", ".join(str(kind) for kind in kinds) if isinstance(kinds, tuple) else str(kinds)


def items(variable: Variable) -> tuple[Variable, ...]:
    """The results of an op that has several, as variables."""
    kinds: Any = variable.type
    return tuple(Item(index)(variable) for index in range(len(kinds)))


# -- leaves ----------------------------------------------------------------------------------------------------------


def tensor(name: str | None = None, *, dtype: Any = None, shape: Iterable[int | None]) -> Variable:
    """An input variable; `shape` gives each axis a size, or None for one that is unknown until a function is called.

    A dtype of None is the float type, float32 unless `config.float_type` says otherwise.
    """
    return Variable(Input(), (), tensor_type(as_dtype_or_float(dtype), shape), name)


def constant(value: Any, name: str | None = None, dtype: Any = None) -> Variable:
    """A constant variable. Python numbers, and lists of them, are weak unless `dtype` says otherwise: floats are float32 on
    their own, and exact in the dtype of what they meet.
    """
    wanted = _dtype_of(value) if dtype is None else as_dtype(dtype)
    try:
        array = np.array(value, dtype=wanted)
    except (TypeError, ValueError) as error:
        raise InvalidTypeError(f"{described(value)} cannot be made an array of {wanted}: {error}") from None
    exact = np.array(value) if dtype is None and is_weak(value) else None
    return _constant_of(array, exact, name)


def number(exact: Array, dtype: np.dtype[Any]) -> Variable:
    """A weak constant that is of `dtype` on its own."""
    with np.errstate(all="ignore"):
        return _constant_of(np.array(exact, dtype=dtype), np.asarray(exact))


def _constant_of(array: np.ndarray[Any, Any], exact: np.ndarray[Any, Any] | None, name: str | None = None) -> Variable:
    """A constant that nobody can write to."""
    array.setflags(write=False)
    if exact is not None:
        exact.setflags(write=False)
    return Variable(Constant(array, exact), (), tensor_type(array.dtype, array.shape), name)


def shared(
    value: Any,
    name: str | None = None,
    borrow: bool = False,
    *,
    shape: Iterable[int | None] | None = None,
    dtype: Any = None,
    tags: tuple[Any, ...] = (),
) -> Variable:
    """A variable with state, kept between calls; copied from `value` unless `borrow`.

    `shape` may leave sizes open with None: then, and only then, may the value's shape change later.
    """
    wanted = _dtype_of(value) if dtype is None else as_dtype(dtype)
    array = np.asarray(value, dtype=wanted) if borrow else np.array(value, dtype=wanted)
    type = tensor_type(array.dtype, array.shape if shape is None else shape)
    if not type.accepts(array.shape):
        raise InvalidValueError(f"the value of shared variable {name or ''} has shape {array.shape}, declared {type.shape}")
    return Variable(Shared(Cell(array)), (), type, name, tags)


def as_variable(value: Any) -> Variable:
    """`value` itself if it is a variable, else a constant of it."""
    return value if isinstance(value, Variable) else constant(value)


def is_weak(value: Any) -> bool:
    """Whether `value` is a Python number, a list of them, or made from such alone, and takes the dtype of what it meets."""
    if isinstance(value, list | tuple):
        return all(is_weak(one) and not isinstance(one, Variable) for one in value)
    return value.weak if isinstance(value, Variable) else type(value) in (bool, int, float)


def evaluated(variable: Variable) -> Array:
    """The value of what depends on constants alone, computed now: weak ones in 64 bits, others in their dtype."""
    values: dict[Variable, Array] = {}
    for one in toposort([variable]):
        op, operands = one.op, [values[used] for used in one.inputs]
        if isinstance(op, Constant):
            values[one] = op.value if op.exact is None else op.exact
        else:
            values[one] = np.asarray(op.exactly(*operands))
    return values[variable]


def _dtype_of(value: Any) -> np.dtype[Any]:
    """The dtype of a constant or shared variable made from `value`; TypeError if no array can be made."""
    if isinstance(value, Variable):
        raise InvalidTypeError(f"{value!r} is a variable already; it cannot be made a constant or shared variable")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidTypeError(f"{described(value)} cannot be made an array: {error}") from None
    if is_weak(value):
        return default_float() if array.dtype.kind == "f" else array.dtype
    if array.dtype.kind in "OUS":
        raise InvalidTypeError(f"{described(value)} of type {type(value).__name__} is not an array of numbers")
    return as_dtype(array.dtype)


def fit(value: Any, expected: TensorType, what: str) -> np.ndarray[Any, Any]:
    """`value` as an array of type `expected`: checked, and cast where no value can change.

    TypeError for a dtype or number of axes that does not fit, ValueError for a size.
    """
    plain = type(value) is np.ndarray and value.dtype.kind in "biuf"
    array = value if plain else _array_from(value, expected, what)
    if array.dtype != expected.dtype:
        array = _safely_cast(array, expected, what, weak=is_weak(value) or isinstance(value, float))
    check_shape(array, expected, what)
    return array


def rounded(value: Any, expected: TensorType) -> Any:
    """Floats in the expected dtype if only digits are lost; others as they are: what is too large, fractions for integers."""
    if isinstance(value, Variable | np.ma.MaskedArray) or (hasattr(value, "dtype") and value.dtype == expected.dtype):
        return value
    array = value if hasattr(value, "astype") else np.asarray(value)
    if array.dtype.kind != "f":
        return value
    with np.errstate(all="ignore"):
        result = array.astype(expected.dtype)
        same = (result == array) if expected.dtype.kind in "iu" else (abs(result) == np.inf) == (abs(array) == np.inf)
    return result if bool(same.all()) and expected.dtype.kind in "iuf" else value


def check_shape(array: Array, expected: TensorType, what: str) -> None:
    """TypeError for a number of axes that does not fit, ValueError for a size; both name `what`."""
    if array.ndim != expected.ndim:
        raise InvalidTypeError(f"{what} has {array.ndim} axes (shape {array.shape}), expected {expected.ndim}: {expected}")
    if not expected.accepts(array.shape):
        raise InvalidValueError(f"{what} has shape {array.shape}, expected {expected.shape}")


def _array_from(value: Any, expected: TensorType, what: str) -> np.ndarray[Any, Any]:
    """An array from a Python object; TypeError where that is a graph, or cannot be one."""
    if isinstance(value, Variable):
        raise InvalidTypeError(f"{what} is the variable {value!r}; give an array of {expected}")
    if isinstance(value, np.ma.MaskedArray):
        raise InvalidTypeError(f"{what} is a masked array; fill it, or give data and mask as two arrays")
    try:
        array = np.array(value)
    except ValueError as error:
        raise InvalidTypeError(f"{what} cannot be made an array: {error}") from None
    if array.dtype.kind not in "biuf":
        raise InvalidTypeError(f"{what} is {type(value).__name__} {described(value)}; expected an array of {expected}")
    return array


def _safely_cast(array: np.ndarray[Any, Any], expected: TensorType, what: str, weak: bool) -> np.ndarray[Any, Any]:
    """`array` in the expected dtype: widened, an integer of the same value, or a Python float rounded; else TypeError."""
    source, target = array.dtype.kind, expected.dtype.kind
    if source not in "biuf":
        raise InvalidTypeError(f"{what} has dtype {array.dtype}, expected {expected.dtype}")
    result = quietly(array.astype, expected.dtype)
    back = quietly(result.astype, array.dtype)
    if np.can_cast(array.dtype, expected.dtype, "safe"):
        return result
    if source in "iu" and target in "iuf" and np.array_equal(back, array) and np.array_equal(result < 0, array < 0):
        return result
    if weak and source == "f" == target and np.array_equal(np.isinf(result), np.isinf(array)):
        return result
    raise InvalidTypeError(
        f"{what} has dtype {array.dtype}, expected {expected.dtype}, and cannot be cast without loss; "
        f"convert it yourself, for instance with .astype({expected.dtype.name!r})"
    )


# -- walks -----------------------------------------------------------------------------------------------------------


def toposort(roots: Iterable[Variable], stop: Container[Variable] = ()) -> list[Variable]:
    """Every variable that `roots` depend on, inputs before what uses them, each once; `stop` are not descended into."""
    opened: set[Variable] = set()
    done: dict[Variable, None] = {}
    for root in roots:
        stack = [root]
        while stack:
            variable = stack[-1]
            if variable in done:
                stack.pop()
            elif variable in opened or not variable.inputs or variable in stop:
                done[stack.pop()] = None
            else:
                opened.add(variable)
                stack += variable.inputs[::-1]
    return list(done)


def reachable(roots: Iterable[Variable], inputs_of: Callable[[Variable], Iterable[Variable]]) -> set[Variable]:
    """The roots and everything that can be reached from them by going to `inputs_of` each."""
    found: set[Variable] = set()
    stack = list(roots)
    while stack:
        variable = stack.pop()
        if variable not in found:
            found.add(variable)
            stack.extend(inputs_of(variable))
    return found


def with_bodies(variables: Iterable[Variable]) -> list[Variable]:
    """The variables, and those of the bodies among them, each body's before the variable that holds it."""
    found: dict[Variable, None] = {}
    for variable in variables:
        if isinstance(variable.op, Structural):
            found.update(dict.fromkeys(with_bodies(variable.op.body.variables)))
        found[variable] = None
    return list(found)


def _applied(variable: Variable, inputs: tuple[Variable, ...], change: Callable[[list[Variable]], list[Variable]]) -> Variable:
    """A variable over other inputs, its body changed, too, if it has one; itself if nothing differs."""
    op = variable.op
    if isinstance(op, Structural):
        roots = op.body.roots
        changed = change(roots)
        if changed != roots:
            op, inputs = op.with_body(changed, inputs)
            kinds = op.infer(*[one.type for one in inputs])
            return Variable(op, inputs, kinds, variable.name, variable.tags, variable.origin)
    return variable.with_inputs(inputs) if inputs != variable.inputs else variable


def transform(roots: Sequence[Variable], step: Callable[[Variable], Variable]) -> list[Variable]:
    """The roots of a graph in which each variable, its inputs transformed already, became `step(variable)`, in bodies, too."""
    done: dict[Variable, Variable] = {}
    for variable in toposort(roots):
        inputs = tuple([done[one] for one in variable.inputs])
        done[variable] = step(_applied(variable, inputs, lambda inner: transform(inner, step)))
    return [done[root] for root in roots]


def from_inside(roots: list[Variable], change: Callable[[list[Variable]], list[Variable]]) -> list[Variable]:
    """The roots of a graph after `change` was made to the roots of each body, inner ones first, and to these in the end."""
    done: dict[Variable, Variable] = {}
    for variable in toposort(roots):
        inputs = tuple([done[one] for one in variable.inputs])
        done[variable] = _applied(variable, inputs, lambda inner: from_inside(inner, change))
    return change([done[root] for root in roots])


def rebuild(roots: Sequence[Variable], substitutes: Mapping[Variable, Variable]) -> list[Variable]:
    """The roots with each key of `substitutes` swapped for its value as it stands; what does not change stays itself."""
    done = dict(substitutes)
    for variable in toposort(roots, stop=substitutes.keys()):
        if variable not in done:
            inputs = tuple([done[one] for one in variable.inputs])
            done[variable] = _applied(variable, inputs, lambda inner: rebuild(inner, substitutes))
    return [done[root] for root in roots]


def replace(roots: Sequence[Variable], replacements: Mapping[Variable, Variable]) -> list[Variable]:
    """The roots with every key of `replacements` replaced.

    Replacements compose: inside the replacement of a variable, the keys that the variable itself depends on are
    replaced too. Any other key stays as it is, so that a replacement may mention its own key, and two inputs may swap.
    A key that is not in the graph warns.
    """
    for key, value in replacements.items():
        check_replacement(key, value)
    order = with_bodies(toposort([*roots, *replacements]))
    unknown = set(replacements) - set(with_bodies(toposort(roots)))
    for key in replacements:
        if key in unknown:
            warn(f"{key!r} is not in the graph and is not replaced")
    final: dict[Variable, Variable] = {}
    for key in (variable for variable in order if variable in replacements):
        value = replacements[key]
        mentioned = [one for one in toposort([value]) if one in final and one is not key]
        if mentioned:
            upstream = set(toposort([key]))
            value = rebuild([value], {one: final[one] for one in mentioned if one in upstream})[0]
        final[key] = value
    return rebuild(roots, final)


_replaced = replace  # under a name that the parameter of `clone` does not hide


def clone(
    outputs: Any,
    replace: Mapping[Variable, Variable] | Iterable[tuple[Variable, Variable]] | None = None,
    share_inputs: bool = True,
) -> Any:
    """A variable, or a list of them, with others replaced as `minigraph.replace` does it; over fresh inputs unless shared.

    Shared variables stay what they are: a copy would be other state. `replace` exchanges them for others.
    """
    listed = [outputs] if isinstance(outputs, Variable) else list(outputs)
    results = _replaced(listed, dict(replace)) if replace else listed
    if not share_inputs:
        leaves = [one for one in toposort(results) if isinstance(one.op, Input)]
        results = rebuild(results, {one: Variable(Input(), (), one.type, one.name, one.tags) for one in leaves})
    return results[0] if isinstance(outputs, Variable) else results


def check_replacement(old: Any, new: Any) -> None:
    """TypeError unless both are variables, and `new` may stand wherever `old` stood."""
    for one in (old, new):
        if not isinstance(one, Variable):
            raise InvalidTypeError(f"replacements map variables to variables, not {type(one).__name__} {one!r}")
    if not old.type.admits(new.type):
        raise InvalidTypeError(
            f"{old!r} ({old.origin}) cannot be replaced by {new!r} ({new.origin}): the dtype, the number of axes, the known "
            "sizes, and which axes broadcast must agree"
        )


@dataclass(frozen=True)
class Graph:
    """The roots of a computation: its inputs, its outputs, and updates as pairs (shared variable, new value)."""

    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    updates: tuple[tuple[Variable, Variable], ...] = ()

    @property
    def roots(self) -> list[Variable]:
        """Everything that must be computed: outputs, then new values."""
        return [*self.outputs, *(value for _, value in self.updates)]

    @property
    def variables(self) -> list[Variable]:
        """Every variable that the roots depend on, inputs first, each once."""
        return toposort(self.roots)

    def with_roots(self, roots: Sequence[Variable]) -> Graph:
        """The same graph computing `roots` in place of its own, in the order of `Graph.roots`."""
        count = len(self.outputs)
        targets = [target for target, _ in self.updates]
        return Graph(self.inputs, tuple(roots[:count]), tuple(zip(targets, roots[count:], strict=True)))

    def __iter__(self) -> Iterator[Variable]:
        return iter(self.variables)


# -- pickling --------------------------------------------------------------------------------------------------------


_archives: weakref.WeakKeyDictionary[Variable, weakref.ref[_Archive]] = weakref.WeakKeyDictionary()


class _Archived:
    """The variables that an archive holds which is alive, because something is being pickled or copied."""

    def __contains__(self, variable: object) -> bool:
        return isinstance(variable, Variable) and _live_archive(variable) is not None


def _live_archive(variable: Variable) -> _Archive | None:
    """The archive that holds `variable`, if it is still alive."""
    reference = _archives.get(variable)
    return reference() if reference else None


class _Archive:
    """Variables laid out flat, inputs first, so that pickle and deepcopy never recurse along a graph.

    Variables that are pickled together share archives, and so stay the same objects. Tags come last, as state, since
    they may lead to layers, and from there back to variables of this archive.
    """

    def __init__(self, variables: Sequence[Variable]) -> None:
        self.variables = list(variables)
        self.index = {variable: position for position, variable in enumerate(self.variables)}

    @classmethod
    def holding(cls, variable: Variable) -> _Archive:
        """The archive that holds `variable`: one that is alive, or a new one of all it depends on."""
        archive = _live_archive(variable)
        if archive is None:
            archived = _Archived()
            archive = cls([one for one in toposort([variable], stop=archived) if one not in archived])
            for one in archive.variables:
                _archives[one] = weakref.ref(archive)
        return archive

    def __getitem__(self, position: int) -> Variable:
        return self.variables[position]

    def __reduce__(self) -> tuple[Any, ...]:
        records = [
            (v.op, tuple(self.index.get(one, one) for one in v.inputs), v.type, v.name, v.origin) for v in self.variables
        ]
        return _unpack, (records,), [variable.tags for variable in self.variables]

    def __setstate__(self, tags: list[tuple[Any, ...]]) -> None:
        for variable, own in zip(self.variables, tags, strict=True):
            object.__setattr__(variable, "tags", own)


def _unpack(records: Sequence[tuple[Any, ...]]) -> _Archive:
    """The archive that `_Archive.__reduce__` took apart, its variables still without tags."""
    return _Archive(without_collector(_made_of, records))


def _made_of(records: Sequence[tuple[Any, ...]]) -> list[Variable]:
    """The variables that an archive's records describe."""
    variables: list[Variable] = []
    for op, inputs, type, name, origin in records:
        given = tuple(variables[one] if isinstance(one, int) else one for one in inputs)
        variables.append(Variable(op, given, type, name, (), origin))
    return variables
