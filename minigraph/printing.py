"""Graphs as text, as pictures, and as networkx graphs; nothing here recurses, but into the bodies of loops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from minigraph.core.errors import ExecutionError, MissingExtraError
from minigraph.core.graph import Constant, Graph, Input, Item, Op, Shared, Structural, Variable, describe_type, toposort
from minigraph.core.walks import with_bodies

__all__ = ["debugprint", "pprint"]


def label(variable: Variable) -> str:
    """A variable in a word: its name, its value if it is a small constant, or its op."""
    op = variable.op
    if isinstance(op, Constant):
        return str(op.value.reshape(())) if op.value.size == 1 else f"constant{op.value.shape}"
    if isinstance(op, Input | Shared):
        return variable.name or f"<{describe_type(variable)}>"
    return op_text(op)


def op_text(op: Op) -> str:
    """An op with its parameters that are not as by default, if it has any; one that has a body describes itself."""
    op = op.shown
    if isinstance(op, Structural):
        return repr(op)
    parameters = ", ".join(f"{name}={value}" for name, value in op.particulars().items())
    return f"{type(op).__name__}({parameters})" if parameters else type(op).__name__


def _as_roots(outputs: Any) -> list[Variable]:
    """The variables to print of a variable, a graph, or a sequence of variables."""
    if isinstance(outputs, Variable):
        return [outputs]
    return outputs.roots if isinstance(outputs, Graph) else list(outputs)


_SYMBOLS = {
    "Add": "+", "Subtract": "-", "Multiply": "*", "Divide": "/", "FloorDivide": "//",
    "Remainder": "%", "MatMul": "@", "Power": "**", "Less": "<", "LessEqual": "<=",
    "Equal": "==", "NotEqual": "!=",
}  # fmt: skip


def pprint(variable: Variable) -> str:
    """A variable as a formula, `((x * 2.0) + y)`; what is used more than once is written out once and then referred to."""
    counts: dict[Variable, int] = {}
    order = toposort([variable])
    for one in order:
        for used in one.inputs:
            counts[used] = counts.get(used, 0) + 1
    texts: dict[Variable, str] = {}
    lines: list[str] = []
    for one in order:
        text = _formula(one, [texts[used] for used in one.inputs])
        if one is not variable and one.inputs and (counts[one] > 1 or len(text) > 400):
            texts[one] = f"t{len(lines) + 1}"
            lines.append(f"{texts[one]} = {text}")
        else:
            texts[one] = text
    return "\n".join([*lines, texts[variable]])


def _formula(variable: Variable, operands: Sequence[str]) -> str:
    """An op written over the texts of its operands."""
    name = type(variable.op.shown).__name__
    if not operands:
        return label(variable)
    if name in _SYMBOLS and len(operands) == 2:
        return f"({operands[0]} {_SYMBOLS[name]} {operands[1]})"
    if name == "Negative":
        return f"-{operands[0]}"
    return f"{op_text(variable.op)}({', '.join(operands)})"


def debugprint(outputs: Any, file: TextIO | None = None) -> str:
    """The graph as a tree with types, one line a variable; a sub-tree met again is only referred to, a loop's body follows its
    inputs.

    Takes a variable, a graph, or a list of variables; returns the text, and writes it to `file` if one is given.
    """
    numbers: dict[Variable, int] = {}
    lines: list[str] = []
    stack = [(root, 0, "") for root in reversed(_as_roots(outputs))]
    while stack:
        variable, depth, where = stack.pop()
        prefix = "  " * min(depth, 40) + (f"[depth {depth}] " if depth > 40 else "") + where
        named = f" '{variable.name}'" if variable.name and variable.inputs else ""
        line = f"{prefix}{label(variable)}{named}: {describe_type(variable)}"
        if variable in numbers:
            lines.append(f"{line} -> see [{numbers[variable]}]")
            continue
        numbers[variable] = len(numbers)
        lines.append(f"{line} [{numbers[variable]}]")
        if isinstance(variable.op, Structural):
            stack.extend((root, depth + 1, "body: ") for root in reversed(variable.op.body.roots))
        stack.extend((one, depth + 1, "") for one in reversed(variable.inputs))
    text = "\n".join(lines)
    if file is not None:
        file.write(text + "\n")
    return text


class Names:
    """Names of variables that stay the same from one graph to the next, as far as variables do."""

    def __init__(self) -> None:
        self._names: dict[Variable, str] = {}
        self._known: dict[Any, list[str]] = {}
        self._used: dict[str, Any] = {}
        self._gone: dict[Any, list[str]] = {}
        self._latest: list[Variable] = []
        self._count = 0

    def begin(self, graph: Graph) -> None:
        """Give names in another graph from here on: what it has no more lends its name to what stands in its place."""
        order = with_bodies(graph.variables)
        present, self._gone = set(order), {}
        for one in self._latest:
            if one not in present and one in self._names:
                self._gone.setdefault(self._likeness(one), []).append(self._names[one])
        self._used = {self._names[one]: one for one in order if one in self._names}
        self._latest = order

    def of(self, variable: Variable) -> str:
        """The name of a variable, whose inputs have names already."""
        if variable not in self._names:
            self._names[variable] = name = self._chosen(variable)
            self._used[name] = variable
        return self._names[variable]

    def alias(self, variable: Variable, name: str) -> None:
        """Give a variable this name."""
        self._names[variable] = name

    def _chosen(self, variable: Variable) -> str:
        """A name for a variable that has none: of one that was equal, of one that is gone and was alike, or a new one."""
        op, key = variable.op, self._key(variable)
        if isinstance(op, Constant) and op.value.size == 1:
            return str(op.value.reshape(()))
        known = self._known.setdefault(key, [])
        lent = self._gone.get(self._likeness(variable), [])
        for name in [*known, *lent]:
            if name not in self._used:
                break
        else:
            name = self._new(variable)
        if name not in known:
            known.append(name)
        return name

    def _key(self, variable: Variable) -> Any:
        """A key that variables share which compute the same: the op, and the names of its operands."""
        op, inputs = variable.op, tuple([self._names[one] for one in variable.inputs])
        if isinstance(op, Constant):
            return "constant", op.value.dtype, op.value.shape, op.value.tobytes(), variable.name
        if isinstance(op, Structural):
            return type(op), repr(op), tuple([self._names.get(root) for root in op.body.roots]), inputs
        try:
            return hash(op), op, inputs, str(variable.type)
        except TypeError:
            return id(variable), inputs

    def _likeness(self, variable: Variable) -> Any:
        """A key that variables share of which one may stand in the place of the other."""
        kind: Any = variable.type
        shape = len(kind) if isinstance(kind, tuple) else (kind.dtype, kind.ndim)
        return type(variable.op), variable.origin, variable.name, len(variable.inputs), shape

    def _new(self, variable: Variable) -> str:
        """A name that nothing has yet."""
        name = variable.name
        if name and not variable.inputs and name.isidentifier() and name not in self._used:
            return name
        self._count += 1
        return f"%{self._count}"


def type_text(variable: Variable) -> str:
    """The type of a variable in short, `float32[?, 3]`; of several results one after the other."""
    kinds: Any = variable.type if isinstance(variable.type, tuple) else (variable.type,)
    shapes = [", ".join("?" if size is None else str(size) for size in kind.shape) for kind in kinds]
    return ", ".join(
        f"{kind.dtype}[{shape}]" if kind.shape else str(kind.dtype) for kind, shape in zip(kinds, shapes, strict=True)
    )


def graph_lines(graph: Graph, names: Names | None = None, origins: bool = True) -> Iterator[str]:
    """A graph as text, one line a variable in the order of computation: `%3 = Sum[1](%2) : float32[?]`.

    Small constants stand where they are used, results of an op with several are its name and their number. `names` keeps names
    from one text to the next; with `origins` each line ends with the place in the user's code. A loop's body follows it.
    """
    names = names or Names()
    names.begin(graph)
    for kind, leaves in (("input", graph.inputs), ("shared", [one for one in graph.variables if isinstance(one.op, Shared)])):
        listed = [f"{names.of(one)} : {type_text(one)}" for one in leaves]
        yield from ([f"{kind} {', '.join(listed)}"] if listed else [])
    yield from _lines(graph, names, origins, "")
    yield f"return {', '.join(names.of(one) for one in graph.outputs) or 'nothing'}"
    yield from (f"update {names.of(target)} = {names.of(value)}" for target, value in graph.updates)


def _lines(graph: Graph, names: Names, origins: bool, indent: str) -> Iterator[str]:
    """The lines of what a graph computes."""
    for variable in graph.variables:
        op, inside = variable.op, []
        if isinstance(op, Structural):
            inner = [f"{names.of(one)} : {type_text(one)}" for one in op.body.inputs]
            inside = [f"{indent}    for {', '.join(inner)}", *_lines(op.body, names, origins, f"{indent}    ")]
            inside.append(f"{indent}    return {', '.join(names.of(one) for one in op.body.roots)}")
        if isinstance(op, Item):
            names.alias(variable, f"{names.of(variable.inputs[0])}.{op.index}")
            continue
        name = names.of(variable)
        if isinstance(op, Constant) and op.value.size > 1:
            yield f"{indent}{name} = constant : {type_text(variable)}"
        elif variable.inputs:
            operands = ", ".join(names.of(one) for one in variable.inputs)
            place = f"   # {Path(variable.origin.filename).name}:{variable.origin.line}" if origins else ""
            yield f"{indent}{name} = {_short(op)}({operands}) : {type_text(variable)}{place}"
            yield from inside


def _short(op: Op) -> str:
    """An op with its parameters in brackets: a single one alone, several with their names."""
    op = op.shown
    if isinstance(op, Structural):
        return type(op).__name__
    given = {name: _parameter(value) for name, value in op.particulars().items()}
    listed = [f"{name}={value}" for name, value in given.items()] if len(given) > 1 else [*map(_bare, given.values())]
    return f"{type(op).__name__}[{', '.join(listed)}]" if listed else type(op).__name__


def _parameter(value: Any) -> str:
    """A parameter of an op in a few words."""
    if isinstance(value, Graph):
        return f"{len(value.variables)} variables"
    if isinstance(value, type):
        return value.__name__
    text = f"({', '.join(str(one) for one in value)})" if isinstance(value, tuple) else str(value)
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 3]}..."


def _bare(text: str) -> str:
    """A text without the parentheses around it."""
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


MOST_LETTERS = 40
"""The most letters of a parameter that are shown."""


def changed_lines(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """The lines that are in one of two texts alone, those of the first after a minus sign, those of the second after a plus."""
    old, new = set(before), set(after)
    return [f"- {line}" for line in before if line not in new] + [f"+ {line}" for line in after if line not in old]


# -- pictures and networkx -------------------------------------------------------------------------------------------


def to_networkx(outputs: Any) -> Any:
    """A networkx.MultiDiGraph: a node for each variable and for each application of an op, edges along the data.

    Nodes are numbered in topological order and carry `kind` ('variable' or 'op'), `label`, and the objects themselves as
    `variable` or `op`; variables also `dtype`, `shape`, `name`, `tags`. Edges into an op carry the `position` of the operand.
    The bodies of loops are part of the picture: edges with `body=True` lead from the operands of a loop to what stands for them
    in its body, and from the roots of the body to the loop.
    """
    import networkx

    picture = networkx.MultiDiGraph()
    numbers: dict[Variable, int] = {}
    for variable in with_bodies(toposort(_as_roots(outputs))):
        numbers[variable] = number = picture.number_of_nodes()
        kind: Any = variable.type
        picture.add_node(
            number,
            kind="variable",
            label=variable.name or label(variable),
            variable=variable,
            name=variable.name,
            tags=variable.tags,
            dtype=None if isinstance(kind, tuple) else kind.dtype.name,
            shape=None if isinstance(kind, tuple) else kind.shape,
        )
        if variable.inputs:
            picture.add_node(number + 1, kind="op", label=op_text(variable.op), op=variable.op)
            picture.add_edge(number + 1, number)
            for position, one in enumerate(variable.inputs):
                picture.add_edge(numbers[one], number + 1, position=position)
        if isinstance(variable.op, Structural):
            picture.add_edges_from((numbers[root], number + 1, {"body": True}) for root in variable.op.body.roots)
            stand_ins = zip(variable.inputs[-len(variable.op.body.inputs) :], variable.op.body.inputs, strict=False)
            picture.add_edges_from((numbers[one], numbers[own], {"body": True}) for one, own in stand_ins if own in numbers)
    return picture


_COLORS = {"Input": "#cfe8ff", "Shared": "#ffe2b8", "Constant": "#eeeeee"}


def to_dot(outputs: Any) -> str:
    """The graph in Graphviz's language: inputs blue, shared variables orange, constants grey, bodies of loops dashed."""
    lines = ["digraph {", "  node [shape=box, style=filled, fillcolor=white, fontname=Helvetica];"]
    numbers: dict[Variable, int] = {}
    for variable in with_bodies(toposort(_as_roots(outputs))):
        numbers[variable] = number = len(numbers)
        name = f"{variable.name}\\n" if variable.name and variable.inputs else ""
        text = f"{name}{label(variable)}\\n{describe_type(variable)}".replace('"', "'")
        color = _COLORS.get(type(variable.op).__name__, "white")
        lines.append(f'  {number} [label="{text}", fillcolor="{color}"];')
        lines += [f"  {numbers[one]} -> {number};" for one in variable.inputs]
        if isinstance(variable.op, Structural):
            lines += [f"  {numbers[root]} -> {number} [style=dashed];" for root in variable.op.body.roots]
    return "\n".join([*lines, "}"])


def to_svg(outputs: Any) -> str:
    """The graph as an SVG picture, drawn by Graphviz's `dot`; an error that says so if that is not installed."""
    import shutil
    import subprocess

    program = shutil.which("dot")
    if program is None:
        raise MissingExtraError("to_svg needs the program 'dot' of Graphviz on the PATH; to_dot() gives its input as text")
    try:
        drawn = subprocess.run([program, "-Tsvg"], input=to_dot(outputs), capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        raise ExecutionError(f"Graphviz could not draw the graph: {error.stderr}") from error
    return drawn.stdout
