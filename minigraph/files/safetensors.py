"""Files of safetensors: eight bytes that say how long the header is, the header in JSON, then the arrays side by side.

The format is that of https://github.com/huggingface/safetensors. Ours hold a digest of every array and of the header as well,
so that any damage is seen; other programs read them like all others.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from typing import Any, BinaryIO

import numpy as np

from minigraph.files.bounded import Array, Bounded
from minigraph.files.contents import Contents
from minigraph.files.strict_json import strictly_parsed

LENGTH_BYTES, ALIGNMENT, MOST_HEADER = 8, 64, 2**24
"""The bytes of the header's length; what the arrays begin at a multiple of; the most bytes that a header may have."""
DTYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "F32": "float32", "F64": "float64", "BF16": "uint16",
}  # fmt: skip
"""NumPy's dtype for each of the format's; the bits of BF16 are the upper half of a float32."""
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items() if name != "BF16"}
METADATA, VERSION, DIGEST, DIGESTS = "__metadata__", "minigraph", "digest", "digests"
"""Names in the header: of what is not an array, and there of the format's version, and of the digests of header and arrays."""
CURRENT = 1
"""The version that is written, and the newest that can be read."""
DIGEST_BYTES, DIGESTING = 16, 2
"""The size of a digest, and the threads that compute them while arrays are written."""
NOTHING_YET = "0" * 2 * DIGEST_BYTES
"""The header's own digest, while that is computed."""


def digest_of(data: Any) -> str:
    """The digest of some bytes, in hexadecimal digits."""
    return blake2b(data, digest_size=DIGEST_BYTES).hexdigest()


# -- writing -------------------------------------------------------------------------------------------------------------


def write(file: BinaryIO, arrays: Mapping[str, Array], about: Mapping[str, str]) -> None:
    """Write arrays, with their digests, into a new file, with strings by name that are `about` them.

    TypeError for dtypes that the format does not have.
    """
    entries: dict[str, Any] = {METADATA: {VERSION: str(CURRENT), **about, DIGESTS: "", DIGEST: NOTHING_YET}}
    flat: dict[str, Array] = {}
    offset = 0
    for name in sorted(arrays, key=lambda one: -arrays[one].dtype.itemsize):  # so that each lies at a multiple of its size
        given = arrays[name]
        array = np.ascontiguousarray(given, given.dtype.newbyteorder("=")).reshape(given.shape)
        if array.dtype not in NAMES:
            raise TypeError(f"arrays of dtype {array.dtype} cannot be written: {name}")
        flat[name] = array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).view("uint8")
        end = offset + array.nbytes
        entries[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    placeholder = _header(entries, dict.fromkeys(flat, NOTHING_YET))
    with ThreadPoolExecutor(DIGESTING) as pool:
        digests = pool.map(digest_of, flat.values())
        file.seek(len(placeholder))
        for one in flat.values():
            file.write(one.data)
        file.flush()
        os.fsync(file.fileno())  # the disk is at work while digests are computed
        header = _header(entries, dict(zip(flat, digests, strict=True)))
    file.seek(0)
    file.write(header.replace(NOTHING_YET.encode(), digest_of(header).encode()))


def _header(entries: Mapping[str, Any], digests: Mapping[str, str]) -> bytes:
    """The header with the digests of arrays, its length before it, up to where the arrays begin."""
    metadata = {**entries[METADATA], DIGESTS: json.dumps(digests)}
    text = json.dumps({**entries, METADATA: metadata}, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(LENGTH_BYTES + len(text)) % ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text


# -- reading -------------------------------------------------------------------------------------------------------------


def read(source: Bounded) -> Contents:
    """The arrays of a file. Its header is checked at once, and each array when it is read; FileFormatError for damage."""
    raw, entries = _entries(source)
    metadata = entries.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        source.refuse(f"{METADATA} must be strings by name")
    digests = _checked_digests(source, raw, entries, metadata) if {VERSION, DIGEST, DIGESTS} & set(metadata) else {}
    makers: dict[str, Callable[[], Array]] = {}
    places = []
    for name, entry in entries.items():
        begin, end, shape, kind = _place(source, name, entry)
        places.append((begin, end, name))
        makers[name] = partial(_array, source, name, len(raw) + begin, shape, kind, digests.get(name))
    _check_places(source, places, len(raw))
    about = {name: value for name, value in metadata.items() if name not in (DIGEST, DIGESTS)}
    return Contents(source.path, "minigraph" if digests else "safetensors", makers, about)


def _entries(source: Bounded) -> tuple[bytes, dict[str, Any]]:
    """The bytes of the header, those of its length before them, and the entries that it has in JSON."""
    length = int.from_bytes(source.part(0, LENGTH_BYTES, "the length of the header"), "little")
    if length > MOST_HEADER:
        source.refuse(f"its header would have {length} bytes, and {MOST_HEADER} is the most that there can be")
    source.part(LENGTH_BYTES, length, "the header")
    raw = bytes(source.part(0, LENGTH_BYTES + length, "the header"))
    try:
        entries = strictly_parsed(raw[LENGTH_BYTES:])
    except ValueError as error:
        source.refuse(f"its header is damaged, or no JSON: {error}")
    if not isinstance(entries, dict):
        source.refuse("its header must be an object of JSON")
    return raw, entries


def _checked_digests(source: Bounded, raw: bytes, entries: Mapping[str, Any], metadata: Mapping[str, str]) -> dict[str, str]:
    """The digests of the arrays, after that of the header has been compared with the header."""
    version = metadata.get(VERSION, "")
    if not version.isascii() or not version.isdecimal() or version.startswith("0"):
        source.refuse(f"its header is damaged: the version of the format is {version[:80]!r}")
    if int(version[:9]) > CURRENT:
        source.refuse(
            f"it was written in version {version[:9]} of the format, and this release of minigraph reads up to version "
            f"{CURRENT}; install a newer one"
        )
    own = metadata.get(DIGEST, "").encode()
    if raw.count(own) != 1 or digest_of(raw.replace(own, NOTHING_YET.encode())).encode() != own:
        source.refuse("its header is damaged: it does not have the digest that was written with it")
    try:
        digests = strictly_parsed(metadata.get(DIGESTS, "").encode())
    except ValueError as error:
        source.refuse(f"its digests are damaged: {error}")
    if not isinstance(digests, dict) or digests.keys() != entries.keys():
        source.refuse("it must have a digest for each of its arrays, and for nothing else")
    return digests


def _place(source: Bounded, name: str, entry: Any) -> tuple[int, int, tuple[int, ...], str]:
    """The offsets of an array within the data, its shape, and its dtype in the format's words; checked."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        source.refuse(f"the entry of array {name[:200]!r} must have a dtype, a shape and data_offsets, and nothing else")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in DTYPES:
        source.refuse(f"array {name[:200]!r} has dtype {str(kind)[:80]!r}, which is none of {', '.join(DTYPES)}")
    for what, listed in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(listed, list) or not all(type(one) is int and 0 <= one < 2**62 for one in listed):
            source.refuse(f"array {name[:200]!r} has {what} {str(listed)[:80]}, not a list of sizes")
    if len(offsets) != 2 or len(shape) > 64:
        source.refuse(f"array {name[:200]!r} has {len(shape)} axes, at most 64, and {len(offsets)} offsets, not 2")
    begin, end = offsets
    size = math.prod(shape) * np.dtype(DTYPES[kind]).itemsize
    if end - begin != size:
        source.refuse(f"array {name[:200]!r} of shape {tuple(shape)} takes {size} bytes, and was given {end - begin}")
    return begin, end, tuple(shape), kind


def _check_places(source: Bounded, places: list[tuple[int, int, str]], start: int) -> None:
    """Refuse arrays that overlap, and bytes that belong to none."""
    expected = 0
    for begin, end, name in sorted(places):
        if begin != expected:
            source.refuse(f"array {name[:200]!r} begins at byte {begin} of the data, and the one before it ends at {expected}")
        expected = end
    if start + expected != source.size:
        source.refuse(f"its arrays end at byte {start + expected}, and the file has {source.size}: it was cut off or added to")


def _array(source: Bounded, name: str, start: int, shape: tuple[int, ...], kind: str, digest: str | None) -> Array:
    """An array; FileFormatError if it does not have the digest that was written with it."""
    array = source.array(start, shape, np.dtype(DTYPES[kind]), f"array {name!r}")
    if digest is not None and digest_of(source.part(start, array.nbytes, name)) != digest:
        source.refuse(f"array {name!r} is damaged: it does not have the digest that was written with it")
    if kind == "BOOL" and array.view("uint8").max(initial=0) > 1:
        source.refuse(f"array {name!r} of truth values holds bytes that are neither 0 nor 1")
    return (array.astype("uint32") << 16).view("float32") if kind == "BF16" else array
