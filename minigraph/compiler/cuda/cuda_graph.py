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

from minigraph.compiler.binding import CallSignature
from minigraph.compiler.cuda.plan import Captured, Device, DevicePlan, copy_all
from minigraph.compiler.shape_cache import FastCall, PlannedRegion
from minigraph.core.config import config
from minigraph.core.graph import Array
from minigraph.core.locks import holding, new_lock
from minigraph.core.state import move, snapshot

PER_THREAD = 2
"""CUDA's number for the default stream of a thread."""


class Replay(FastCall[DevicePlan]):
    """Calls of one region with inputs and state, by launching what was captured."""

    def __init__(self, region: PlannedRegion[DevicePlan], signature: CallSignature) -> None:
        super().__init__(region, signature)
        self._given = [(k, source) for k, source in enumerate(signature.sources) if source < signature.inputs]
        """The inputs of the region that are given to the function, and which of its inputs they are."""
        self._xp, self._lock = region.backend.xp, new_lock()
        self._locks = (self._lock, *self._locks)
        self._stream: Any = None
        self._used: tuple[int, int | None] = (0, None)
        self.refusal = ""
        """Why nothing is captured, if that has been tried in vain."""

    @property
    def note(self) -> str:
        if self.refusal:
            return f"launched kernel after kernel: nothing can be captured ({self.refusal})"
        return "the second call with some input shapes, and all that follow, are one CUDA graph launch each"

    def __call__(self, args: tuple[Any, ...]) -> Sequence[Array] | None:
        plan = self._region.recent
        captured = None if plan is None else self._current(plan)
        if plan is None or captured is None or len(args) != self._signature.inputs:
            return None
        with self._region.backend.running():
            return self._run(plan.device, captured, args)

    def planned(self, arrays: Sequence[Array]) -> Sequence[Array] | None:
        if self.refusal:
            return None
        return holding((self._lock,), self._planned, arrays)

    def _planned(self, arrays: Sequence[Array]) -> Sequence[Array] | None:
        """The same, with this function's lock held."""
        state = snapshot(self._cells)
        known = (*arrays, *state)
        plan = self._region.plan([known[k] for k in self._signature.sources])
        captured = self._current(plan)
        if captured is None:
            captured = plan.captured = self._captured(plan, state) if plan.was_launched else None
        return None if captured is None else self._run(plan.device, captured, arrays)

    def _current(self, plan: DevicePlan) -> Captured | None:
        """The captured plan, if it would be computed so now; another thread may capture it anew at any time."""
        captured = plan.captured
        return captured if captured is not None and captured.tf32 == config.allow_tf32 else None

    def _captured(self, plan: DevicePlan, state: Sequence[Array]) -> Captured | None:
        """A plan captured over the present state; None, with the reason kept, where that cannot be done."""
        old = [state[self._cells.index(cell)].shape for cell in self._targets]
        if old != [plan.frame.outputs[k][0] for k in self._signature.new_state]:
            self.refusal = "new state has another shape than the old"
            return None
        try:
            return Captured(plan, state, self._signature)
        except (RuntimeError, MemoryError) as error:
            self.refusal = f"{type(error).__name__}: {error}"
            plan.device.give_back()
            return None

    def _run(self, device: Device, bound: Captured, args: Sequence[Any]) -> Sequence[Array] | None:
        """Launch what was captured for these arguments."""
        given = [(bound.inputs[k], args[source]) for k, source in self._given]
        if not all(self._fits(place, value) for place, value in given):
            return None
        return holding(self._locks, self._launch, device, bound, given)

    def _launch(self, device: Device, bound: Captured, given: Sequence[tuple[Array, Any]]) -> Sequence[Array] | None:
        """The outputs, in new memory, from what is put in its places; the locks of this function and of its state are held."""
        replaced = [
            (cell, place, value)
            for cell, place, value in zip(self._cells, bound.state, snapshot(self._cells), strict=True)
            if value is not place
        ]
        if not all(self._fits(place, value) for _, place, value in replaced):
            return None
        outputs = [self._xp.empty(one.shape, one.dtype) for one in bound.results]
        self._follow()
        for cell, place, value in replaced:
            self._put(device, [(place, value)])
            move(cell, value, place)
        self._put(device, given)
        bound.graph.launch(self._stream)
        copy_all(self._xp, list(zip(outputs, bound.results, strict=True)))
        if bound.has_failed():
            return None
        if bound.late:
            copy_all(self._xp, bound.late)
        return self._signature.shown(outputs)

    def _follow(self) -> None:
        """Wait for what was run on another stream, which works in the same memory; each thread may have a stream of its own."""
        stream = self._xp.cuda.get_current_stream()
        used = (stream.ptr, threading.get_ident() if stream.ptr == PER_THREAD else None)
        if self._stream is not None and self._used != used:
            self._stream.synchronize()
        self._stream, self._used = stream, used

    def _fits(self, place: Array, value: Any) -> bool:
        """Whether an array can be copied to a place without a conversion."""
        ours = isinstance(value, self._xp.ndarray | np.ndarray)
        return ours and value.dtype == place.dtype and value.shape == place.shape and value.flags.c_contiguous

    def _put(self, device: Device, pairs: Sequence[tuple[Array, Array]]) -> None:
        """Copy arrays to their places, (to, from)."""
        for place, value in pairs:
            if isinstance(value, np.ndarray):
                device.copies.count(to_device=True)
                place.set(value)
        copy_all(self._xp, [pair for pair in pairs if not isinstance(pair[1], np.ndarray)])
