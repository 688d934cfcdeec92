"""The graph: variables made once and never edited, frozen ops, the leaves, and walks that are iterative, however deep it is."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from minigraph.core.errors import ImmutableError, InvalidTypeError, MinigraphError
from minigraph.core.guard import guarded
from minigraph.core.index_map import IndexMap
from minigraph.core.origin import Origin, here
from minigraph.core.record import Record
from minigraph.core.state import Cell
from minigraph.core.types import TensorType

if TYPE_CHECKING:  # for type checkers alone: operators.py installs this class's methods on Variable
    from minigraph.operators import Operators
else:
    Operators = object

Array = Any  # a numpy.ndarray, or a cupy.ndarray on that backend
Types = TensorType | tuple[TensorType, ...]


class Op(Record):
    """The operation that computes a variable: a record whose fields are the static parameters.

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

    cost: ClassVar[int] = 1
    """The time that an element of the result takes, relative to that of an addition."""

    rounds_alone: ClassVar[bool] = False
    """Whether the result is that of one operation, rounded: no other op's operations may be contracted with it."""

    requires: ClassVar[int | None] = None
    """The position of an operand that must be true throughout; where it is not, a kernel notes that, and goes on."""

    multiplies: ClassVar[bool] = False
    """Whether it is a product of matrices, or prepares one, for which machines have code of its own."""

    runs: ClassVar[bool] = False
    slides: ClassVar[bool] = False
    solves: ClassVar[bool] = False
    """Whether elements take all before them along an axis, windows slide over planes, or `forward` calls `xp.linalg`."""

    lazy_from: ClassVar[int | None] = None
    """The position of the first input that is computed only if `forward` turns out to need it."""

    cheap: ClassVar[bool] = False
    """Whether an element is computed again rather than read from memory."""

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
        """A cotangent for each of `inputs`, None where there is none; `dy` has y's shape, or is a tuple for several results,
        with None for those that nothing depends on."""
        return (None,) * len(inputs)

    # -- what passes and compilers ask; the defaults say that nothing is known -----------------------------------------

    def compilable(self, *types: TensorType) -> bool:
        """Whether a kernel can compute the result for operands of these types, once their sizes are known."""
        return False

    def shape_inputs(self, inputs: Sequence[Variable]) -> Sequence[Variable] | None:
        """The inputs whose values the shape of the result depends on; None if it depends on more than some scalars."""
        return None

    def with_static_shape(self, inputs: tuple[Variable, ...]) -> tuple[Op, tuple[Variable, ...]]:
        """An equal op, and its inputs, when the types of `inputs` are of known sizes and its `shape_inputs` are constants."""
        return self, inputs

    def index_map(self, *types: TensorType) -> IndexMap | None:
        """The place in the first operand of each element of the result, for known sizes; None if elements are computed."""
        return None

    def may_fail(self, *types: TensorType) -> bool:
        """Whether `forward` may raise for what operands of these types hold."""
        return False

    def __call__(self, *inputs: Variable) -> Variable:
        """The variable that this op computes from `inputs`; what does not fit raises, naming the op, types, and line."""
        try:
            inferred = self.infer(*[variable.type for variable in inputs])
        except MinigraphError as error:
            raise located(error, self, inputs, here()) from None
        return Variable(self, inputs, inferred)


class Shaped(Op):
    """An op whose result has a shape that follows from the shapes of the inputs, whatever they hold."""

    def shape_inputs(self, inputs: Sequence[Variable]) -> Sequence[Variable] | None:
        return ()


class Composite(Op):
    """An op defined by other ops: `expand` builds its result, from which type, value and gradient follow."""

    def expand(self, *inputs: Variable) -> Any:
        """The result (or a tuple of results) as a graph over `inputs`."""
        raise TypeError(f"{type(self).__name__} does not define expand")

    def whole(self, xp: Any, *arrays: Array) -> Array:
        """The value, computed with the array namespace `xp` at once; only ops for which that is quicker define it."""
        raise TypeError(f"{type(self).__name__} does not define whole")

    def exactly(self, *arrays: Array) -> Array:
        inputs, results = expanded_over_inputs(self, tuple([TensorType(one.dtype, one.shape) for one in arrays]))
        return evaluated(results[0], dict(zip(inputs, arrays, strict=True)))

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


class Item(Shaped):
    """A single result of an op that has several."""

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
    """A value in a graph: the `op` that computes it from `inputs`, its `type`, `name` and `tags`, and where it was written.

    The `origin` is the running line of the user's unless given. Variables are immutable and compare by identity. They take
    Python's operators and NumPy's functions. A variable that is `weak` was made from Python numbers alone: its dtype is what it
    has on its own, and gives way to that of what it meets.
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
        self, op: Op, inputs: tuple[Variable, ...], type: Types, name: str | None = None, tags: tuple[Any, ...] = (),
        origin: Origin | None = None,
    ) -> None:  # fmt: skip
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


def located(error: MinigraphError, op: Op, inputs: Sequence[Variable], origin: Origin) -> MinigraphError:
    """The same error with the op, the types of its inputs, their names if they have some, and the user's lines at `origin`."""
    name, operands = type(op.shown).__name__, ", ".join(describe_type(variable) for variable in inputs)
    named = f", that is {name}({', '.join(map(str, inputs))})" if any(variable.name for variable in inputs) else ""
    return type(error)(error.message, f"  in {name}({operands}){named}\n{origin.trace()}")


def describe_type(variable: Variable) -> str:
    """The type of a variable, or of each of its results."""
    kinds: Any = variable.type
    return ", ".join(str(kind) for kind in kinds) if isinstance(kinds, tuple) else str(kinds)


def items(variable: Variable) -> tuple[Variable, ...]:
    """The results of an op that has several, as variables."""
    return tuple(Item(index)(variable) for index in range(len(cast(Any, variable.type))))


def evaluated(variable: Variable, values: Mapping[Variable, Array] | None = None) -> Array:
    """The value of what depends on constants and on `values` alone, computed now: weak constants in 64 bits."""
    found = dict(values or {})
    for one in toposort([variable], stop=found):
        if isinstance(one.op, Constant):
            found[one] = one.op.value if one.op.exact is None else one.op.exact
        elif one not in found:
            found[one] = np.asarray(one.op.exactly(*[found[used] for used in one.inputs]))
    return found[variable]


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


class Graph(Record):
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
