"""Mistakes that users make: the error names the line, the op and the types involved."""

import inspect
import re
import traceback

import pytest

import minigraph as mg
from support import mistakes


def lines_marked(function, mark):
    source, first = inspect.getsourcelines(function)
    return [first + k for k, line in enumerate(source) if line.rstrip().endswith(f"# {mark}")]


@pytest.mark.parametrize(("function", "when", "error", "parts"), mistakes.TABLE)
def test_errors_name_the_line_the_op_and_the_types(function, when, error, parts):
    (marked,) = lines_marked(function, "mistake")
    with pytest.raises(error) as caught:
        function()
    message = str(caught.value)
    frames = [frame for frame in traceback.extract_tb(caught.value.__traceback__) if frame.name == function.__name__]
    raised = frames[-1].lineno
    named = {int(line) for line in re.findall(rf"{re.escape(mistakes.__file__)}:(\d+)", message)}
    assert isinstance(caught.value, mg.MinigraphError)
    assert marked in named
    assert named <= {marked, raised, *lines_marked(function, "involved")}
    assert (raised == marked) == (when == "build")
    assert [part for part in parts if part not in message] == []


def test_the_table_is_long_and_has_every_time():
    assert len(mistakes.TABLE) >= 50
    assert {entry.values[1] for entry in mistakes.TABLE} == {"build", "compile", "call"}
