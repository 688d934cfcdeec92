"""`ComputationGraph`: the graph behind some outputs, to look at and to change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from minigraph.core.errors import InvalidTypeError, MissingExtraError
from minigraph.core.graph import Constant, Input, Shared, Variable, reachable, toposort
from minigraph.core.guard import with_guarded_methods
from minigraph.core.walks import replace, with_bodies
from minigraph.functions.build import default_updates
from minigraph.functions.function import Function, function
from minigraph.layers.core.application import ApplicationCall
from minigraph.layers.core.base import Layer
from minigraph.layers.core.roles import AUXILIARY, PARAMETER, differentiated_inputs, has_roles
from minigraph.ops.loop.loop import Scan
from minigraph.ops.loop.updates import carry_updates
from minigraph.printing import debugprint, to_dot, to_networkx, to_svg

__all__ = ["ComputationGraph"]


@with_guarded_methods
class ComputationGraph:
    """The graph that computes some outputs: a variable, several, or those of another graph; TypeError for anything else.

    It never changes: `replace` and the transforms return another one.

    >>> x = mg.vector("x")
    >>> mg.ComputationGraph((x * 2).sum()).inputs
    [<x: float32 (None,)>]
    """

    def __init__(self, outputs: Roots) -> None:
        listed = _outputs_of(outputs)
        self.outputs: list[Variable] = listed
        self.variables: list[Variable] = toposort(listed)

    def __iter__(self) -> Iterator[Variable]:
        return iter(self.variables)

    def __repr__(self) -> str:
        return f"<ComputationGraph of {len(self.variables)} variables computing {', '.join(map(str, self.outputs))}>"

    @property
    def inputs(self) -> list[Variable]:
        """The variables whose values a caller gives."""
        return [variable for variable in self.variables if isinstance(variable.op, Input)]

    @property
    def shared_variables(self) -> list[Variable]:
        """The variables with state."""
        return [variable for variable in self.variables if isinstance(variable.op, Shared)]

    @property
    def parameters(self) -> list[Variable]:
        """The shared variables that are learned, through which a gradient can flow: those with the role of a parameter, and
        those that were given to a layer as one, or that an expression which was given depends on.
        """
        learned = reachable(self.outputs, differentiated_inputs)
        reached = [one for one in self.shared_variables if one in learned]
        if all(has_roles(one, [PARAMETER]) for one in reached):
            return reached
        layers = {tag.layer for one in with_bodies(self.variables) for tag in one.tags if isinstance(tag, ApplicationCall)}
        given = {one for layer in layers for one in layer.own_parameters}
        return [one for one in reached if one in given or has_roles(one, [PARAMETER])]

    @property
    def auxiliary_variables(self) -> list[Variable]:
        """The variables that layers left for monitoring."""
        return [variable for variable in self.variables if has_roles(variable, [AUXILIARY])]

    @property
    def intermediary_variables(self) -> list[Variable]:
        """The variables that are neither leaves nor outputs, nor ops with several results, whose results are listed."""
        outputs = set(self.outputs)
        inner = [one for one in self.variables if not isinstance(one.op, Input | Shared | Constant) and one not in outputs]
        return [one for one in inner if not isinstance(one.type, tuple)]

    @property
    def updates(self) -> list[tuple[Variable, Variable]]:
        """The updates that computed variables ask for, as pairs (shared variable, new value)."""
        return default_updates(self.outputs)

    @property
    def scans(self) -> list[Variable]:
        """The loops, each with all its results, those inside of loops before those around them."""
        return [one for one in with_bodies(self.variables) if isinstance(one.op, Scan)]

    def has_inputs(self, variable: Variable) -> bool:
        """Whether a variable depends on an input."""
        return any(isinstance(one.op, Input) for one in toposort([variable]))

    def replace(self, replacements: Mapping[Variable, Variable] | Iterable[tuple[Variable, Variable]]) -> ComputationGraph:
        """The graph with variables replaced; replacements compose (see `minigraph.replace`), unknown keys warn."""
        return ComputationGraph(carry_updates(replace(self.outputs, dict(replacements))))

    def function(self, inputs: Sequence[Any] | None = None, **options: Any) -> Function:
        """`mg.function` of the outputs, over all inputs in graph order unless others are given."""
        return function(self.inputs if inputs is None else inputs, self.outputs, **options)

    def to_networkx(self) -> Any:
        """The graph as a networkx.MultiDiGraph of variables and ops with their attributes."""
        return to_networkx(self.outputs)

    def to_dot(self) -> str:
        """The graph in Graphviz's language."""
        return to_dot(self.outputs)

    def to_svg(self) -> str:
        """The graph as an SVG picture; needs the program `dot`."""
        return to_svg(self.outputs)

    def _repr_svg_(self) -> str | None:
        """The picture that Jupyter shows, if Graphviz is there to draw it."""
        try:
            return self.to_svg()
        except MissingExtraError:
            return None

    def __str__(self) -> str:
        return debugprint(self.outputs)


Roots = ComputationGraph | Variable | Sequence[Variable]
"""The types that functions of graphs take."""


def _outputs_of(given: Any) -> list[Variable]:
    """The outputs that a graph is given as; TypeError for anything but variables and graphs."""
    if isinstance(given, ComputationGraph):
        return list(given.outputs)
    several = isinstance(given, Iterable) and not isinstance(given, Variable | str | bytes | Mapping)
    listed = list(given) if several else [given]
    for one in listed:
        if not isinstance(one, Variable):
            raise InvalidTypeError(
                f"a graph is made of variables: what asks for one takes a variable, several, or a ComputationGraph, not {one!r}"
                + ("; give it what the layer returned" if isinstance(one, Layer) else "")
            )
    return listed
