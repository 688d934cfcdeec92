"""Graphs as text, as pictures, and as networkx graphs; nothing here recurses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TextIO

from minigraph.core.errors import ExecutionError, MissingExtraError
from minigraph.core.graph import Constant, Graph, Input, Op, Shared, Structural, Variable, describe_type, toposort
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
    """One op written over the texts of its operands."""
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


def flat_text(graph: Graph) -> list[str]:
    """One line a variable, in order, each naming its op, type, and the lines of its inputs; bodies before what holds them."""
    numbers: dict[Variable, int] = {}
    lines = []
    for variable in with_bodies(graph.variables):
        numbers[variable] = len(numbers)
        operands = ", ".join(f"%{numbers[one]}" for one in variable.inputs)
        lines.append(f"%{numbers[variable]} = {label(variable)}({operands}): {describe_type(variable)}")
    return lines


def graph_diff(before: Graph, after: Graph) -> str:
    """What differs between two graphs, as a diff of their trees; empty if nothing does."""
    import difflib

    old, new = debugprint(before).splitlines(), debugprint(after).splitlines()
    return "\n".join(difflib.unified_diff(old, new, "before", "after", lineterm="", n=1))


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
