"""Pickling and copying of variables, without recursion along the graph."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from operator import getitem
from typing import Any

from minigraph.core.context import without_collector
from minigraph.core.graph import Variable, toposort

_archives: weakref.WeakKeyDictionary[Variable, weakref.ref[_Archive]] = weakref.WeakKeyDictionary()


class _Archived:
    """The variables that an archive holds which is alive, because something is being pickled or copied."""

    def __contains__(self, variable: object) -> bool:
        return isinstance(variable, Variable) and _live_archive(variable) is not None


def _live_archive(variable: Variable) -> _Archive | None:
    """The archive that holds `variable`, if it is still alive."""
    reference = _archives.get(variable)
    return reference() if reference else None


class _Archive:
    """Variables laid out flat, inputs first, so that pickle and deepcopy never recurse along a graph.

    Variables that are pickled together share archives, and so stay the same objects. Tags come last, as state, since
    they may lead to layers, and from there back to variables of this archive.
    """

    def __init__(self, variables: Sequence[Variable]) -> None:
        self.variables = list(variables)
        self.index = {variable: position for position, variable in enumerate(self.variables)}

    @classmethod
    def holding(cls, variable: Variable) -> _Archive:
        """The archive that holds `variable`: one that is alive, or a new one of all it depends on."""
        archive = _live_archive(variable)
        if archive is None:
            archived = _Archived()
            archive = cls([one for one in toposort([variable], stop=archived) if one not in archived])
            for one in archive.variables:
                _archives[one] = weakref.ref(archive)
        return archive

    def __getitem__(self, position: int) -> Variable:
        return self.variables[position]

    def __reduce__(self) -> tuple[Any, ...]:
        records = [
            (v.op, tuple(self.index.get(one, one) for one in v.inputs), v.type, v.name, v.origin) for v in self.variables
        ]
        return _unpack, (records,), [variable.tags for variable in self.variables]

    def __setstate__(self, tags: list[tuple[Any, ...]]) -> None:
        for variable, own in zip(self.variables, tags, strict=True):
            object.__setattr__(variable, "tags", own)


def _unpack(records: Sequence[tuple[Any, ...]]) -> _Archive:
    """The archive that `_Archive.__reduce__` took apart, its variables still without tags."""
    return _Archive(without_collector(_made_of, records))


def _made_of(records: Sequence[tuple[Any, ...]]) -> list[Variable]:
    """The variables that an archive's records describe."""
    variables: list[Variable] = []
    for op, inputs, type, name, origin in records:
        given = tuple(variables[one] if isinstance(one, int) else one for one in inputs)
        variables.append(Variable(op, given, type, name, (), origin))
    return variables


def reduced(variable: Variable) -> tuple[Any, ...]:
    """A variable as pickle and copy take it apart: a member of the archive that holds it."""
    archive = _Archive.holding(variable)
    return getitem, (archive, archive.index[variable])
