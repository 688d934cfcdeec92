"""Ops from outside of the package, kept apart from its own: what passes and kernels see of a graph is ops that they know.

Rules match ops by their classes, and would take an op that derives from `Multiply` for a multiplication, whatever its `forward`
computes. So the first pass puts in the place of every such op one of the package that holds it, and does what it does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from minigraph.compiler.scalar.rehearsal import objection
from minigraph.core.errors import InvalidTypeError
from minigraph.core.graph import Array, Composite, Graph, Item, Leaf, Op, Structural, Types, Variable, items
from minigraph.core.origin import carry_origin, warn
from minigraph.core.walks import with_bodies
from minigraph.ops.array.selection import Selection
from minigraph.ops.elementwise.base import Elementwise
from minigraph.ops.reduce.base import Reduction
from minigraph.rewrite.engine import changed
from minigraph.rewrite.partition import derives_from_compiled

WITHOUT_EFFECT = {
    "__annotations__", "__dict__", "__doc__", "__firstlineno__", "__match_args__", "__module__", "__qualname__", "__repr__",
    "__static_attributes__", "__str__", "__weakref__", "cheap", "cost", "foreign", "gradient",
}  # fmt: skip
"""The attributes that a class may define anew without computing another value."""


class Held(Op):
    """An op of the package in the place of one from outside, as which it is shown."""

    op: Op
    of_numbers = property(attrgetter("op.of_numbers"))
    exactly = property(attrgetter("op.exactly"))
    infer = property(attrgetter("op.infer"))

    def __repr__(self) -> str:
        return repr(self.op)

    @property
    def shown(self) -> Op:
        return self.op


class Opaque(Held):
    """An op that nothing is known of: computed by its own `forward`, in the array namespace of the backend."""

    kinds: tuple[Any, ...]
    """The type of each of its results."""
    reason: str
    """Why it is not compiled, empty where its like would not be either."""
    pure = property(attrgetter("op.pure"))
    view_of = property(attrgetter("op.view_of"))

    def forward(self, xp: Any, *arrays: Array) -> Any:
        lent = [_lent(one) for one in arrays]
        results = self.op.forward(xp, *lent)
        several = isinstance(results, tuple) or len(self.kinds) != 1
        fitting = tuple(_fitting(self.op, xp, results if several else (results,), self.kinds))
        own = tuple(self._own(xp, fitting, lent))
        return own if several else own[0]

    def _own(self, xp: Any, results: Sequence[Array], operands: Sequence[Any]) -> Iterator[Array]:
        """The results in memory of their own, apart from what they may share."""
        viewed = None if self.view_of is None or self.view_of >= len(operands) else operands[self.view_of]
        held = [one for one in operands if one is not viewed] + list(vars(self.op).values())
        taken = [one for one in _flat(held) if isinstance(one, np.ndarray | xp.ndarray)]
        for result in results:
            shared = any(xp.may_share_memory(result, one) for one in taken)
            own = xp.array(result) if shared else result
            taken.append(own)
            yield own


def _lent(operand: Any) -> Any:
    """An operand as an array that cannot be written to, as far as NumPy can see to it."""
    if isinstance(operand, np.ndarray):
        view = operand.view()
        view.flags.writeable = False
        return view
    return tuple(_lent(one) for one in operand) if isinstance(operand, tuple) else operand


def _flat(operands: Sequence[Any]) -> Iterator[Any]:
    """Operands, those that are several results taken apart."""
    for one in operands:
        yield from one if isinstance(one, tuple) else (one,)


def _fitting(op: Op, xp: Any, results: Sequence[Any], kinds: Sequence[Any]) -> Iterator[Array]:
    """Results as arrays of the types that were inferred; TypeError where they are not, and would lose more than digits."""
    name = type(op).__name__
    if len(results) != len(kinds):
        raise InvalidTypeError(f"forward of {name} returned {len(results)} results, and infer says {len(kinds)}")
    for result, kind in zip(results, kinds, strict=True):
        given = xp.asarray(result)
        array = given.astype(kind.dtype, copy=False)
        if not np.can_cast(given.dtype, kind.dtype, "same_kind") and not (array == given).all():
            raise InvalidTypeError(f"forward of {name} returned {given.dtype}, and infer says {kind}; use .astype in forward")
        if not kind.accepts(array.shape):
            raise InvalidTypeError(f"forward of {name} returned shape {array.shape}, and infer says {kind}")
        yield array


class OpaqueItem(Opaque):
    """An opaque op of one operand that is several results."""

    def infer(self, *types: Any) -> Types:
        kinds: Any = types
        return self.op.infer(kinds)

    def forward(self, xp: Any, *arrays: Array) -> Any:
        return super().forward(xp, arrays)


class OpaqueLoop(Opaque, Structural):
    """An opaque op that holds a graph."""

    body: Graph

    def with_body(self, roots: Sequence[Variable], inputs: tuple[Variable, ...]) -> tuple[Structural, tuple[Variable, ...]]:
        assert isinstance(self.op, Structural)
        op, operands = self.op.with_body(roots, inputs)
        return OpaqueLoop(op=op, kinds=self.kinds, reason=self.reason, body=op.body), operands


class Rehearsed(Held, Elementwise):
    """An elementwise op that is compiled, after a rehearsal, by its own `forward`."""

    dtype: np.dtype[Any]

    def forward(self, xp: Any, *arrays: Array) -> Array:
        result = self.op.forward(xp, *(_lent(one) for one in arrays))
        return result if result.dtype == self.dtype else result.astype(self.dtype)


class Folded(Held, Reduction):
    """A reduction that is compiled, after a rehearsal, by its own fold."""

    op: Reduction
    axes: tuple[int, ...]
    dtype: np.dtype[Any]
    states = property(attrgetter("op.states"))
    add = property(attrgetter("op.add"))
    merge = property(attrgetter("op.merge"))
    result = property(attrgetter("op.result"))

    def over(self, axes: tuple[int, ...]) -> Reduction:
        return Folded(op=self.op.over(axes), axes=axes, dtype=self.dtype)

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.array(self.op.forward(xp, _lent(x)), dtype=self.dtype)


class Selected(Held, Selection):
    """A selection that is compiled, after a rehearsal, by its own index map."""

    op: Selection
    is_view = property(attrgetter("op.is_view"))
    shape_inputs = property(attrgetter("op.shape_inputs"))
    index_map = property(attrgetter("op.index_map"))

    def with_static_shape(self, inputs: tuple[Variable, ...]) -> tuple[Op, tuple[Variable, ...]]:
        op, kept = self.op.with_static_shape(inputs)
        assert isinstance(op, Selection)
        return Selected(op), kept


class Expandable(Held, Composite):
    """A composite from outside of the package, known by what it expands to alone."""

    op: Composite
    expand = property(attrgetter("op.expand"))


def seclude(graph: Graph) -> Graph:
    """The graph in which ops from outside of the package are held by ops that passes know, loops' bodies included."""
    if not any(variable.op.foreign for variable in with_bodies(graph.variables)):
        return graph

    def held(variable: Variable) -> Variable | None:
        op = variable.op
        if not op.foreign or isinstance(op, Leaf):
            return None
        inputs = items(variable.inputs[0]) if isinstance(op, Item) else variable.inputs
        return Variable(_held(op, variable), inputs, variable.type, variable.name, variable.tags, variable.origin)

    return changed(graph, held)


def _held(op: Op, variable: Variable) -> Op:
    """The op that takes the place of one from outside of the package."""
    base: type[Op] = next(kind for kind in type(op).__mro__ if issubclass(kind, Op) and not kind.foreign)
    if _computes_alike(type(op), base):
        fields: tuple[str, ...] = base.__match_args__
        return base(*(vars(op)[name] for name in fields))
    kinds: tuple[Any, ...] = variable.type if isinstance(variable.type, tuple) else (variable.type,)
    if isinstance(op, Composite) and not _is_more_derived(type(op), "forward", "expand"):
        return Expandable(op)
    compiled = _compiled(op, variable)
    if compiled is not None:
        reason = objection(op, variable)
        return compiled if reason is None else Opaque(op, kinds, reason)
    reason = f"what {base.__name__} is compiled to does not compute its forward" if derives_from_compiled(variable) else ""
    if isinstance(op, Structural):
        return OpaqueLoop(op=op, kinds=kinds, reason=reason, body=op.body)
    return OpaqueItem(op, kinds, reason) if isinstance(op, Item) else Opaque(op, kinds, reason)


def _compiled(op: Op, variable: Variable) -> Op | None:
    """The op that may take the place of one, if nothing is found against it: kernels compute it from what its class states."""
    match op:
        case Elementwise():
            return Rehearsed(op, variable.dtype)
        case Selection() if not op.in_order and not _is_more_derived(type(op), "forward", "index_map"):
            return Selected(op)
        case Reduction() if not _is_more_derived(type(op), "forward", "add"):
            return Folded(op=op, axes=op.axes, dtype=variable.dtype)
    return None


def _computes_alike(kind: type[Op], base: type[Op]) -> bool:
    """Whether a class computes what its base does: it defines nothing anew that has an effect on values."""
    if base.forward is Op.forward and not (issubclass(base, Composite) and base.expand is not Composite.expand):
        return False
    before = kind.__mro__[: kind.__mro__.index(base)]
    return not {name for one in before for name in vars(one) if hasattr(base, name)} - WITHOUT_EFFECT


def _is_more_derived(kind: type[Op], method: str, other: str) -> bool:
    """Whether a class states one method after, and so instead of, another one."""
    places = [next(k for k, base in enumerate(kind.__mro__) if name in vars(base)) for name in (method, other)]
    return places[0] < places[1]


def warn_of_opaque(graph: Graph, namespace: str) -> None:
    """Warn of each class of ops that would be compiled if more were known of it, once, at the line where it is used first."""
    warned: set[type[Op]] = set()
    for variable in with_bodies(graph.variables):
        op = variable.op
        if isinstance(op, Opaque) and op.reason and type(op.op) not in warned:
            warned.add(type(op.op))
            with carry_origin(variable.origin):
                warn(
                    f"{type(op.op).__name__} is not compiled, but computed by {namespace}, and so is every loop around it: "
                    f"{op.reason}"
                )
