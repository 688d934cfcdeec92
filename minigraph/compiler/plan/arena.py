"""The free stretches of a piece of memory that is being planned."""

from __future__ import annotations


class FreeSpace:
    """The free stretches of an arena that grows."""

    def __init__(self) -> None:
        self.total = 0
        self._stretches: list[tuple[int, int]] = []

    def take(self, size: int) -> int:
        """The offset of a stretch: the smallest that fits, else new at the end."""
        fitting = [one for one in self._stretches if one[1] >= size]
        if not fitting:
            if self._stretches and self._stretches[-1][0] + self._stretches[-1][1] == self.total:
                offset, length = self._stretches.pop()
                self.total += size - length
                return offset
            self.total += size
            return self.total - size
        best = min(fitting, key=lambda one: one[1])
        self._stretches.remove(best)
        if best[1] > size:
            self._insert((best[0] + size, best[1] - size))
        return best[0]

    def give(self, offset: int, size: int) -> None:
        """Make a stretch free, joined with its neighbours."""
        for one in [s for s in self._stretches if s[0] + s[1] == offset or offset + size == s[0]]:
            self._stretches.remove(one)
            offset, size = min(offset, one[0]), size + one[1]
        self._insert((offset, size))

    def _insert(self, stretch: tuple[int, int]) -> None:
        """Keep the stretches in order."""
        self._stretches.append(stretch)
        self._stretches.sort()
