"""Ops of which it matters where they were called: within a step function of a loop, or outside of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from minigraph.core.context import holds
from minigraph.core.graph import Op, Variable


class Noted(Op):
    """An op that asks for updates, or may fail: what calls of it within a step function make is computed at every step."""

    def __call__(self, *inputs: Variable) -> Variable:
        made = super().__call__(*inputs)
        for noted in _noting.get():
            noted.add(made)
        return made


_noting: ContextVar[tuple[set[Variable], ...]] = ContextVar("minigraph_noted", default=())


@contextmanager
def noted_calls() -> Iterator[set[Variable]]:
    """A set of the variables that calls of noted ops make within the block, which grows with each call."""
    made: set[Variable] = set()
    with holds(_noting, (*_noting.get(), made)):
        yield made
