"""The short way through a call on a GPU: a function that is one compiled region, captured as a CUDA graph.

The first call with some input shapes launches kernel after kernel; the second captures them, and from then on a call is one
launch. Inputs are copied into the memory that was captured, outputs out of it; shared variables stay in it, and new state is
written over the old.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from minigraph.compiler.binding import wire
from minigraph.compiler.cuda.backend import DeviceRegion, Gpu
from minigraph.compiler.cuda.plan import Binding, DevicePlan, copy_all
from minigraph.compiler.schedule import Schedule
from minigraph.core.config import config
from minigraph.core.graph import Array, Variable
from minigraph.core.locks import holding, new_lock
from minigraph.core.state import Cell, locks_of, move, snapshot

PER_THREAD = 2
"""CUDA's number for the default stream of a thread."""


class Replay:
    """Calls of one region with inputs and state, by launching what was captured."""

    def __init__(
        self, gpu: Gpu, plan: Schedule, region: DeviceRegion, cells: Sequence[Cell], targets: Sequence[Variable]
    ) -> None:
        self._gpu, self._region, self._targets = gpu, region, [target.cell for target in targets]
        self._cells = list(dict.fromkeys([*cells, *self._targets]))
        self._wiring = wire(plan, self._targets)
        region.wanted = self._wiring.wanted
        own, sources = self._wiring.inputs, list(enumerate(self._wiring.sources))
        self._given = [(k, source) for k, source in sources if source < own]
        self._read = {k: source - own for k, source in sources if source >= own}
        """Of the region's inputs those that are the function's own, and those that are shared variables."""
        self._lock = new_lock()
        self._locks = (self._lock, *locks_of(self._cells))
        self._stream: Any = None
        self._used: tuple[int, int | None] = (0, None)
        self.refusal = ""
        """Why nothing is captured, if that has been tried in vain."""

    @property
    def note(self) -> str:
        """How calls are made."""
        if self.refusal:
            return f"launched kernel after kernel: nothing can be captured ({self.refusal})"
        return "the second call with some input shapes, and all that follow, are one CUDA graph launch each"

    def __call__(self, args: tuple[Any, ...]) -> Sequence[Array] | None:
        """The outputs; None where the long way must be gone, with nothing changed."""
        plan = self._region.recent
        if plan is None or plan.bound is None or len(args) != self._wiring.inputs or plan.bound.tf32 != config.allow_tf32:
            return None
        with self._gpu.running():
            return self._run(plan.bound, args)

    def planned(self, arrays: Sequence[Array]) -> Sequence[Array] | None:
        """The outputs from arrays on the GPU that fit the inputs; None as above."""
        if self.refusal:
            return None
        return holding((self._lock,), self._planned, arrays)

    def _planned(self, arrays: Sequence[Array]) -> Sequence[Array] | None:
        """The same, with this function's lock held."""
        state = snapshot(self._cells)
        known = (*arrays, *state)
        plan = self._region.plan([known[k] for k in self._wiring.sources])
        if plan.bound is not None and plan.bound.tf32 != config.allow_tf32:
            plan.bound = None
        if plan.bound is None:
            if not plan.was_launched:
                return None
            plan.bound = self._bind(plan, state)
        return None if plan.bound is None else self._run(plan.bound, arrays)

    def _bind(self, plan: DevicePlan, state: Sequence[Array]) -> Binding | None:
        """A plan captured over the present state; None, with the reason kept, where that cannot be done."""
        news = {k: self._cells.index(cell) for k, cell in zip(self._wiring.news, self._targets, strict=True)}
        if any(plan.frame.outputs[k][0] != state[place].shape for k, place in news.items()):
            self.refusal = "new state has another shape than the old"
            return None
        try:
            return Binding(plan, state, self._read, news, self._wiring.picked)
        except (RuntimeError, MemoryError) as error:
            self.refusal = f"{type(error).__name__}: {error}"
            self._gpu.shared.give_back()
            return None

    def _run(self, bound: Binding, args: Sequence[Any]) -> Sequence[Array] | None:
        """Launch what was captured for these arguments."""
        given = [(bound.inputs[k], args[source]) for k, source in self._given]
        if not all(self._fits(place, value) for place, value in given):
            return None
        return holding(self._locks, self._launch, bound, given)

    def _launch(self, bound: Binding, given: Sequence[tuple[Array, Any]]) -> Sequence[Array] | None:
        """The outputs, in new memory, from what is put in its places; the locks of this function and of its state are held."""
        xp = self._gpu.xp
        replaced = [
            (cell, place, value)
            for cell, place, value in zip(self._cells, bound.state, snapshot(self._cells), strict=True)
            if value is not place
        ]
        if not all(self._fits(place, value) for _, place, value in replaced):
            return None
        outputs = [xp.empty(one.shape, one.dtype) for one in bound.results]
        self._follow()
        for cell, place, value in replaced:
            self._put([(place, value)])
            move(cell, value, place)
        self._put(given)
        bound.graph.launch(self._stream)
        copy_all(xp, list(zip(outputs, bound.results, strict=True)))
        if bound.has_failed():
            return None
        if bound.late:
            copy_all(xp, bound.late)
        return outputs

    def _follow(self) -> None:
        """Wait for what was run on another stream, which works in the same memory; each thread may have a stream of its own."""
        stream = self._gpu.xp.cuda.get_current_stream()
        used = (stream.ptr, threading.get_ident() if stream.ptr == PER_THREAD else None)
        if self._stream is not None and self._used != used:
            self._stream.synchronize()
        self._stream, self._used = stream, used

    def _fits(self, place: Array, value: Any) -> bool:
        """Whether an array can be copied to a place as it is."""
        ours = isinstance(value, self._gpu.xp.ndarray | np.ndarray)
        return ours and value.dtype == place.dtype and value.shape == place.shape and value.flags.c_contiguous

    def _put(self, pairs: Sequence[tuple[Array, Array]]) -> None:
        """Copy arrays to their places, (to, from)."""
        for place, value in pairs:
            if isinstance(value, np.ndarray):
                self._gpu.shared.copies.count(to_device=True)
                place.set(value)
        copy_all(self._gpu.xp, [pair for pair in pairs if not isinstance(pair[1], np.ndarray)])
