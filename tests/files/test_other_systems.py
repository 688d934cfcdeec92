"""Files of other systems, written by these: arrays by name, bit for bit, and no code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import minigraph as mg

DATA = Path(__file__).parent / "data"


def assert_equal(found, expected):
    assert found.dtype == expected.dtype and found.shape == expected.shape and found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["torch.pt", "torch_old.pt"])
def test_state_dicts_of_pytorch(name):
    """PyTorch 2.13 wrote them, of a network, and the arrays as NumPy has them."""
    found, expected = mg.files.read(DATA / name), np.load(DATA / "torch.npz")
    assert found.format == "torch" and len(found) == 9
    for key, array in found.items():
        assert_equal(array, expected[key])


def test_tensors_in_dicts_and_lists_that_show_parts_of_others():
    found = mg.files.read(DATA / "torch_nested.pt")
    assert found.about == {"epoch": 3} and found["model.1.running_var"].shape == (3,)
    expected = [np.arange(6).reshape(2, 3).T, np.arange(2, 5, dtype="f"), np.array([1.5, -2.0], "f"), np.zeros((0, 4), "f")]
    expected += [np.array(7), np.array([True])]
    for k, array in enumerate(expected):
        assert_equal(found[f"views.{k}"], array)


def test_whole_models_are_refused_with_advice():
    with pytest.raises(mg.errors.FileFormatError, match=r"whole model, 'torch.nn.*state_dict\(\)"):
        mg.files.read(DATA / "torch_model.pt")


ARRAYS = {
    "numbers": np.arange(3.0), "turned": np.arange(6, dtype="f").reshape(2, 3).T, "swapped": np.arange(2, dtype=">i4"),
    "truth": np.array([[True], [False]]), "nothing": np.zeros((0, 2)), "one": np.array(2.5), "half": np.array([1], "f2"),
}  # fmt: skip


@pytest.mark.parametrize("compressed", [False, True])
def test_archives_of_numpy(tmp_path, compressed):
    path = tmp_path / "model.bin"
    with path.open("wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, **ARRAYS)
    found = mg.files.read(path)
    assert found.format == "npz" and list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert_equal(found[name], np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape))


def test_a_single_array_of_numpy(tmp_path):
    np.save(tmp_path / "array.npy", ARRAYS["turned"])
    found = mg.files.read(tmp_path / "array.npy")
    assert list(found) == ["array"]
    np.testing.assert_array_equal(found["array"], ARRAYS["turned"])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_lists_and_dicts(tmp_path, protocol):
    value = [ARRAYS["numbers"], {"inner": ARRAYS, "count": 3, "name": "x"}, (np.float32(1.5), None)]
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    found = mg.files.read(path)
    assert found.about == {"arr_1.count": 3, "arr_1.name": "x", "arr_2.1": None}
    assert_equal(found["arr_2.0"], np.array(1.5, "f"))
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[f"arr_1.inner.{name}"], array)
        assert found[f"arr_1.inner.{name}"].dtype == array.dtype.newbyteorder("=")


def test_pickles_of_python_2(tmp_path):
    """`pickle.dumps([numpy.arange(2.0)], 2)` in Python 2.7 gives this."""
    text = (
        b"\x80\x02]q\x00cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85q\x03U\x01bq\x04\x87q\x05Rq\x06"
        b"(K\x01K\x02\x85q\x07cnumpy\ndtype\nq\x08U\x02f8q\tK\x00K\x01\x87q\nRq\x0b(K\x03U\x01<q\x0cNNNJ\xff\xff\xff\xffJ\xff\xff"
        b"\xff\xffK\x00tq\rb\x89U\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf0?q\x0etq\x0fba."
    )
    (tmp_path / "model.pkl").write_bytes(text)
    assert_equal(mg.files.read(tmp_path / "model.pkl")["arr_0"], np.arange(2.0))


class Harmful:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch harm",)


@pytest.mark.parametrize("value", [Harmful(), [Harmful()], {"a": {"b": Harmful()}}, os.system, print, Path("a"), {1, 2}, 1j])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_of_anything_else_are_refused_by_name(tmp_path, monkeypatch, value, protocol):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps([value], protocol))
    with pytest.raises(mg.errors.FileFormatError, match=r"model.pkl.*(refers to|opcode)"):
        mg.files.read(path)
    assert [one.name for one in tmp_path.iterdir()] == ["model.pkl"]
