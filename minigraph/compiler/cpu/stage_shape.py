"""The shape of a stage on a processor: one loop, pieces that stay in the cache, or buffers of columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from minigraph.compiler.loops.nest import Apply
from minigraph.compiler.loops.reductions import Accumulator
from minigraph.compiler.loops.scheduled import ScheduledNest

FEW_WRITTEN = 3
"""The most operands that may be written to for their memory to be asked for ahead of time, too."""
ROWS = 4
"""The rows of columns that are added to wider states together."""


class StageShape:
    """The shape of the stage `number` of a schedule, `order`, whose folds have these accumulators.

    LLVM computes values in as few lanes as what they are added to needs: slow values that are added up in wider floats are
    therefore stored first, and then folded. `in_pieces`: rows whose values are stored anyhow are computed, and read again,
    piece by piece; `buffered`: columns whose values are kept in buffers on the stack; `rows`: the number of rows of columns
    that are added at a time, so that wider states are read and written once for all of them.
    """

    def __init__(self, order: ScheduledNest, accumulators: Mapping[int, Accumulator], number: int) -> None:
        self._order, self._number, self._stage = order, number, order.stages[number]
        by_column = order.nest.by_column
        states = [accumulators[k] for k in self._stage.folds]
        widens = bool(states) and all(one.state[0].itemsize > one.dtype.itemsize for one in states)
        self.in_pieces = widens and not by_column and self._folds_what_is_stored()
        self.buffered = widens and by_column and self._is_slow()
        adds_alone = widens and by_column and not (self.buffered or self._stage.stores or self._stage.scatters)
        self.rows = ROWS if adds_alone else 1

    def _is_costly(self, node: int) -> bool:
        """Whether a node is an op that takes long."""
        what = self._order.nest.nodes[node]
        return isinstance(what, Apply) and what.op.cost > 1

    def _folds_what_is_stored(self) -> bool:
        """Whether the stage folds nothing but slow values that it stores."""
        slow = {store.node for store in self._stage.stores if self._is_costly(store.node)}
        return {one for k in self._stage.folds for one in self._order.nest.arguments_of(k)} <= slow

    def _is_slow(self) -> bool:
        """Whether what the stage folds or stores takes long to compute."""
        order = self._order
        pending = [one for k in self._stage.folds for one in order.nest.arguments_of(k)]
        pending += [store.node for store in self._stage.stores]
        seen: set[int] = set()
        while pending:
            current = pending.pop()
            is_read = current in order.stored and order.level[current] < self._number
            if current in seen or not order.full[current] or is_read:
                continue
            if self._is_costly(current):
                return True
            seen.add(current)
            pending += order.nest.arguments_of(current)
        return False

    def fetched(self, axis: int) -> Iterator[tuple[int, bool]]:
        """The operands whose rows of columns along an axis are asked for ahead of time, and whether they are written to.

        They are those whose columns lie side by side, and whose rows lie apart.
        """
        order = self._order
        many = len({store.operand for stage in order.stages for store in stage.stores}) > FEW_WRITTEN
        for k, one in enumerate(order.nest.operands):
            if one.in_memory and one.strides[-1] == 1 and one.strides[axis] != 0:
                written = [number for number, stage in enumerate(order.stages) for s in stage.stores if s.operand == k]
                if min(written, default=0) == self._number and not (written and many):
                    yield k, bool(written)
