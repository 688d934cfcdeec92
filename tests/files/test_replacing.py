"""Files are replaced whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest

import minigraph as mg
from minigraph.files import replacing as module
from minigraph.files.replacing import replacing
from support.sweep import rounds


def names(folder):
    """The names in a folder."""
    return [one.name for one in folder.iterdir()]


def put(path, data):
    with replacing(path) as file:
        file.write(data)


@pytest.mark.parametrize("named", [False, True])
def test_a_file_is_new_or_old(tmp_path, named, monkeypatch):
    if named:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    path = tmp_path / "model"
    put(path, b"old")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"new" * 10_000)
        file.flush()
        assert path.read_bytes() == b"old"
        1 / 0  # noqa: B018
    assert path.read_bytes() == b"old" and names(tmp_path) == ["model"]
    put(path, b"new")
    assert path.read_bytes() == b"new" and names(tmp_path) == ["model"]


def test_mode_bits_are_kept_and_links_followed(tmp_path):
    path, link = tmp_path / "model", tmp_path / "link"
    old = os.umask(0o027)
    try:
        put(path, b"old")
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o604)
    link.symlink_to("model")
    put(link, b"new")
    assert link.is_symlink() and path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == 0o604


class Failing:
    """The functions of `os`; the n-th call of the system that may fail does."""

    def __init__(self, count, error):
        self.count, self.error = count, error
        self.failed = ""

    def __getattr__(self, name):
        real = getattr(os, name)
        return partial(self._call, name, real) if name in ("open", "fdopen", "fsync", "fchmod", "link") else real

    def _call(self, name, real, *args, **options):
        self.count -= 1
        if self.count == 0:
            self.failed = name
            if name == "fdopen":
                os.close(args[0])
            raise OSError(self.error, os.strerror(self.error))
        return real(*args, **options)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("named", [False, True])
def test_what_the_system_refuses_is_raised_and_changes_nothing(tmp_path, named, error, monkeypatch):
    if named:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    path = tmp_path / "model"
    refused = []
    for count in range(1, 20):
        path.write_bytes(b"old")
        failing = Failing(count, error)
        with monkeypatch.context() as patch:
            patch.setattr(module, "os", failing)
            try:
                put(path, b"new")
            except OSError as raised:
                assert raised.errno == error
                refused.append((failing.failed, path.read_bytes()))
            assert names(tmp_path) == ["model"]
        if not failing.failed:
            break
    *before, after, _ = [content for _, content in refused] + [b""]
    assert not failing.failed and len(refused) >= 5 and {name for name, _ in refused} >= {"open", "fsync", "fchmod"}
    assert set(before[:-1]) == {b"old"} and after == b"new"  # only the folder is left to be synced once a file has its name


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "model"
    put(path, b"old")
    program = f"""
import os, resource, signal
from minigraph.files.replacing import replacing
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for size in (99_999, 100_001, 10_000_000):
    try:
        with replacing({str(path)!r}) as file:
            for _ in range(10):
                file.write(bytes(size // 10 + 1))
        print("written")
    except OSError as error:
        print(os.path.getsize({str(path)!r}), len(os.listdir({str(tmp_path)!r})))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["written", "100000", "1", "100000", "1"]


def test_a_process_that_is_killed_leaves_a_whole_file(tmp_path):
    """It is killed at random moments of saving again and again, while another reads."""
    path = tmp_path / "model.safetensors"
    program = f"""
import numpy as np
import minigraph as mg
layer = mg.layers.Linear(300, 300, seed=0)
layer.allocate()
W, b = (layer.parameter(name) for name in "Wb")
k = 0
while True:
    W.set_value(np.full((300, 300), k, "float32"))
    b.set_value(np.full(300, k, "float32"))
    mg.files.save({str(path)!r}, layer)
    k += 1
    print(k, flush=True)
"""
    rng = np.random.default_rng(0)
    for _ in range(rounds(3, 20)):
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline()
        end = time.monotonic() + rng.uniform(0, 0.2)
        while time.monotonic() < end:
            check_whole(path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        check_whole(path)


def check_whole(path):
    """A file holds one state of the layer above."""
    weights, biases = mg.files.read(path).values()
    assert (weights == weights[0, 0]).all() and (biases == weights[0, 0]).all()
