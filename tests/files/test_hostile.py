"""Files that are damaged, or made to do harm: each is refused at once, with the reason, and nothing is run or opened."""

from __future__ import annotations

import io
import json
import struct
import sys
import time
import tracemalloc
import zipfile

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


def archive(members, compression=zipfile.ZIP_STORED):
    """A zip archive of some members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as zipped:
        for name, data in members:
            zipped.writestr(name, data)
    return file.getvalue()


def npy(descr, shape, data=b"", order=False):
    """A file of NumPy's with some header."""
    header = str({"descr": descr, "fortran_order": order, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def tensors(pickle, **storages):
    """An archive of PyTorch's."""
    return archive([("archive/data.pkl", pickle), *((f"archive/data/{key}", data) for key, data in storages.items())])


def tensor(offset=b"K\x00", size=b"K\x02\x85", stride=b"K\x01\x85", kind=b"FloatStorage", key=b"a"):
    """A pickle of a dict with a tensor."""
    reference = b"(X\x07\x00\x00\x00storagectorch\n" + kind + b"\nX\x01\x00\x00\x00" + key + b"X\x03\x00\x00\x00cpuK\x02tQ"
    made = b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference + offset + size + stride + b"\x89}tR"
    return b"\x80\x02}X\x01\x00\x00\x00w" + made + b"s."


ZEROS = npy("<f4", (2,), bytes(8))
BAD_ARCHIVES = {
    "a member above the folder": archive([("../../a.npy", ZEROS)]),
    "a member of a name of 10 kB": archive([("a" * 10_000 + ".npy", ZEROS)]),
    "a member above the folder, as in Windows": archive([("..\\a.npy", ZEROS)]),
    "two members of a name": archive([("a.npy", ZEROS), ("b.npy", ZEROS)]).replace(b"b.npy", b"a.npy"),
    "an archive of other things": archive([("setup.py", b"import os")]),
    "an archive of nothing": archive([]),
    "an archive that was cut off": archive([("a.npy", ZEROS)])[:-30],
    "a member that was changed": archive([("a.npy", ZEROS)]).replace(bytes(8), bytes(7) + b"\x01"),
    "a bomb": archive([("a.npy", bytes(900_000))], zipfile.ZIP_DEFLATED).replace(struct.pack("<I", 900_000), b"\xff" * 4),
    "compressed in another way": archive([("a.npy", ZEROS)], zipfile.ZIP_BZIP2),
    "an array of objects": archive([("a.npy", npy("|O", (2,)))]),
    "an array of a structure": archive([("a.npy", npy([("x", "<f4")], (2,), bytes(8)))]),
    "an array that is longer than its file": archive([("a.npy", npy("<f4", (2**40,), bytes(8)))]),
    "an array of a negative size": archive([("a.npy", npy("<f4", (-2,), bytes(8)))]),
    "an array whose header is code": npy("<f4", (2,), bytes(8)).replace(b"(2,)", b"[2] "),
    "an array of wide floats": npy("<f16", (2,), bytes(32)),
    "an array that was cut off": ZEROS[:-1],
    "a tensor beyond its storage": tensors(tensor(size=b"K\x03\x85"), a=bytes(8)),
    "a tensor that begins beyond it": tensors(tensor(offset=b"K\x07"), a=bytes(8)),
    "a tensor of a negative offset": tensors(tensor(offset=b"J\xff\xff\xff\xff"), a=bytes(8)),
    "a tensor of a negative stride": tensors(tensor(stride=b"J\xff\xff\xff\xff\x85"), a=bytes(8)),
    "a tensor that repeats a number for ever": tensors(tensor(size=b"J\xff\xff\xff\x7f\x85", stride=b"K\x00\x85"), a=bytes(8)),
    "a tensor of too few strides": tensors(tensor(stride=b")"), a=bytes(8)),
    "a tensor without a storage": tensors(tensor(key=b"b"), a=bytes(8)),
    "a storage of nonsense": tensors(tensor(kind=b"EvilStorage"), a=bytes(8)),
    "a storage that ends within a number": tensors(tensor(), a=bytes(7)),
    "a tensor that calls": tensors(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00echo\x85R."),
    "a model": tensors(b"\x80\x02ctorch.nn.modules.linear\nLinear\n)\x81."),
    "a pickle without an end": tensors(b"\x80\x02]"),
    "a pickle of an empty stack": tensors(b"\x80\x020000."),
    "a pickle that fetches what is not there": tensors(b"\x80\x02h\x07."),
    "a pickle of an unknown opcode": tensors(b"\x80\x02\xff."),
    "a string of 2**62 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",
    "a pickle that holds itself": b"\x80\x02]q\x00h\x00a.",
    "a pickle of 2**40 paths": b"\x80\x02]q\x00" + b"".join(b"](h%ch%ceq%c" % (k, k, k + 1) for k in range(40)) + b".",
    "a class of Python's": b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.",
    "a pickle of sets": b"\x80\x04\x8f(K\x01\x90.",
    "an instance": b"(i__main__\nModel\np0\n.",
    "an array of PyTorch's oldest files": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\x01\x00.",
}
"""Archives and pickles that are damaged or do harm."""


HOSTILE = BAD_ARCHIVES | {
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
