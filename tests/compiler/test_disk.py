"""Compiled code on disk: found by the next process, compiled again if it is not whole or not to be trusted, never missed."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

import minigraph as mg
from minigraph.compiler import cache as disk
from minigraph.compiler.cpu import jit
from support.places import ROOT

pytestmark = [
    pytest.mark.shipped_code,
    pytest.mark.skipif(
        not jit.is_available() or not hasattr(os, "geteuid"), reason="llvmlite is not installed, or nobody owns files here"
    ),
]
as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files to others")

SCRIPT = """
import numpy as np
import minigraph as mg
from minigraph.compiler.cpu import jit

x, w = mg.matrix("x"), mg.shared(np.full((40, 50), 0.01, "float32"), "w")
cost = mg.logsumexp(mg.sin(x) @ w, 1).sum()
f = mg.function([x], cost, updates={w: w - 0.1 * mg.grad(cost, w)}, backend="native")
print(float(f(np.ones((30, 40), "float32"))), float(w.get_value().sum()), jit._machine.cache_info().misses)
"""
NOBODY = 65534
CODE = b"\x7fELF and so on"


def run(place, script=SCRIPT, **environment):
    """The results of the script in a process of its own, and how many times LLVM's passes were set up there."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "MINIGRAPH_CACHE": str(place), "MINIGRAPH_NUM_THREADS": "1", **environment},
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    *values, compiled = done.stdout.split()
    return values, int(compiled)


def name(k):
    return f"{k:064x}"


def names(place):
    return [one.name for one in sorted(place.iterdir())]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A directory of our own for code, named by MINIGRAPH_CACHE."""
    place = tmp_path / "code"
    place.mkdir(mode=0o700)
    monkeypatch.setenv("MINIGRAPH_CACHE", str(place))
    disk._usages.clear()
    yield place
    disk._usages.clear()


def test_the_next_process_finds_the_code(tmp_path):
    values, compiled = run(tmp_path / "new" / "code")
    assert compiled == 1
    assert run(tmp_path / "new" / "code") == (values, 0)
    assert run("off") == (values, 1)
    for made in (tmp_path / "new", tmp_path / "new" / "code"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert {stat.S_IMODE(one.stat().st_mode) for one in (tmp_path / "new" / "code").iterdir()} == {0o600}


def test_damaged_code_is_compiled_again(tmp_path):
    tmp_path.chmod(0o700)
    values, _ = run(tmp_path)
    files = sorted(tmp_path.iterdir())
    whole = [one.read_bytes() for one in files]
    damages = [lambda data: data[:-5], lambda data: b"", lambda data: data[:40] + b"?" + data[41:]]
    for k, one in enumerate(files):
        one.write_bytes(damages[k % 3](one.read_bytes()))
    assert run(tmp_path) == (values, 1)
    assert [one.read_bytes() for one in files] == whole


@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda data: b"", lambda data: data[:40] + b"?" + data[41:]])
def test_a_file_that_is_not_whole_counts_as_missing(folder, damage):
    disk.save(name(1), CODE)
    assert disk.load(name(1)) == CODE
    (folder / name(1)).write_bytes(damage((folder / name(1)).read_bytes()))
    assert disk.load(name(1)) is None


def test_what_is_no_object_file_is_not_given_to_llvm(folder):
    disk.save(name(1), b"no object file, with a digest that is right")
    assert (folder / name(1)).exists()
    assert disk.load(name(1)) is None


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_a_directory_that_others_may_write_to_is_not_used(folder, mode):
    disk.save(name(1), CODE)
    folder.chmod(mode)
    disk.save(name(2), CODE)
    assert disk.load(name(1)) is None
    assert names(folder) == [name(1)]
    assert "others may write to" in mg.doctor()
    folder.chmod(0o755)
    assert disk.load(name(1)) == CODE
    assert "others may write to" not in mg.doctor()


def test_a_file_that_others_may_write_to_is_not_used(folder):
    disk.save(name(1), CODE)
    (folder / name(1)).chmod(0o620)
    assert disk.load(name(1)) is None


@as_root
def test_what_belongs_to_others_is_not_used(folder):
    disk.save(name(1), CODE)
    os.chown(folder / name(1), NOBODY, NOBODY)
    assert disk.load(name(1)) is None
    os.chown(folder / name(1), 0, 0)
    assert disk.load(name(1)) == CODE
    os.chown(folder, NOBODY, NOBODY)
    assert disk.load(name(1)) is None
    assert f"belongs to user {NOBODY}, not to 0" in mg.doctor()


def test_a_directory_that_everybody_may_replace_is_not_used(tmp_path, monkeypatch):
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setenv("MINIGRAPH_CACHE", str(shared / "code"))
    disk.save(name(1), CODE)
    assert disk.load(name(1)) == CODE
    shared.chmod(0o777)
    assert disk.load(name(1)) is None
    assert "everybody may replace" in mg.doctor()
    shared.chmod(0o1777)
    assert disk.load(name(1)) == CODE


@as_root
def test_a_cache_of_roots_can_be_read_by_all(monkeypatch):
    """Such as one that was put into the image of a container."""
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    monkeypatch.setenv("MINIGRAPH_CACHE", str(place))
    disk.save(name(1), CODE)
    place.chmod(0o755)
    (place / name(1)).chmod(0o644)
    try:
        pid = os.fork()
        if not pid:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            found = disk.load(name(1))
            disk.save(name(2), CODE)
            os._exit(0 if found == CODE and disk.refusal() == "" else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert names(place) == [name(1)]
    finally:
        shutil.rmtree(place)


def test_a_directory_that_can_only_be_read_is_used(folder, monkeypatch):
    def refuse(*args, **options):
        raise OSError(30, "Read-only file system")

    disk.save(name(1), CODE)
    for call in ("utime", "rename", "mkdir", "unlink"):
        monkeypatch.setattr(os, call, refuse)
    assert disk.load(name(1)) == CODE
    disk.save(name(2), CODE)
    assert disk.load(name(2)) is None


def test_links_and_pipes_are_not_followed_nor_waited_for(folder, tmp_path):
    disk.save(name(1), CODE)
    os.link(folder / name(1), tmp_path / "elsewhere")
    (folder / name(2)).symlink_to(tmp_path / "elsewhere")
    os.mkfifo(folder / name(3))
    (folder / name(4)).mkdir()
    (folder / name(5)).symlink_to("/dev/zero")
    assert [disk.load(name(k)) for k in range(1, 6)] == [CODE, None, None, None, None]
    for k in (2, 3, 5):
        disk.save(name(k), CODE)
        assert disk.load(name(k)) == CODE
    assert (tmp_path / "elsewhere").read_bytes().endswith(CODE)


def test_a_directory_that_cannot_be_used_costs_only_time(tmp_path):
    occupied = tmp_path / "file"
    occupied.write_text("not a directory")
    values, compiled = run(occupied / "code")
    assert (compiled, values) == (1, run(tmp_path / "code")[0])
    assert occupied.read_text() == "not a directory"


@pytest.mark.parametrize(
    "environment",
    [
        {"MINIGRAPH_CACHE": "{}/file"},
        {"MINIGRAPH_CACHE": "{}/file/below"},
        {"MINIGRAPH_CACHE": "~no-such-user/code"},
        {"MINIGRAPH_CACHE": "/proc/nowhere"},
        {"MINIGRAPH_CACHE": "/dev/null"},
        {"MINIGRAPH_CACHE": "x" * 300},
        {"MINIGRAPH_CACHE": "off"},
        {"MINIGRAPH_CACHE": "", "HOME": "/nonexistent", "XDG_CACHE_HOME": ""},
        {"MINIGRAPH_CACHE": "", "HOME": "", "XDG_CACHE_HOME": "not/absolute"},
    ],
)
def test_no_place_makes_anything_fail(tmp_path, monkeypatch, environment):
    (tmp_path / "file").write_text("kept")
    monkeypatch.chdir(tmp_path)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value.format(tmp_path))
    disk.save(name(1), CODE)
    assert disk.load(name(1)) is None
    assert "code is " in mg.doctor()
    assert names(tmp_path) == ["file"]
    assert not Path("/nonexistent").exists()


def test_a_relative_directory_is_below_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIGRAPH_CACHE", "code")
    disk.save(name(1), CODE)
    assert names(tmp_path / "code") == [name(1)]
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MINIGRAPH_CACHE", "~/code")
    assert disk.load(name(1)) == CODE


@pytest.mark.parametrize("call", ["rename", "fdopen"])
def test_a_write_that_fails_leaves_nothing(folder, monkeypatch, call):
    def fail(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    disk.save(name(1), CODE)
    assert names(folder) == []


def test_names_tell_all_that_code_depends_on(monkeypatch, folder):
    text = "define i64 @f() {\n  ret i64 7\n}"
    jit.Code(text)
    jit.Code(text)
    assert len(names(folder)) == 1
    jit.Code(text, as_written=True)
    assert len(names(folder)) == 2
    triple, processor, features = jit.target()
    monkeypatch.setattr(jit, "target", lambda: (triple, processor, features + ",-avx512f"))
    jit.Code(text)
    assert len(names(folder)) == 3
    monkeypatch.setitem(jit.TUNING, "speed_level", 2)
    jit.Code(text)
    assert len(names(folder)) == 4


def test_what_was_not_used_for_longest_is_removed(monkeypatch, folder):
    monkeypatch.setattr(disk, "MOST_FILES", 8)
    for k in range(8):
        disk.save(name(k), CODE)
        os.utime(folder / name(k), (k, k))
    assert disk.load(name(0)) == CODE  # it is the newest now
    (folder / "notes of my own").write_text("kept")
    os.utime(folder / "notes of my own", (0, 0))
    disk.save(name(8), CODE)
    assert names(folder) == [name(0), name(6), name(7), name(8), "notes of my own"]


def test_the_bound_holds_within_one_process(monkeypatch, folder):
    monkeypatch.setattr(disk, "MOST_FILES", 50)
    monkeypatch.setattr(disk, "MOST_BYTES", 20_000)
    for k in range(300):
        disk.save(name(k), CODE)
        assert len(names(folder)) <= 50
    for k in range(300, 400):
        disk.save(name(k), CODE + bytes(1000))
        assert sum(one.stat().st_size for one in folder.iterdir()) <= 20_000
    assert disk.load(name(399)) == CODE + bytes(1000)


def test_files_that_nobody_ended_are_removed_when_they_are_old(folder):
    for k, age in ((1, 10_000), (2, 10)):
        left = folder / f"{name(k)}.0123.part"
        left.write_bytes(b"half")
        os.utime(left, (left.stat().st_mtime - age,) * 2)
    disk.save(name(3), CODE)
    assert names(folder) == [f"{name(2)}.0123.part", name(3)]


def test_the_place_is_the_users_own(monkeypatch, tmp_path):
    monkeypatch.delenv("MINIGRAPH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/cache")
    assert disk.place() == ("/some/cache/minigraph", "")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert disk.place() == (str(tmp_path / ".cache" / "minigraph"), "")
    monkeypatch.setenv("HOME", "/nonexistent")
    assert disk.place().path == ""
    monkeypatch.setenv("MINIGRAPH_CACHE", "off")
    assert disk.place() == ("", "MINIGRAPH_CACHE is off")


AT_EXIT = """
import atexit
def late():
    import numpy as np, minigraph as mg
    x = mg.vector("x")
    print(float(mg.function([x], mg.exp(x).sum(), backend="native")(np.zeros(3, "float32"))), 0)
atexit.register(late)
{}
"""


@pytest.mark.parametrize("before", ["", "import minigraph", "import minigraph.compiler.cpu.jit as jit; jit.llvm()", "late()"])
def test_compiling_while_the_process_ends_is_silent(before):
    script = AT_EXIT.format(before)
    *_, value = run("off", script)[0]
    assert value == "3.0" or before == "late()"


WITHOUT_MEMORY = """
import resource
import numpy as np, minigraph as mg
x = mg.vector("x")
mg.function([x], mg.exp(x).sum(), backend="native")(np.zeros(3, "float32"))
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
_, most = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (taken + {} * 2**20, most))
f = mg.function([x], mg.sin(mg.exp(x)).sum(), backend="native")
try:
    f(np.zeros(3, "float32"))
    raise SystemExit("it was compiled")
except MemoryError as error:
    assert "memory to compile" in str(error), error
resource.setrlimit(resource.RLIMIT_AS, (most, most))
print(float(f(np.zeros(3, "float32"))), 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are tried on Linux")
@pytest.mark.parametrize("megabytes", [2, 16])
def test_no_memory_to_compile_in_is_an_error_that_can_be_caught(megabytes):
    (value,), _ = run("off", WITHOUT_MEMORY.format(megabytes))
    assert float(value) == pytest.approx(2.5244129)
