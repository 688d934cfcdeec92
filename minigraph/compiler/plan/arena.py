"""The free stretches of a piece of memory that is being planned."""

from __future__ import annotations

from bisect import insort
from operator import itemgetter


class FreeSpace:
    """The free stretches of an arena that grows."""

    def __init__(self) -> None:
        self.total = 0
        self._stretches: list[tuple[int, int]] = []
        """The offset and the length of each, in order."""

    def take(self, size: int) -> int:
        """The offset of a stretch: the smallest that fits, else new at the end."""
        fitting = [one for one in self._stretches if one[1] >= size]
        if not fitting:
            at_end = self._stretches and sum(self._stretches[-1]) == self.total
            offset = self._stretches.pop()[0] if at_end else self.total
            self.total = offset + size
            return offset
        best = min(fitting, key=itemgetter(1))
        self._stretches.remove(best)
        if best[1] > size:
            insort(self._stretches, (best[0] + size, best[1] - size))
        return best[0]

    def give(self, offset: int, size: int) -> None:
        """Make a stretch free, joined with its neighbours."""
        for one in [s for s in self._stretches if s[0] + s[1] == offset or offset + size == s[0]]:
            self._stretches.remove(one)
            offset, size = min(offset, one[0]), size + one[1]
        insort(self._stretches, (offset, size))
