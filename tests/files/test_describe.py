"""What is told of files, in Python and on the command line."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import minigraph as mg
from minigraph.__main__ import main


@pytest.fixture
def files(tmp_path):
    """A checkpoint and a function."""
    layer = mg.layers.Linear(3, 2, name="dense")
    layer.allocate()
    mg.files.save(tmp_path / "layer", layer)
    x, count = mg.matrix("x"), mg.shared(np.array(0), "count")
    mg.function([x], [layer.apply(x), x.sum()], updates=[(count, count + 1)], name="f").save(tmp_path / "f")
    return tmp_path


def test_a_page_tells_what_a_file_holds(files):
    page = mg.files.describe(files / "layer")
    assert page.splitlines()[0] == f"{files / 'layer'}: minigraph, 2 arrays"
    assert "  /dense.W  float32 (3, 2)" in page and page.endswith("whole")
    page = mg.files.describe(files / "f")
    assert "function f(x: float32 (None, None)) -> float32 (None, 2), float32 scalar, 1 updates" in page
    assert page.endswith("whole")


def test_it_tells_of_damage_and_of_the_rest(files, capsys):
    raw = bytearray((files / "layer").read_bytes())
    raw[-1] ^= 1
    (files / "layer").write_bytes(raw)
    assert main(["files", str(files / "f"), str(files / "layer")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith("  damaged")] in (["  /dense.b  damaged"], ["  /dense.W  damaged"])
    assert lines.count("damaged:") == 1 and "digest" in lines[-1] and lines.count("whole") == 1


def test_what_is_no_file_of_ours_is_told_on_a_line(files, capsys):
    (files / "page.html").write_text("<html>404</html>")
    assert main(["files", str(files / "page.html")]) == main(["files", str(files / "missing")]) == 1
    out, errors = capsys.readouterr()
    assert not out and len(errors.splitlines()) == 2 and "page.html" in errors and "missing" in errors
    assert main(["files"]) == main([]) == main(["doctor", "x"]) == 2
    assert "files PATH" in capsys.readouterr().err


def test_the_command_is_there(files):
    command = [sys.executable, "-m", "minigraph", "files", str(files / "layer")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip().endswith("whole")
