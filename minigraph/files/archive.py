"""Zip archives: members by name, each within the file, none unpacked to more than its compression can reach."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator, Mapping
from struct import unpack
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from minigraph.files.bounded import Bounded

BEGINNING, LOCAL_HEADER, MOST_RATIO, MOST_NAME = b"PK\x03\x04", 30, 1032, 4096
"""The bytes that archives begin with; the fixed size of a member's header; what deflate shrinks at most; the longest name."""
codecs.lookup("cp437")  # the names of members may need it, and reading a file imports nothing


class Archive(Mapping[str, memoryview]):
    """The members of a zip archive, of which those that are not compressed lie in the memory of the file."""

    def __init__(self, source: Bounded) -> None:
        """The archive that a file is; FileFormatError for a damaged one, and for members that lie outside or overlap."""
        self._source = source
        try:
            with ZipFile(source.mapped) as archive:  # type: ignore[call-overload]  # it reads, seeks and tells
                infos = archive.infolist()
        except (BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError) as error:
            source.refuse(f"it is a damaged zip archive: {error}")
        self._places: dict[str, tuple[int, ZipInfo]] = {}
        end = 0
        for info in sorted(infos, key=lambda one: one.header_offset):
            begin, end = self._place(info, end)
            if info.filename in self._places:
                source.refuse(f"its archive has two members named {info.filename[:80]!r}")
            self._places[info.filename] = begin, info

    def _place(self, info: ZipInfo, former: int) -> tuple[int, int]:
        """The bytes that a member begins and ends at, behind the end of the one before it; checked."""
        name = info.filename
        if len(name) > MOST_NAME or "\0" in name or "\\" in name or ".." in name.split("/"):
            self._source.refuse(f"its archive has a member of the name {name[:80]!r}")
        if info.flag_bits & 1 or info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            self._source.refuse(f"member {name[:80]!r} of its archive is encrypted, or compressed in an unknown way")
        if (info.external_attr >> 28) == 0xA:
            self._source.refuse(f"member {name[:80]!r} of its archive is a link")
        header = bytes(self._source.part(info.header_offset, LOCAL_HEADER, f"member {name[:80]!r}"))
        if not header.startswith(BEGINNING) or info.header_offset < former:
            self._source.refuse(f"member {name[:80]!r} of its archive lies where none can")
        begin = info.header_offset + LOCAL_HEADER + sum(unpack("<HH", header[26:30]))
        self._source.part(begin, info.compress_size, f"member {name[:80]!r}")
        stored = info.compress_type == ZIP_STORED
        most = info.compress_size * (1 if stored else MOST_RATIO)
        if info.file_size > most or (stored and info.file_size < most):
            self._source.refuse(f"member {name[:80]!r} of its archive cannot have the {info.file_size} bytes that it claims")
        return begin, begin + info.compress_size

    def __getitem__(self, name: str) -> memoryview:
        begin, info = self._places[name]
        data = self._source.part(begin, info.compress_size, name)
        if info.compress_type == ZIP_DEFLATED:
            try:
                data = memoryview(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, info.file_size + 1))
            except zlib.error as error:
                self._source.refuse(f"member {name[:80]!r} of its archive is damaged: {error}")
        if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
            self._source.refuse(f"member {name[:80]!r} of its archive is damaged: its size or checksum is not what it was")
        return data

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
