"""The places of the values of a program, for the sizes of a call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from minigraph.compiler.loops.lower import Place
from minigraph.compiler.plan.arena import FreeSpace
from minigraph.compiler.plan.program import ARENA, CONSTANTS, FIRST, Program
from minigraph.compiler.shaped.layout import Layout, sizes
from minigraph.core.dimensions import Dimension, Sizes, Template
from minigraph.core.graph import Constant, Variable
from minigraph.core.static import SizeConstant, value_for
from minigraph.core.types import as_dtype

PLAIN = Sizes(())
"""The sizes of a program that leaves none open."""


class Outline:
    """The part that the frames of a program have in common: the places, the lifetimes and the sizes of its values."""

    def __init__(self, program: Program, moments: Sequence[int]) -> None:
        """moments: when each step runs; those that run at the same time must not share memory."""
        self.program = program
        arguments = [*program.graph.inputs, *program.graph.outputs]
        self.slots = {one: FIRST + k for k, one in enumerate(arguments)}
        self.outputs = [(sizes(one), as_dtype(one.dtype)) for one in program.graph.outputs]
        self.open_outputs = [k for k, (shape, _) in enumerate(self.outputs) if any(isinstance(one, Dimension) for one in shape)]
        self._bind_constants()
        lives = self._lives(moments)
        self.values = {one: number for number, one in enumerate(lives)}
        self.slots.update(dict.fromkeys(self.values, ARENA))
        self.bytes = Template([max(1, math.prod(sizes(one)) * one.dtype.itemsize) for one in self.values])
        self.turns = self._turns(list(lives.values()))
        """For every moment the values, by their numbers, that begin to be needed, and those that are needed no more."""

    def _bind_constants(self) -> None:
        """Lay out the constants that kernels read from memory, one after the other."""
        used = dict.fromkeys(place.storage for step in self.program.steps for place in step.places if place.in_memory)
        self.constants: dict[Variable, int] = {}
        chunks, offset = [], 0
        for one in used:
            if isinstance(one.op, Constant):
                self.constants[one] = offset
                data = np.ascontiguousarray(one.op.value).tobytes()
                padding = -len(data) % self.program.alignment
                chunks.append(data + bytes(padding))
                offset += len(data) + padding
        self.slots.update(dict.fromkeys(self.constants, CONSTANTS))
        self.data = np.frombuffer(b"".join(chunks) or bytes(self.program.alignment), np.uint8)
        self.open_constants = [(one.op, offset) for one, offset in self.constants.items() if isinstance(one.op, SizeConstant)]

    def _lives(self, moments: Sequence[int]) -> dict[Variable, list[int]]:
        """The first and the last moment of every value that has no other place."""
        lives: dict[Variable, list[int]] = {}
        for moment, step in sorted(zip(moments, self.program.steps, strict=True), key=itemgetter(0)):
            for place in step.places:
                if place.in_memory and place.storage not in self.slots:
                    lives.setdefault(place.storage, [moment, moment])[1] = moment
        return lives

    def place_of(self, place: Place) -> tuple[int, Any]:
        """The slot of a place, and the bytes into it, or into its value in the arena; of what counts positions, its start."""
        if not place.in_memory:
            return 0, place.offset
        slot, start = self.slots[place.storage], self.constants.get(place.storage, 0)
        return slot, start + place.offset * place.dtype.itemsize

    def _turns(self, lives: Sequence[Sequence[int]]) -> list[tuple[list[int], list[int]]]:
        """The values that begin, and those that end, at every moment at which any do."""
        turns: dict[int, tuple[list[int], list[int]]] = {}
        for value, (first, last) in enumerate(lives):
            turns.setdefault(first, ([], []))[0].append(value)
            turns.setdefault(last, ([], []))[1].append(value)
        return [turns[moment] for moment in sorted(turns)]


class Frame:
    """The memory of a program: a slot for its arena, in which values take turns, one for constants, then its arguments."""

    def __init__(self, outline: Outline, sizes: Sizes = PLAIN, rooms: Mapping[Variable, int] | None = None) -> None:
        """outline: of the program. sizes: those that it leaves open. rooms: the bytes of values whose type does not tell."""
        self.outline, self.program, self.sizes = outline, outline.program, sizes
        self.outputs = list(outline.outputs)
        for k in outline.open_outputs:
            shape, dtype = self.outputs[k]
            self.outputs[k] = (sizes.all(shape), dtype)
        new = [one for k, one in enumerate(self.outputs) if k not in self.program.overwritten]
        self.output_bytes = sum(math.prod(shape) * dtype.itemsize for shape, dtype in new)
        self.constants = outline.data.copy()
        for number, start in outline.open_constants:
            data = value_for(number, sizes).tobytes()
            self.constants[start : start + len(data)] = np.frombuffer(data, np.uint8)
        self.arena_bytes, self.starts = self._plan_arena(rooms or {})

    def shape(self, variable: Variable) -> tuple[int, ...]:
        """The shape of a variable."""
        return self.sizes.all(sizes(variable))

    def layout(self, variable: Variable) -> Layout:
        """The layout of a variable."""
        layout = self.program.layouts[variable]
        return Layout(layout.storage, self.sizes.all(layout.strides), self.sizes(layout.offset))

    def _plan_arena(self, rooms: Mapping[Variable, int]) -> tuple[int, np.ndarray[Any, Any]]:
        """The size of the arena, and the offset of each value, whose memory is free again after its last use."""
        needed = self.outline.bytes.filled(self.sizes)
        for room, count in rooms.items():
            needed[self.outline.values[room]] = max(1, count)
        rounded = (needed + -needed % self.program.alignment).tolist()
        free = FreeSpace()
        offsets = [0] * len(rounded)
        for beginning, ending in self.outline.turns:
            for value in beginning:
                offsets[value] = free.take(rounded[value])
            for value in ending:
                free.give(offsets[value], rounded[value])
        return free.total, np.array(offsets, np.int64)

    def slot_of(self, place: Place) -> tuple[int, int]:
        """The slot of a place, and how many bytes into it; of what counts positions, where that starts."""
        slot, offset = self.outline.place_of(place)
        number = self.outline.values.get(place.storage) if place.in_memory else None
        return slot, self.sizes(offset) + (0 if number is None else int(self.starts[number]))

    def name_of(self, storage: Variable) -> str:
        """The name of a memory in the source."""
        slot = self.outline.slots.get(storage)
        if slot is None:
            return "position"
        if slot == ARENA:
            return f"arena{self.starts[self.outline.values[storage]]}"
        if slot == CONSTANTS:
            number: Any = value_for(storage.op, self.sizes)  # type: ignore[arg-type]
            return f"constant{self.outline.constants[storage]}" if number.ndim else str(number)
        count = len(self.program.graph.inputs)
        return storage.name or f"input{slot - FIRST}" if slot - FIRST < count else f"output{slot - FIRST - count}"
