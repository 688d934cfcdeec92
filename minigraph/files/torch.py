"""PyTorch's files: dicts of tensors, in archives, and as they were before version 1.6."""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np

from minigraph.core.errors import FileFormatError
from minigraph.files.archive import Archive
from minigraph.files.bounded import Array, Bounded
from minigraph.files.contents import Contents
from minigraph.files.pickled_arrays import NAMES, contents
from minigraph.files.pickles import Deferred, Named, Reader

DATA, ORDER = "/data.pkl", "/byteorder"
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""The numbers whose pickles files of old begin with."""
MOST_REPEATED = 2**20
"""The most elements of a tensor that shows those of its storage several times."""
STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "Long": "int64", "Int": "int32", "Short": "int16",
    "Char": "int8", "Byte": "uint8", "Bool": "bool", "BFloat16": "bfloat16",
}  # fmt: skip
"""The dtypes of storages, by the beginnings of their names."""
MODELS = ("torch.nn.", "torchvision.", "__main__.")
"""The modules of classes that are whole models."""


class StorageKind(Named):
    """The class of a storage, which stands for a dtype."""

    def __init__(self, name: str, dtype: str) -> None:
        super().__init__(name, _uncalled)
        self.is_bfloat = dtype == "bfloat16"
        self.bits = np.dtype("uint16" if self.is_bfloat else dtype)
        """The dtype of an item: the upper half of a float32 for bfloat16."""


def _uncalled(*_: Any) -> Any:
    """The error for a class that is named only."""
    raise FileFormatError("its pickle makes a storage")


class Storage:
    """The numbers that tensors show."""

    def __init__(self, kind: StorageKind, load: Callable[[], Array]) -> None:
        """load: reads all of them."""
        self.kind, self.load = kind, load


class Tensor(Deferred):
    """A tensor, which shows a part of its storage.

    offset: that of the first element. size, stride: those of each axis, in elements.
    """

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> None:
        self._shape, self._steps, self._offset = tuple(size), tuple(stride), offset
        numbers = [offset, *self._shape, *self._steps]
        fits = len(self._shape) == len(self._steps) <= 64 and all(type(one) is int and 0 <= one < 2**62 for one in numbers)
        if not isinstance(storage, Storage) or not fits:
            raise FileFormatError("a tensor has a storage, a size, strides or an offset that none can have")
        self._storage: Storage = storage

    def array(self) -> Array:
        flat, shape = self._storage.load(), self._shape
        if 0 in shape:
            shown = np.empty(shape, flat.dtype)
        else:
            last = self._offset + sum((length - 1) * step for length, step in zip(shape, self._steps, strict=True))
            if last >= len(flat) or math.prod(shape) > max(MOST_REPEATED, len(flat)):
                raise FileFormatError(f"a tensor of shape {shape} reaches to element {last} of a storage of {len(flat)}")
            steps = [one * flat.itemsize for one in self._steps]
            shown = np.lib.stride_tricks.as_strided(flat[self._offset :], shape, steps)
        copied: Array = shown.copy(order="C")
        return (copied.astype("uint32") << 16).view("float32") if self._storage.kind.is_bfloat else copied


def _parameter(data: Any, *_: Any) -> Any:
    """The tensor of a parameter."""
    return data


TORCH_NAMES = {
    **NAMES,
    "torch._utils._rebuild_tensor_v2": Tensor,
    "torch._utils._rebuild_tensor": Tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": tuple,
}
KINDS = {f"torch.{name}Storage": StorageKind(f"torch.{name}Storage", dtype) for name, dtype in STORAGES.items()}


class TorchReader(Reader):
    """Pickles in which classes of storages are data."""

    def named(self, name: str) -> Named:
        if name in KINDS:
            return KINDS[name]
        if name.startswith(MODELS):
            raise FileFormatError(
                f"its pickle holds a whole model, {name[:80]!r}, whose code would have to be run: save its state_dict() in "
                "PyTorch, which is made of tensors alone"
            )
        return super().named(name)


def is_archive(archive: Archive) -> bool:
    """Whether an archive is one of PyTorch's."""
    return any(name.endswith(DATA) for name in archive)


def read_archive(source: Bounded, archive: Archive) -> Contents:
    """The tensors of an archive, by their keys."""
    pickle = next(name for name in archive if name.endswith(DATA))
    folder = pickle.removesuffix(DATA)
    order = bytes(archive[folder + ORDER]) if folder + ORDER in archive else b"little"

    def storage(reference: Any) -> Storage:
        kind, key = _checked(reference)
        name = f"{folder}/data/{key}"
        if name not in archive:
            raise FileFormatError(f"it has no storage {key[:80]!r}")
        return Storage(kind, lambda: _whole(archive[name], kind, order == b"big"))

    return _read(source, TorchReader(TORCH_NAMES, storage), BytesIO(archive[pickle]))


def _read(source: Bounded, reader: Reader, file: Any) -> Contents:
    """The tensors of a pickle that a file goes on with."""
    try:
        return contents(source, "torch", reader.value(file))
    except FileFormatError as error:
        source.refuse(error.message)


def _checked(reference: Any) -> tuple[StorageKind, str]:
    """The class and the key of a storage that a pickle refers to."""
    match reference:
        case ("storage", StorageKind() as kind, str(key), str(), int(), *rest) if rest in ([], [None]):
            return kind, key
    raise FileFormatError("its pickle refers to something that is no storage, or to a part of one")


def _whole(data: memoryview, kind: StorageKind, swapped: bool) -> Array:
    """All numbers of a storage; `swapped`: whether their most significant bytes come first."""
    if len(data) % kind.bits.itemsize:
        raise FileFormatError("a storage ends within a number")
    found: Array = np.frombuffer(data, kind.bits.newbyteorder(">" if swapped else "<"))
    return found.astype(kind.bits, copy=False)


def is_old(source: Bounded) -> bool:
    """Whether a file is one from before version 1.6."""
    return MAGIC.to_bytes(10, "little") in bytes(source.part(0, min(source.size, 32), "the beginning"))


def read_old(source: Bounded) -> Contents:
    """The tensors of a file from before version 1.6, whose storages follow its pickles."""
    file, plain = source.mapped, TorchReader({})
    storages: dict[str, Storage] = {}
    places: dict[str, memoryview] = {}
    swapped = False

    def storage(reference: Any) -> Storage:
        kind, key = _checked(reference)
        return storages.setdefault(key, Storage(kind, lambda: _whole(places[key], kind, swapped)))

    try:
        if plain.value(file) != MAGIC or plain.value(file) != PROTOCOL:
            source.refuse("it is of an unknown version of PyTorch's files")
        system = plain.value(file)
        swapped = isinstance(system, dict) and system.get("little_endian") is False
        found = _read(source, TorchReader(TORCH_NAMES, storage), file)
        keys = plain.value(file)
    except FileFormatError as error:
        source.refuse(error.message)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        source.refuse("its storages are not those that its tensors refer to")
    place = file.tell()
    for key in keys:
        count = int.from_bytes(source.part(place, 8, f"the size of storage {key[:80]}"), "big" if swapped else "little")
        places[key] = source.part(place + 8, count * storages[key].kind.bits.itemsize, f"storage {key[:80]}")
        place += 8 + len(places[key])
    if place != source.size:
        source.refuse(f"its storages end at byte {place}, and the file has {source.size}")
    return found
