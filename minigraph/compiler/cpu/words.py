"""Numbers that Python writes and machine code reads, one word each, under the same names on both ends.

The text of a function asks for them by lines of its own. `read Kind from %p` loads the words of a kind, each into a value of
its name, and `find Kind in %p` makes pointers `%name.at` to them; `count Kind` stands for how many there are. `places a b in
%p` makes pointers `%a` and `%b` of pairs of words, a slot among `%bases` and an offset in bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from minigraph.core.record import Record

Pointer = int
"""An address."""


class Words(Record):
    """A kind of words, in the order of its fields; those annotated as `Pointer` are read as such."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of the words."""
        return cls.__match_args__

    @classmethod
    def count(cls) -> int:
        """The number of words."""
        return len(cls.names())

    @classmethod
    def position(cls, name: str) -> int:
        """The position of a word."""
        return cls.names().index(name)

    def pack(self) -> list[Any]:
        """The words."""
        return [*vars(self).values()]


def expanded(text: str, *kinds: type[Words]) -> str:
    """The text of functions with the lines that ask for words as code."""
    known = {kind.__name__: kind for kind in kinds}

    def code(match: re.Match[str]) -> str:
        verb, names, pointer = match.groups()
        if verb == "places":
            return "\n".join(line for k, name in enumerate(names.split()) for line in place(name, pointer, k))
        return "\n".join(_fields(known[names], pointer, verb == "read"))

    text = re.sub(r"^  (read|find|places) ([\w ]+) (?:from|in) (%[\w.]+)$", code, text, flags=re.MULTILINE)
    return re.sub(r"\bcount (\w+)", lambda match: str(known[match[1]].count()), text)


def _fields(kind: type[Words], pointer: str, read: bool) -> Iterator[str]:
    """Code for the places of the words of a kind, from a pointer to the first, and for their values, if they are read."""
    types = {name: type for one in reversed(kind.__mro__) for name, type in vars(one).get("__annotations__", {}).items()}
    for k, name in enumerate(kind.names()):
        yield f"  %{name}.at = getelementptr i64, ptr {pointer}, i64 {k}"
        if read:
            yield f"  %{name} = load {'ptr' if types[name] == 'Pointer' else 'i64'}, ptr %{name}.at, align 8"


def place(name: str, pointer: str, position: int, in_memory: bool = True) -> Iterator[str]:
    """Code for `%name`: the address of the pair of words at `position` from `pointer`; the offset if not `in_memory`."""
    offset = f"{name}.offset" if in_memory else name
    yield f"  %{offset}.at = getelementptr inbounds i64, ptr {pointer}, i64 {2 * position + 1}"
    yield f"  %{offset} = load i64, ptr %{offset}.at, align 8"
    if in_memory:
        yield f"  %{name}.slot.at = getelementptr inbounds i64, ptr {pointer}, i64 {2 * position}"
        yield f"  %{name}.slot = load i64, ptr %{name}.slot.at, align 8"
        yield f"  %{name}.base.at = getelementptr inbounds ptr, ptr %bases, i64 %{name}.slot"
        yield f"  %{name}.base = load ptr, ptr %{name}.base.at, align 8"
        yield f"  %{name} = getelementptr inbounds i8, ptr %{name}.base, i64 %{name}.offset"
