"""Compiled code on disk: found by the next process, compiled again if it is not whole, never missed if it cannot be kept."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from minigraph.kernels import disk, jit

pytestmark = pytest.mark.skipif(not jit.is_available(), reason="llvmlite is not installed")

SCRIPT = """
import numpy as np
import minigraph as mg
from minigraph.kernels import jit

x, w = mg.matrix("x"), mg.shared(np.full((40, 50), 0.01, "float32"), "w")
cost = mg.logsumexp(mg.sin(x) @ w, 1).sum()
f = mg.function([x], cost, updates={w: w - 0.1 * mg.grad(cost, w)}, backend="native")
print(float(f(np.ones((30, 40), "float32"))), float(w.get_value().sum()), jit._optimizer.cache_info().misses)
"""


def run(place):
    """The results of the script in a process of its own, and how many times LLVM's passes were set up there."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "MINIGRAPH_CACHE": str(place)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    *values, compiled = done.stdout.split()
    return values, int(compiled)


def test_the_next_process_finds_the_code(tmp_path):
    values, compiled = run(tmp_path / "code")
    assert compiled == 1
    assert run(tmp_path / "code") == (values, 0)
    assert run("off") == (values, 1)
    assert (tmp_path / "code").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda data: b"", lambda data: data[:40] + b"?" + data[41:]])
def test_damaged_code_is_compiled_again(tmp_path, damage):
    values, _ = run(tmp_path)
    files = sorted(tmp_path.iterdir())
    whole = [one.read_bytes() for one in files]
    for one in files:
        one.write_bytes(damage(one.read_bytes()))
    assert run(tmp_path) == (values, 1)
    assert [one.read_bytes() for one in files] == whole


def test_a_directory_that_cannot_be_used_costs_only_time(tmp_path):
    occupied = tmp_path / "file"
    occupied.write_text("not a directory")
    values, compiled = run(occupied / "code")
    assert (compiled, values) == (1, run(tmp_path / "code")[0])
    assert occupied.read_text() == "not a directory"


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAPH_CACHE", str(tmp_path))

    def fail(source, target):
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", fail)
    disk.save("name", b"code")
    assert list(tmp_path.iterdir()) == []


def test_names_tell_all_that_code_depends_on(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGRAPH_CACHE", str(tmp_path))
    text = "define i64 @f() {\n  ret i64 7\n}"
    jit.Code(text)
    jit.Code(text)
    assert len(list(tmp_path.iterdir())) == 1
    jit.Code(text, as_written=True)
    assert len(list(tmp_path.iterdir())) == 2
    triple, processor, features = jit.target()
    monkeypatch.setattr(jit, "target", lambda: (triple, processor, features + ",-avx512f"))
    jit.Code(text)
    assert len(list(tmp_path.iterdir())) == 3
    monkeypatch.setitem(jit.TUNING, "speed_level", 2)
    jit.Code(text)
    assert len(list(tmp_path.iterdir())) == 4


def test_what_was_not_used_for_longest_is_removed(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGRAPH_CACHE", str(tmp_path))
    monkeypatch.setattr(disk, "MOST_FILES", 8)
    for k in range(8):
        disk.save(f"code{k}", b"%d" % k)
        os.utime(tmp_path / f"code{k}", (k, k))
    disk.save("ninth", b"9")
    assert disk.load("code0") == b"0"  # it is the newest now
    disk._remove_oldest.cache_clear()
    disk.save("tenth", b"10")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["code0", "code5", "code6", "code7", "ninth", "tenth"]
    disk._remove_oldest.cache_clear()


def test_the_place_is_the_users_own(monkeypatch):
    monkeypatch.delenv("MINIGRAPH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/cache")
    assert disk.directory() == Path("/some/cache/minigraph")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert disk.directory() == Path.home() / ".cache" / "minigraph"

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert disk.directory() is None
    monkeypatch.setenv("MINIGRAPH_CACHE", "off")
    assert disk.directory() is None
    disk.save("name", b"code")
    assert disk.load("name") is None
