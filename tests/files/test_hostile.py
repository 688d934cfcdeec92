"""Files that are damaged, or made to do harm: each is refused at once, with the reason, and nothing is run or opened."""

from __future__ import annotations

import json
import struct
import sys
import time
import tracemalloc

import numpy as np
import pytest

import minigraph as mg
from minigraph.layers import BatchNormalizedMLP, Tanh, get_parameter_values
from support.sweep import rounds


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint, and the layers that it is of."""
    layer = BatchNormalizedMLP([Tanh(), None], [4, 8, 2], seed=1)
    layer.allocate()
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    mg.files.save(path, layer)
    return path.read_bytes(), layer


def refused(path, layer):
    """Whether a file is refused as damaged, with its name in the error."""
    try:
        mg.files.load(path, layer)
    except mg.errors.FileFormatError as error:
        return path.name in str(error)
    return False


def test_every_flipped_bit_is_seen(saved, tmp_path):
    raw, layer = saved
    before = get_parameter_values(layer)
    rng, path = np.random.default_rng(0), tmp_path / "flipped"
    for place in rng.integers(8 * len(raw), size=rounds(1000)):
        data = bytearray(raw)
        data[place // 8] ^= 1 << (place % 8)
        path.write_bytes(data)
        assert refused(path, layer), f"bit {place}"
    assert all((value == before[name]).all() for name, value in get_parameter_values(layer).items())


def test_every_truncation_and_every_addition_is_seen(saved, tmp_path):
    raw, layer = saved
    path = tmp_path / "cut"
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        assert refused(path, layer), f"cut to {length}"
    for more in (b"\0", b"}", raw, bytes(4096)):
        path.write_bytes(raw + more)
        assert refused(path, layer)


def entry(**changes):
    """The entry of an array of two numbers in the header of a file of safetensors."""
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


def packed(header, data=bytes(8), length=None):
    """A file of safetensors with some header, given as JSON or as bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


HOSTILE = {
    "empty": b"",
    "seven bytes": b"1234567",
    "a page of an error": b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * 20,
    "a length of 2**62": packed({"a": entry()}, length=2**62),
    "a length of 2**64 - 1": packed({"a": entry()}, length=2**64 - 1),
    "a length of nothing": packed({"a": entry()}, length=0),
    "a header of 200 MB": (packed(b"[" * 64, length=200_000_000), 200_000_100),
    "a header of 17 MB, of spaces": (packed(b"{", length=17_000_000), 17_000_100),
    "nested 100,000 deep": packed(b"[" * 100_000 + b"]" * 100_000),
    "objects 100,000 deep": packed(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "not UTF-8": packed(b'{"\xff\xfe": 1}'),
    "a list": packed([entry()]),
    "a number": packed(b"1"),
    "no JSON": packed(b"{'a': 1}"),
    "text after the end": packed(json.dumps({"a": entry()}).encode() + b"x"),
    "a key twice": packed(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2)),
    "NaN": packed(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}'),
    "1e999": packed(b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,8]}}'),
    "a number of 10,000 digits": packed(b'{"a":{"dtype":"F32","shape":[%s],"data_offsets":[0,8]}}' % (b"9" * 10_000)),
    "a fraction": packed({"a": entry(shape=[2.0])}),
    "a truth value": packed({"a": entry(shape=[True, 2])}),
    "a negative size": packed({"a": entry(shape=[-2])}),
    "sizes that overflow": packed({"a": entry(shape=[2**32, 2**32])}),
    "sizes that overflow to the right number": packed({"a": entry(shape=[2**61 + 1, 2**3, 2])}),
    "a great many axes": packed({"a": entry(shape=[1] * 1000 + [2])}),
    "a shape that is a string": packed({"a": entry(shape="22")}),
    "offsets the wrong way round": packed({"a": entry(data_offsets=[8, 0])}),
    "three offsets": packed({"a": entry(data_offsets=[0, 8, 8])}),
    "offsets beyond the end": packed({"a": entry(data_offsets=[2**61, 2**61 + 8])}),
    "arrays that overlap": packed({"a": entry(), "b": entry(data_offsets=[4, 12])}, bytes(12)),
    "arrays in one place": packed({"a": entry(), "b": entry()}),
    "a hole": packed({"a": entry(), "b": entry(data_offsets=[12, 20])}, bytes(20)),
    "bytes of nobody's": packed({"a": entry()}, bytes(9)),
    "too few bytes": packed({"a": entry()}, bytes(7)),
    "the wrong size of items": packed({"a": entry(dtype="F64")}),
    "an unknown dtype": packed({"a": entry(dtype="F8_E4M3")}),
    "a dtype of Python's": packed({"a": entry(dtype="object")}),
    "a dtype that is a list": packed({"a": entry(dtype=["F32"])}),
    "a field too many": packed({"a": entry(run="os.system")}),
    "a field too few": packed({"a": {"dtype": "F32", "shape": [2]}}),
    "metadata that is a list": packed({"__metadata__": ["a"], "a": entry()}),
    "metadata that is no string": packed({"__metadata__": {"a": 1}, "a": entry()}),
    "truth values beyond 0 and 1": packed({"a": entry(dtype="BOOL", shape=[8])}, bytes(range(8))),
    "version 0": packed({"__metadata__": {"minigraph": "0"}, "a": entry()}),
    "version -1": packed({"__metadata__": {"minigraph": "-1"}, "a": entry()}),
    "version of 10 MB": packed({"__metadata__": {"minigraph": "9" * 10_000_000}, "a": entry()}),
    "no digests": packed({"__metadata__": {"minigraph": "1"}, "a": entry()}),
    "an empty digest": packed({"__metadata__": {"minigraph": "1", "digest": "", "digests": "{}"}, "a": entry()}),
    "digests of no JSON": packed({"__metadata__": {"minigraph": "1", "digest": "0" * 32, "digests": "[[["}, "a": entry()}),
    "a pickle": b"\x80\x04cos\nsystem\n(S'touch /tmp/harm'\ntR.",
}
"""Files by what is wrong with them, those that are large as their beginning and their size."""


FORBIDDEN = ("exec", "compile", "import", "subprocess", "socket", "os", "pickle", "marshal", "ctypes")
"""The first words of events that reading a file never is."""


class Auditor:
    """Notes what Python is asked to do while files are read: running, importing, compiling, connecting, opening others."""

    def __init__(self):
        self.path, self.seen = None, []
        sys.addaudithook(self.note)

    def note(self, event, args):
        if self.path is None:
            return
        if event.partition(".")[0] in FORBIDDEN or (event == "open" and str(args[0]) != str(self.path)):
            self.seen.append((event, args))


@pytest.fixture(scope="module")
def auditor():
    found = Auditor()
    yield found
    found.path = None


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_at_once_and_harmlessly(name, tmp_path, auditor):
    path = tmp_path / "model.safetensors"
    given = HOSTILE[name]
    data, size = given if isinstance(given, tuple) else (given, len(given))
    with path.open("wb") as file:
        file.write(data)
        file.truncate(size)
    auditor.path, auditor.seen = path, []
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(mg.errors.FileFormatError) as caught:
            dict(mg.files.read(path))
        seconds, (_, most) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    finally:
        auditor.path = None
        tracemalloc.stop()
    assert path.name in str(caught.value) and len(str(caught.value)) < 2000
    assert auditor.seen == []
    assert most < (2**20 if size <= 1000 else 2**26), most
    assert seconds < 1


def test_reading_a_good_file_opens_nothing_else(saved, tmp_path, auditor):
    raw, layer = saved
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    mg.files.load(path, layer)
    auditor.path, auditor.seen = path, []
    try:
        mg.files.load(path, layer)
    finally:
        auditor.path = None
    assert auditor.seen == []


def test_there_are_enough_of_them():
    assert len(HOSTILE) >= 40
