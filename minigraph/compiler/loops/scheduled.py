"""A loop nest in the order in which it runs: axes told apart, and every store, fold and scatter put where it takes place."""

from __future__ import annotations

from minigraph.compiler.loops.nest import Fold, Literal, LoopNest, Scatter, Store
from minigraph.core.record import Record


class Stage(Record):
    """A run along the folded axes, within which some values are stored, and after which some folds are complete."""

    folds: tuple[int, ...]
    stores: tuple[Store, ...]
    scatters: tuple[Scatter, ...]


class Gap(Record):
    """The work before, between or after stages, which does not vary along the folded axes.

    ended: the folds that are complete by now; begun: those of the next stage.
    nodes: what can be computed from here on; kept: those of them that are needed beyond this gap.
    """

    ended: tuple[int, ...]
    begun: tuple[int, ...]
    nodes: tuple[int, ...]
    kept: tuple[int, ...]
    stores: tuple[Store, ...]
    scatters: tuple[Scatter, ...]


class ScheduledNest:
    """The schedule of a nest: for each point of the parallel axes the stages along the serial ones, and a gap around each."""

    def __init__(self, nest: LoopNest) -> None:
        self.nest, self.level, self.full = nest, nest.levels(), nest.is_full()
        self.serial = [axis for axis, fold in enumerate(nest.folded) if fold]
        self.columns, self.parallel = nest.columns, nest.parallel
        self.stored = {store.node: store.operand for store in nest.stores if self.full[store.node]}
        """The values that later stages can read where they were stored, and the operands there."""
        self._inner = {store for store in nest.stores if nest.is_inner(store)}
        self._folds = [k for k, node in enumerate(nest.nodes) if isinstance(node, Fold)]
        inner: list[Store | Scatter] = [*self._inner, *(nest.scatters if self.serial else ())]
        count = max([*(self.level[k] for k in self._folds), *(self.level[one.node] + 1 for one in inner)], default=0)
        self._used_later = self._find_used_later()
        self.stages = tuple([self._stage(number) for number in range(count)])
        self.gaps = tuple([self._gap(number) for number in range(count + 1)])

    def _stage(self, number: int) -> Stage:
        """The stage of a number."""
        stores = [one for one in self.nest.stores if one in self._inner and self.level[one.node] == number]
        scatters = [one for one in self.nest.scatters if self.serial and self.level[one.node] == number]
        return Stage(self._complete_after(number), tuple(stores), tuple(scatters))

    def _gap(self, number: int) -> Gap:
        """The gap before the stage of a number."""
        computed = [k for k, node in enumerate(self.nest.nodes) if not isinstance(node, Fold | Literal)]
        nodes = [k for k in computed if not self.full[k] and self.level[k] == number]
        kept = [k for k in nodes if k in self._used_later]
        stores = [one for one in self.nest.stores if one not in self._inner and self.level[one.node] == number]
        scatters = [one for one in self.nest.scatters if not self.serial and self.level[one.node] == number]
        ended, begun = self._complete_after(number - 1), self._complete_after(number)
        return Gap(ended, begun, tuple(nodes), tuple(kept), tuple(stores), tuple(scatters))

    def _complete_after(self, number: int) -> tuple[int, ...]:
        """The folds that are complete with the stage of a number."""
        return tuple([k for k in self._folds if self.level[k] - 1 == number])

    def _find_used_later(self) -> set[int]:
        """The nodes that do not vary along the serial axes, but are used where something does, or after a later stage."""
        used = {store.node for store in self._inner}
        for k in range(len(self.nest.nodes)):
            used.update(one for one in self.nest.arguments_of(k) if self.full[k] or self.level[k] != self.level[one])
        for add in self.nest.scatters if self.serial else ():
            used.update((add.node, *add.indices))
        return {one for one in used if not self.full[one]}
